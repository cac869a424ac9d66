"""Rows of MySQL's text protocol as Arrow record batches.

The values stay bytes from the wire until one vectorised cast a column turns them into Arrow. Rows
become columns a few at a time, while they are still in the processor's cache: that halves the
time of doing it once a record batch.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from ingestion.sources.mysql_types import Column, to_array

log = logging.getLogger(__name__)

# A few batches are in memory at a time; one is a row group of Parquet.
_BATCH_ROWS = 32_768
_BATCH_BYTES = 8 * 1024 * 1024
# Rows that are Python objects at the same time: few enough for the processor's cache.
_CHUNK_ROWS = 2_000
_CHUNK_BYTES = 4 * 1024 * 1024
# Of rows that may be long, the fewest a fetch that do not slow down the reading of short ones.
_FETCH_LONG_ROWS = 4
# Columns whose values may be longer than this are measured, to keep a chunk to its size.
_SHORT_VALUE_BYTES = 255

_Row = tuple[bytes | None, ...]


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of what is selected."""
    return pa.schema([pa.field(column.name, column.type) for column in columns])


def record_batches(
    cursor: Any, columns: Sequence[Column], relation: str
) -> Iterator[pa.RecordBatch]:
    """Read a cursor to its end.

    Args:
        cursor: An unbuffered cursor that gives every value as bytes.
        columns: What it selects.
        relation: The table, for messages.

    Yields:
        Batches of at most about 32,768 rows or 8 MB.

    Raises:
        ValueDoesNotFit: a value that its column's type cannot hold.
    """
    no_dates: Counter[str] = Counter()
    while True:
        with _COLLECTION.paused():
            batch = _record_batch(cursor, columns, relation, no_dates)
        if not batch.num_rows:
            break
        yield batch
    for name, count in no_dates.items():
        log.warning(
            "%s: column %s: %s dates that no calendar has (0000-00-00) are landed as NULL",
            *(relation, name, f"{count:,}"),
        )


def _record_batch(
    cursor: Any, columns: Sequence[Column], relation: str, no_dates: Counter[str]
) -> pa.RecordBatch:
    row = pa.struct([pa.field(str(at), pa.binary()) for at in range(len(columns))])
    chunks = []
    rows = size = 0
    while rows < _BATCH_ROWS and size < _BATCH_BYTES:
        chunk = _chunk(cursor, columns)
        if not chunk:
            break
        chunks.append(pa.array(chunk, row))
        rows += len(chunk)
        size += chunks[-1].nbytes
    schema = schema_of(columns)
    if not chunks:
        return pa.RecordBatch.from_pylist([], schema)
    raw = pa.concat_arrays(chunks).flatten()
    del chunks
    arrays = []
    for column in columns:
        # Each column's bytes are gone before the next one's values come.
        array, count = to_array(raw.pop(0), column, relation)
        arrays.append(array)
        if count:
            no_dates[column.name] += count
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _chunk(cursor: Any, columns: Sequence[Column]) -> list[_Row]:
    """Rows up to a number or a size, whichever comes first."""
    measured = [at for at, column in enumerate(columns) if column.max_bytes > _SHORT_VALUE_BYTES]
    longest = sum(column.max_bytes for column in columns)
    fetch = min(_CHUNK_ROWS, max(_FETCH_LONG_ROWS, _CHUNK_BYTES // longest))
    rows: list[_Row] = []
    size = 0
    while len(rows) < _CHUNK_ROWS and size < _CHUNK_BYTES:
        fetched = cursor.fetchmany(fetch)
        if not fetched:
            break
        rows.extend(fetched)
        for at in measured:
            size += sum([len(row[at] or b"") for row in fetched])
    return rows


class _GarbageCollection:
    """Python's collector, which may be paused by several threads at a time.

    Rows are tuples of bytes and make no cycles: looking for some would take most of the time.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._paused = 0
        self._was_enabled = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self._lock:
            if not self._paused:
                self._was_enabled = gc.isenabled()
                gc.disable()
            self._paused += 1
        try:
            yield
        finally:
            with self._lock:
                self._paused -= 1
                if not self._paused and self._was_enabled:
                    gc.enable()


_COLLECTION = _GarbageCollection()
