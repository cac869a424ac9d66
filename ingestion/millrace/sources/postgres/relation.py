"""A table or view of a PostgreSQL server: what the catalog says of it, and what is declared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from millrace.batch import Interval
from millrace.catalog import Cursor
from millrace.cursor import DAY, CursorClock
from millrace.errors import SourceMismatch, SourceRefused
from millrace.sources.declared import (
    clock_of_moments,
    clock_of_wall,
    kept,
    no_time,
    refuse_other_key,
    require,
)
from millrace.sources.postgres.session import Session
from millrace.sources.postgres.types import Column, Described, column_of, literal, quote, unfit

if TYPE_CHECKING:
    from millrace.sources.postgres.options import PostgresOptions

OWN_SCHEMAS = ("information_schema", "pg_catalog", "pg_toast")
"""The server's own schemas."""

_CURSOR_TYPES = ("date", "timestamp", "timestamptz")

# A table and what it consists of: partitions, and tables that inherit from it.
_MEMBERS = (
    "WITH RECURSIVE members (oid) AS (SELECT $1::oid UNION "
    "SELECT i.inhrelid FROM pg_inherits i JOIN members m ON i.inhparent = m.oid) "
)
# The files that all of it is stored in, as one text.
_FILES = (
    "encode(sha256(convert_to("
    "string_agg(COALESCE(pg_relation_filenode({0}), 0)::text, ',' ORDER BY {0}), 'UTF8')), 'hex')"
)
_PAGES = (
    f"{_MEMBERS} SELECT "
    "COALESCE(MAX(pg_relation_size(c.oid)), 0) / current_setting('block_size')::bigint, "
    "COALESCE(SUM(pg_table_size(c.oid)), 0)::bigint, "
    "COALESCE(SUM(GREATEST(c.reltuples, 0)), 0)::bigint, "
    f"{_FILES.format('c.oid')}, "
    # What lies on another server has pages of its own there.
    "bool_and(c.relkind IN ('r', 'p', 'm')), array_agg(c.oid::bigint)::text "
    "FROM members m JOIN pg_class c ON c.oid = m.oid"
)
_STORED = f"{_MEMBERS} SELECT {_FILES.format('oid')} FROM members"
_COLUMNS = (
    "WITH RECURSIVE resolved (attnum, typid, typmod) AS ("
    "SELECT attnum, atttypid, atttypmod FROM pg_attribute "
    "WHERE attrelid = $1::oid AND attnum > 0 AND NOT attisdropped UNION ALL "
    # A domain is read as what it is made of.
    "SELECT r.attnum, t.typbasetype, GREATEST(r.typmod, t.typtypmod) "
    "FROM resolved r JOIN pg_type t ON t.oid = r.typid WHERE t.typtype = 'd') "
    "SELECT a.attname::text, format_type(a.atttypid, a.atttypmod), t.typname::text, "
    "t.typtype::text, t.typcategory = 'A', r.typmod, NOT a.attnotnull, "
    "scale('0'::money::numeric) "
    "FROM resolved r JOIN pg_type t ON t.oid = r.typid "
    "JOIN pg_attribute a ON a.attrelid = $1::oid AND a.attnum = r.attnum "
    "WHERE t.typtype <> 'd' ORDER BY a.attnum"
)
_INDEXES = (
    "SELECT ARRAY(SELECT COALESCE(a.attname::text, '') "
    "FROM unnest((i.indkey::int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS k (attnum, n) "
    "LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum ORDER BY k.n), "
    "i.indisunique AND i.indimmediate, i.indisprimary "
    "FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam "
    # An index of some rows only finds not all of them.
    "WHERE i.indrelid = $1::oid AND i.indisvalid AND i.indpred IS NULL AND m.amname = 'btree'"
)


_RELATIONS = "pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
_HAS_ROWS = "c.relkind IN ('r', 'p', 'v', 'm', 'f')"
_IS_READABLE = (
    "has_schema_privilege(n.oid, 'USAGE') AND (has_table_privilege(c.oid, 'SELECT') "
    "OR has_any_column_privilege(c.oid, 'SELECT'))"
)
# A partition is read as a part of its table.
_READABLE = (
    f"SELECT n.nspname::text, c.relname::text FROM {_RELATIONS} "
    f"WHERE {_HAS_ROWS} AND NOT c.relispartition "
    "AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%' "
    f"AND {_IS_READABLE} ORDER BY 1, 2"
)


