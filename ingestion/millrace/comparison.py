"""A table's columns side by side: at the source, declared, in the raw table, in dbt's models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from millrace.arrow_types import common_type
from millrace.catalog import IngestTable, Model
from millrace.sources.base import SourceColumn


@dataclass(frozen=True)
class ComparedColumn:
    """What each side says of a column; an empty text where it does not have it.

    Attributes:
        name: The column.
        source: Its type at the source.
        declared: What the dbt source says of it.
        raw: Its type in the raw table.
        models: Its type in each model that reads the table; or, if the model has no column of this
            name, whether its SQL names it.
        difference: What the next load meets there, in a few words; empty if the source and the raw
            table agree.
    """

    name: str
    source: str
    declared: str
    raw: str
    models: tuple[str, ...]
    difference: str


@dataclass(frozen=True)
class Sides:
    """What is compared.

    Attributes:
        table: The declaration.
        source: The columns at the source.
        incoming: The columns as they are landed.
        existing: The columns of the raw table, without Millrace's own.
        raw: The types of these, in the warehouse's own words.
        models: The models that read the table, each with its columns and their types.
    """

    table: IngestTable
    source: Sequence[SourceColumn]
    incoming: pa.Schema
    existing: Mapping[str, pa.DataType]
    raw: Mapping[str, str]
    models: Sequence[tuple[Model, Mapping[str, str]]]


def side_by_side(sides: Sides) -> list[ComparedColumn]:
    """Compare the columns: those of the source first, then those that are only elsewhere.

    Names are compared without regard to case, as warehouses do.
    """
    source = {column.name: column.declared_type for column in sides.source}
    declared = {name: _declared(sides.table, name) for name in _declared_names(sides.table)}
    raw = {name: sides.raw[name] for name in sides.existing}
    columns = [columns for _, columns in sides.models]
    return [
        ComparedColumn(
            name,
            _of(source, name),
            _of(declared, name),
            _of(raw, name),
            tuple(_in_model(model, found, name) for model, found in sides.models),
            _difference(sides, name),
        )
        for name in _names([source, raw, declared, *columns])
    ]


def _names(sides: Iterable[Mapping[str, str]]) -> list[str]:
    """Every name once, in the spelling of the first side that has it."""
    names: dict[str, str] = {}
    for side in sides:
        for name in side:
            names.setdefault(name.lower(), name)
    return list(names.values())


def _of(side: Mapping[str, str], name: str) -> str:
    return next((text for known, text in side.items() if known.lower() == name.lower()), "")


def _declared_names(table: IngestTable) -> list[str]:
    used = [*table.options.primary_key, table.cursor_column or ""]
    own = {"_batch_id", "_loaded_at"}
    return [name for name in dict.fromkeys([*used, *table.columns]) if name and name not in own]


def _declared(table: IngestTable, name: str) -> str:
    said = {
        "primary key": name in table.options.primary_key,
        "cursor": name == table.cursor_column,
        f"pii: {table.pii.get(name)}": name in table.pii,
        "ingest: false": name in table.not_ingested,
    }
    return ", ".join(text for text, holds in said.items() if holds) or "described"


def _in_model(model: Model, columns: Mapping[str, str], name: str) -> str:
    if found := _of(columns, name):
        return found
    is_named = re.search(rf"\b{re.escape(name)}\b", model.sql, re.IGNORECASE)
    return "named in its SQL" if is_named else ""


def _difference(sides: Sides, name: str) -> str:
    """What the next load meets in a column."""
    incoming = _type_of(zip(sides.incoming.names, sides.incoming.types, strict=True), name)
    existing = _type_of(sides.existing.items(), name)
    if name.lower() in {left_out.lower() for left_out in sides.table.left_out}:
        return "left out"
    if incoming is None:
        is_known = existing is not None or name in _declared_names(sides.table)
        return "not at the source" if is_known else ""
    if existing is None:
        return "new" if sides.existing else ""
    if incoming == existing:
        return ""
    wider = common_type(existing, incoming)
    kind = {None: "changed", existing: "narrower"}.get(wider, "wider")
    return f"{kind}: {existing} → {incoming}"


def _type_of(columns: Iterable[tuple[str, pa.DataType]], name: str) -> pa.DataType | None:
    return next((type_ for known, type_ in columns if known.lower() == name.lower()), None)
