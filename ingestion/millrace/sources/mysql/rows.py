"""Rows of MySQL as Arrow record batches.

``result`` reads them as the server sends them; one vectorised cast per column converts them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from millrace.bad_values import Misfit, Sieve
from millrace.sources.mysql import result
from millrace.sources.mysql.types import Column, misfit_of, to_array
from millrace.sources.spool import Unsifted, sifted

log = logging.getLogger(__name__)

# A few batches are in memory at a time; one is a row group of Parquet.
BATCH_ROWS = 32_768
_BATCH_BYTES = 8 * 1024 * 1024


class Rows(Protocol):
    """A large result."""

    def read(self, size: int) -> list[pa.Array]:
        """The next rows, of about ``size`` bytes; no rows at the end."""

    @property
    def misfits(self) -> list[result.Misfit]:
        """The values of the last read that their columns' types cannot hold; they are NULL."""

    @property
    def without_date(self) -> list[int]:
        """How many dates that no calendar has became NULL so far, by column."""


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of what is selected."""
    return pa.schema([pa.field(column.name, column.type) for column in columns])


def record_batches(
    rows: Rows, columns: Sequence[Column], schema: pa.Schema, relation: str, sieve: Sieve
) -> Iterator[pa.RecordBatch]:
    """Read a result to its end.

    Args:
        rows: What a query selects.
        columns: Its columns.
        schema: What ``schema_of`` makes of them.
        relation: The table, for messages.
        sieve: What happens to values that do not fit.

    Yields:
        Batches of at most 32,768 rows, or of 8 MB and one row.

    Raises:
        ValueDoesNotFit: a value that its column's type cannot hold.
    """
    yield from sifted(unsifted(rows, columns, schema, relation), sieve)
    warn_of_dates(columns, rows.without_date, relation)


def unsifted(
    rows: Rows, columns: Sequence[Column], schema: pa.Schema, relation: str
) -> Iterator[Unsifted]:
    """Read a result to its end; see ``record_batches``."""
    while True:
        values = rows.read(_BATCH_BYTES)
        if not len(values[0]):
            break
        misfits = [_misfit(found, columns) for found in rows.misfits]
        arrays = []
        for column in columns:
            # Each column's values are freed before the next column's are cast.
            array, uncastable = to_array(values.pop(0), column, relation)
            arrays.append(array)
            misfits += uncastable
        yield pa.RecordBatch.from_arrays(arrays, schema=schema), misfits


def warn_of_dates(columns: Sequence[Column], counts: Sequence[int], relation: str) -> None:
    """Tell how many dates that no calendar has became NULL, by column."""
    for column, count in zip(columns, counts, strict=True):
        if count:
            log.warning(
                "%s: column %s: %s dates that no calendar has (0000-00-00) are landed as NULL",
                *(relation, column.name, f"{count:,}"),
            )


def _misfit(found: result.Misfit, columns: Sequence[Column]) -> Misfit:
    return misfit_of(columns[found.column], found.row, found.value.encode())
