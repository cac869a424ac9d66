"""Pieces of a table, read as fast as the server sends them and kept until they are asked for.

So no upload makes a statement wait: while a piece is landed, a thread reads the next one.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Generic, TypeVar

import pyarrow as pa

from millrace.bad_values import Misfit, Sieve
from millrace.sources.pace import PIECE_BYTES

T = TypeVar("T")

Unsifted = tuple[pa.RecordBatch, Sequence[Misfit]]
"""Rows, and their values that their columns' types cannot hold; these are NULL."""


class Spool:
    """Rows that are kept until they are asked for, once.

    As much as a piece should have is kept in memory. Where rows are suddenly larger than those
    before, the rest goes to a file, which nobody else sees.

    Attributes:
        size: Bytes of all rows.
    """

    def __init__(self, most_bytes: int = 2 * PIECE_BYTES) -> None:
        self.size = 0
        self._most_bytes = most_bytes
        self._held: deque[Unsifted] = deque()
        self._misfits: deque[Sequence[Misfit]] = deque()
        self._file: IO[bytes] | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def add(self, batch: pa.RecordBatch, misfits: Sequence[Misfit]) -> None:
        """Keep some rows."""
        self.size += batch.nbytes
        if self.size <= self._most_bytes:
            self._held.append((batch, misfits))
            return
        if self._writer is None:
            self._file = tempfile.TemporaryFile(prefix="millrace-")  # noqa: SIM115
            self._writer = pa.ipc.new_stream(self._file, batch.schema)
        self._writer.write_batch(batch)
        self._misfits.append(misfits)

    def __iter__(self) -> Iterator[Unsifted]:
        while self._held:
            yield self._held.popleft()
        if self._writer is None or self._file is None:
            return
        self._writer.close()
        with self._file as file:
            file.seek(0)
            yield from zip(pa.ipc.open_stream(file), self._misfits, strict=True)


class Ahead(Generic[T]):
    """Makes the next item in a thread of its own while the last one is used.

    Args:
        items: They are made one after another, never two at the same time.
        cut: Ends the making of an item at once, with an error.
    """

    def __init__(self, items: Iterator[T], cut: Callable[[], None]) -> None:
        self._items = items
        self._cut = cut
        self._maker = ThreadPoolExecutor(1, "millrace-read")
        self._coming: Future[T | None] | None = None

    def __iter__(self) -> Iterator[T]:
        while (item := self._next()) is not None:
            self._coming = self._maker.submit(next, self._items, None)
            yield item

    def close(self) -> None:
        """Stop, whatever is being made."""
        if self._coming is not None and not self._coming.done():
            self._cut()
        self._maker.shutdown(wait=True, cancel_futures=True)

    def _next(self) -> T | None:
        if self._coming is None:
            self._coming = self._maker.submit(next, self._items, None)
        return self._coming.result()


def sifted(found: Iterable[Unsifted], sieve: Sieve) -> Iterator[pa.RecordBatch]:
    """What is left of record batches when their values that do not fit have been dealt with."""
    for batch, misfits in found:
        kept = sieve.sift(batch, misfits)
        if kept.num_rows:
            yield kept
