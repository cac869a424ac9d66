"""Reads the rows of a table, so that no upload ever makes a statement wait.

A piece is read as fast as the server sends it, and kept until it is asked for; meanwhile a thread
reads the next one, and then waits without a statement. A table that cannot be cut is streamed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import pyarrow as pa

from millrace.bad_values import Sieve
from millrace.checksums.columns import Checksums
from millrace.checksums.figures import SourceFigures
from millrace.sources.mysql.client import MySQLError
from millrace.sources.mysql.counter import Counter
from millrace.sources.mysql.limits import Limits
from millrace.sources.mysql.pieces import Pieces
from millrace.sources.mysql.ranges import Condition, where_clause
from millrace.sources.mysql.relation import Relation
from millrace.sources.mysql.rows import Rows, record_batches, unsifted, warn_of_dates
from millrace.sources.mysql.session import Session, has_timed_out
from millrace.sources.mysql.types import Column
from millrace.sources.spool import Ahead, Spool, sifted


class Dated(Spool):
    """Rows that are kept.

    Attributes:
        without_date: How many dates that no calendar has became NULL, by column.
    """

    without_date: Sequence[int] = ()


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

    def in_pieces(self, pieces: Pieces) -> Ahead[Dated]:
        """The rows piece by piece, each read at once."""
        return Ahead(pieces.each(self.piece, lambda spool: spool.size), self.session.cut)

    def of(self, spools: Iterable[Dated]) -> Iterator[pa.RecordBatch]:
        """The rows of pieces, sifted."""
        without_date = [0] * len(self.columns)
        for spool in spools:
            yield from sifted(spool, self.sieve)
            without_date = [
                sum(counts) for counts in zip(without_date, spool.without_date, strict=True)
            ]
        warn_of_dates(self.columns, without_date, str(self.relation))

    def piece(self, conditions: Sequence[Condition]) -> Dated:
        """Those of the rows that some conditions choose, read at once."""
        chosen = [*self.scope, *conditions]
        spool = Dated()
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
