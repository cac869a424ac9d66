"""What the readers of a publication are told of the loads behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from millrace.batch import loaded_until
from millrace.warehouses.base import LedgerRow

_LISTED = 3
_KNOWN = {"values", "counts"}


def told_loads(ledgers: Mapping[str, Sequence[LedgerRow]]) -> str:
    """Until when tables are loaded, and how their batches were compared with the source.

    Args:
        ledgers: The loaded batches of each table, by the table's key.

    Returns:
        One line, e.g. ``mysql.nps until 2026-10-01 00:00, verified by values``; empty without
        tables. Times are in UTC.
    """
    told = [_told(key, rows) for key, rows in ledgers.items()]
    more = [f"{len(told) - _LISTED:,} more tables"] if len(told) > _LISTED else []
    return "; ".join([*told[:_LISTED], *more])


def _told(key: str, rows: Sequence[LedgerRow]) -> str:
    if all(row.is_correction for row in rows):
        return f"{key}, never loaded"
    batches = [row for row in rows if not row.is_correction]
    until = loaded_until(row.covers for row in batches)
    when = f"until {_time(until)}" if until else f"of {_time(batches[-1].extracted_at)}"
    how = verified(rows)
    return f"{key} {when}, {f'verified by {how}' if how else 'not verified'}"


def verified(rows: Sequence[LedgerRow]) -> str | None:
    """How all of some batches were compared: what is true of the one that was compared least.

    Returns:
        ``values`` or ``counts``; None: one of them was not compared, as far as the ledger says.
    """
    ways = {row.verified for row in rows}
    return next((way for way in ("counts", "values") if way in ways and ways <= _KNOWN), None)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"
