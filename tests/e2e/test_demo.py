"""The whole demo through a running Airflow, and what a person does on its stack afterwards."""

import os
import subprocess
import sys
from collections import defaultdict
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import duckdb
import pytest

from millrace_sandbox import sample_sheets
from millrace_sandbox.nps_demo import INGEST_DAGS
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import poll
from millrace_sandbox.stack import Stack

pytestmark = [pytest.mark.service, pytest.mark.sandbox]

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BUILD = "dbt_build"
RESPONSES = 2_000
TIMEOUT = 600


def run(*command, env, check=True):
    done = subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if check and done.returncode:
        pytest.fail(f"{' '.join(map(str, command))}:\n{done.stdout}")
    return done.stdout


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    return Stack(SandboxPaths(tmp_path_factory.mktemp("sandbox")))


@pytest.fixture(scope="module")
def sandbox_env(stack):
    return {**os.environ, "MILLRACE_SANDBOX_DIR": str(stack.paths.root), "COLUMNS": "160"}


@pytest.fixture(scope="module")
def demo(stack, sandbox_env):
    """What the demo printed; its stack is up."""
    try:
        yield run(
            *(sys.executable, "-m", "millrace_sandbox", "demo"),
            *("--responses", RESPONSES, "--users", 200),
            env=sandbox_env,
        )
    finally:
        stack.stop()


@pytest.fixture
def env(demo, stack):
    """The environment of a shell that has read the stack's env file."""
    return {**os.environ, **stack.environment(), **stack.airflow.environment()}


