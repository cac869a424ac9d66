"""Reads the rows of a table as Arrow record batches, with what the server says of them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from millrace.bad_values import Misfit, Sieve
from millrace.checksums.columns import Checksum, Checksums
from millrace.checksums.figures import SourceFigures
from millrace.sources.pace import Pace
from millrace.sources.postgres.limits import Limits
from millrace.sources.postgres.pieces import Cutter, moved, pieces
from millrace.sources.postgres.relation import Relation, where_clause
from millrace.sources.postgres.session import PostgresError, Session, has_timed_out
from millrace.sources.postgres.types import Column
from millrace.sources.postgres.values import to_array
from millrace.sources.spool import Ahead, Spool, Unsifted, sifted


def schema_of(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of what is selected."""
    return pa.schema([pa.field(column.name, column.type) for column in columns])


@dataclass(frozen=True)
class Selection:
    """What is read of a table, by one connection.

    Attributes:
        session: The connection.
        relation: The table.
        columns: The columns.
        schema: Their Arrow schema.
        scope: Which rows: conditions.
        sieve: What happens to values that do not fit.
        figures: Gets what the server itself says of the rows.
        limits: What the table declares.
        moment: The exported snapshot whose rows are read; None: each piece sees a moment of its
            own.
    """

    session: Session
    relation: Relation
    columns: Sequence[Column]
    schema: pa.Schema
    scope: Sequence[str]
    sieve: Sieve
    figures: SourceFigures
    limits: Limits
    moment: str | None = None

    def streamed(self) -> Generator[pa.RecordBatch, None, None]:
        """The rows by one statement, which the reader keeps waiting."""
        self.limits.limit_statements(can_be_smaller=False)
        try:
            with self.session.snapshot(self.moment):
                self.figures.add(*self._counted(self.scope))
                yield from sifted(map(self._typed, self._read(self.scope)), self.sieve)
        except PostgresError as error:
            if has_timed_out(error):
                self.limits.lift()
            raise

    def ahead(self, cutter: Cutter, pace: Pace) -> Ahead[Spool]:
        """The rows piece by piece, each read while the one before it is used."""
        read = pieces(cutter, self.limits, pace, self.piece, lambda spool: spool.size)
        return Ahead(read, self.session.cut)

    def of(self, spools: Iterable[Spool]) -> Iterator[pa.RecordBatch]:
        """The rows of pieces, sifted."""
        for spool in spools:
            yield from sifted((self._typed(batch) for batch, _ in spool), self.sieve)

    def piece(self, conditions: Sequence[str]) -> Spool:
        """Those of the rows that some conditions choose, read at once.

        They are as the driver makes them: the driver takes one processor, and whoever uses the
        piece before has another one to give them their types.
        """
        chosen = [*self.scope, *conditions]
        spool = Spool()
        with self.session.snapshot(self.moment):
            counted = self._counted(chosen)
            for batch in self._read(chosen):
                spool.add(batch, ())
            # Now that we have read of it, nobody can write it anew.
            if not self.relation.is_stored_as_before(self.session):
                raise moved(self.relation)
        # Only now: a piece that took too long is asked for again.
        self.figures.add(*counted)
        return spool

    def _counted(self, conditions: Sequence[str]) -> tuple[int, Checksums | None]:
        """What the server itself says of the rows."""
        if not self.figures.is_counted:
            return 0, None
        asked = ["COUNT(*)"]
        for column in self.columns if self.figures.is_compared else ():
            text = column.text or column.expression
            asked.append(f"COUNT({text})")
            asked.append("NULL" if column.text is None else f"SUM({_hashed(column)})")
        ((rows, *found),) = self.session.rows(
            f"SELECT {', '.join(asked)} FROM {self.relation.quoted}{where_clause(conditions)}"
        )
        if not self.figures.is_compared:
            return rows, None
        return rows, {
            column.name: Checksum(values, None if column.text is None else int(total or 0))
            for column, values, total in zip(self.columns, found[::2], found[1::2], strict=True)
        }

    def _read(self, conditions: Sequence[str]) -> Iterator[pa.RecordBatch]:
        selected = ", ".join(column.expression for column in self.columns)
        return self.session.stream(
            f"SELECT {selected} FROM {self.relation.quoted}{where_clause(conditions)}"
        )

    def _typed(self, batch: pa.RecordBatch) -> Unsifted:
        """What the driver has read, in the columns' types."""
        arrays: list[pa.Array] = []
        misfits: list[Misfit] = []
        for raw, column in zip(batch.columns, self.columns, strict=True):
            array, unfit = to_array(raw, column, str(self.relation))
            arrays.append(array)
            misfits += unfit
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema), misfits


def _hashed(column: Column) -> str:
    """The first 32 bits of the MD5 of a value's text, as ``checksums.totals.md5_total``."""
    text = column.text if column.is_binary else f"convert_to({column.text}, 'UTF8')"
    return f"('x' || left(md5({text}), 8))::bit(32)::bigint"
