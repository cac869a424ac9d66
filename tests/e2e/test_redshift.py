"""The same project on DuckDB and on Redshift: every mart has the same rows, to the last digit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from millrace_sandbox import sample_data, sample_sheets
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.stack import Stack

pytestmark = [pytest.mark.service, pytest.mark.sandbox, pytest.mark.redshift]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DAY = sample_data.HISTORY_END.date()


def run(stack, *command):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={
            **os.environ,
            **stack.environment(),
            # Each target has its own manifest and logs, because its schemas differ.
            "DBT_TARGET_PATH": str(stack.paths.root / stack.target),
            "DBT_LOG_PATH": str(stack.paths.logs),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{stack.target}: {' '.join(map(str, command))}:\n{done.stdout}")
    return done.stdout


def build(stack):
    run(stack, BIN / "dbt", "build", "--project-dir", "dbt_project", "--profiles-dir", ".")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Both warehouses after a history and a day of changes, each loaded and built on its own."""
    paths = SandboxPaths(tmp_path_factory.mktemp("sandbox"))
    redshift = Stack(paths, "redshift")
    stacks = [Stack(paths, "dev"), redshift]
    try:
        redshift.start_services()
        server = redshift.mysql.server
        sample_data.create_schema(server)
        sample_data.fill_history(server, responses=2_000, users=200)
        sample_sheets.create_sheets(redshift.sheets.endpoint)
        for stack in stacks:
            run(stack, BIN / "millrace", "ingest")
            build(stack)
        sample_data.arrive_day(server, DAY)
        for stack in stacks:
            interval = ("--from", "2026-10-01", "--to", "2026-10-02")
            run(stack, BIN / "millrace", "ingest", "mysql.nps", *interval)
            run(stack, BIN / "millrace", "ingest", "mysql.users")
            build(stack)
        yield stacks
    finally:
        redshift.stop()


RELATIONS = {
    "analytics.nps_summary": "*",
    "analytics.nps_monthly_vs_target": "*",
    "analytics.fct_nps_responses": "*",
    "analytics_intermediate.int_nps_responses_deduplicated": (
        "nps_response_id, user_id, comment, channel, score, is_deleted, responded_at, updated_at, "
        "deleted_at"
    ),
    "analytics.fct_nps_responses_daily": "*",
    "analytics_intermediate.int_users_plan_periods": "*",
    "analytics_snapshots.nps_responses_snapshot": (
        "nps_response_id, score, comment, is_deleted, dbt_valid_from, dbt_valid_to"
    ),
    "analytics_snapshots.users_snapshot": "user_id, plan, dbt_valid_from, dbt_valid_to",
    "analytics_snapshots.nps_targets_snapshot": "month, segment, target_nps, owner, dbt_valid_to",
    "analytics_snapshots.nps_summary_snapshot": (
        "response_date, nps, nps_28d, dbt_valid_to is null as is_open"
    ),
    "analytics_raw_mysql.nps": (
        "id, user_id, score, comment, channel, created_at, updated_at, deleted_at"
    ),
    "analytics_raw_google_sheets.nps_targets": "month, segment, target_nps, owner",
}


@pytest.mark.parametrize("relation", RELATIONS)
def test_both_warehouses_hold_the_same_rows(built, relation):
    found = []
    for stack in built:
        names, rows = stack.query(f"select {RELATIONS[relation]} from {relation}")
        found.append((names, sorted(rows, key=repr)))
    on_duckdb, on_redshift = found
    assert len(on_duckdb[1]) > 30
    assert on_redshift == on_duckdb


def test_publishing_from_redshift_shows_what_duckdb_showed(built):
    shown = []
    for stack in built:
        # New sheets, because one warehouse does not publish over another's table.
        sample_sheets.create_sheets(stack.sheets.endpoint)
        run(stack, BIN / "millrace", "publish", "nps_summary_sheet")
        shown.append(stack.sheets.endpoint.admin().tab(sample_sheets.SUMMARY, "nps_summary").values)
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    ("schema", "table", "shape"),
    [
        ("analytics_raw_mysql", "nps", ("KEY(id)", "_loaded_at")),
        (
            "analytics_intermediate",
            "int_nps_responses_deduplicated",
            ("KEY(nps_response_id)", "nps_response_id"),
        ),
        (
            "analytics_snapshots",
            "nps_responses_snapshot",
            ("KEY(nps_response_id)", "nps_response_id"),
        ),
        ("analytics", "nps_summary", ("ALL", "response_date")),
    ],
)
def test_a_table_is_spread_and_sorted_as_declared(built, schema, table, shape):
    _, redshift = built
    _, rows = redshift.query(
        "select diststyle, sortkey1 from svv_table_info "
        f"where \"schema\" = '{schema}' and \"table\" = '{table}'"
    )
    assert rows == [shape]
