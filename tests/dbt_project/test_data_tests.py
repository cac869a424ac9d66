"""Tests of data that read only what came lately: each still fails on bad new data."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.dbt_project.conftest import Warehouse

# Ten days apart, so that the first load is not among the recent ones of the second.
OLD, NEW = "2026-03-01 01:00", "2026-03-11 01:00"

USERS = f"""
insert into raw_mysql.users
select i, repeat('a', 64), 'KR', 'free', 1, '2025-01-01', '2025-01-01', 'u', '{NEW}'
from range(1, 4) as t(i)
"""
VERSIONS = "analytics_intermediate.int_nps_responses_versions"
SNAPSHOT = "analytics_snapshots.nps_responses_snapshot"

# By id: what is wrong with a row, and the tests that say so.
BAD_ROWS = {
    "null, 1, 5, null, 'email', '2026-01-01', '2026-01-01', null": {
        "source_not_null_mysql_nps_id",
        "not_null_stg_mysql__nps_responses_nps_response_id",
    },
    "101, 99, 5, null, 'email', '2026-01-01', '2026-01-01', null": {
        "references_stg_mysql__nps_responses_user_id__user_id__ref_stg_mysql__users_",
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
ROW_TESTS = set().union(*BAD_ROWS.values())
KEY_TESTS = {
    "int_nps_responses_deduplicated_one_current_version",
    "nps_responses_snapshot_one_open_version",
}


def load(warehouse: "Warehouse", rows: list[str], loaded_at: str) -> None:
    for row in rows:
        warehouse.execute(f"insert into raw_mysql.nps values ({row}, 'b', '{loaded_at}')")


@pytest.fixture
def built(warehouse: "Warehouse") -> "Warehouse":
    """Good responses of long ago, and new ones; 1 came again."""
    warehouse.execute("delete from raw_mysql.nps; delete from raw_mysql.users")
    # A full refresh leaves a snapshot as it is.
    warehouse.execute("drop schema if exists analytics_snapshots cascade")
    warehouse.execute(USERS)
    good = "{}, 1, 9, null, 'email', '2026-01-01', '{}', null"
    load(warehouse, [good.format(i, "2026-01-01") for i in (1, 2)], OLD)
    load(warehouse, [good.format(i, "2026-03-10") for i in (1, 3)], NEW)
    warehouse.dbt("build", "--full-refresh", "--exclude-resource-types", "test", "unit_test")
    assert warehouse.failed_tests() == set()
    return warehouse


def test_bad_new_rows_fail_their_tests(built: "Warehouse") -> None:
    load(built, list(BAD_ROWS), NEW)
    assert built.failed_tests() == ROW_TESTS


def test_bad_old_rows_fail_when_the_whole_history_is_asked_for(built: "Warehouse") -> None:
    load(built, list(BAD_ROWS), OLD)
    assert built.failed_tests() == set()
    assert built.failed_tests("--vars", "tested_days: all") == ROW_TESTS


def test_new_row_with_the_key_of_an_old_one_fails(built: "Warehouse") -> None:
    double(built, response=1)
    assert built.failed_tests() == KEY_TESTS


def test_old_rows_with_the_same_key_fail_when_the_whole_history_is_asked_for(
    built: "Warehouse",
) -> None:
    double(built, response=2)
    assert built.failed_tests() == set()
    assert built.failed_tests("--vars", "tested_days: all") == KEY_TESTS


def double(warehouse: "Warehouse", response: int) -> None:
    """Gives the response a second current version, as old as can be."""
    for table in (VERSIONS, SNAPSHOT):
        warehouse.execute(
            f"insert into {table} select * replace (timestamp '{OLD}' as _loaded_at)"
            f" from {table} where nps_response_id = {response} limit 1"
        )
    warehouse.execute(
        f"update {VERSIONS} set replaced_at = null where nps_response_id = {response};"
        f"update {SNAPSHOT} set dbt_valid_to = null where nps_response_id = {response}"
    )


def test_null_never_enters_the_versions(built: "Warehouse") -> None:
    """Where no test reads the whole table, the table itself refuses."""
    load(built, ["null, 1, 5, null, 'email', '2026-01-01', '2026-03-11', null"], "2026-03-12")
    with pytest.raises(pytest.fail.Exception, match="NOT NULL constraint failed"):
        built.dbt("run", "--select", "int_nps_responses_versions")
