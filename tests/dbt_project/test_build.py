"""`dbt build` over two days of responses, against results computed by hand."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.dbt_project.conftest import Warehouse

at = datetime.fromisoformat

USERS = """
insert into analytics_raw_mysql.users values
    (10, repeat('a', 64), 'KR', 'free', 1, '2025-01-01', '2025-01-01', 'u1', '2026-03-03 01:00'),
    (11, repeat('b', 64), 'DE', 'team', 0, '2025-01-01', '2025-01-01', 'u1', '2026-03-03 01:00')
"""

# User 10, who gave February's only response, moves to the plan `team` on 3 March, 16:00.
UPGRADE = """
update analytics_raw_mysql.users
set plan = 'team', updated_at = '2026-03-03 16:00', _loaded_at = '2026-03-04 01:00'
where id = 10
"""

TARGETS = """
insert into analytics_raw_google_sheets.nps_targets
select *, 't1', '2026-03-03 01:00' from (values
    ('2026-02-01', 'free',     100,    'Ada'),
    ('2026-03-01', 'team',     -12.5,  null),
    ('2026-03-01', 'business', 40,     '지우 🎯'),
    ('2026-04-01', 'free',     50.25,  'Ada')
)
"""

# Response 5 is of an unknown user; 6 was deleted before it was ever extracted.
FIRST_DAYS = """
insert into analytics_raw_mysql.nps
select *, 'b1', '2026-03-03 01:00' from (values
    (1, 10, 10, '최고예요 🎉', 'email', '2026-02-02 08:00', '2026-02-02 08:00', null),
    (2, 11,  6, null, 'in_app', '2026-03-01 09:00', '2026-03-01 09:00', null),
    (3, 10,  9, '',   'email',  '2026-03-02 10:00', '2026-03-02 10:00', null),
    (4, 11,  8, null, 'sms',    '2026-03-02 23:59:59.999999', '2026-03-03 00:00', null),
    (5, 99,  0, null, 'email',  '2026-03-02 12:00', '2026-03-02 12:00', null),
    (6, 10, 10, null, 'email',  '2026-03-02 13:00', '2026-03-02 14:00', '2026-03-02 14:00')
)
"""

# Response 2 is edited, 3 is deleted, 7 and 8 are new, 8 after the upgrade. Older versions of 2 and
# 4 arrive late.
NEXT_DAY = """
insert into analytics_raw_mysql.nps
select *, 'b2', '2026-03-04 01:00' from (values
    (2, 11,  7, 'better now', 'in_app', '2026-03-01 09:00', '2026-03-03 09:00', null),
    (3, 10,  9, '',   'email', '2026-03-02 10:00', '2026-03-03 10:00', '2026-03-03 10:00'),
    (7, 11, 10, null, 'sms',   '2026-03-03 11:00', '2026-03-03 11:00', null),
    (8, 10,  8, null, 'email', '2026-03-03 17:00', '2026-03-03 17:00', null)
);
insert into analytics_raw_mysql.nps
select *, 'b0', '2026-03-04 02:00' from (values
    (2, 11,  0, 'too late', 'in_app', '2026-03-01 09:00', '2026-02-28 09:00', null),
    (4, 11,  0, 'too late', 'sms',    '2026-03-02 23:59', '2026-03-02 23:59', null)
);
"""

SUMMARY = "select * from analytics.nps_summary order by response_date"
FACTS = "select * exclude (responded_at, updated_at) from analytics.fct_nps_responses order by all"
VS_TARGET = "select * from analytics.nps_monthly_vs_target order by month, segment"
VERSIONS = """
select score, comment, is_deleted, dbt_valid_from, dbt_valid_to
from analytics_snapshots.nps_responses_snapshot
where nps_response_id = {id}
order by dbt_valid_from
"""


@pytest.fixture(scope="module")
def first_days(warehouse: "Warehouse") -> "Warehouse":
    """The warehouse after its first build."""
    warehouse.execute(USERS)
    warehouse.execute(TARGETS)
    warehouse.execute(FIRST_DAYS)
    warehouse.dbt("build")
    return warehouse


@pytest.fixture(scope="module")
def first_summary(first_days: "Warehouse") -> list[tuple[object, ...]]:
    return first_days.query(SUMMARY)


@pytest.fixture(scope="module")
def first_vs_target(first_days: "Warehouse") -> list[tuple[object, ...]]:
    return first_days.query(VS_TARGET)


@pytest.fixture(scope="module")
def next_day(
    first_days: "Warehouse",
    first_summary: list[tuple[object, ...]],
    first_vs_target: list[tuple[object, ...]],
) -> "Warehouse":
    """The warehouse after a second build, which adds a day to the first."""
    first_days.execute(UPGRADE)
    first_days.execute(NEXT_DAY)
    first_days.dbt("build", "--exclude-resource-type", "unit_test")
    return first_days


def test_first_build_gives_the_nps_computed_by_hand(
    first_summary: list[tuple[object, ...]],
) -> None:
    assert first_summary == [
        # date, responses, promoters, passives, detractors, nps, responses_28d, nps_28d
        (date(2026, 2, 2), 1, 1, 0, 0, Decimal("100.00"), 1, Decimal("100.00")),
        # 27 days later the 28-day window still has the first response …
        (date(2026, 3, 1), 1, 0, 0, 1, Decimal("-100.00"), 2, Decimal("0.00")),
        # … and a day later it has not: responses 2, 3, 4 and 5 remain.
        (date(2026, 3, 2), 3, 1, 1, 1, Decimal("0.00"), 4, Decimal("-25.00")),
    ]


def test_increment_takes_in_new_edited_and_deleted_responses(next_day: "Warehouse") -> None:
    assert next_day.query(SUMMARY) == [
        (date(2026, 2, 2), 1, 1, 0, 0, Decimal("100.00"), 1, Decimal("100.00")),
        (date(2026, 3, 1), 1, 0, 1, 0, Decimal("0.00"), 2, Decimal("50.00")),
        (date(2026, 3, 2), 2, 0, 1, 1, Decimal("-50.00"), 3, Decimal("-33.33")),
        (date(2026, 3, 3), 2, 1, 1, 0, Decimal("50.00"), 5, Decimal("0.00")),
    ]


def test_first_build_sets_each_month_beside_its_target(
    first_vs_target: list[tuple[object, ...]],
) -> None:
    march, april = date(2026, 3, 1), date(2026, 4, 1)
    assert first_vs_target == [
        # month, segment, responses, nps, target, difference, met, owner; the user of response 5,
        # a detractor, is unknown and so in no segment.
        (date(2026, 2, 1), "free", 1, Decimal("100.00"), Decimal("100.00"), 0, True, "Ada"),
        (march, "business", 0, None, Decimal("40.00"), None, None, "지우 🎯"),
        (march, "free", 1, Decimal("100.00"), None, None, None, None),
        (march, "team", 2, Decimal("-50.00"), Decimal("-12.50"), Decimal("-37.50"), False, None),
        (april, "free", 0, None, Decimal("50.25"), None, None, "Ada"),
    ]


def test_increment_moves_the_month_against_its_target(next_day: "Warehouse") -> None:
    march, april = date(2026, 3, 1), date(2026, 4, 1)
    assert next_day.query(VS_TARGET) == [
        (date(2026, 2, 1), "free", 1, Decimal("100.00"), Decimal("100.00"), 0, True, "Ada"),
        (march, "business", 0, None, Decimal("40.00"), None, None, "지우 🎯"),
        # The only response of `free` in March was deleted, and no target keeps its row.
        (march, "team", 4, Decimal("25.00"), Decimal("-12.50"), Decimal("37.50"), True, None),
        (april, "free", 0, None, Decimal("50.25"), None, None, "Ada"),
    ]


def test_month_that_met_its_target_does_not_miss_it_when_somebody_upgrades(
    next_day: "Warehouse",
) -> None:
    assert next_day.query("select plan from analytics_raw_mysql.users where id = 10") == [("team",)]
    february = (
        "select segment, responses, is_target_met from analytics.nps_monthly_vs_target "
        "where month = '2026-02-01'"
    )
    assert next_day.query(february) == [("free", 1, True)]
    next_day.dbt("run", "--full-refresh")
    assert next_day.query(february) == [("free", 1, True)]


def test_facts_are_the_live_responses_with_their_users(next_day: "Warehouse") -> None:
    assert next_day.query(FACTS) == [
        (1, 10, "최고예요 🎉", "email", "promoter", "free", "KR", 10, date(2026, 2, 2)),
        (2, 11, "better now", "in_app", "passive", "team", "DE", 7, date(2026, 3, 1)),
        (4, 11, None, "sms", "passive", "team", "DE", 8, date(2026, 3, 2)),
        (5, 99, None, "email", "detractor", "none", None, 0, date(2026, 3, 2)),
        (7, 11, None, "sms", "promoter", "team", "DE", 10, date(2026, 3, 3)),
        (8, 10, None, "email", "passive", "team", "KR", 8, date(2026, 3, 3)),
    ]


def test_empty_comment_is_not_a_missing_one(next_day: "Warehouse") -> None:
    comments = next_day.query(
        "select nps_response_id, comment from analytics_intermediate.int_nps_responses_deduplicated"
        " where nps_response_id in (3, 4) order by nps_response_id"
    )
    assert comments == [(3, ""), (4, None)]


def test_snapshot_dates_an_edit_by_its_time_in_mysql(next_day: "Warehouse") -> None:
    edited = at("2026-03-03 09:00")
    assert next_day.query(VERSIONS.format(id=2)) == [
        (6, None, False, at("2026-03-01 09:00"), edited),
        (7, "better now", False, edited, None),
    ]


def test_snapshot_ends_the_version_that_was_deleted(next_day: "Warehouse") -> None:
    deleted = at("2026-03-03 10:00")
    assert next_day.query(VERSIONS.format(id=3)) == [
        (9, "", False, at("2026-03-02 10:00"), deleted),
        (9, "", True, deleted, None),
    ]


def test_snapshot_leaves_an_unchanged_response_alone(next_day: "Warehouse") -> None:
    assert next_day.query(VERSIONS.format(id=1)) == [
        (10, "최고예요 🎉", False, at("2026-02-02 08:00"), None)
    ]


def test_snapshot_of_targets_ends_what_the_sheet_no_longer_says(next_day: "Warehouse") -> None:
    next_day.execute(
        "update analytics_raw_google_sheets.nps_targets set target_nps = 45, _loaded_at = '2026-03-05 01:00' "
        "where segment = 'business';"
        "delete from analytics_raw_google_sheets.nps_targets where month = '2026-04-01'"
    )
    next_day.dbt("build", "--select", "+nps_targets_snapshot")
    loaded, changed = at("2026-03-03 01:00"), at("2026-03-05 01:00")
    versions = next_day.query(
        "select segment, target_nps, dbt_valid_from, dbt_valid_to is null "
        "from analytics_snapshots.nps_targets_snapshot "
        "where segment = 'business' or month = '2026-04-01' order by all"
    )
    assert versions == [
        ("business", Decimal("40.00"), loaded, False),
        ("business", Decimal("45.00"), changed, True),
        ("free", Decimal("50.25"), loaded, False),
    ]


def test_snapshot_of_the_summary_keeps_what_was_reported(next_day: "Warehouse") -> None:
    """The second build corrected two of the three days that the first one had reported."""
    reported = next_day.query(
        "select response_date, nps, responses_28d, dbt_valid_to is null "
        "from analytics_snapshots.nps_summary_snapshot order by response_date, dbt_valid_from"
    )
    assert reported == [
        (date(2026, 2, 2), Decimal("100.00"), 1, True),
        (date(2026, 3, 1), Decimal("-100.00"), 2, False),
        (date(2026, 3, 1), Decimal("0.00"), 2, True),
        (date(2026, 3, 2), Decimal("0.00"), 4, False),
        (date(2026, 3, 2), Decimal("-50.00"), 3, True),
        (date(2026, 3, 3), Decimal("50.00"), 5, True),
    ]


def test_every_column_of_every_relation_is_described(next_day: "Warehouse") -> None:
    described = {
        (node["schema"], node["name"], name)
        for node in next_day.artifact("manifest.json")["nodes"].values()
        if node["resource_type"] in {"model", "snapshot"}
        for name, column in node["columns"].items()
        if column["description"]
    }
    built = next_day.query(
        "select table_schema, table_name, column_name from information_schema.columns"
        " where table_schema like 'analytics%' and table_schema not like 'analytics_raw%'"
    )
    assert set(built) == described


def test_freshness_tells_the_table_that_fell_behind(next_day: "Warehouse") -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    next_day.execute(f"update analytics_raw_mysql.users set _loaded_at = '{now}'")
    next_day.dbt("source", "freshness")
    statuses = {
        result["unique_id"].split(".", 2)[2]: result["status"]
        for result in next_day.artifact("sources.json")["results"]
    }
    assert statuses == {
        "google_sheets._batches": "warn",
        "google_sheets.nps_targets": "warn",
        "mysql._batches": "pass",
        "mysql.nps": "warn",
        "mysql.users": "pass",
    }
