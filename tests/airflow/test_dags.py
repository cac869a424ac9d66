"""The DAG files as Airflow's own processor sees them."""

import dataclasses
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import AssetAny, CronDataIntervalTimetable, RetryAction
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred
from airflow.utils.file import list_py_file_paths

from millrace.airflow import AirflowProject, ingest, transform_dag
from millrace.airflow import project as airflow_project
from millrace.airflow.connections import airflow_connection
from millrace.airflow.outcomes import RETRY_POLICY, Refused, TaskEnded, explained
from millrace.airflow.settings import ENVIRONMENT, PRELOADED
from millrace.batch import Interval
from millrace.catalog import load_catalog
from millrace.dbt.project import Project
from millrace.errors import (
    ConnectionNotFound,
    DeclarationError,
    IntervalOpen,
    SourceUnavailable,
)

DAGS = Path(__file__).parents[2] / "dags"
PROJECT = AirflowProject(DAGS.parent / "dbt_project")
DAY = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def catalog():
    project = Project.find(DAGS)
    project.ensure_manifest()
    return load_catalog(project.manifest_path)


@pytest.fixture(scope="module")
def dagbag(catalog):
    return DagBag(dag_folder=DAGS)


def test_every_file_is_imported(dagbag):
    assert dagbag.import_errors == {}


@pytest.mark.parametrize("syntax", ["glob", "regexp"])
def test_airflow_reads_only_the_files_that_make_dags_and_no_example(monkeypatch, syntax):
    monkeypatch.setenv("AIRFLOW__CORE__DAG_IGNORE_FILE_SYNTAX", syntax)
    found = {Path(file).name for file in list_py_file_paths(DAGS)}
    assert found == {"audit.py", "ingest.py", "maintenance.py", "transform.py"}


def test_a_mart_and_a_published_sheet_have_an_asset_each(dagbag):
    dag = dagbag.dags["transform"]
    outlets = {task.task_id: [asset.name for asset in task.outlets] for task in dag.tasks}
    assert {task_id: names for task_id, names in outlets.items() if names} == {
        "dbt_build": ["millrace.built"],
        # Not the task that shows how it was built: its tests come after that.
        "nps_summary.test": ["millrace.marts.nps_summary"],
        "publish__nps_summary_sheet": ["millrace.published.nps_summary_sheet"],
    }


def test_every_declared_table_has_a_dag_and_nothing_else_has(dagbag, catalog):
    ingest = {f"ingest__{table.source}__{table.name}" for table in catalog.tables}
    assert set(dagbag.dags) == ingest | {"audit", "maintenance", "transform"}


def test_an_ingest_dag_plans_extracts_and_loads(dagbag, catalog):
    for table in catalog.tables:
        dag = dagbag.dags[f"ingest__{table.source}__{table.name}"]
        assert {task.task_id: task.downstream_task_ids for task in dag.tasks} == {
            "plan": {"extract", "load"},
            "extract": {"load"},
            "load": set(),
        }
        assert dag.get_task("extract").is_mapped
        assert dag.get_task("load").outlets == [PROJECT.raw_asset(table)]


def test_whoever_may_touch_the_warehouse_waits_for_its_pool(dagbag, catalog):
    for table in catalog.tables:
        dag = dagbag.dags[f"ingest__{table.source}__{table.name}"]
        assert (dag.get_task("plan").pool, dag.get_task("load").pool) == ("warehouse", "warehouse")
    transform = dagbag.dags["transform"]
    pools = {task.task_id: task.pool for task in transform.tasks if task.pool != "default_pool"}
    assert pools == {"dbt_build": "warehouse", "publish__nps_summary_sheet": "warehouse"}


def test_one_task_starts_dbt_and_the_others_only_report(dagbag):
    kinds = {task.task_type for task in dagbag.dags["transform"].tasks}
    assert kinds == {
        *("WaitForIngestion", "DbtBuild", "DbtMirror", "EmptyOperator"),
        "_PythonDecoratedOperator",
    }


def test_a_source_is_read_in_the_pool_that_is_declared_and_in_none_that_may_be_missing(catalog):
    table = catalog.tables[0]
    assert ingest.ingest_dag(PROJECT, table).get_task("extract").pool == "default_pool"
    options = table.options.model_copy(update={"pool": "few"})
    bounded = ingest.ingest_dag(PROJECT, dataclasses.replace(table, options=options))
    assert bounded.get_task("extract").pool == "few"


