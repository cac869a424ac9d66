"""What is proposed for a table that a source has: its declaration, and its staging columns."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pyarrow as pa

from millrace.catalog import Pii
from millrace.pii.looks import looks_personal
from millrace.scaffold import names
from millrace.sources.base import FoundColumn, FoundTable

# Whose values are worth joining by, so their hashes are kept; any other personal column is dropped.
_JOINED = re.compile(r"e_?mail|phone|mobile|tel|(^|_)ip(v[46])?(_|$)")
_MARK = "is_deleted"
_FRESH = (
    (timedelta(days=1), (36, "hour")),
    (timedelta(days=8), (9, "day")),
)


class Group(StrEnum):
    """The groups of columns in a staging model, in their order."""

    IDS = "ids"
    STRINGS = "strings"
    NUMERICS = "numerics"
    BOOLEANS = "booleans"
    DATES = "dates"
    TIMESTAMPS = "timestamps"
    OTHERS = "others"


@dataclass(frozen=True)
class StagingColumn:
    """A column of a staging model.

    Attributes:
        name: Its name there.
        expression: What makes it of the raw table's columns, with Jinja.
        group: Where it stands.
        found: The source's column.
        references: The staging model and column that its values must be in, if they are known.
    """

    name: str
    expression: str
    group: Group
    found: FoundColumn
    references: tuple[str, str] | None = None


@dataclass(frozen=True)
class Proposal:
    """What is proposed for one table.

    Attributes:
        found: The table.
        source: The dbt source.
        table: The name of the dbt source's table.
        model: The name of the staging model.
        columns: The staging model's columns.
        policies: What happens to personal columns, by name; why, for a person.
        left_out: Columns that have no decided form.
    """

    found: FoundTable
    source: str
    table: str
    model: str
    columns: tuple[StagingColumn, ...]
    policies: Mapping[str, tuple[Pii, str]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def is_incremental(self) -> bool:
        """Whether raw has one row for each version of a row."""
        return self.found.cursor is not None

    @property
    def key(self) -> tuple[str, ...]:
        """The key by its names in the staging model; none if a part of it is left out there."""
        renamed = {column.found.name: column.name for column in self.columns}
        key = tuple(renamed.get(name, "") for name in self.found.key)
        return key if all(key) else ()

    def freshness(self, now: datetime) -> tuple[int, str] | None:
        """After how long without a load dbt is to warn; None: the table rests for long anyway."""
        if self.found.newest is None:
            return None
        age = now.astimezone(UTC) - self.found.newest
        return next((period for most, period in _FRESH if age <= most), None)


def propose(
    found: Sequence[FoundTable], source: str, known: Mapping[str, tuple[str, str]]
) -> list[Proposal]:
    """Propose declarations and staging models.

    Args:
        found: The tables.
        source: The dbt source that they are to belong to.
        known: The staging model and table name of tables that are declared already, by place.
    """
    called = {
        table.place: known.get(table.place, ("", ""))[1] or _called(table, found) for table in found
    }
    models = {place: model for place, (model, _) in known.items()}
    models |= {
        place: models.get(place) or f"stg_{source}__{names.snake(name)}"
        for place, name in called.items()
    }
    columns = {table.place: _renamed(table) for table in found}
    return [_proposed(table, source, called[table.place], models, columns) for table in found]


def _called(table: FoundTable, found: Sequence[FoundTable]) -> str:
    """A table's name in dbt: its own, unless two databases have one of that name."""
    is_alone = sum(other.name == table.name for other in found) == 1
    return names.snake(table.name if is_alone else table.place)


def _proposed(
    table: FoundTable,
    source: str,
    called: str,
    models: Mapping[str, str],
    renamed: Mapping[str, Mapping[str, str]],
) -> Proposal:
    policies = dict(_policies(table))
    dropped = {name for name, (policy, _) in policies.items() if policy is Pii.DROP}
    left_out = tuple(column.name for column in table.columns if column.type is None)
    columns = []
    for column in table.columns:
        if column.name in dropped or column.type is None:
            continue
        is_hashed = column.name in policies
        name = renamed[table.place][column.name]
        place, of_column = table.references.get(column.name, ("", ""))
        is_there = of_column in renamed.get(place, {}) and place in models
        columns.append(
            StagingColumn(
                name=f"{names.snake(column.name)}_hash" if is_hashed else name,
                expression=_expression(table, column, is_hashed=is_hashed),
                group=_group(table, column, is_hashed=is_hashed),
                found=column,
                references=(models[place], renamed[place][of_column]) if is_there else None,
            )
        )
    if mark := _mark(table, columns):
        columns.append(mark)
    order = list(Group)
    return Proposal(
        table,
        source,
        called,
        models[table.place],
        tuple(sorted(columns, key=lambda column: order.index(column.group))),
        policies,
        left_out,
    )


