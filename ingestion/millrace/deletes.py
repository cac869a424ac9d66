"""Rows that their source marks as deleted get the time of it in ``_deleted_at``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from millrace.catalog import IngestTable, SoftDeletes
from millrace.errors import SourceMismatch

DELETED_COLUMN = "_deleted_at"
DELETED = pa.field(DELETED_COLUMN, pa.timestamp("us"))


def marked_as_deleted(
    table: IngestTable, schema: pa.Schema, streams: Sequence[Iterable[pa.RecordBatch]]
) -> tuple[pa.Schema, list[Iterable[pa.RecordBatch]]]:
    """Add ``_deleted_at`` to the rows of a table that declares which column marks deleted ones.

    It is the mark itself where that is a time, and else the row's cursor, or the time of reading.

    Args:
        table: The declaration.
        schema: The columns.
        streams: The rows.

    Raises:
        SourceMismatch: the declared column is not there, is neither a time nor a number, or the
            table has a column with that name already.
    """
    deletes = table.options.deletes
    if not isinstance(deletes, SoftDeletes) or deletes.soft == DELETED_COLUMN:
        return schema, list(streams)
    if deletes.soft not in schema.names or not _is_mark(schema.field(deletes.soft).type):
        raise SourceMismatch(
            f"{table.key} has no column {deletes.soft} that could mark deleted rows: a time, a "
            "whole number or a boolean.",
            fix=f"Correct `deletes` in the declaration; its columns: {', '.join(schema.names)}.",
        )
    refuse_own_name(table, schema)
    marked = schema.append(DELETED)
    return marked, [_marked(table, deletes.soft, marked, stream) for stream in streams]


def refuse_own_name(table: IngestTable, schema: pa.Schema) -> None:
    """Refuse a table that has a column with the name of the mark.

    Raises:
        SourceMismatch: it has.
    """
    if DELETED_COLUMN in schema.names:
        raise SourceMismatch(
            f"{table.key} has a column {DELETED_COLUMN}, which Millrace writes itself.",
            fix="Read the table through a view that renames it, or declare it as the mark: "
            f"`deletes: {{soft: {DELETED_COLUMN}}}`.",
        )


def _marked(
    table: IngestTable, mark: str, schema: pa.Schema, stream: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    for batch in stream:
        deleted = _moments(batch, mark, table.cursor_column)
        yield pa.RecordBatch.from_arrays([*batch.columns, deleted], schema=schema)


def _moments(batch: pa.RecordBatch, mark: str, cursor: str | None) -> pa.Array:
    column = batch.column(mark)
    if pa.types.is_temporal(column.type):
        return _naive(column)
    is_deleted = pc.fill_null(pc.not_equal(column.cast(pa.int64()), 0), False)
    when = batch.column(cursor) if cursor in batch.schema.names else None
    if when is None or not pa.types.is_temporal(when.type):
        when = pa.repeat(pa.scalar(datetime.now(UTC), pa.timestamp("us", "UTC")), len(batch))
    return pc.if_else(is_deleted, _naive(when), pa.scalar(None, DELETED.type))


def _naive(moments: pa.Array) -> pa.Array:
    """Times without a zone; those with one are kept in UTC already."""
    if pa.types.is_timestamp(moments.type):
        return moments.view(DELETED.type)
    return moments.cast(DELETED.type)


def _is_mark(type_: pa.DataType) -> bool:
    return bool(
        pa.types.is_temporal(type_) or pa.types.is_integer(type_) or pa.types.is_boolean(type_)
    )
