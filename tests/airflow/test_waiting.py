"""What ``transform`` waits for, and what it says about the rest."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowSkipException, TaskDeferred

from millrace.airflow import AirflowProject
from millrace.airflow.transform import PATIENCE
from millrace.airflow.waiting import WaitForIngestion
from millrace.catalog import Catalog, IngestTable
from millrace.sources.mysql.options import MySQLOptions

NOW = datetime.now(UTC)
OPTIONS = MySQLOptions(kind="mysql", connection="db", table="shop.t", primary_key=("id",))
ORDERS, USERS = (IngestTable("shop", name, "raw", name, OPTIONS) for name in ("orders", "users"))
PROJECT = AirflowProject(Path("nowhere"))
# The catalog that the project's manifest would give.
vars(PROJECT)["catalog"] = Catalog((ORDERS, USERS), project="shop")
PAUSED, LOADING = "paused", "loading"


class Events(list):
    """An asset's events with the calls that Airflow's have; only the newest may be asked for."""

    def ascending(self, is_ascending):
        assert not is_ascending
        return self

    def limit(self, number):
        return Events(self[:number])


def event(moment, **extra):
    return SimpleNamespace(timestamp=moment, extra=extra)


def airflow(states=None, loaded=None, built=None, news=()):
    """A task's view of Airflow: DAGs by their states, the last loads, the last good run of dbt."""
    states, loaded = states or {}, loaded if loaded is not None else {"orders": NOW, "users": NOW}

    def state(dag_id):
        return states.get(dag_id.removeprefix("ingest__shop__"), ())

    inlets = {
        PROJECT.raw_asset(table): Events(
            [event(loaded[table.name])] if table.name in loaded else []
        )
        for table in (ORDERS, USERS)
    }
    inlets[PROJECT.built_asset] = Events([event(built, began=built.isoformat())] if built else [])
    return {
        "ti": SimpleNamespace(
            get_dr_count=lambda dag_id, states: int(LOADING in state(dag_id)),
            get_dag=lambda dag_id: SimpleNamespace(is_paused=PAUSED in state(dag_id)),
        ),
        "inlet_events": inlets,
        "triggering_asset_events": {PROJECT.raw_asset(ORDERS): [event(moment) for moment in news]},
    }


def waiting(patience=PATIENCE):
    return WaitForIngestion(task_id="wait_for_ingestion", project=PROJECT, patience=patience)


@pytest.fixture
def task():
    return waiting()


def test_it_waits_for_a_table_that_is_being_loaded(task):
    with pytest.raises(TaskDeferred) as waits:
        task.execute(airflow({"users": {LOADING}}))
    assert waits.value.kwargs
    until = datetime.fromisoformat(waits.value.kwargs["until"])
    assert timedelta(minutes=14) < until - datetime.now(UTC) <= timedelta(minutes=15)


def test_it_waits_for_nobody_whose_dag_is_paused(task):
    assert task.execute(airflow({"users": {LOADING, PAUSED}})) == []


def test_it_does_not_wait_for_ever_and_says_for_whom_it_did(task, caplog):
    loading = airflow({"users": {LOADING}}, loaded={"orders": NOW, "users": NOW})
    assert task.resume(loading, until=NOW.isoformat()) == []
    assert "ingest__shop__users is still loading it, and starts a run of its own" in caplog.text


def test_its_patience_is_an_argument():
    task = waiting(patience=timedelta(0))
    assert task.execute(airflow({"users": {LOADING}})) == []


def test_it_says_what_is_missing_and_why(task, caplog):
    old = NOW - timedelta(days=3)
    never = task.execute(airflow({"users": {PAUSED}}, loaded={"orders": old}))
    assert never == ["shop.users"]
    assert (
        f"shop.orders: last loaded {old:%Y-%m-%d %H:%M}; ingest__shop__orders has not loaded it"
        in (caplog.text)
    )
    assert "shop.users: never loaded here; ingest__shop__users is paused" in caplog.text


def test_it_says_nothing_of_what_is_there(task, caplog):
    task.execute(airflow())
    assert caplog.text == ""


def test_a_run_for_news_that_dbt_has_read_is_skipped(task):
    earlier = NOW - timedelta(minutes=1)
    with pytest.raises(AirflowSkipException):
        task.execute(airflow(built=NOW, news=[earlier]))
    assert task.execute(airflow(built=earlier, news=[NOW])) == []
    # No event started this run: a person did, or the morning's schedule.
    assert task.execute(airflow(built=NOW)) == []
