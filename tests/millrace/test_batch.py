from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.batch import WHOLE_TABLE, Batch, Interval, parse_time

DAY = datetime(2026, 10, 1, tzinfo=UTC)
NEXT = DAY + timedelta(days=1)

moments = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("interval", "slug", "text"),
    [
        (WHOLE_TABLE, "full", "the whole table"),
        (
            Interval(DAY, NEXT),
            "20261001T000000Z_20261002T000000Z",
            "2026-10-01 00:00:00 to 2026-10-02 00:00:00",
        ),
        (
            Interval(None, NEXT),
            "beginning_20261002T000000Z",
            "the beginning to 2026-10-02 00:00:00",
        ),
        (
            Interval(DAY + timedelta(microseconds=1), NEXT),
            "20261001T000000.000001Z_20261002T000000Z",
            "2026-10-01 00:00:00 to 2026-10-02 00:00:00",
        ),
    ],
)
def test_an_interval_names_itself_for_paths_and_people(interval, slug, text):
    assert interval.slug == slug
    assert str(interval) == text


def test_the_slug_is_in_utc_whatever_the_zone():
    seoul = timezone(timedelta(hours=9))
    assert Interval(DAY.astimezone(seoul), NEXT.astimezone(seoul)).slug == Interval(DAY, NEXT).slug


@pytest.mark.parametrize("bounds", [(NEXT, DAY), (DAY, DAY), (datetime(2026, 10, 1), None)])
def test_an_interval_refuses_nonsense(bounds):
    with pytest.raises(ValueError, match="an interval"):
        Interval(*bounds)


def test_an_open_side_contains_everything_on_it():
    assert Interval(None, NEXT).contains(Interval(DAY, NEXT))
    assert WHOLE_TABLE.contains(Interval(None, NEXT))
    assert not Interval(DAY, NEXT).contains(Interval(None, NEXT))
    assert not Interval(DAY, NEXT).contains(Interval(DAY, None))
    assert not Interval(DAY, NEXT).contains(Interval(DAY, NEXT + timedelta(seconds=1)))


@given(st.lists(moments, min_size=2, max_size=2, unique=True).map(sorted))
def test_a_batch_survives_json(bounds):
    batch = Batch("mysql.nps", Interval(*bounds))
    assert Batch.from_json(batch.to_json()) == batch


def test_a_time_without_a_zone_is_utc():
    assert parse_time("2026-10-01") == DAY
    assert parse_time("2026-10-01T09:00+09:00") == DAY
