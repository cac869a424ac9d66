"""What a table declares, and what its server has: the errors where one does not fit the other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, timedelta
from zoneinfo import ZoneInfo

from millrace.catalog import Cursor
from millrace.cursor import CursorClock
from millrace.errors import SourceMismatch

# Zones whose clock is UTC all year round.
UTC_ZONES = frozenset(
    {
        *("+00:00", "-00:00", "UTC", "ETC/UTC", "UCT", "ETC/UCT", "ZULU", "ETC/ZULU"),
        *("UNIVERSAL", "ETC/UNIVERSAL", "GMT", "ETC/GMT", "GREENWICH", "ETC/GREENWICH"),
    }
)


def require(relation: object, columns: Collection[str], name: str, declared_as: str) -> None:
    """Refuse a declared column that is not there.

    Raises:
        SourceMismatch: it is not.
    """
    if name not in columns:
        raise SourceMismatch(
            f"{relation} has no column '{name}', which is declared as {declared_as}.",
            fix=f"Correct the declaration; its columns: {', '.join(columns)}.",
        )


def kept(relation: object, columns: Collection[str], without: Iterable[str]) -> list[str]:
    """The columns that are read.

    Raises:
        SourceMismatch: a column to leave out is not there. If its name is misspelt, the column
            would be read.
    """
    left_out = sorted(without)
    for name in left_out:
        require(relation, columns, name, "left out (`ingest: false` or `pii: drop`)")
    return [name for name in columns if name not in left_out]


def refuse_other_key(
    relation: object, key: Sequence[str], keys: Iterable[Sequence[str]], server: str
) -> None:
    """Refuse a declared key that does not identify a row.

    Args:
        relation: The table.
        key: What is declared.
        keys: The columns of each key that the table has.
        server: What the server is called.

    Raises:
        SourceMismatch: none of the table's keys lies in the declared one.
    """
    there = list(keys)
    if not any(set(columns) <= set(key) for columns in there):
        found = "; ".join(", ".join(columns) for columns in there)
        raise SourceMismatch(
            f"{relation} has no primary key or unique index on ({', '.join(key)}), "
            "which is declared as its primary_key.",
            fix=f"Declare one of its keys: {found}."
            if found
            else f"Add the key in {server}, or declare neither key nor cursor: it is read whole.",
        )


def clock_of_moments(relation: object, cursor: Cursor, type_: str, step: timedelta) -> CursorClock:
    """The clock of a cursor column that keeps points in time.

    Raises:
        SourceMismatch: a time zone is declared for it.
    """
    if cursor.time_zone not in (None, "UTC"):
        raise SourceMismatch(
            f"{relation}.{cursor.column} is a {type_}, which keeps moments, and its cursor "
            f"declares the time zone {cursor.time_zone}.",
            fix="Take `time_zone` out of the declaration.",
        )
    return CursorClock(UTC, step)


def clock_of_wall(
    relation: object, cursor: Cursor, step: timedelta, zone: str, utc: Collection[str] = UTC_ZONES
) -> CursorClock:
    """The clock of a cursor column that keeps times without a zone.

    Args:
        relation: The table.
        cursor: The cursor.
        step: Its precision.
        zone: The zone of the server's clock.
        utc: The zones that are UTC.

    Raises:
        SourceMismatch: its zone is not declared, and the server's clock is not on UTC.
    """
    name = cursor.column
    if cursor.time_zone is None and zone.upper() not in utc:
        raise SourceMismatch(
            f"{relation}.{name} keeps times without a zone, and the clock of this server is on "
            f"{zone}: the zone of these times is not known.",
            fix=f"Declare the zone: `cursor: {{column: {name}, time_zone: Europe/Paris}}`, "
            "or `time_zone: UTC` where the application writes UTC.",
        )
    return CursorClock(ZoneInfo(cursor.time_zone or "UTC"), step)


def no_time(relation: object, cursor: Cursor, types: str) -> SourceMismatch:
    """The error of a cursor that is not a time."""
    return SourceMismatch(
        f"{relation}.{cursor.column} is declared as the cursor, but is not a date or time.",
        fix=f"Declare a {types} column that changes with every edit, or none, for a full refresh.",
    )


def refuse_rows_without_a_time(
    relation: object, cursor: Cursor, counts: Iterable[tuple[int, str]], server: str
) -> None:
    """Refuse rows that are in no interval.

    Args:
        relation: The table.
        cursor: The cursor.
        counts: How many rows have which value.
        server: What the server is called.

    Raises:
        SourceMismatch: there are some.
    """
    for count, value in counts:
        if count:
            raise SourceMismatch(
                f"{relation} has {count:,} rows whose cursor '{cursor.column}' is {value}: "
                "no interval would take them.",
                fix=f"Correct it in {server} and make it NOT NULL, or declare another cursor, "
                "or none, for a full refresh.",
            )


def of_the_future(relation: object, cursor: Cursor, count: int) -> tuple[str, ...]:
    """A warning of rows whose time has not come; none without such rows."""
    if not count:
        return ()
    text = (
        f"{relation} has {count:,} rows whose cursor '{cursor.column}' lies in the future: "
        "they are loaded when their time has come."
    )
    return (text,)
