"""What a MySQL server itself knows of its tables: keys, times of edits, references, comments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase

import pyarrow as pa

from millrace.catalog import Cursor
from millrace.connections import Connection
from millrace.errors import SourceMismatch
from millrace.sources.base import FoundColumn, FoundTable
from millrace.sources.mysql.relation import OWN_SCHEMAS, Relation
from millrace.sources.mysql.session import Session
from millrace.sources.mysql.types import quote

_SAMPLE_ROWS = 100
_SAMPLE_LETTERS = 200
# Names that applications give to the time of the last edit.
_EDITED = re.compile(
    r"(updated|modified|changed|edited|last_?(update|updated|modified|change|changed|edit|edited))"
    r"(_?(at|on|ts|time|date|datetime|timestamp))?|mtime|update_time|modification_date"
)
_DELETED = re.compile(r"(is_)?(deleted|removed)(_(at|on|time|date))?")
_TIMES = frozenset({pa.timestamp("us"), pa.timestamp("us", "UTC")})

Place = tuple[str, str]
"""A database and a table of it."""


def describe(session: Session, connection: Connection, patterns: Sequence[str]) -> list[FoundTable]:
    """The server's tables and views that match; see ``DescribingSource.describe``."""
    listed = _listed(session, connection, patterns)
    facts = _facts(session, listed)
    references = _references(session, listed)
    found = []
    for place, comment in listed.items():
        relation = Relation.find(session, ".".join(place), connection)
        look = _Look(session, relation, facts[place])
        found.append(look.table(comment, references.get(place, {})))
    return found


def undeclared(session: Session, connection: Connection, declared: Iterable[str]) -> list[str]:
    """The tables and views that have no declaration; see ``ListingSource.undeclared``.

    If the connection names a database, others are listed only where a table of theirs is declared.
    """
    ((ignores_case,),) = session.rows("SELECT @@lower_case_table_names > 0")

    def spelt(name: str) -> str:
        return name.lower() if ignores_case else name

    database = connection.schema or ""
    places = {spelt(name if "." in name else f"{database}.{name}") for name in declared}
    databases = {place.rpartition(".")[0] for place in places} | {spelt(database)}
    return [
        f"{schema}.{name}"
        for schema, name in _every(session)
        if spelt(f"{schema}.{name}") not in places and (not database or spelt(schema) in databases)
    ]


def _every(session: Session) -> dict[Place, str]:
    """The tables and views that the account may read, with their comments."""
    rows = session.rows(
        "SELECT table_schema, table_name, IF(table_type = 'VIEW', '', table_comment) "
        "FROM information_schema.tables WHERE table_schema NOT IN (%s, %s, %s, %s) "
        "ORDER BY table_schema, table_name",
        OWN_SCHEMAS,
    )
    return {(str(schema), str(name)): str(comment or "") for schema, name, comment in rows}


def _listed(session: Session, connection: Connection, patterns: Sequence[str]) -> dict[Place, str]:
    """The tables that match, with their comments."""
    every = _every(session)
    matching: set[Place] = set()
    for pattern in patterns or ["*"]:
        database = connection.schema or "*"
        whole = pattern if "." in pattern else f"{database}.{pattern}"
        of_pattern = {place for place in every if fnmatchcase(".".join(place), whole)}
        if not of_pattern:
            raise SourceMismatch(
                f"MySQL has no table {whole} that '{connection.login}' may read.",
                fix="Name a table that is there, a database (`prod.*`), or none, for every table; "
                "or grant SELECT.",
            )
        matching |= of_pattern
    return {place: comment for place, comment in every.items() if place in matching}


@dataclass(frozen=True)
class _Facts:
    """What ``information_schema.columns`` says of a column besides its type."""

    comment: str
    is_touched: bool
    """Whether the server writes the time of each edit into it."""


def _facts(session: Session, places: Mapping[Place, object]) -> dict[Place, dict[str, _Facts]]:
    found: dict[Place, dict[str, _Facts]] = {place: {} for place in places}
    for schema in sorted({schema for schema, _ in places}):
        for table, column, comment, extra in session.rows(
            "SELECT table_name, column_name, column_comment, extra "
            "FROM information_schema.columns WHERE table_schema = %s",
            (schema,),
        ):
            if (schema, str(table)) in found:
                is_touched = "on update current_timestamp" in str(extra).lower()
                facts = _Facts(str(comment or ""), is_touched)
                found[schema, str(table)][str(column)] = facts
    return found


def _references(
    session: Session, places: Mapping[Place, object]
) -> dict[Place, dict[str, tuple[str, str]]]:
    """The foreign keys of one column, by table and column."""
    found: dict[Place, dict[str, tuple[str, str]]] = {}
    for schema in sorted({schema for schema, _ in places}):
        constraints: dict[tuple[str, str], list[tuple[str, str, str]]] = {}
        for table, constraint, column, of_schema, of_table, of_column in session.rows(
            "SELECT table_name, constraint_name, column_name, referenced_table_schema, "
            "referenced_table_name, referenced_column_name "
            "FROM information_schema.key_column_usage "
            "WHERE table_schema = %s AND referenced_table_name IS NOT NULL",
            (schema,),
        ):
            of = constraints.setdefault((str(table), str(constraint)), [])
            of.append((str(column), f"{of_schema}.{of_table}", str(of_column)))
        for (table, _), columns in constraints.items():
            if len(columns) == 1:
                [(column, of_place, of_column)] = columns
                found.setdefault((schema, table), {})[column] = (of_place, of_column)
    return found


