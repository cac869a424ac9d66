"""The task that runs dbt, on a real dbt and DuckDB: what it says, and how it ends."""

import re
import subprocess
from contextlib import closing
from dataclasses import replace
from types import SimpleNamespace

import duckdb
import pytest

from millrace.airflow import AirflowProject
from millrace.airflow.dbt_tasks import (
    DbtBuild,
    DbtMirror,
    Word,
    Words,
    never_made,
    running_dbt,
)
from millrace.airflow.lineage import Lineage
from millrace.airflow.outcomes import Interrupted, Refused
from millrace.settings import Settings
from millrace.testing import declared
from millrace.warehouses.base import open_warehouse
from tests.e2e.small_project import write_project

FILES = {
    "dbt_project.yml": "name: shop\nversion: '1.0.0'\nprofile: millrace\n",
    "models/amounts.sql": (
        "select number, {{ env_var('AMOUNT', '1') }} as amount from range(9) as _(number)"
    ),
    "models/totals.sql": (
        "{{ config(materialized='table') }}"
        "select cast({{ env_var('TOTAL', '1') }} as integer) as total"
    ),
    "models/shares.sql": "select total from {{ ref('totals') }}",
    "tests/amounts_are_small.sql": "select * from {{ ref('amounts') }} where amount > 10",
}
MIRRORED = {
    "amounts.run": ["model.shop.amounts"],
    "amounts.test": ["test.shop.amounts_are_small"],
    "totals_run": ["model.shop.totals"],
    "shares_run": ["model.shop.shares"],
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return write_project(tmp_path_factory.mktemp("project"), FILES)


@pytest.fixture(autouse=True)
def warehouse(monkeypatch, tmp_path):
    monkeypatch.setenv("DUCKDB_PATH", str(tmp_path / "warehouse.duckdb"))
    return tmp_path / "warehouse.duckdb"


def test_a_ledger_is_left_out_with_the_last_table_of_its_schema():
    orders, users = (
        replace(declared(), source="shop", name=name, schema="raw") for name in ("orders", "users")
    )
    lineage = Lineage({"source.p.shop.orders": [], "source.p.shop._batches": []})
    assert never_made([orders], [orders, users], lineage) == {"shop.orders": orders}
    both = never_made([orders, users], [orders, users], lineage)
    assert list(both) == ["shop.orders", "shop.users", "shop._batches"]
    assert list(never_made([orders], [orders], Lineage({}))) == ["shop.orders"]


class TaskInstance:
    """Stands for Airflow's task instance, and keeps what a task asks of it."""

    def __init__(self, state="running"):
        self.dag_id, self.run_id, self.map_index = "transform", "run", -1
        self.state = state
        self.xcoms = {}

    def xcom_push(self, key, value):
        self.xcoms[key] = value

    def xcom_pull(self, task_ids, key="return_value"):
        return self.xcoms.get(key)

    def get_task_states(self, dag_id, task_ids, run_ids):
        return {self.run_id: {"dbt_build": self.state}}


def build(project, ti):
    deployed = AirflowProject(project.folder)
    task = DbtBuild(task_id="dbt_build", project=deployed, mirrored=MIRRORED, lineage=Lineage({}))
    events = {deployed.built_asset: SimpleNamespace(extra={})}
    task.execute({"ti": ti, "outlet_events": events})
    return events[deployed.built_asset].extra


def word(ti, task_id):
    found = ti.xcoms[f"{task_id.replace('.', '__')}_status"]
    return found["status"], "\n".join(found["said"])


def test_every_task_gets_its_word_and_a_relative_path_is_the_file_of_ingestion(
    project, monkeypatch
):
    monkeypatch.setenv("DUCKDB_PATH", "relative.duckdb")
    ti = TaskInstance()
    extra = build(project, ti)
    assert {word(ti, task_id) for task_id in MIRRORED} == {("success", "")}
    assert extra["began"]
    assert (project.root / "relative.duckdb").is_file()
    warehouse = open_warehouse(project.credentials(), project.root, Settings())
    assert str(project.root / "relative.duckdb") in warehouse.check()


@pytest.fixture(scope="module")
def refused(project, tmp_path_factory):
    """A run of dbt in which a model and a test fail: what its tasks are told, and what dbt says."""
    ti = TaskInstance("failed")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DUCKDB_PATH", str(tmp_path_factory.mktemp("refused") / "w.duckdb"))
        environment.setenv("AMOUNT", "11")
        environment.setenv("TOTAL", "'many'")
        with pytest.raises(Refused) as ended:
            build(project, ti)
    return ti, str(ended.value)


def test_dbt_names_what_it_refused_and_the_way_out(refused):
    _, message = refused
    named, *way_out = message.splitlines()
    assert named.startswith("dbt refused 2:")
    assert "amounts_are_small" in named
    assert "totals" in named
    assert "clear the task dbt_build with all tasks downstream" in way_out[-1]


def test_a_failing_test_shows_its_name_its_rows_its_file_and_its_sql(refused, caplog):
    ti, _ = refused
    status, said = word(ti, "amounts.test")
    assert status == "failed"
    assert "test amounts_are_small: Got 9 results" in said
    assert "Declared in tests/amounts_are_small.sql" in said
    assert "number | amount" in said
    assert len(re.findall(r"^    \d      \| 11$", said, re.MULTILINE)) == 5
    assert "where amount > 10" in said
    with pytest.raises(Refused):
        DbtMirror(task_id="amounts.test").execute({"ti": ti})
    assert [record.message for record in caplog.records][: len(said.splitlines())] == (
        said.splitlines()
    )


def test_a_failing_model_shows_the_databases_message_its_file_and_its_sql(refused):
    ti, _ = refused
    status, said = word(ti, "totals_run")
    assert status == "failed"
    assert "Could not convert string 'many'" in said
    assert "Declared in models/totals.sql" in said
    assert "cast('many' as integer)" in said


def test_what_dbt_left_out_for_a_failure_is_no_success(refused):
    ti, _ = refused
    assert word(ti, "shares_run")[0] == "failed"
    assert word(ti, "amounts.run")[0] == "success"


def test_a_dbt_that_was_killed_is_tried_again(project, monkeypatch):
    class Killed(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.kill()

    monkeypatch.setattr(subprocess, "Popen", Killed)
    with pytest.raises(Interrupted, match="killed by signal 9"):
        build(project, TaskInstance())


def test_a_warehouse_that_another_process_holds_is_tried_again(project, warehouse):
    with closing(duckdb.connect(str(warehouse))), pytest.raises(Interrupted, match="set lock"):
        build(project, TaskInstance())


def test_a_project_that_dbt_cannot_parse_is_not_tried_again(project, monkeypatch):
    (project.folder / "models" / "broken.sql").write_text("select * from {{ ref('nothing') }}")
    try:
        with pytest.raises(Refused, match=r"dbt could not run(.|\n)*nothing"):
            build(project, TaskInstance())
    finally:
        (project.folder / "models" / "broken.sql").unlink()


def test_dbt_ends_with_the_task_that_started_it(project):
    """Even if the task is killed; dbt would otherwise go on without the task's pool slot."""
    with running_dbt(project, ["build"]) as (process, lines):
        next(lines)
        assert process.stdin
        process.stdin.close()
        assert process.wait(timeout=30) == 1


@pytest.mark.parametrize(
    ("state", "word", "outcome"),
    [
        ("running", {"status": "success", "said": []}, None),
        ("failed", {"status": "success", "said": []}, None),
        ("running", {"status": "failed", "said": ["Why."]}, Refused),
        ("failed", None, Refused),
        # dbt has said nothing about the node, so it cannot have built it.
        ("success", None, Refused),
    ],
)
def test_a_mirror_reports_the_word_and_nothing_else(state, word, outcome):
    ti = TaskInstance(state)
    ti.xcoms = {"m_status": word} if word else {}
    mirror = DbtMirror(task_id="m")
    if outcome is None:
        mirror.execute({"ti": ti})
    else:
        with pytest.raises(outcome):
            mirror.execute({"ti": ti})


@pytest.mark.parametrize("state", [None, "queued", "up_for_retry"])
def test_a_mirror_does_not_take_the_word_of_an_earlier_try(state):
    from airflow.sdk.exceptions import TaskDeferred

    ti = TaskInstance(state)
    ti.xcoms = {"m_status": {"status": "success", "said": []}}
    with pytest.raises(TaskDeferred):
        DbtMirror(task_id="m").execute({"ti": ti})


def test_tests_that_share_a_task_are_told_together():
    given: dict[str, Word] = {}
    words = Words({"m.test": ["test.a", "test.b"]}, given.__setitem__)
    words.add("test.a", "fail", ["a failed"])
    assert given == {}
    words.add("test.b", "pass", [])
    assert (given["m.test"].status, given["m.test"].said) == ("failed", ["a failed"])


def test_what_dbt_is_not_asked_to_build_is_no_success():
    given: dict[str, Word] = {}
    words = Words({"m.run": ["model.m"]}, given.__setitem__)
    words.leave_out({"model.m": "It waits."})
    assert given["m.run"].status == "skipped"
