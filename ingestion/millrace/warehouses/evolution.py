"""How a raw table is changed so that the next batch fits, without losing anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from millrace.arrow_types import common_type
from millrace.catalog import IngestTable
from millrace.errors import SchemaConflict


@dataclass(frozen=True)
class Evolution:
    """What to do before a batch is inserted.

    Attributes:
        add: New columns with their types.
        widen: Columns of the raw table with their wider types.
        insert: Columns of the batch to insert, in its order.
    """

    add: Mapping[str, pa.DataType] = field(default_factory=dict)
    widen: Mapping[str, pa.DataType] = field(default_factory=dict)
    insert: tuple[str, ...] = ()


def plan_evolution(
    table: IngestTable, existing: Mapping[str, pa.DataType], incoming: pa.Schema
) -> Evolution:
    """Compare the raw table with a batch.

    Args:
        table: The declaration, with its policies for new and missing columns.
        existing: The raw table's columns, without Millrace's own.
        incoming: The batch's columns.

    Raises:
        SchemaConflict: a type that changed beyond what widening can hold, a column that
            vanished, or a new column that the declaration refuses.
    """
    _refuse_ambiguous_names(table, incoming)
    if not existing:
        # In a table that does not exist yet, no column counts as new.
        return Evolution(insert=tuple(incoming.names))
    raw = f"{table.schema}.{table.identifier}"
    # Warehouses fold case: a column whose name only changed its case is the same column.
    known = {name.lower(): type_ for name, type_ in existing.items()}
    coming = {name.lower() for name in incoming.names}
    coming |= {name.lower() for name in table.left_out}
    missing = [name for name in existing if name.lower() not in coming]
    if missing and table.options.missing_columns == "refuse":
        raise SchemaConflict(
            f"{table.key} no longer has the column {_names(missing)}, which {raw} has.",
            fix="If that is meant, declare `missing_columns: keep`: old rows keep their values, "
            f"new ones get NULL. Otherwise bring the column back in {table.source}.",
        )
    new = [name for name in incoming.names if name.lower() not in known]
    if new and table.options.new_columns == "refuse":
        raise SchemaConflict(
            f"{table.key} has the new column {_names(new)}, which {raw} lacks.",
            fix="Declare `new_columns: add` (or ignore).",
        )
    adds = table.options.new_columns == "add"
    widen = {}
    for name in incoming.names:
        if name in new:
            continue
        before, after = known[name.lower()], incoming.field(name).type
        both = common_type(before, after)
        if both is None:
            raise SchemaConflict(
                f"{table.key}: column {name} was {before} in {raw} and is now {after}: "
                "no type holds both without loss.",
                fix=f"Cast it back in {table.source}, or start the raw table anew: drop {raw} "
                f"and its rows in the ledger, then `millrace ingest {table.key} --all`.",
            )
        if both != before:
            widen[name] = both
    return Evolution(
        add={name: incoming.field(name).type for name in new} if adds else {},
        widen=widen,
        insert=tuple(name for name in incoming.names if adds or name not in new),
    )


def _refuse_ambiguous_names(table: IngestTable, incoming: pa.Schema) -> None:
    """Refuse Millrace's own names, and names that differ only in case, which warehouses fold."""
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


def _names(names: list[str]) -> str:
    return ", ".join(names)
