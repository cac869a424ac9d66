"""How a raw table is changed so that the next batch fits, without losing anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from millrace.arrow_types import common_type, is_castable
from millrace.catalog import IngestTable, SchemaPolicy
from millrace.deletes import DELETED_COLUMN
from millrace.errors import SchemaConflict


@dataclass(frozen=True)
class Evolution:
    """What to do before a batch is inserted.

    Attributes:
        add: New columns with their types.
        widen: Columns of the raw table with their wider types, which hold every value.
        rewrite: Columns of the raw table with their old and their new types; whether every value
            fits is for the warehouse to say.
        insert: Columns of the batch to insert, in its order.
        told: What a person should know, one sentence or two for each change.
    """

    add: Mapping[str, pa.DataType] = field(default_factory=dict)
    widen: Mapping[str, pa.DataType] = field(default_factory=dict)
    rewrite: Mapping[str, tuple[pa.DataType, pa.DataType]] = field(default_factory=dict)
    insert: tuple[str, ...] = ()
    told: tuple[str, ...] = ()


def plan_evolution(
    table: IngestTable, existing: Mapping[str, pa.DataType], incoming: pa.Schema
) -> Evolution:
    """Compare the raw table with a batch.

    Args:
        table: The declaration, with its policy for changes.
        existing: The raw table's columns, without Millrace's own.
        incoming: The batch's columns.

    Raises:
        SchemaConflict: a type that changed beyond what the policy allows, any difference if the
            columns are frozen, or a column that no raw table can have.
    """
    refuse_ambiguous_names(table, incoming)
    if not existing:
        # In a table that does not exist yet, no column counts as new.
        return Evolution(insert=tuple(incoming.names))
    changes = _Changes.between(table, existing, incoming)
    if table.options.schema_policy is SchemaPolicy.FREEZE:
        _refuse_any(table, changes)
    widen, rewrite = _new_types(table, changes)
    return Evolution(
        add=changes.new,
        widen=widen,
        rewrite=rewrite,
        insert=tuple(incoming.names),
        told=tuple(_told(table, changes, widen, rewrite)),
    )


def refuse_other_columns(
    table: IngestTable, existing: Mapping[str, pa.DataType], incoming: pa.Schema
) -> None:
    """Refuse a raw table that a batch with these columns would change, or not fill.

    Args:
        table: The declaration.
        existing: The raw table's columns, without Millrace's own.
        incoming: The batch's columns.

    Raises:
        SchemaConflict: it would.
    """
    changes = _Changes.between(table, existing, incoming)
    unfit = {
        name: (before, after)
        for name, (before, after) in changes.retyped.items()
        if common_type(before, after) != before
    }
    if found := _differences(table, changes, unfit):
        raise SchemaConflict(
            f"{_raw(table)} is there already, with other columns than {table.key}: "
            f"{'; '.join(found)}.",
            fix=f"If it is {table.key}'s, `millrace ingest {table.key}` changes it as `schema` "
            "allows, and `millrace reload` makes it anew. Otherwise rename it out of the way, or "
            "give the source table another `identifier`.",
        )


def refuse_ambiguous_names(table: IngestTable, incoming: pa.Schema) -> None:
    """Refuse Millrace's own names, and names that differ only in case, which warehouses fold.

    Raises:
        SchemaConflict: a column that no raw table can have.
    """
    seen: dict[str, str] = {}
    for name in incoming.names:
        folded = name.lower()
        if folded in {"_batch_id", "_loaded_at"}:
            raise SchemaConflict(
                f"{table.key} has a column {name}, a name that Millrace writes itself.",
                fix="Read the table through a view that renames it.",
            )
        if folded in seen:
            raise SchemaConflict(
                f"{table.key} has the columns {seen[folded]} and {name}, "
                "which differ only in case: the warehouse cannot tell them apart.",
                fix="Read the table through a view that renames one of them.",
            )
        seen[folded] = name


def conflict(
    table: IngestTable, retyped: Mapping[str, tuple[pa.DataType, pa.DataType]], why: str
) -> SchemaConflict:
    """The error of columns whose new type the raw table cannot take.

    Args:
        table: The declaration.
        retyped: The raw table's type and the batch's, by column.
        why: What keeps the raw table from taking them.
    """
    fix = (
        f"Change it back in {table.source}, or run `millrace reload {table.key}`, which reads the "
        f"whole table again and replaces {_raw(table)}."
    )
    may_evolve = table.options.schema_policy is SchemaPolicy.EVOLVE
    if not may_evolve and all(is_castable(*both) for both in retyped.values()):
        fix += " Or declare `schema: evolve`: it rewrites the column if every value fits."
    return SchemaConflict(f"{table.key}: {_retypings(table, retyped)}: {why}.", fix=fix)


@dataclass(frozen=True)
class _Changes:
    """How a batch differs from the raw table.

    Attributes:
        new: The columns that the raw table lacks.
        missing: The raw table's columns that the batch lacks.
        retyped: The raw table's type and the batch's, where they differ.
    """

    new: Mapping[str, pa.DataType]
    missing: Mapping[str, pa.DataType]
    retyped: Mapping[str, tuple[pa.DataType, pa.DataType]]

    @property
    def added_by_source(self) -> Mapping[str, pa.DataType]:
        """The new columns without Millrace's own."""
        return {name: type_ for name, type_ in self.new.items() if name != DELETED_COLUMN}

    @classmethod
    def between(
        cls, table: IngestTable, existing: Mapping[str, pa.DataType], incoming: pa.Schema
    ) -> _Changes:
        # Warehouses fold case: a column whose name only changed its case is the same column.
        known = {name.lower(): type_ for name, type_ in existing.items()}
        coming = {name.lower() for name in (*incoming.names, *table.left_out)}
        # Only corrections bring the mark of rows that have vanished at the source.
        coming.add(DELETED_COLUMN)
        missing = {name: type_ for name, type_ in existing.items() if name.lower() not in coming}
        new, retyped = {}, {}
        for column in incoming:
            before = known.get(column.name.lower())
            if before is None:
                new[column.name] = column.type
            elif before != column.type:
                retyped[column.name] = before, column.type
        return cls(new, missing, retyped)


