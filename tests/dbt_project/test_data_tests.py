"""Each data test, with rows that it has to refuse."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.dbt_project.conftest import Warehouse

# Some tests read only the latest loads or responses, by the clock.
OLD, NEW = "2026-03-01 01:00", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"

USERS = f"""
insert into analytics_raw_mysql.users
select i, repeat('a', 64), 'KR', 'free', 1, '2025-01-01', '2025-01-01', 'u', '{NEW}'
from range(1, 4) as t(i)
"""
CURRENT = "analytics_intermediate.int_nps_responses_deduplicated"
SNAPSHOT = "analytics_snapshots.nps_responses_snapshot"
USERS_SNAPSHOT = "analytics_snapshots.users_snapshot"

UNKNOWN_USER = "relationships_stg_mysql__nps_responses_user_id__user_id__ref_stg_mysql__users_"
DELIVERED_TWICE = (
    "unique_combination_of_columns_stg_mysql__nps_responses_nps_response_id___loaded_at"
)
CURRENT_KEY = "unique_int_nps_responses_deduplicated_nps_response_id"
SNAPSHOT_KEY = "nps_responses_snapshot_one_open_version"
FACT_KEY = "unique_fct_nps_responses_nps_response_id"
ONE_PLAN_AT_A_TIME = "int_users_plan_periods_one_plan_at_a_time"
EVERY_KEY = ("--vars", "test_one_key_in: 1")

# The tests that have to refuse each row.
BAD_ROWS = {
    "null, 1, 5, null, 'email', '2026-01-01', '2026-01-01', null": {
        "source_not_null_mysql_nps_id",
        "not_null_stg_mysql__nps_responses_nps_response_id",
    },
    "102, 1, null, null, 'email', '2026-01-01', '2026-01-01', null": {
        "not_null_stg_mysql__nps_responses_score",
    },
    "103, 1, 11, null, 'email', '2026-01-01', '2026-01-01', null": {
        "accepted_range_stg_mysql__nps_responses_score__10__0",
    },
    "104, 1, 5, null, 'fax', '2026-01-01', '2026-01-01', null": {
        "accepted_values_stg_mysql__nps_responses_channel__email__in_app__sms",
    },
    "105, 1, 5, null, 'email', null, '2026-01-01', null": {
        "not_null_stg_mysql__nps_responses_responded_at",
    },
    "106, 1, 5, null, 'email', '2026-01-01', null, null": {
        "source_not_null_mysql_nps_updated_at",
        "not_null_stg_mysql__nps_responses_updated_at",
    },
}
GOOD_ROW = f"{{}}, {{}}, 9, null, 'email', '{NEW}', '{NEW}', null"


def load(warehouse: "Warehouse", rows: list[str], loaded_at: str) -> None:
    for row in rows:
        warehouse.execute(f"insert into analytics_raw_mysql.nps values ({row}, 'b', '{loaded_at}')")


@pytest.fixture(scope="module")
def good(warehouse: "Warehouse") -> "Warehouse":
    """A built warehouse: good responses of long ago and of now; response 20 came twice."""
    warehouse.execute(USERS)
    load(warehouse, [GOOD_ROW.format(i, 1) for i in (20, 21)], OLD)
    load(warehouse, [GOOD_ROW.format(i, 1) for i in (20, 23)], NEW)
    warehouse.dbt("build", "--full-refresh", "--exclude-resource-types", "test", "unit_test")
    assert warehouse.failed_tests() == set()
    # All of it into the file, which dbt has still open.
    warehouse.execute("checkpoint")
    return warehouse


@pytest.fixture
def built(good: "Warehouse", tmp_path: Path) -> "Warehouse":
    """A copy of it for each test."""
    return replace(good, database=Path(shutil.copy(good.database, tmp_path)))


@pytest.mark.parametrize("loaded_at", [OLD, NEW], ids=["long ago", "just now"])
def test_bad_rows_fail_their_tests_whenever_they_came(built: "Warehouse", loaded_at: str) -> None:
    load(built, list(BAD_ROWS), loaded_at)
    assert built.failed_tests() == set().union(*BAD_ROWS.values())


def test_of_the_latest_loads_users_are_known_and_rows_come_once(built: "Warehouse") -> None:
    rows = [GOOD_ROW.format(24, 99), *[GOOD_ROW.format(25, 1)] * 2]
    load(built, rows, OLD)
    assert built.failed_tests() == set()
    load(built, rows, NEW)
    assert built.failed_tests() == {UNKNOWN_USER, DELIVERED_TWICE}


@pytest.mark.nightly
def test_every_twentieth_key_is_tested_and_all_when_asked(built: "Warehouse") -> None:
    for table in (CURRENT, SNAPSHOT):
        for response in (20, 21):
            built.execute(
                f"insert into {table} select * from {table} where nps_response_id = {response}"
            )
    assert built.failed_tests() == {CURRENT_KEY, SNAPSHOT_KEY, FACT_KEY}
    for table in (CURRENT, SNAPSHOT):
        built.execute(f"delete from {table} where nps_response_id = 20")
    assert built.failed_tests() == {FACT_KEY}
    assert built.failed_tests(*EVERY_KEY) == {CURRENT_KEY, SNAPSHOT_KEY, FACT_KEY}


def test_two_plans_at_a_time_fail_where_they_are_and_where_they_double_rows(
    built: "Warehouse",
) -> None:
    built.execute(
        f"insert into {USERS_SNAPSHOT} select * replace "
        "(timestamp '2026-06-01' as dbt_valid_from, 'other' as dbt_scd_id) "
        f"from {USERS_SNAPSHOT} where user_id = 1"
    )
    assert built.failed_tests() == {ONE_PLAN_AT_A_TIME, FACT_KEY}


def test_null_never_enters_the_deduplicated_responses(built: "Warehouse") -> None:
    """A build without the tests is refused by the table itself."""
    load(built, ["null, 1, 5, null, 'email', '2026-01-01', '2026-03-11', null"], "2099-01-01")
    with pytest.raises(pytest.fail.Exception, match="NOT NULL constraint failed"):
        built.dbt("run", "--select", "int_nps_responses_deduplicated")
