"""Rows of MySQL's text protocol as Arrow record batches.

``result`` parses what it can; one vectorised cast a column gives the rest its type.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from millrace.sources.mysql.types import Column, to_array

log = logging.getLogger(__name__)

# A few batches are in memory at a time; one is a row group of Parquet.
BATCH_ROWS = 32_768
_BATCH_BYTES = 8 * 1024 * 1024


class Rows(Protocol):
    """A large result."""

    def read(self, size: int) -> list[pa.Array]:
        """The next rows, of about so many bytes; of no rows at the end."""


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of what is selected."""
    return pa.schema([pa.field(column.name, column.type) for column in columns])


def record_batches(
    result: Rows, columns: Sequence[Column], schema: pa.Schema, relation: str
) -> Iterator[pa.RecordBatch]:
    """Read a result to its end.

    Args:
        result: What a query selects.
        columns: Its columns.
        schema: What ``schema_of`` makes of them.
        relation: The table, for messages.

    Yields:
        Batches of at most 32,768 rows, or of 8 MB and a row.

    Raises:
        ValueDoesNotFit: a value that its column's type cannot hold.
    """
    no_dates: Counter[str] = Counter()
    while True:
        values = result.read(_BATCH_BYTES)
        if not len(values[0]):
            break
        arrays = []
        for column in columns:
            # Each column's bytes are gone before the next one's values come.
            array, count = to_array(values.pop(0), column, relation)
            arrays.append(array)
            no_dates[column.name] += count
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)
    for name, count in no_dates.items():
        if count:
            log.warning(
                "%s: column %s: %s dates that no calendar has (0000-00-00) are landed as NULL",
                *(relation, name, f"{count:,}"),
            )