def _new_types(
    table: IngestTable, changes: _Changes
) -> tuple[dict[str, pa.DataType], dict[str, tuple[pa.DataType, pa.DataType]]]:
    """The columns to widen, with their new types, and to rewrite, with the old and the new."""
    widen, rewrite, misfits = {}, {}, {}
    for name, (before, after) in changes.retyped.items():
        wider = common_type(before, after)
        if wider is not None:
            if wider != before:
                widen[name] = wider
        elif table.options.schema_policy is SchemaPolicy.EVOLVE and is_castable(before, after):
            rewrite[name] = before, after
        else:
            misfits[name] = before, after
    if misfits:
        raise conflict(table, misfits, "no type holds both without loss")
    return widen, rewrite


def _refuse_any(table: IngestTable, changes: _Changes) -> None:
    """Refuse every difference: the raw table's columns are frozen."""
    if found := _differences(table, changes, changes.retyped):
        raise SchemaConflict(
            f"{table.key} has changed, and its columns are frozen (`schema: freeze`): "
            f"{'; '.join(found)}.",
            fix=f"Change it back in {table.source}, or leave a new column out (`ingest: false`). "
            f"To take the change, run `millrace reload {table.key}`, which reads the whole table "
            f"again and replaces {_raw(table)}.",
        )


def _differences(
    table: IngestTable, changes: _Changes, retyped: Mapping[str, tuple[pa.DataType, pa.DataType]]
) -> list[str]:
    return [
        *(f"{name} ({type_}) is new" for name, type_ in changes.added_by_source.items()),
        *(f"{name} is gone" for name in changes.missing),
        *([_retypings(table, retyped)] if retyped else []),
    ]


def _told(
    table: IngestTable,
    changes: _Changes,
    widen: Mapping[str, pa.DataType],
    rewrite: Mapping[str, tuple[pa.DataType, pa.DataType]],
) -> Iterator[str]:
    for name, type_ in changes.added_by_source.items():
        yield (
            f"{table.key} has the new column {name} ({type_}): {_raw(table)} gets it, with NULL in "
            "the rows that are loaded already."
        )
    for name, type_ in changes.missing.items():
        yield _told_missing(table, name, [new for new, of in changes.new.items() if of == type_])
    for name, wider in widen.items():
        change = _retypings(table, {name: changes.retyped[name]})
        yield f"{table.key}: {change}: it is widened to {wider}."
    for name, types in rewrite.items():
        change = _retypings(table, {name: types})
        yield f"{table.key}: {change}: it is rewritten if every value fits."


def _told_missing(table: IngestTable, name: str, alike: Sequence[str]) -> str:
    """What is said of a vanished column.

    Args:
        table: The declaration.
        name: The column.
        alike: New columns of the same type.
    """
    kept = f"{_raw(table)} keeps it, with NULL in the rows that are loaded from now on"
    if not alike:
        return (
            f"{table.key} no longer has the column {name}: {kept}. "
            f"`millrace reload {table.key}` removes it."
        )
    return (
        f"{table.key} no longer has the column {name}: {kept}. It may have been renamed to "
        f"{' or '.join(alike)}: that is a drop and an add, so no value moves from the one to the "
        f"other. `millrace reload {table.key}` reads the whole table under the new name."
    )


def _retypings(table: IngestTable, retyped: Mapping[str, tuple[pa.DataType, pa.DataType]]) -> str:
    return "; ".join(
        f"column {name} was {before} in {_raw(table)} and is now {after}"
        for name, (before, after) in retyped.items()
    )


def _raw(table: IngestTable) -> str:
    return f"{table.schema}.{table.identifier}"
