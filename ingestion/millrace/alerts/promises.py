"""Whether what was promised was kept: by a time of day, or by an age.

The declarations promise (``expected_by``, ``fresh_by``, dbt's ``freshness``); the ledger and the
sheet's note say what was done. Nothing here asks an orchestrator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from croniter import croniter

from millrace.alerts.messages import in_words
from millrace.catalog import IngestTable, Publication
from millrace.warehouses.base import LedgerRow


@dataclass(frozen=True)
class Kept:
    """A promise that is kept.

    Attributes:
        until: When it has to be looked at again, in UTC.
    """

    until: datetime


@dataclass(frozen=True)
class Broken:
    """A promise that is not kept.

    Attributes:
        since: When it was due, in UTC; None: nothing was ever done.
        what: What was promised and what there is instead, in a sentence or two.
    """

    since: datetime | None
    what: str


def promised_of(table: IngestTable) -> bool:
    """Whether anything is promised of a table."""
    return table.options.expected_by is not None or table.max_age is not None


def look_at_table(table: IngestTable, ledger: Sequence[LedgerRow], now: datetime) -> Kept | Broken:
    """Whether a table that promises something is loaded as promised.

    Args:
        table: The table.
        ledger: Its ledger, oldest load first.
        now: The time, in UTC.
    """
    loads = [row for row in ledger if not row.is_correction]
    if not loads:
        return Broken(None, f"{table.key} was never loaded.")
    found = [*_by_time_of_day(table, loads, now), *_by_age(table, loads, now)]
    broken = [promise for promise in found if isinstance(promise, Broken)]
    if broken:
        return min(broken, key=lambda promise: promise.since or now)
    return Kept(min(promise.until for promise in found if isinstance(promise, Kept)))


def due_at(table: IngestTable, ledger: Sequence[LedgerRow]) -> datetime | None:
    """By when a table has to be loaded again, in UTC, for its promises to be kept.

    Args:
        table: The table.
        ledger: Its ledger, which has a load.

    Returns:
        The earliest of what is promised, which may be past; None: nothing is promised.
    """
    loads = [row for row in ledger if not row.is_correction]
    dues = []
    if (expected_by := table.options.expected_by) is not None:
        reached = max(row.reaches for row in loads)
        due = expected_by.next(reached)
        while _run_before(table, due) <= reached:
            due = expected_by.next(due)
        dues.append(due)
    if table.max_age is not None:
        dues.append(max(row.loaded_at for row in loads) + table.max_age)
    return min(dues, default=None)


def look_at_publication(
    publication: Publication,
    tables: Sequence[IngestTable],
    published_at: datetime | None,
    now: datetime,
) -> Kept | Broken:
    """Whether a publication that promises something is published as promised.

    Args:
        publication: The publication, which has ``fresh_by``.
        tables: The tables that its mart is made of.
        published_at: When it was published last, in UTC, to the minute; None: never.
        now: The time, in UTC.
    """
    fresh_by = publication.options.fresh_by
    if fresh_by is None:
        raise ValueError(f"{publication.name} promises nothing")
    due = fresh_by.last(now)
    if published_at is None:
        return Broken(None, f"{publication.name} was never published to {_place(publication)}.")
    # A note tells the minute only.
    news = max((_run_before(table, due) for table in tables), default=due)
    if published_at >= news.replace(second=0, microsecond=0):
        return Kept(fresh_by.next(now))
    return Broken(
        due,
        f"{publication.name} was to be fresh by {fresh_by}, with the data of {_time(news)}. "
        f"{_place(publication).capitalize()} was published at {_time(published_at)}.",
    )


def _by_time_of_day(
    table: IngestTable, loads: Sequence[LedgerRow], now: datetime
) -> list[Kept | Broken]:
    expected_by = table.options.expected_by
    if expected_by is None:
        return []
    due = expected_by.last(now)
    run = _run_before(table, due)
    reached = max(row.reaches for row in loads)
    if reached >= run:
        return [Kept(expected_by.next(now))]
    what = (
        f"{table.key} was expected by {expected_by}, with the data up to {_time(run)}. "
        f"It is loaded up to {_time(reached)}."
    )
    return [Broken(due, what)]


def _by_age(table: IngestTable, loads: Sequence[LedgerRow], now: datetime) -> list[Kept | Broken]:
    if table.max_age is None:
        return []
    loaded_at = max(row.loaded_at for row in loads)
    stale_from = loaded_at + table.max_age
    if now < stale_from:
        return [Kept(stale_from)]
    what = f"{table.key} may be {in_words(table.max_age)} old. It was loaded at {_time(loaded_at)}."
    return [Broken(stale_from, what)]


def _run_before(table: IngestTable, moment: datetime) -> datetime:
    """When the last run before a moment was due."""
    found: datetime = croniter(table.options.schedule, moment).get_prev(datetime)
    return found


def _place(publication: Publication) -> str:
    return publication.options.where


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