def query(stack, sql):
    with duckdb.connect(str(stack.duckdb), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def nps_by_hand(stack):
    """Every row that nps_summary should have, computed from MySQL in plain Python."""
    server = stack.mysql.server
    connection = server.connect_as_reader(db="prod")
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute("select date(created_at), score from nps where deleted_at is null")
        scores = defaultdict(list)
        for day, score in cursor.fetchall():
            scores[day].append(score)

    def nps(chosen):
        balance = sum(s >= 9 for s in chosen) - sum(s <= 6 for s in chosen)
        exact = Decimal(100 * balance) / Decimal(len(chosen))
        return exact.quantize(Decimal("0.01"), ROUND_HALF_UP)

    rows = []
    for day, of_day in sorted(scores.items()):
        window = [s for ago in range(28) for s in scores.get(day - timedelta(days=ago), [])]
        promoters, detractors = sum(s >= 9 for s in of_day), sum(s <= 6 for s in of_day)
        passives = len(of_day) - promoters - detractors
        counts = (len(of_day), promoters, passives, detractors)
        rows.append((day, *counts, nps(of_day), len(window), nps(window)))
    return rows


def test_nps_summary_is_what_mysql_says(demo, stack):
    found = query(stack, "select * from analytics.nps_summary order by response_date")
    assert found == nps_by_hand(stack)
    assert found[-1][0] == datetime(2026, 10, 1).date()


def test_the_demo_prints_the_summary_the_changes_the_times_and_the_doors(demo, stack):
    last = query(stack, "select * from analytics.nps_summary order by 1 desc limit 1")[0]
    line = next(line for line in demo.splitlines() if str(last[0]) in line and "." in line)
    assert line.split() == [str(value) for value in last]
    for part in (
        "ingest__mysql__nps",
        "nps_summary.test",
        "What took the time",
        "millrace-sandbox down",
    ):
        assert part in demo
    assert f"user {stack.airflow.login.user}, password {stack.airflow.login.password}" in demo


def test_the_sheet_shows_the_mart_and_keeps_what_people_wrote(demo, stack):
    tab = stack.sheets.endpoint.admin().tab(sample_sheets.SUMMARY, "nps_summary")
    assert tab.values[0][:8] == [
        *("response_date", "responses", "promoters", "passives", "detractors"),
        *("nps", "responses_28d", "nps_28d"),
    ]
    published = [row[:8] for row in tab.values[1:]]
    expected = [
        [(row[0] - date(1899, 12, 30)).days, *(float(value) for value in row[1:])]
        for row in query(stack, "select * from analytics.nps_summary order by 1")
    ]
    assert published == expected
    assert tab.formatted[-1][0] == "2026-10-01"
    assert (tab.values[0][9], tab.values[1][9]) == ("Our remarks", "Ask Mina why")
    assert "asset_triggered" in tab.notes["A1"]


def test_the_targets_came_from_their_sheet(demo, stack):
    found = query(
        stack,
        "select segment, target_nps, owner from analytics.nps_monthly_vs_target "
        "where month = '2026-10-01' order by segment",
    )
    assert found == [
        ("business", Decimal("51.00"), "지우"),
        ("free", Decimal("26.00"), "Mina"),
        ("team", Decimal("41.00"), "Jonas"),
    ]


def test_the_history_came_first_and_then_just_the_day(demo, stack):
    batches = query(
        stack,
        "select interval_start, interval_end, row_count from analytics_raw_mysql._batches "
        "where table_name = 'mysql.nps' order by loaded_at",
    )
    (first_start, _, first_rows), (day_start, day_end, day_rows) = batches
    assert (first_start, first_rows) == (None, RESPONSES)
    assert (day_start, day_end) == (datetime(2026, 10, 1), datetime(2026, 10, 2))
    # 150 new, 40 edited, 10 soft-deleted.
    assert day_rows == 200


def test_edits_and_deletions_are_versions_in_the_snapshot(demo, stack):
    versions = query(
        stack,
        "select count(*), count(*) filter (where dbt_valid_to is not null) "
        "from analytics_snapshots.nps_responses_snapshot",
    )
    assert versions == [(RESPONSES + 200, 50)]


def test_no_plain_personal_data_reached_the_warehouse(demo, stack):
    columns = query(
        stack,
        "select column_name from information_schema.columns "
        "where table_schema = 'analytics_raw_mysql' and table_name = 'users'",
    )
    assert ("name",) not in columns
    with_an_at = "select count(*) from analytics_raw_mysql.users where email like '%@%'"
    assert query(stack, with_an_at) == [(0,)]


def test_transform_was_started_by_the_assets(demo, stack):
    client = stack.airflow.client()
    runs = list(client.runs("transform"))
    assert {(run.run_type, run.state) for run in runs} == {("asset_triggered", "success")}
    # A burst of loaded tables leads to one run of dbt; the other runs that it starts skip dbt.
    built = [task.state for task in client.task_instances("transform") if task.task_id == BUILD]
    assert built.count("success") == 2
    assert set(built) <= {"success", "skipped"}


def test_the_same_warehouse_is_built_by_dbt_alone(env, stack):
    before = query(stack, "select * from analytics.nps_summary order by 1")
    run(
        *(BIN / "dbt", "build", "--project-dir", "dbt_project", "--profiles-dir", "."),
        env=env,
    )
    assert query(stack, "select * from analytics.nps_summary order by 1") == before


def test_the_command_line_sees_what_airflow_loaded(env):
    listed = run(BIN / "millrace", "list", env=env | {"COLUMNS": "160"})
    assert "2026-10-01 00:00:00 to 2026-10-02 00:00:00" in listed
    checked = run(BIN / "millrace", "check", env=env)
    assert "✗" not in checked


def test_what_the_readme_does_by_hand_works(env, stack):
    interval = ("--from", "2026-09-29", "--to", "2026-09-30")
    ingested = run(BIN / "millrace", "ingest", "mysql.nps", *interval, env=env)
    assert "✓ mysql.nps" in ingested
    published = run(BIN / "millrace", "publish", "nps_summary_sheet", env=env)
    days = query(stack, "select count(*) from analytics.nps_summary")[0][0]
    assert f"✓ nps_summary_sheet: {days} rows" in published
    tab = stack.sheets.endpoint.admin().tab(sample_sheets.SUMMARY, "nps_summary")
    assert "millrace publish" in tab.notes["A1"]
    # Airflow published before: the chart was made then.
    assert [chart["spec"]["title"] for chart in tab.charts] == ["NPS"]


def pause_when_idle(client, dag_ids):
    """Pause DAGs while no run is open: a paused DAG's open run would never end."""

    def is_idle():
        return {found.state for found in client.runs()} <= {"success", "failed"}

    def is_paused():
        if not is_idle():
            return False
        for dag_id in dag_ids:
            client.pause(dag_id)
        # A run may have started in between.
        if is_idle():
            return True
        for dag_id in dag_ids:
            client.unpause(dag_id)
        return False

    assert poll(is_paused, timeout=300, interval=0.5)


@pytest.fixture(scope="module")
def nothing_follows(demo, stack):
    """Pause what a loaded table starts, which would take DuckDB from who reads it here."""
    pause_when_idle(stack.airflow.client(), ["transform"])


def test_a_backfill_runs_the_intervals_it_is_asked_for(env, stack, nothing_follows):
    run(
        *(BIN / "airflow", "backfill", "create", "--dag-id", "ingest__mysql__nps"),
        *("--from-date", "2026-09-01", "--to-date", "2026-09-02"),
        env=env,
    )
    client = stack.airflow.client()
    for day in (datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 9, 2, tzinfo=UTC)):
        done = client.wait_for_run(
            "ingest__mysql__nps",
            lambda found, day=day: found.run_type == "backfill" and found.interval_start == day,
            timeout=180,
        )
        assert done.interval_end == day + timedelta(days=1)
    # The rows of both days were loaded again, and the marts do not change.
    before = query(stack, "select * from analytics.nps_summary order by 1")
    run(
        *(BIN / "dbt", "run", "--project-dir", "dbt_project", "--profiles-dir", "."),
        env=env,
    )
    assert query(stack, "select * from analytics.nps_summary order by 1") == before