def _mark(table: FoundTable, columns: Sequence[StagingColumn]) -> StagingColumn | None:
    """Whether a row is deleted, where the source only says when it was."""
    found = next((column.found for column in columns if column.found.name == table.deleted), None)
    is_time = found is not None and found.type is not None and pa.types.is_timestamp(found.type)
    if found is None or not is_time or any(column.name == _MARK for column in columns):
        return None
    said = replace(
        found, description="Whether the row is deleted at its source.", is_nullable=False
    )
    return StagingColumn(_MARK, f"{quoted(found.name)} is not null", Group.BOOLEANS, said)


def _policies(table: FoundTable) -> Iterator[tuple[str, tuple[Pii, str]]]:
    for column in table.columns:
        is_bound = column.name in (*table.key, *table.references, table.cursor, table.deleted)
        if column.type is None or is_bound or column.is_boolean:
            continue
        sample = pa.array(column.sample, pa.string()) if column.sample else pa.nulls(0, column.type)
        why = looks_personal(column.name, sample)
        if why is not None:
            is_joined = "e-mail" in why or _JOINED.search(names.snake(column.name))
            yield column.name, (Pii.HASH if is_joined else Pii.DROP, why)


def _renamed(table: FoundTable) -> dict[str, str]:
    """The names of a table's columns in its staging model, by their own."""
    taken = {column.name: _name(table, column) for column in table.columns}
    doubles = {name for name in taken.values() if [*taken.values()].count(name) > 1}
    return {own: names.snake(own) if name in doubles else name for own, name in taken.items()}


def _name(table: FoundTable, column: FoundColumn) -> str:
    name = names.snake(column.name)
    one = names.singular(names.snake(table.name))
    if name == "id":
        return f"{one}_id"
    if column.name in table.references:
        return names.key_of(name)
    if _is_flag(column):
        return names.flag(name)
    if column.type is not None and pa.types.is_timestamp(column.type):
        name = names.moment(name)
    elif column.type is not None and pa.types.is_date(column.type):
        name = names.day(name)
    return f"{one}_{name}" if names.is_reserved(name) else name


def _is_id(table: FoundTable, column: FoundColumn) -> bool:
    return column.name in (*table.key, *table.references) or names.snake(column.name).endswith(
        "_id"
    )


def _is_flag(column: FoundColumn) -> bool:
    return column.is_boolean or (column.type is not None and pa.types.is_boolean(column.type))


def _group(table: FoundTable, column: FoundColumn, *, is_hashed: bool) -> Group:
    type_ = column.type
    if _is_id(table, column):
        return Group.IDS
    if _is_flag(column):
        return Group.BOOLEANS
    if is_hashed or type_ is None or pa.types.is_string(type_):
        return Group.STRINGS
    if pa.types.is_timestamp(type_):
        return Group.TIMESTAMPS
    if pa.types.is_date(type_):
        return Group.DATES
    is_number = bool(
        pa.types.is_integer(type_) or pa.types.is_decimal(type_) or pa.types.is_floating(type_)
    )
    return Group.NUMERICS if is_number else Group.OTHERS


def _expression(table: FoundTable, column: FoundColumn, *, is_hashed: bool) -> str:
    """What makes a staging column: with its cast, and without one where raw has that type."""
    own, type_ = quoted(column.name), column.type
    if type_ is None or is_hashed:
        return own
    if _is_flag(column) and pa.types.is_integer(type_):
        return f"{own} = 1"
    if pa.types.is_timestamp(type_):
        return f"cast({own} as {{{{ dbt.type_timestamp() }}}})"
    # The key of a table may be an unsigned BIGINT, and what refers to it an INT.
    is_whole = pa.types.is_integer(type_) or (pa.types.is_decimal(type_) and type_.scale == 0)
    if pa.types.is_int64(type_) or (_is_id(table, column) and is_whole):
        return f"cast({own} as {{{{ dbt.type_bigint() }}}})"
    if pa.types.is_integer(type_):
        return f"cast({own} as {{{{ dbt.type_int() }}}})"
    return own


def quoted(name: str) -> str:
    """A column's name as a model writes it."""
    if names.is_plain(name):
        return name
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"{{{{ adapter.quote('{escaped}') }}}}"
