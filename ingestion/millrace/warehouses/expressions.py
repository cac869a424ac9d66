"""Names, times and intervals as every SQL warehouse writes them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pyarrow as pa

from millrace.batch import Interval
from millrace.catalog import IngestTable
from millrace.cursor import CursorClock

if TYPE_CHECKING:
    from millrace.warehouses.dialect import Dialect


def raw(table: IngestTable) -> str:
    """The raw table's quoted name."""
    return f"{quote(table.schema)}.{quote(table.identifier)}"


def quote(identifier: str) -> str:
    """An identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def naive(time: datetime | None) -> datetime | None:
    """A time as the warehouse keeps it: in UTC, without a zone."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)


def cursor_bounds(
    dialect: Dialect, table: IngestTable, types: Mapping[str, pa.DataType], interval: Interval
) -> list[tuple[str, str]]:
    """The conditions that an interval sets, the same as in the query to the source.

    Args:
        dialect: How the warehouse writes things.
        table: The declaration.
        types: The raw table's columns.
        interval: The interval.

    Returns:
        Each condition with its parameter; none if the table has no cursor, or if it is hashed.
    """
    cursor = table.options.cursor
    type_ = types.get(cursor.column) if cursor else None
    if cursor is None or type_ is None or not pa.types.is_temporal(type_):
        return []
    is_moment = pa.types.is_timestamp(type_) and type_.tz
    zone = None if is_moment else ZoneInfo(cursor.time_zone or "UTC")
    clock = CursorClock(zone) if zone else CursorClock()
    sql_type = dialect.timestamp(has_zone=bool(is_moment))
    return [
        (
            f"{dialect.quote(cursor.column)} {sign} CAST(? AS {sql_type})",
            f"{bound}{'+00:00' if is_moment else ''}",
        )
        for sign, bound in zip((">=", "<"), clock.bounds(interval), strict=True)
        if bound is not None
    ]
