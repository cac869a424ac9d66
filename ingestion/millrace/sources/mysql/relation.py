"""A table or view of a MySQL server: what the server says of it, and what is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from millrace.batch import Interval
from millrace.catalog import Cursor
from millrace.cursor import DAY, CursorClock
from millrace.errors import SourceMismatch
from millrace.sources.declared import (
    UTC_ZONES,
    clock_of_moments,
    clock_of_wall,
    kept,
    no_time,
    refuse_other_key,
    require,
)
from millrace.sources.mysql.ranges import Condition, where_clause
from millrace.sources.mysql.session import Session
from millrace.sources.mysql.types import Column, column_of, quote

if TYPE_CHECKING:
    from millrace.connections import Connection

OWN_SCHEMAS = ("information_schema", "mysql", "performance_schema", "sys")
"""The server's own databases."""

_CURSOR_TYPES = (pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC"))
# GMT is none of the system's that is UTC all year round: a server in London that was started in
# winter shows it too.
_UTC_SYSTEM = UTC_ZONES - {"GMT", "ETC/GMT", "GREENWICH", "ETC/GREENWICH"}
# Engines in which several statements can read the same snapshot.
_TRANSACTIONAL = frozenset({"InnoDB", "ROCKSDB"})


@dataclass(frozen=True)
class Relation:
    """A table or view of the server.

    Attributes:
        database: Its database.
        name: Its name.
        is_view: A view has no indexes to check a key against.
        is_transactional: Whether a snapshot holds still for several statements.
        row_bytes: About how large a row is, in bytes; 0: the server does not say.
        types: What ``information_schema.columns`` says of each column, by its name.
        indexes: What ``information_schema.statistics`` says of the columns of each index, in its
            order, by its name.
    """

    database: str
    name: str
    is_view: bool
    is_transactional: bool
    row_bytes: int
    types: Mapping[str, Sequence[str | None]] = field(repr=False)
    indexes: Mapping[str, Sequence[Sequence[str | None]]] = field(repr=False)

    @property
    def quoted(self) -> str:
        """Its quoted name."""
        return f"{quote(self.database)}.{quote(self.name)}"

    def __str__(self) -> str:
        return f"{self.database}.{self.name}"

    @classmethod
    def find(cls, session: Session, declared: str, connection: Connection) -> Relation:
        """Look a declared table up.

        Raises:
            SourceMismatch: there is none that the account may read.
        """
        database, _, name = declared.rpartition(".")
        database = database or connection.schema or ""
        if not database:
            raise SourceMismatch(
                f"The table '{declared}' names no database, and neither does the connection "
                f"'{connection.conn_id}'.",
                fix="Declare it as database.table.",
            )
        found = session.rows(
            "SELECT table_type, engine, avg_row_length FROM information_schema.tables "
            "WHERE table_schema = %s AND table_name = %s",
            (database, name),
        )
        if not found:
            raise SourceMismatch(
                f"MySQL has no table {database}.{name} that '{connection.login}' may read.",
                fix="Correct `table` in the declaration, or grant SELECT on it.",
            )
        ((kind, engine, row_bytes),) = found
        columns = session.rows(
            "SELECT column_name, data_type, column_type, numeric_precision, numeric_scale, "
            "is_nullable, datetime_precision, character_set_name "
            "FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            (database, name),
        )
        if not columns:
            # A view that cannot be opened: the server itself says why.
            session.rows(f"SELECT 1 FROM {quote(database)}.{quote(name)} LIMIT 0")
        return cls(
            database,
            name,
            kind == "VIEW",
            engine in _TRANSACTIONAL,
            int(row_bytes or 0),
            {str(column): facts for column, *facts in columns},
            _indexes(session, database, name, is_versioned=kind == "SYSTEM VERSIONED"),
        )

    def columns(self, without: frozenset[str]) -> list[Column]:
        """The columns to select.

        Raises:
            SourceMismatch: a column to leave out is not there. If its name is misspelt, the column
                would be read.
        """
        return [self.column(name) for name in kept(self, self.types, without)]

    def column(self, name: str) -> Column:
        """How a column is read."""
        data_type, column_type, precision, scale, is_nullable, _, charset = self.types[name]
        return column_of(
            name,
            str(data_type),
            str(column_type),
            precision=int(precision) if precision else None,
            scale=int(scale) if scale else None,
            is_nullable=is_nullable == "YES",
            charset=charset,
            where=str(self),
        )

    def check_key(self, key: tuple[str, ...]) -> None:
        """Refuse a declared key that does not identify a row."""
        for name in key:
            require(self, self.types, name, "its primary_key")
        if self.is_view or not key:
            return
        unique = [
            # NULLs are never equal, so a nullable column makes no key, nor does an expression.
            {str(column) if column and nullable != "YES" else "" for column, nullable, _ in columns}
            for columns in self.indexes.values()
            if columns[0][2] == "0"
        ]
        keys = [sorted(columns) for columns in unique if "" not in columns]
        refuse_other_key(self, key, keys, "MySQL")

    @property
    def key(self) -> tuple[Column, ...]:
        """The columns by which the table is ordered; none where it has no primary key."""
        return tuple(self.column(str(name)) for name, *_ in self.indexes.get("PRIMARY", ()))

    def estimated_rows(self, session: Session, scope: Sequence[Condition] = ()) -> int:
        """How many rows the server expects to look at for those that some conditions choose."""
        where, arguments = where_clause(scope)
        return session.estimated_rows(f"SELECT 1 FROM {self.quoted}{where}", arguments)

    def is_indexed(self, column: str | None) -> bool:
        """Whether the server finds rows by a column's values in an index."""
        return any(columns[0][0] == column for columns in self.indexes.values())

    def clock(self, session: Session, cursor: Cursor) -> CursorClock:
        """The clock that a cursor column shows.

        Raises:
            SourceMismatch: there is no such column, it is not a time, or its zone is not known.
        """
        name = cursor.column
        require(self, self.types, name, "its cursor")
        if self.column(name).type not in _CURSOR_TYPES:
            raise no_time(self, cursor, "DATETIME, TIMESTAMP or DATE")
        data_type, *_, precision, _ = self.types[name]
        step = (
            DAY if data_type == "date" else timedelta(microseconds=10 ** (6 - int(precision or 0)))
        )
        if data_type == "timestamp":
            return clock_of_moments(self, cursor, "TIMESTAMP", step)
        ((zone, system),) = session.rows("SELECT @@global.time_zone, @@system_time_zone")
        if zone == "SYSTEM":
            return clock_of_wall(self, cursor, step, str(system), _UTC_SYSTEM)
        return clock_of_wall(self, cursor, step, str(zone))

    def interval(
        self, cursor: Cursor | None, clock: CursorClock | None, interval: Interval
    ) -> list[Condition]:
        """The conditions that an interval sets."""
        if cursor is None or clock is None:
            return []
        start, end = clock.bounds(interval)
        name = quote(cursor.column)
        return [
            Condition(f"{name} {operator} %s", (written(bound),))
            for operator, bound in ((">=", start), ("<", end))
            if bound is not None
        ]

    def rows_out_of_time(
        self,
        session: Session,
        cursor: Cursor,
        now: datetime | None,
        inside: Sequence[Condition] = (),
    ) -> tuple[int, int, int]:
        """Count, in one query, the rows that are in no interval up to now.

        Args:
            session: The session to use.
            cursor: The cursor.
            now: What the column shows now; None means that rows of the future are not counted.
            inside: Which rows are looked at; default: all.

        Returns:
            The rows with NULL as their cursor, those with zero, and those of the future.
        """
        name = quote(cursor.column)
        kinds = {
            "null": f"{name} IS NULL",
            # MySQL does not compare a zero TIMESTAMP as less than anything.
            "zero": f"({name} < '0001-01-01' OR {name} = 0)",
        }
        if now is not None:
            kinds["future"] = f"{name} > %s"
        shown = () if now is None else (written(now),)
        out_of_time = Condition(" OR ".join(kinds.values()), shown)
        where, arguments = where_clause([out_of_time, *inside])
        cases = " ".join(f"WHEN {condition} THEN '{kind}'" for kind, condition in kinds.items())
        found = session.rows(
            f"SELECT CASE {cases} END AS kind, COUNT(*) FROM {self.quoted}{where} GROUP BY kind",
            [*shown, *arguments],
        )
        counts = {kind: int(str(count)) for kind, count in found}
        return counts.get("null", 0), counts.get("zero", 0), counts.get("future", 0)


def written(bound: datetime) -> str:
    """A time as MySQL writes it."""
    return bound.isoformat(" ", "microseconds")


def _indexes(
    session: Session, database: str, name: str, *, is_versioned: bool
) -> dict[str, list[Sequence[str | None]]]:
    # A versioned table's keys include the end of each version, which all current rows share.
    ends = set()
    if is_versioned:
        ends = {
            column
            for (column,) in session.rows(
                "SELECT column_name FROM information_schema.columns WHERE table_schema = %s "
                "AND table_name = %s AND generation_expression = 'ROW END'",
                (database, name),
            )
        }
    indexes: dict[str, list[Sequence[str | None]]] = {}
    for index, *facts in session.rows(
        "SELECT index_name, column_name, nullable, non_unique "
        "FROM information_schema.statistics WHERE table_schema = %s AND table_name = %s "
        "ORDER BY index_name, seq_in_index",
        (database, name),
    ):
        if facts[0] is None or facts[0] not in ends:
            indexes.setdefault(str(index), []).append(facts)
    return indexes
