"""The ledger as a dbt source, its mart `pipeline_batches`, and what their tests refuse."""

from datetime import datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.dbt_project.conftest import Warehouse

SELECTED = ("--select", "+pipeline_batches", "source:mysql", "source:google_sheets")
GAP = "pipeline_batches_no_gap_between_intervals"
COUNTS = "source_row_counts_match_ledger_mysql_nps_source_mysql__batches___mysql_nps"

NO_LEDGERS = """
drop view analytics_raw_mysql._batches;
drop view analytics_raw_google_sheets._batches
"""
LEDGERS = """
create or replace table analytics_raw_mysql._batches (
    table_name varchar, batch_id varchar, interval_start timestamp, interval_end timestamp,
    manifest_url varchar, row_count bigint, byte_count bigint, extracted_at timestamp,
    loaded_at timestamp
);
create or replace table analytics_raw_google_sheets._batches as
from analytics_raw_mysql._batches;
insert into analytics_raw_mysql._batches values
    ('mysql.nps', 'first', null, '2026-03-02', 's3://l/1', 2, 9, '2026-03-02', '2026-03-02 00:01'),
    ('mysql.nps', 'second', '2026-03-02', '2026-03-03', 's3://l/2', 1, 9, '2026-03-03', '2026-03-03'),
    -- It was read before its interval ended, and so it holds less than that.
    ('mysql.nps', 'third', '2026-03-03', '2026-03-09', 's3://l/3', 0, 9, '2026-03-04', '2026-03-04'),
    ('mysql.users', 'full', null, null, 's3://l/4', 1, 9, '2026-03-03', '2026-03-03');
insert into analytics_raw_google_sheets._batches values
    ('google_sheets.nps_targets', 'full', null, null, 's3://l/5', 0, 0, '2026-03-03', '2026-03-03');
delete from analytics_raw_mysql.nps;
insert into analytics_raw_mysql.nps (id, updated_at, _batch_id, _loaded_at) values
    (1, '2026-03-01', 'first', '2026-03-02'), (2, '2026-03-01', 'first', '2026-03-02'),
    (2, '2026-03-02', 'second', '2026-03-03');
delete from analytics_raw_mysql.users;
insert into analytics_raw_mysql.users (id, _batch_id) values (1, 'full')
"""


@pytest.fixture(scope="module")
def without_ledgers(warehouse: "Warehouse") -> "Warehouse":
    warehouse.execute(NO_LEDGERS)
    return warehouse


@pytest.fixture
def loaded(without_ledgers: "Warehouse") -> "Warehouse":
    without_ledgers.execute(LEDGERS)
    return without_ledgers


def test_batches_of_all_sources_are_in_one_mart(loaded: "Warehouse") -> None:
    loaded.dbt("build", *SELECTED)
    assert loaded.query(
        "select source_table, batch_id, loaded_until_before, row_count "
        "from analytics.pipeline_batches order by loaded_at, source_table, batch_id"
    ) == [
        ("mysql.nps", "first", None, 2),
        ("google_sheets.nps_targets", "full", None, 0),
        ("mysql.nps", "second", datetime(2026, 3, 2), 1),
        ("mysql.users", "full", None, 1),
        ("mysql.nps", "third", datetime(2026, 3, 3), 0),
    ]


WRONG = {
    "a batch between two others is gone": (
        "delete from analytics_raw_mysql._batches where batch_id = 'second';"
        "delete from analytics_raw_mysql.nps where _batch_id = 'second'",
        {GAP},
    ),
    "an interval was read before it ended, and a row was deleted by hand": (
        "insert into analytics_raw_mysql._batches values ('mysql.nps', 'fourth', '2026-03-09', "
        "'2026-03-10', 's3://l/6', 0, 9, '2026-03-10', '2026-03-10');"
        "delete from analytics_raw_mysql.nps where id = 1",
        {GAP, COUNTS},
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_the_ledger_must_not_say_fails_its_test(loaded: "Warehouse", wrong: str) -> None:
    change, failing = WRONG[wrong]
    loaded.execute(change)
    loaded.dbt("run", "--select", "+pipeline_batches")
    assert loaded.failed_tests(*SELECTED) == failing
