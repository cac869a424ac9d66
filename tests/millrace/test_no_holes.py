"""The ledger has no holes: every batch begins where the data loaded without a gap end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.batch import Interval, gaps, loaded_until
from millrace.errors import IntervalOpen
from millrace.warehouses.base import LedgerRow

if TYPE_CHECKING:
    from tests.millrace.conftest import Workspace

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def day(number: int) -> Interval:
    """A day of October 2026."""
    return Interval(OCTOBER + (number - 1) * DAY, OCTOBER + number * DAY)


@pytest.mark.parametrize(
    ("intervals", "until", "missing"),
    [
        ([], None, []),
        ([Interval(None, OCTOBER)], OCTOBER, []),
        ([Interval(None, OCTOBER), day(1)], OCTOBER + DAY, []),
        ([day(1), Interval(None, OCTOBER)], OCTOBER + DAY, []),
        ([Interval(None, OCTOBER), day(2)], OCTOBER, [day(1)]),
        ([Interval(None, OCTOBER), day(2), day(4)], OCTOBER, [day(1), day(3)]),
        ([day(2)], None, [Interval(None, OCTOBER + DAY)]),
        # A batch that reaches over others.
        ([Interval(None, OCTOBER + 9 * DAY), day(2)], OCTOBER + 9 * DAY, []),
        # A load of a whole table says nothing about the cursor.
        ([Interval()], None, []),
    ],
)
def test_a_gap_is_found(
    intervals: list[Interval], until: datetime | None, missing: list[Interval]
) -> None:
    assert loaded_until(intervals) == until
    assert gaps(intervals) == missing


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=12))
def test_gaps_are_what_no_interval_holds(pairs: list[tuple[int, int]]) -> None:
    hours = [(start, start + length) for start, length in pairs]
    held = {hour for start, end in hours for hour in range(start, end)}
    moment = [OCTOBER + timedelta(hours=hour) for hour in range(30)]
    intervals = [Interval(None, OCTOBER)]
    intervals += [Interval(moment[start], moment[end]) for start, end in hours]
    found = {
        hour
        for gap in gaps(intervals)
        for hour in range(30)
        if gap.start and gap.end and gap.start <= moment[hour] < gap.end
    }
    last = max((end for _, end in hours), default=0)
    assert found == set(range(last)) - held
    first = min(set(range(31)) - held)
    assert loaded_until(intervals) == OCTOBER + timedelta(hours=first)


def test_what_was_read_before_an_intervals_end_does_not_count_as_loaded_to_its_end() -> None:
    row = LedgerRow(
        table="mysql.nps",
        batch_id="x",
        start=None,
        end=OCTOBER + 365 * DAY,
        manifest_url="",
        rows=1,
        size=1,
        extracted_at=OCTOBER,
        loaded_at=OCTOBER,
    )
    until = loaded_until([row.covers])
    assert until is not None
    assert OCTOBER - timedelta(hours=1) < until < OCTOBER


IDS = "SELECT id FROM raw_mysql.nps ORDER BY ALL"


@pytest.fixture
def loaded(workspace: Workspace) -> Workspace:
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    return workspace


@pytest.mark.service
def test_an_interval_after_a_pause_takes_what_came_in_the_pause(loaded: Workspace) -> None:
    """After Airflow was off or the DAG paused, the next run's interval is only its own day."""
    loaded.mysql.insert("nps", [(20, 1, "in the pause", "2026-10-20"), (25, 1, "", "2026-10-25")])
    pipeline = loaded.pipeline
    table = pipeline.catalog.table("mysql.nps")
    pipeline.ingest(table, day(25))
    assert loaded.raw(IDS) == [(1,), (2,), (3,), (20,), (25,)]


@pytest.mark.service
def test_an_interval_beyond_what_is_loaded_leaves_no_gap(loaded: Workspace) -> None:
    loaded.succeeds("ingest", "mysql.nps", "--from", "2026-10-05", "--to", "2026-10-06")
    assert loaded.raw(IDS) == [(1,), (2,), (3,)]
    assert "missing" not in loaded.succeeds("list")


@pytest.mark.service
def test_a_hole_of_before_is_shown_and_read_by_the_next_run(loaded: Workspace) -> None:
    pipeline = loaded.pipeline
    table = pipeline.catalog.table("mysql.nps")
    # As older versions did: load the interval that was asked for, wherever the ledger ended.
    from millrace.batch import Batch

    batch = Batch(table.key, day(5))
    pipeline.load(table, pipeline.extract(table, batch))
    assert "mysql.nps: 2026-10-01 00:00:00 to 2026-10-05 00:00:00 is missing" in loaded.succeeds(
        "list"
    )
    loaded.succeeds("ingest", "mysql.nps")
    assert loaded.raw(IDS) == [(1,), (2,), (3,)]
    assert "missing" not in loaded.succeeds("list")


@pytest.mark.service
def test_an_old_interval_again_takes_just_that_interval(loaded: Workspace) -> None:
    loaded.succeeds("ingest", "mysql.nps", "--from", "2026-10-01", "--to", "2026-10-05")
    batches = "SELECT interval_start, interval_end FROM raw_mysql._batches ORDER BY ALL"
    before = loaded.raw(batches)
    loaded.succeeds("ingest", "mysql.nps", "--from", "2026-10-02", "--to", "2026-10-03")
    assert len(loaded.raw(batches)) == len(before) + 1


@pytest.mark.service
def test_an_open_transaction_ends_a_batch_and_refuses_a_whole_interval(
    loaded: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = loaded.pipeline
    table = pipeline.catalog.table("mysql.nps")
    writer = loaded.mysql.server.connect_as_admin(db=loaded.mysql.name)
    writer.cursor().execute("INSERT INTO nps VALUES (9, 9, 'late', '2026-10-03')")
    try:
        with pytest.raises(IntervalOpen, match=r"1 rows of .*written and not committed") as held:
            pipeline.plan(table, day(3), whole=True)
        loaded.succeeds("ingest", "mysql.nps")
        writer.commit()
    finally:
        writer.close()
    assert held.value.may_pass
    assert "is read until 2026-10-03 00:00:00" in caplog.text
    assert loaded.raw(IDS) == [(1,), (2,), (3,)]
    loaded.succeeds("ingest", "mysql.nps")
    assert loaded.raw(IDS) == [(1,), (2,), (3,), (9,)]


@pytest.mark.service
def test_nothing_new_is_no_error(loaded: Workspace) -> None:
    loaded.mysql.execute("ALTER TABLE nps MODIFY updated_at DATE NOT NULL")
    loaded.succeeds("ingest", "mysql.nps")
    assert "mysql.nps: up to date" in loaded.succeeds("ingest", "mysql.nps")
