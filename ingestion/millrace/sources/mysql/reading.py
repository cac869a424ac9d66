"""Reads the rows of a table, so that no upload ever makes a statement wait.

A piece is read as fast as the server sends it, and kept until it is asked for; meanwhile a thread
reads the next one, and then waits without a statement. A table that cannot be cut is streamed.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import IO, Generic, TypeVar

import pyarrow as pa

from millrace.bad_values import Misfit, Sieve
from millrace.checksums.columns import Checksums
from millrace.checksums.figures import SourceFigures
from millrace.sources.mysql.client import MySQLError
from millrace.sources.mysql.counter import Counter
from millrace.sources.mysql.limits import Limits
from millrace.sources.mysql.pieces import PIECE_BYTES, Pieces
from millrace.sources.mysql.ranges import Condition, where_clause
from millrace.sources.mysql.relation import Relation
from millrace.sources.mysql.rows import (
    Rows,
    Unsifted,
    record_batches,
    sifted,
    unsifted,
    warn_of_dates,
)
from millrace.sources.mysql.session import Session, has_timed_out
from millrace.sources.mysql.types import Column

T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """What is read of a table, by one connection.

    Attributes:
        session: The connection.
        relation: The table.
        columns: The columns.
        schema: Their Arrow schema.
        scope: Which rows.
        sieve: What happens to values that do not fit.
        figures: Gets what the server itself says of the rows.
        limits: What the table declares.
        is_in_snapshot: Whether the session is in a transaction that sees one moment; otherwise each
            piece has a transaction of its own.
    """

    session: Session
    relation: Relation
    columns: Sequence[Column]
    schema: pa.Schema
    scope: Sequence[Condition]
    sieve: Sieve
    figures: SourceFigures
    limits: Limits
    is_in_snapshot: bool

    def streamed(self) -> Iterator[pa.RecordBatch]:
        """The rows by one statement, which the reader keeps waiting."""
        self.limits.limit_statements(can_be_smaller=False)
        try:
            with self._moment():
                self.figures.add(*self._counted(self.scope))
                rows = self._rows(self.scope)
                yield from record_batches(
                    rows, self.columns, self.schema, str(self.relation), self.sieve
                )
        except MySQLError as error:
            if has_timed_out(error):
                self.limits.lift()
            raise

    def in_pieces(self, pieces: Pieces) -> Ahead[Spool]:
        """The rows piece by piece, each read at once."""
        return Ahead(pieces.each(self.piece, lambda spool: spool.size), self.session.cut)

    def of(self, spools: Iterable[Spool]) -> Iterator[pa.RecordBatch]:
        """The rows of pieces, sifted."""
        without_date = [0] * len(self.columns)
        for spool in spools:
            yield from sifted(spool, self.sieve)
            without_date = [
                sum(counts) for counts in zip(without_date, spool.without_date, strict=True)
            ]
        warn_of_dates(self.columns, without_date, str(self.relation))

    def piece(self, conditions: Sequence[Condition]) -> Spool:
        """Those of the rows that some conditions choose, read at once."""
        chosen = [*self.scope, *conditions]
        spool = Spool(self.schema)
        with self._moment():
            counted = self._counted(chosen)
            rows = self._rows(chosen)
            for batch, misfits in unsifted(rows, self.columns, self.schema, str(self.relation)):
                spool.add(batch, misfits)
        spool.without_date = rows.without_date
        # Only now: a piece that took too long is asked for again.
        self.figures.add(*counted)
        return spool

    def _moment(self) -> AbstractContextManager[None]:
        return nullcontext() if self.is_in_snapshot else self.session.snapshot()

    def _counted(self, conditions: Sequence[Condition]) -> tuple[int, Checksums | None]:
        """What the server itself says of the rows."""
        if not self.figures.is_counted:
            return 0, None
        counter = Counter(self.session, self.relation, *where_clause(conditions))
        checksums = counter.checksums(self.columns) if self.figures.is_compared else None
        return counter.rows(), checksums

    def _rows(self, conditions: Sequence[Condition]) -> Rows:
        where, arguments = where_clause(conditions)
        names = ", ".join(column.expression for column in self.columns)
        return self.session.stream(
            f"SELECT {names} FROM {self.relation.quoted}{where}",
            arguments,
            self.schema.types,
            # Where a date that stands for none is a misfit.
            [at for at, name in enumerate(self.schema.names) if self.sieve.is_strict(name)],
        )


class Spool:
    """Rows that are kept until they are asked for, once.

    As much as a piece should have is kept in memory. Where rows are suddenly larger than those
    before, the rest goes to a file, which nobody else sees.

    Attributes:
        size: Bytes of all rows.
        without_date: How many dates that no calendar has became NULL, by column.
    """

    def __init__(self, schema: pa.Schema, most_bytes: int = 2 * PIECE_BYTES) -> None:
        self.size = 0
        self.without_date: Sequence[int] = [0] * len(schema)
        self._schema = schema
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
            self._writer = pa.ipc.new_stream(self._file, self._schema)
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