def test_a_dag_that_is_triggered_by_hand_takes_what_is_new(env, stack, nothing_follows):
    """It reads from the end of what is loaded until now, as its run has no interval."""
    run(BIN / "airflow", "dags", "trigger", "ingest__mysql__nps", "--run-id", "by_hand", env=env)
    done = stack.airflow.client().wait_for_run(
        "ingest__mysql__nps", lambda found: found.run_id == "by_hand", timeout=180
    )
    assert done.interval_end is None
    (_, loaded), (start, end) = query(
        stack,
        "select interval_start, interval_end from analytics_raw_mysql._batches "
        "where table_name = 'mysql.nps' order by interval_end desc limit 2",
    )[::-1]
    assert start == loaded < end


def at_night(*parameters):
    """Each takes a minute, most of it for Airflow to start."""
    marked = pytest.mark.nightly
    return [pytest.param(*parameter, marks=marked) for parameter in parameters]


@pytest.fixture(scope="module")
def quiet_airflow(demo, stack):
    """Pause all DAGs, so that a tested DAG has DuckDB to itself."""
    pause_when_idle(stack.airflow.client(), [*INGEST_DAGS, "transform"])


@pytest.mark.parametrize(
    "dag_id",
    ["transform", *at_night(["ingest__mysql__nps"], ["audit"], ["maintenance"])],
)
def test_a_dag_can_be_tested_by_itself(env, quiet_airflow, dag_id):
    run(BIN / "airflow", "dags", "test", dag_id, "2026-10-01", env=env)


@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [
        ("ingest__mysql__nps", "plan"),
        *at_night(
            ("transform", "wait_for_ingestion"),
            ("audit", "mysql__nps"),
            ("maintenance", "sweep_landing"),
        ),
    ],
)
def test_a_task_can_be_tested_by_itself(env, quiet_airflow, dag_id, task_id):
    run(BIN / "airflow", "tasks", "test", dag_id, task_id, "2026-10-01", env=env)


def test_down_leaves_nothing_running(demo, stack, sandbox_env):
    printed = run(sys.executable, "-m", "millrace_sandbox", "down", env=sandbox_env)
    assert printed.count("stopped") == 4
    assert set(stack.status().values()) == {"stopped"}
    for process in Path("/proc").glob("[0-9]*/environ"):
        try:
            environ = process.read_bytes()
        except OSError:
            continue
        if process.parent.name != str(os.getpid()):
            assert f"AIRFLOW_HOME={stack.paths.airflow}".encode() not in environ