@dataclass(frozen=True)
class _Look:
    """Looks at one table."""

    session: Session
    relation: Relation
    facts: Mapping[str, _Facts]

    def table(self, comment: str, references: Mapping[str, tuple[str, str]]) -> FoundTable:
        key = self._key()
        cursor, why = self._cursor(key)
        return FoundTable(
            place=str(self.relation),
            name=self.relation.name,
            columns=self._columns(),
            description=comment,
            key=key,
            cursor=cursor,
            cursor_why=why,
            is_empty=self._is_empty(),
            deleted=next(filter(self._marks_deleted, self.relation.types), None),
            references=references,
            newest=self._newest(cursor),
        )

    def _columns(self) -> tuple[FoundColumn, ...]:
        types = {name: self._type(name) for name in self.relation.types}
        samples = self._samples(
            [
                name
                for name, type_ in types.items()
                if type_ is not None and pa.types.is_string(type_)
            ]
        )
        return tuple(
            FoundColumn(
                name=name,
                declared=str(column_type),
                type=types[name],
                is_nullable=is_nullable == "YES",
                is_boolean=str(column_type).lower() in ("tinyint(1)", "bit(1)"),
                description=self.facts[name].comment,
                sample=samples.get(name, ()),
            )
            for name, (_, column_type, _, _, is_nullable, *_) in self.relation.types.items()
        )

    def _type(self, name: str) -> pa.DataType | None:
        try:
            return self.relation.column(name).type
        except SourceMismatch:
            return None

    def _samples(self, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
        """Some values of columns with text. A view may take long, and is not asked."""
        if self.relation.is_view or not names:
            return {}
        shown = ", ".join(f"LEFT({quote(name)}, {_SAMPLE_LETTERS})" for name in names)
        rows = self.session.rows(f"SELECT {shown} FROM {self.relation.quoted} LIMIT {_SAMPLE_ROWS}")
        values = zip(*rows, strict=True) if rows else ()
        return {
            name: tuple(value for value in of if value is not None)
            for name, of in zip(names, values, strict=False)
        }

    def _is_empty(self) -> bool:
        if self.relation.is_view:
            return False
        return not self.session.rows(f"SELECT 1 FROM {self.relation.quoted} LIMIT 1")

    def _key(self) -> tuple[str, ...]:
        """The primary key, or the shortest of the unique keys that never are NULL."""
        unique = [
            tuple(str(column) for column, _, _ in columns)
            for columns in self.relation.indexes.values()
            if columns[0][2] == "0"
            and all(column is not None and nullable != "YES" for column, nullable, _ in columns)
        ]
        primary = tuple(str(column) for column, *_ in self.relation.indexes.get("PRIMARY", ()))
        return primary or min(unique, key=len, default=())

    def _cursor(self, key: Sequence[str]) -> tuple[str | None, str]:
        """The column that changes with every edit, and why it is taken for that."""
        if not key:
            return None, "there is no key that would tell which row an edit replaces"
        times = [name for name in self.relation.types if self._type(name) in _TIMES]
        touched = [name for name in times if self.facts[name].is_touched]
        named = [name for name in times if _EDITED.fullmatch(name.lower())]
        for name in [*touched, *named]:
            if self.relation.column(name).is_nullable:
                why = f"{name} may be NULL, and such a row would be in no interval"
                continue
            try:
                self.relation.clock(self.session, Cursor(column=name))
            except SourceMismatch as error:
                return None, error.message
            index = (
                "" if self.relation.is_indexed(name) else "; an index on it would make reads short"
            )
            if name in touched:
                return name, f"MySQL itself sets it at every edit{index}"
            return name, f"by its name: see that every edit sets it{index}"
        if touched or named:
            return None, why
        return None, "no column changes with every edit"

    def _marks_deleted(self, name: str) -> bool:
        type_ = self._type(name)
        is_mark = type_ is not None and (
            pa.types.is_timestamp(type_) or pa.types.is_integer(type_) or pa.types.is_boolean(type_)
        )
        return bool(is_mark and _DELETED.fullmatch(name.lower()))

    def _newest(self, cursor: str | None) -> datetime | None:
        """When a row was edited last, where an index knows it."""
        if cursor is None or not self.relation.is_indexed(cursor):
            return None
        ((text,),) = self.session.rows(f"SELECT MAX({quote(cursor)}) FROM {self.relation.quoted}")
        try:
            found = datetime.fromisoformat(str(text))
        except ValueError:
            # No rows, or '0000-00-00'.
            return None
        clock = self.relation.clock(self.session, Cursor(column=cursor))
        return clock.earliest(found).astimezone(UTC)