def readable(session: Session) -> list[tuple[str, str]]:
    """The schema and the name of each table and view that the account may read."""
    return [(str(schema), str(name)) for schema, name in session.rows(_READABLE)]


@dataclass(frozen=True)
class Index:
    """An index that finds rows by the values of columns.

    Attributes:
        columns: Its columns, in order; an empty name is an expression.
        is_unique: Whether no two rows have the same values.
        is_primary: Whether it is the primary key's.
    """

    columns: tuple[str, ...]
    is_unique: bool
    is_primary: bool


@dataclass(frozen=True)
class Relation:
    """A table or view of the server.

    Attributes:
        schema: Its schema.
        name: Its name.
        oid: Its id in the catalog.
        is_view: A view has no indexes to check a key against.
        has_pages: Whether it is stored here, so that it can be read by its pages.
        pages: How many pages it has; of partitions the most that one of them has.
        page_bytes: About how much the rows of a page have, in bytes, with what is stored elsewhere.
        rows: About how many rows the catalog knows of.
        stored: A hash of the files that it is stored in; another, once it was written anew.
        members: The ids of it and of what it consists of, as an array's text.
        types: What the catalog says of each column, by its name.
        indexes: Its indexes.
    """

    schema: str
    name: str
    oid: int
    is_view: bool
    has_pages: bool
    pages: int
    page_bytes: int
    rows: int
    stored: str
    members: str
    types: Mapping[str, Described] = field(repr=False)
    indexes: Sequence[Index] = field(repr=False)

    @property
    def quoted(self) -> str:
        """Its quoted name."""
        return f"{quote(self.schema)}.{quote(self.name)}"

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"

    @classmethod
    def find(cls, session: Session, options: PostgresOptions, login: str | None) -> Relation:
        """Look a declared table up.

        Raises:
            SourceMismatch: there is none, or its key is not what is declared.
            SourceRefused: the account may not read it.
        """
        schema, name = options.place
        found = session.rows(
            f"SELECT c.oid::bigint, c.relkind::text, {_IS_READABLE} FROM {_RELATIONS} "
            f"WHERE n.nspname = $1 AND c.relname = $2 AND {_HAS_ROWS}",
            (schema, name),
        )
        if not found:
            raise SourceMismatch(
                f"PostgreSQL has no table {schema}.{name}.",
                fix="Correct `table` in the declaration, or the database in the connection.",
            )
        ((oid, kind, is_readable),) = found
        if not is_readable:
            raise SourceRefused(
                f"PostgreSQL does not let '{login}' read {schema}.{name}.",
                fix=f"GRANT USAGE ON SCHEMA {quote(schema)} TO {quote(str(login))}; "
                f"GRANT SELECT ON {quote(schema)}.{quote(name)} TO {quote(str(login))}.",
            )
        ((pages, size, rows, stored, is_here, members),) = session.rows(_PAGES, (str(oid),))
        relation = cls(
            schema,
            name,
            oid,
            is_view=kind in "vf",
            has_pages=is_here,
            pages=pages,
            page_bytes=size // max(pages, 1),
            rows=rows,
            stored=str(stored),
            members=members,
            types={str(row[0]): _described(row) for row in session.rows(_COLUMNS, (str(oid),))},
            indexes=[
                Index(tuple(columns), is_unique, is_primary)
                for columns, is_unique, is_primary in session.rows(_INDEXES, (str(oid),))
            ],
        )
        relation._check_key(options.primary_key)
        return relation

    def is_stored_as_before(self, session: Session) -> bool:
        """Whether its rows still lie in the files in which they lay."""
        ((stored,),) = session.rows(_STORED, (str(self.oid),))
        return str(stored) == self.stored

    def columns(self, without: frozenset[str]) -> list[Column]:
        """The columns to select.

        Raises:
            SourceMismatch: a column to leave out is not there. If its name is misspelt, the column
                would be read.
        """
        return [self.column(name) for name in kept(self, self.types, without)]

    def column(self, name: str) -> Column:
        """How a column is read."""
        return column_of(self.types[name], str(self))

    def _check_key(self, key: tuple[str, ...]) -> None:
        """Refuse a declared key that does not identify a row."""
        for name in key:
            require(self, self.types, name, "its primary_key")
        if self.is_view or not key:
            return
        unique = [index.columns for index in self.indexes if index.is_unique]
        # NULLs are never equal, so a nullable column makes no key, nor does an expression.
        keys = [
            columns
            for columns in unique
            if all(name and not self.types[name].is_nullable for name in columns)
        ]
        refuse_other_key(self, key, keys, "PostgreSQL")

    def estimated_rows(self, session: Session, scope: Sequence[str] = ()) -> int:
        """How many rows the server expects that some conditions choose."""
        return session.estimated_rows(f"SELECT 1 FROM {self.quoted}{where_clause(scope)}")

    def is_indexed(self, column: str | None) -> bool:
        """Whether the server finds rows by a column's values in an index."""
        return any(index.columns[0] == column for index in self.indexes)

    def clock(self, session: Session, cursor: Cursor) -> CursorClock:
        """The clock that a cursor column shows.

        Raises:
            SourceMismatch: there is no such column, it is not a time, or its zone is not known.
        """
        name = cursor.column
        require(self, self.types, name, "its cursor")
        described = self.types[name]
        if described.type not in _CURSOR_TYPES or described.is_array:
            raise no_time(self, cursor, "timestamptz, timestamp or date")
        is_date = described.type == "date"
        step = DAY if is_date else timedelta(microseconds=10 ** (6 - described.fraction))
        if described.type == "timestamptz":
            return clock_of_moments(self, cursor, "timestamptz", step)
        # Not the session's own, which is UTC: what others begin with.
        ((zone,),) = session.rows("SELECT reset_val FROM pg_settings WHERE name = 'TimeZone'")
        return clock_of_wall(self, cursor, step, str(zone))

    def interval(
        self, cursor: Cursor | None, clock: CursorClock | None, interval: Interval
    ) -> list[str]:
        """The conditions that an interval sets."""
        if cursor is None or clock is None:
            return []
        start, end = clock.bounds(interval)
        return [
            f"{quote(cursor.column)} {operator} {self.moment(cursor, bound)}"
            for operator, bound in ((">=", start), ("<", end))
            if bound is not None
        ]

    def moment(self, cursor: Cursor, shown: datetime) -> str:
        """A time that the cursor shows, as SQL compares it."""
        is_moment = self.types[cursor.column].type == "timestamptz"
        # A date is compared with a time as its midnight.
        written = literal(shown.isoformat(" ", "microseconds") + ("+00" if is_moment else ""))
        return f"{written}::{'timestamptz' if is_moment else 'timestamp'}"

    def rows_out_of_time(
        self, session: Session, cursor: Cursor, now: datetime | None
    ) -> tuple[int, int, int]:
        """Count, in one query, the rows that are in no interval up to now.

        Args:
            session: The session to use.
            cursor: The cursor.
            now: What the column shows now; None means that rows of the future are not counted.

        Returns:
            The rows with NULL as their cursor, those with a time that no calendar has, such as
            infinity, and those of the future.
        """
        name = quote(cursor.column)
        endless = unfit(self.types[cursor.column])
        future = "false" if now is None else f"{name} > {self.moment(cursor, now)}"
        ((nulls, misfits, later),) = session.rows(
            f"SELECT COUNT(*) FILTER (WHERE {name} IS NULL), COUNT(*) FILTER (WHERE {endless}), "
            f"COUNT(*) FILTER (WHERE {future} AND NOT {endless}) FROM {self.quoted} "
            f"WHERE {name} IS NULL OR {endless} OR {future}"
        )
        return nulls, misfits, later


def where_clause(conditions: Sequence[str]) -> str:
    """A WHERE clause; empty without conditions."""
    return f" WHERE {' AND '.join(f'({sql})' for sql in conditions)}" if conditions else ""


def _described(row: Sequence[object]) -> Described:
    name, declared, type_, kind, is_array, typmod, is_nullable, money_scale = row
    modifier = int(str(typmod))
    precision: int | None = None
    scale, fraction = 0, 6
    if type_ == "numeric" and modifier >= 0:
        # As PostgreSQL packs them; the scale has a sign in eleven bits.
        precision = (modifier - 4) >> 16 & 0xFFFF
        scale = ((modifier - 4) & 0x7FF ^ 0x400) - 0x400
    if type_ == "money":
        scale = int(str(money_scale))
    if type_ in ("timestamp", "timestamptz") and modifier >= 0:
        fraction = modifier
    return Described(
        str(name),
        str(declared),
        str(type_),
        str(kind),
        bool(is_array),
        precision,
        scale,
        fraction,
        bool(is_nullable),
    )
