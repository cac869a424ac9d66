"""The clock of a cursor column, in every zone and at every change of the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.batch import Interval
from millrace.cursor import CursorClock

ZONES = [
    *("UTC", "America/New_York", "Asia/Seoul", "Asia/Kathmandu", "Europe/London"),
    # Summer time of half an hour; summer time that begins at midnight; a day that was skipped.
    *("Australia/Lord_Howe", "America/Santiago", "Pacific/Apia", "America/St_Johns"),
]
STEPS = [timedelta(microseconds=1), timedelta(milliseconds=1), timedelta(seconds=1), timedelta(1)]
MOMENTS = st.datetimes(datetime(2010, 1, 1), datetime(2026, 12, 31), timezones=st.just(UTC))


def clocks() -> st.SearchStrategy[CursorClock]:
    return st.builds(CursorClock, st.sampled_from(ZONES).map(ZoneInfo), st.sampled_from(STEPS))


def shown(clock: CursorClock, moment: datetime) -> datetime:
    """What MySQL writes at that moment: the wall clock, truncated."""
    local = moment.astimezone(clock.zone).replace(tzinfo=None)
    if clock.step >= timedelta(days=1):
        return local.replace(hour=0, minute=0, second=0, microsecond=0)
    return local - (local - datetime(2000, 1, 1)) % clock.step


def is_taken(clock: CursorClock, interval: Interval, value: datetime) -> bool:
    start, end = clock.bounds(interval)
    return (start is None or start <= value) and (end is None or value < end)


@given(clocks(), st.lists(MOMENTS, min_size=2, max_size=6, unique=True), MOMENTS)
def test_every_row_is_taken_by_an_interval_that_ends_after_it_was_written(
    clock: CursorClock, ends: list[datetime], written: datetime
) -> None:
    bounds = sorted({clock.floor(end) for end in ends})
    intervals = [Interval(None, bounds[0])]
    intervals += [Interval(*pair) for pair in pairwise(bounds)]
    value = shown(clock, written)
    takers = [interval for interval in intervals if is_taken(clock, interval, value)]
    if clock.floor(written) < bounds[-1]:
        # An interval that was read before the row was written would have missed it.
        assert any(interval.end and interval.end > written for interval in takers)


@given(clocks(), MOMENTS, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_a_row_that_is_in_flight_is_taken_by_the_interval_after_the_cut(
    clock: CursorClock, written: datetime, later: timedelta
) -> None:
    value = shown(clock, written)
    cut = clock.floor(clock.earliest(value))
    assert cut <= written
    rest = Interval(cut, max(written, cut) + later + timedelta(days=2))
    assert is_taken(clock, rest, value)


@given(clocks(), MOMENTS)
def test_a_floor_is_not_after_the_moment_and_is_its_own_floor(
    clock: CursorClock, moment: datetime
) -> None:
    floor = clock.floor(moment)
    assert floor <= moment
    assert clock.floor(floor) == floor


def test_an_hour_that_comes_twice_is_read_in_both_intervals() -> None:
    clock = CursorClock(ZoneInfo("America/New_York"))
    # 1:30 in summer time, and an hour later 1:30 in winter time.
    first = datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
    second = first + timedelta(hours=1)
    half_past_one = datetime(2026, 11, 1, 1, 30)
    assert is_taken(clock, Interval(first, second), half_past_one)
    assert is_taken(clock, Interval(second, second + timedelta(hours=1)), half_past_one)


@pytest.mark.parametrize("zone", ZONES)
def test_on_a_day_without_a_change_an_interval_is_exact(zone: str) -> None:
    clock = CursorClock(ZoneInfo(zone))
    start = datetime(2026, 7, 15, tzinfo=UTC)
    end = start + timedelta(days=1)
    assert clock.bounds(Interval(start, end)) == (shown(clock, start), shown(clock, end))