def test_an_ingest_dag_runs_a_day_at_a_time_and_catches_nothing_up(dagbag):
    dag = dagbag.dags["ingest__mysql__nps"]
    assert not dag.catchup
    assert isinstance(dag.timetable, CronDataIntervalTimetable)
    assert dag.timetable.expression == "0 0 * * *"


def test_every_task_of_ours_is_retried_with_backoff_and_bounded(dagbag):
    for dag in dagbag.dags.values():
        for task in dag.tasks:
            assert task.retries >= 1
            assert task.retry_exponential_backoff
            assert task.execution_timeout


def test_dbt_is_a_program_of_the_environment():
    program = Path(sys.executable).with_name("millrace-dbt")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert "duckdb" in said.stdout


def test_transform_has_a_task_a_model_and_tests_after_it(dagbag):
    dag = dagbag.dags["transform"]
    assert dag.get_task("nps_summary.run").downstream_task_ids == {"nps_summary.test"}
    facts = dag.get_task("fct_nps_responses.run")
    assert "int_nps_responses_deduplicated.test" in facts.upstream_task_ids
    assert "users_snapshot.snapshot" in dag.task_ids
    assert not [task_id for task_id in dag.task_ids if "boundaries" in task_id]


def test_every_model_and_every_test_belongs_to_one_task(dagbag):
    mirrored = dagbag.dags["transform"].get_task("dbt_build").mirrored
    nodes = [node for nodes in mirrored.values() for node in nodes]
    manifest = json.loads(Project.find(DAGS).manifest_path.read_text())
    assert sorted(nodes) == sorted(
        node
        for node, found in manifest["nodes"].items()
        if found["resource_type"] in ("model", "seed", "snapshot", "test")
        and found["config"]["enabled"]
    )


def test_what_is_disabled_has_no_task(dagbag):
    """The manifest keeps the tests of the weather, which is switched off."""
    manifest = Project.find(DAGS).manifest_path.read_text()
    assert "weather_forecasts_snapshot" in manifest
    assert not [task_id for task_id in dagbag.dags["transform"].task_ids if "weather" in task_id]


def test_the_tests_of_a_source_come_before_what_reads_it(dagbag):
    dag = dagbag.dags["transform"]
    assert dag.get_task("stg_mysql__users.run").upstream_task_ids == {"mysql.users.test"}


def test_a_run_cannot_be_greener_than_dbt(dagbag):
    """A run has the state of its last tasks, so dbt's own task has to come before each of them."""
    dag = dagbag.dags["transform"]
    assert [task.task_id for task in dag.tasks if not task.downstream_task_ids] == ["done"]
    assert "dbt_build" in dag.get_task("done").upstream_task_ids
    assert dag.get_task("done").trigger_rule == "none_failed"


def test_a_publication_comes_after_its_marts_tests_and_the_end_of_dbt(dagbag, catalog):
    dag = dagbag.dags["transform"]
    for publication in catalog.publications:
        publish = dag.get_task(f"publish__{publication.name}")
        assert publish.upstream_task_ids == {f"{publication.mart}.test", "dbt_ended"}
        # One failing test is enough to stop the publication.
        assert publish.trigger_rule == "all_success"
    assert [publication.name for publication in catalog.publications] == ["nps_summary_sheet"]


def test_transform_runs_after_news_in_any_raw_table_and_in_the_morning(dagbag, catalog):
    timetable = dagbag.dags["transform"].timetable
    assert {asset.uri for asset in timetable.asset_condition.objects} == {
        PROJECT.raw_asset(table).uri for table in catalog.tables
    }
    assert isinstance(timetable.asset_condition, AssetAny)
    assert timetable.timetable.expression == "0 6 * * *"
    assert dagbag.dags["transform"].max_active_runs == 1


def test_a_task_of_one_dag_makes_no_other(catalog, monkeypatch):
    own = SimpleNamespace(dag_id="ingest__mysql__nps", task_id="load")
    monkeypatch.setattr(airflow_project, "get_parsing_context", lambda: own)
    assert [dag.dag_id for dag in ingest.ingest_dags(PROJECT)] == ["ingest__mysql__nps"]


