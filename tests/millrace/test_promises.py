"""When a promise is kept, when it is broken, and since when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from millrace.alerts.promises import (
    Broken,
    Kept,
    due_at,
    look_at_publication,
    look_at_table,
    promised_of,
)
from millrace.catalog import DueTime, IngestTable, Publication
from millrace.destinations.google_sheets.options import GoogleSheetPublishOptions
from millrace.sources.mysql.options import MySQLOptions
from millrace.warehouses.base import LedgerRow

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
MIDNIGHT = datetime(2026, 11, 26, tzinfo=UTC)
moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1)).map(
    lambda moment: moment.replace(tzinfo=UTC)
)
due_times = st.builds(
    lambda hour, minute, zone: DueTime.model_validate(f"{hour}:{minute:02d} {zone}"),
    st.integers(0, 23),
    st.integers(0, 59),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
)


def table(expected_by: str | None = None, max_age: timedelta | None = None) -> IngestTable:
    options = MySQLOptions.model_validate(
        {
            "kind": "mysql",
            "connection": "mysql_prod",
            "table": "prod.nps",
            "primary_key": "id",
            "cursor": "updated_at",
            "expected_by": expected_by,
        }
    )
    return IngestTable("mysql", "nps", "raw_mysql", "nps", options, max_age=max_age)


def load(
    end: datetime | None, loaded_at: datetime, extracted_at: datetime | None = None
) -> LedgerRow:
    return LedgerRow(
        table="mysql.nps",
        batch_id="b",
        start=None,
        end=end,
        manifest_url="file:///m",
        rows=1,
        size=1,
        extracted_at=extracted_at or loaded_at,
        loaded_at=loaded_at,
    )


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-{text}+00:00")


@given(due=due_times, now=moments)
def test_the_last_and_the_next_moment_of_a_time_of_day_enclose_now(
    due: DueTime, now: datetime
) -> None:
    last, following = due.last(now), due.next(now)
    assert last <= now < following
    # A day has 23 hours when the clocks go forward.
    assert following - last <= 25 * HOUR
    local = last.astimezone(ZoneInfo(due.time_zone))
    assert (local.hour, local.minute) == (due.at.hour, due.at.minute) or due.time_zone != "UTC"


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("07:00", "07:00 UTC"),
        ("7:05 Europe/Berlin", "07:05 Europe/Berlin"),
        # What YAML makes of 10:30 without quotation marks.
        (630, "10:30 UTC"),
    ],
)
def test_a_time_of_day_is_read_as_it_is_written(written: str | int, means: str) -> None:
    assert str(DueTime.model_validate(written)) == means


@pytest.mark.parametrize(
    "written", ["24:00", "07:60", "7", "07:00 Berlin", "soon", True, 7.5, 1440]
)
def test_what_is_no_time_of_day_is_refused(written: object) -> None:
    with pytest.raises(ValidationError, match="not a time"):
        DueTime.model_validate(written)


def test_nothing_is_promised_unless_it_is_declared() -> None:
    assert not promised_of(table())
    assert promised_of(table("07:00"))
    assert promised_of(table(max_age=DAY))


def test_a_table_is_late_from_the_time_of_day_until_the_run_that_was_due_is_loaded() -> None:
    nps = table("07:00")
    yesterday = load(MIDNIGHT - DAY, at("25 00:05"))
    today = load(MIDNIGHT, at("26 06:59"))
    # Before seven, yesterday's data are all that is promised.
    assert look_at_table(nps, [yesterday], at("26 06:59")) == Kept(at("26 07:00"))
    late = look_at_table(nps, [yesterday], at("26 07:00"))
    assert late == Broken(
        at("26 07:00"),
        "mysql.nps was expected by 07:00 UTC, with the data up to 2026-11-26 00:00 UTC. "
        "It is loaded up to 2026-11-25 00:00 UTC.",
    )
    assert look_at_table(nps, [yesterday, today], at("26 09:00")) == Kept(at("27 07:00"))
    # A backfill of an old interval brings nothing new.
    backfilled = load(MIDNIGHT - 5 * DAY, at("26 08:00"))
    assert isinstance(look_at_table(nps, [yesterday, backfilled], at("26 09:00")), Broken)
    # Nor do corrections of single rows.
    corrected = replace(today, is_correction=True)
    assert isinstance(look_at_table(nps, [yesterday, corrected], at("26 09:00")), Broken)


def test_a_whole_table_has_the_data_of_when_it_was_read() -> None:
    users = table("07:00")
    assert isinstance(look_at_table(users, [load(None, at("26 08:00"))], at("26 09:00")), Kept)
    read_before = load(None, at("26 00:10"), extracted_at=at("25 23:59"))
    assert isinstance(look_at_table(users, [read_before], at("26 09:00")), Broken)


def test_a_table_that_may_be_a_day_old_is_late_a_day_after_its_last_load() -> None:
    nps = table(max_age=DAY)
    loads = [load(MIDNIGHT, at("26 06:00"))]
    assert look_at_table(nps, loads, at("27 05:59")) == Kept(at("27 06:00"))
    assert look_at_table(nps, loads, at("27 06:00")) == Broken(
        at("27 06:00"),
        "mysql.nps may be 1 d old. It was loaded at 2026-11-26 06:00 UTC.",
    )


def test_of_two_broken_promises_the_older_one_is_told() -> None:
    nps = table("07:00", HOUR)
    found = look_at_table(nps, [load(MIDNIGHT - DAY, at("26 01:00"))], at("26 09:00"))
    assert isinstance(found, Broken)
    assert found.since == at("26 02:00")


def test_a_table_that_was_never_loaded_is_late_since_nobody_knows_when() -> None:
    assert look_at_table(table("07:00"), [], at("26 09:00")) == Broken(
        None, "mysql.nps was never loaded."
    )


@given(now=moments, age=st.timedeltas(timedelta(minutes=1), 30 * DAY))
def test_a_promise_that_is_kept_needs_no_look_until_it_says(now: datetime, age: timedelta) -> None:
    loads = [load(now, now - HOUR)]
    nps = table("07:00", age + HOUR)
    found = look_at_table(nps, loads, now)
    assert isinstance(found, Kept)
    assert found.until > now
    just_before = found.until - timedelta(microseconds=1)
    assert isinstance(look_at_table(nps, loads, just_before), Kept)


def publication(fresh_by: str) -> Publication:
    options = GoogleSheetPublishOptions.model_validate(
        {
            "kind": "google_sheet",
            "connection": "google_sheets",
            "spreadsheet": "key",
            "tab": "days",
            "order_by": ["day"],
            "fresh_by": fresh_by,
        }
    )
    return Publication("days_sheet", "days", "analytics", "days", options, tables=("mysql.nps",))


def test_a_publication_is_late_until_it_is_published_after_the_run_that_was_due() -> None:
    days = publication("08:00")
    tables = [table()]
    published = at("26 00:20")
    assert look_at_publication(days, tables, published, at("26 09:00")) == Kept(at("27 08:00"))
    assert look_at_publication(days, tables, at("25 23:59"), at("26 09:00")) == Broken(
        at("26 08:00"),
        "days_sheet was to be fresh by 08:00 UTC, with the data of 2026-11-26 00:00 UTC. "
        "The tab 'days' of key was published at 2026-11-25 23:59 UTC.",
    )
    never = look_at_publication(days, tables, None, at("26 09:00"))
    assert isinstance(never, Broken)
    assert never.since is None


@given(
    due=due_times,
    schedule=st.sampled_from(["@daily", "@hourly", "30 5 * * 1"]),
    max_age=st.none() | st.timedeltas(timedelta(hours=1), timedelta(days=9)),
    loaded=moments,
    later=st.timedeltas(timedelta(0), timedelta(days=20)),
)
def test_a_promise_is_broken_from_the_moment_on_by_which_it_is_due(
    due: DueTime,
    schedule: str,
    max_age: timedelta | None,
    loaded: datetime,
    later: timedelta,
) -> None:
    promising = table(str(due), max_age)
    options = promising.options.model_copy(update={"schedule": schedule})
    promising = replace(promising, options=options)
    ledger = [load(loaded - HOUR, loaded)]
    now = loaded + later
    moment = due_at(promising, ledger)
    assert moment is not None
    assert isinstance(look_at_table(promising, ledger, now), Broken) == (now >= moment)


def test_nothing_is_due_where_nothing_is_promised() -> None:
    assert due_at(table(), [load(MIDNIGHT, MIDNIGHT)]) is None