@pytest.mark.parametrize("file", ["audit.py", "ingest.py", "transform.py"])
def test_parsing_imports_no_heavy_library(catalog, file):
    heavy = {"pandas", "pyarrow", "duckdb", "MySQLdb", "dbt", "obstore", "gspread"}
    code = (
        f"import sys, runpy; sys.path.insert(0, {str(DAGS)!r}); "
        f"runpy.run_path({str(DAGS / file)!r}); "
        f"print(sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=DAGS.parent
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_what_tasks_are_forked_with_exists_and_holds_no_code_of_ours():
    """Airflow silently skips a missing module; code of ours would stay as it was at the start."""
    modules = PRELOADED
    code = f"import sys; [__import__(m) for m in {modules!r}]; print(*sys.modules, sep='\\n')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=DAGS.parent
    )
    imported = {name.partition(".")[0] for name in done.stdout.splitlines()}
    assert imported >= {"cosmos", "dbt", "duckdb", "pyarrow"}
    assert not imported & {"millrace", "millrace_sandbox"}


def test_docker_compose_starts_tasks_as_the_sandbox_does():
    compose = yaml.safe_load((DAGS.parent / "docker-compose.yaml").read_text())
    environment = compose["services"]["scheduler"]["environment"]
    shared = ("SCHEDULER", "WORKERS")
    expected = {
        name: value
        for name, value in ENVIRONMENT.items()
        if name.removeprefix("AIRFLOW__").startswith(shared)
    }
    assert {name: str(environment[name]) for name in expected} == expected


def decided(kind):
    with pytest.raises(TaskEnded) as ended, explained():
        raise kind("What happened.", fix="What to do.")
    assert str(ended.value) == "What happened.\n  → What to do."
    return RETRY_POLICY.evaluate(ended.value, try_number=1, max_tries=3).action


def test_what_may_pass_is_retried_and_what_a_person_must_mend_is_not(caplog):
    assert decided(SourceUnavailable) is RetryAction.DEFAULT
    assert decided(DeclarationError) is RetryAction.FAIL
    assert [record.message for record in caplog.records][:2] == [
        "What happened.",
        "  → What to do.",
    ]


def test_a_message_needs_no_stack_trace(dagbag):
    """Airflow prints a stack trace for every exception except SystemExit."""
    assert issubclass(TaskEnded, SystemExit)
    for dag in dagbag.dags.values():
        for task in dag.tasks:
            assert task.retry_policy == RETRY_POLICY


def test_a_dag_that_is_tested_by_itself_watches_nothing(monkeypatch, catalog):
    """`airflow dags test` runs one task after another: a task that watches would wait forever."""
    monkeypatch.setattr("sys.argv", ["airflow", "dags", "test", "transform", "2026-10-01"])
    dag = transform_dag(PROJECT)
    first = dag.get_task("mysql.users.test")
    assert (first.upstream_task_ids, first.trigger_rule) == (
        {"wait_for_ingestion", "dbt_build"},
        "all_done",
    )


@pytest.fixture
def plan(monkeypatch, catalog):
    """The task `plan`, what it asks the pipeline, and `answers`, whose `plan` gives the answer."""
    asked: list[object] = []
    answers = SimpleNamespace(plan=lambda: "batch")

    def planned(table, interval, *, whole):
        asked.append((interval, whole))
        return answers.plan()

    def planned_to_reload(table):
        asked.append("reload")
        return answers.plan()

    carrier = SimpleNamespace(
        plan=planned, plan_reload=planned_to_reload, partitions=lambda table, batch: []
    )
    monkeypatch.setattr(AirflowProject, "pipeline", lambda _: carrier)
    return ingest.ingest_dag(PROJECT, catalog.tables[0]).get_task("plan"), asked, answers


@pytest.fixture
def load(monkeypatch, catalog):
    """The task `load`, and the names of what it asks the pipeline to do with what was landed."""
    asked = []

    def taken(name):
        def take(table, manifest):
            asked.append(name)
            return SimpleNamespace(
                rows=3, start=None, end=DAY, is_correction=False, schema_changes="b is added"
            )

        return take

    carrier = SimpleNamespace(
        merge=lambda table, planned, urls: "manifest", load=taken("load"), replace=taken("replace")
    )
    monkeypatch.setattr(AirflowProject, "pipeline", lambda _: carrier)
    return ingest.ingest_dag(PROJECT, catalog.tables[0]).get_task("load"), asked


def test_where_keys_are_compared_a_task_does_it_even_if_nothing_is_new(catalog, dagbag):
    nps = catalog.table("mysql.nps")
    options = nps.options.model_copy(update={"deletes": "keys"})
    dag = ingest.ingest_dag(PROJECT, dataclasses.replace(nps, options=options))
    task = dag.get_task("mark_deletes")
    assert task.upstream_task_ids == {"load"}
    assert (task.trigger_rule, task.pool) == ("none_failed", "warehouse")
    assert task.outlets == [PROJECT.raw_asset(nps)]


def test_every_table_is_audited(dagbag, catalog):
    tasks = dagbag.dags["audit"].tasks
    assert {task.task_id for task in tasks} == {
        f"{table.source}__{table.name}" for table in catalog.tables
    }
    assert {task.pool for task in tasks} == {"warehouse"}


@pytest.mark.parametrize(
    ("params", "asks_for"), [({"reload": False}, "load"), ({"reload": True}, "replace")], ids=str
)
def test_a_run_that_is_started_to_reload_replaces_the_raw_table(load, params, asks_for):
    task, asked = load
    (raw,) = task.outlets
    events = {raw: SimpleNamespace(extra={})}
    assert task.python_callable([], [], params=params, outlet_events=events) == 3
    assert events[raw].extra == {
        "rows": 3,
        "start": None,
        "end": DAY.isoformat(),
        "schema_changes": "b is added",
    }
    assert asked == [asks_for]


def test_a_run_that_is_started_to_reload_reads_everything(plan):
    task, asked, _ = plan
    assert task.execute({**INTERVAL, "params": {"reload": True}}) == []
    assert asked == ["reload"]
    task.execute({**INTERVAL, "params": {"reload": False}})
    assert asked[1:] == [(Interval(DAY, DAY + timedelta(days=1)), True)]


def test_a_run_reloads_only_if_it_is_told_to(dagbag, catalog):
    dag = dagbag.dags[PROJECT.ingest_dag_id(catalog.tables[0])]
    assert dag.params.dump() == {"reload": False}


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"data_interval_start": None, "data_interval_end": None},
        {"data_interval_start": DAY, "data_interval_end": DAY},
    ],
)
def test_a_run_without_an_interval_takes_what_is_new(plan, context):
    task, asked, _ = plan
    assert task.execute(context) == []
    assert asked == [(None, False)]


INTERVAL = {"data_interval_start": DAY, "data_interval_end": DAY + timedelta(days=1)}


def test_a_run_takes_its_interval_as_a_whole(plan):
    task, asked, _ = plan
    task.execute(INTERVAL)
    assert asked == [(Interval(DAY, DAY + timedelta(days=1)), True)]


def test_an_interval_that_is_still_written_to_is_waited_for_without_a_slot_and_not_for_ever(plan):
    task, _, answers = plan

    def is_open():
        raise IntervalOpen("Connection 7 holds it up.", fix="End it.")

    answers.plan = is_open
    with pytest.raises(TaskDeferred) as waits:
        task.execute(INTERVAL)
    assert waits.value.kwargs
    until = waits.value.kwargs["until"]
    assert datetime.fromisoformat(until) > datetime.now(UTC) + timedelta(minutes=20)
    with pytest.raises(TaskDeferred):
        task.resume(INTERVAL, until=until)
    with pytest.raises(Refused, match="Connection 7"):
        task.resume(INTERVAL, until=datetime.now(UTC).isoformat())


def test_a_run_for_which_nothing_can_be_new_is_skipped(plan):
    task, _, answers = plan
    answers.plan = lambda: None
    with pytest.raises(AirflowSkipException):
        task.execute(INTERVAL)


def test_a_connection_comes_from_airflow(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SOMEWHERE", "mysql://u:p%40ss@h:3307/db?ssl_mode=REQUIRED")
    found = airflow_connection("somewhere")
    assert (found.host, found.port, found.login, found.password) == ("h", 3307, "u", "p@ss")
    assert found.extra == {"ssl_mode": "REQUIRED"}


def test_a_missing_connection_says_where_to_add_it(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_NOWHERE", raising=False)
    with pytest.raises(ConnectionNotFound, match="AIRFLOW_CONN_NOWHERE"):
        airflow_connection("nowhere")
