"""Twenty ways in which nothing happens, and the one message that each of them makes.

One Airflow, with a table for each way; then its parts are stopped one by one. The watcher is asked
what it sees at a moment, so nobody waits for a time of day.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import psycopg
import pyarrow as pa
import pytest

from millrace.alerts.airflow_api import AirflowApi
from millrace.alerts.channel import AppriseChannel
from millrace.alerts.watcher import Watcher
from millrace.batch import Interval
from millrace.connections import Connection, in_environment
from millrace.dbt.project import Project
from millrace.errors import WarehouseLocked
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace.status import State, look
from millrace_sandbox.airflow import Airflow
from millrace_sandbox.airflow_api import AirflowClient
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.mysql import MySQLServer
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import poll
from redshift_standin.ports import free_port
from sheets_standin import GoogleSheetsServer, TabSpec
from tests.e2e.small_project import write_project
from tests.sinks import HttpSink, http_sink

pytestmark = [pytest.mark.airflow, pytest.mark.service, pytest.mark.nightly]

TIMEOUT = 150
MINUTE = timedelta(minutes=1)
Result = TypeVar("Result")

# What is declared of each table besides its key and cursor.
TABLES: dict[str, dict[str, object]] = {
    "paused": {},
    "no_pool": {"pool": "nowhere"},
    "full_pool": {"pool": "full"},
    "wrong_key": {"connection": "mysql_locked"},
    "down": {"connection": "mysql_down"},
    "not_there": {},
    "too_few": {"min_rows": 5},
    "open_transaction": {},
    "broken_view": {},
    "frozen": {"schema": "freeze"},
    "discarded": {},
    "unknown": {},
    "well": {},
}
# Airflow has the DAG of each, except of "unknown".
OF_AIRFLOW = [name for name in TABLES if name != "unknown"]
# Tables with a mart and a sheet.
MARTS = ["paused", "well"]
DATABASE = "silences"
PARTS = {"triggerer": "triggerer", "dag-processor": "DAG processor", "scheduler": "scheduler"}
STANDS_STILL = {
    "no_pool": "extract: scheduled",
    "full_pool": "extract: scheduled",
    "wrong_key": "failed",
    "down": "plan: up_for_retry",
    "not_there": "failed",
    "too_few": "failed",
    "open_transaction": "plan: deferred",
    "broken_view": "failed",
    "frozen": "failed",
    "discarded": "success",
    "well": "success",
}

LATE = {
    "paused": "its DAG is paused",
    "no_pool": "the pool nowhere does not exist",
    "full_pool": "the pool full is full",
    "wrong_key": "plan failed",
    "down": "plan fails and is tried again",
    "not_there": "plan failed",
    "too_few": r"extract\[0\] failed",
    # Tried again: another task had the DuckDB file for long, on a busy machine.
    "open_transaction": "plan (waits|still runs|fails and is tried again)",
    "broken_view": "plan failed",
    "frozen": "load failed",
    "discarded": "its DAG has not run since",
    "unknown": "Airflow has no DAG of it",
}
FAILED = {
    "wrong_key": r"Access denied|refuses",
    "not_there": r"does not exist|no table|There is no",
    "too_few": r"1 rows?|fewer",
    "broken_view": r"view|definer|invalid",
    "frozen": r"freeze|added",
}


@dataclass(frozen=True)
class Watched:
    """The project, its Airflow, and what was told."""

    watcher: Watcher
    airflow: Airflow
    sink: HttpSink
    due: datetime

    def told(self, now: datetime, messages: int = 0) -> dict[str, str]:
        """What looks at a moment tell: the texts by their titles, without the project.

        Airflow's tasks may have the DuckDB file when it is looked at: then it is looked at again,
        until so many messages have come.
        """
        self.sink.received.clear()

        def is_told() -> bool:
            self.watcher.look(now)
            return len(self.sink.received) >= messages

        assert poll(is_told, 30, interval=0.2), self.sink.titles
        titles = [message["title"] for message in self.sink.received]
        assert len(set(titles)) == len(titles)
        return {
            message["title"].removeprefix("[silences] "): message["message"]
            for message in self.sink.received
        }


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[Watched]:
    root = tmp_path_factory.mktemp("silences")
    (root / "warehouse").mkdir()
    # Everything is ready by then. Not after midnight, when another run would be due.
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    due = min(now + 15 * MINUTE, now.replace(hour=23, minute=59))
    with (
        GoogleSheetsServer(root / "google_sheets") as sheets,
        http_sink() as sink,
        _database(mariadb.server) as execute,
    ):
        environment = _environment(root, mariadb.server, sheets)
        key = sheets.admin().create(
            "Silences",
            [TabSpec("Sheet1")],
            share={sheets.service_account_key()["client_email"]: "writer"},
        )
        seen_by_airflow = write_project(root / "airflow", files(OF_AIRFLOW, key, due))
        pipeline = _pipeline(write_project(root / "watcher", files(TABLES, key, due)), environment)
        _load_yesterday(pipeline, execute, due)
        paths = SandboxPaths(root / "sandbox")
        paths.create()
        airflow = Airflow(paths, seen_by_airflow.folder.parent / "dags", environment, port=0)
        with _open_transaction(mariadb.server, due.replace(hour=0, minute=0)):
            try:
                _run_everything(airflow, pipeline)
                yield Watched(_watcher(pipeline, airflow, sink), airflow, sink, due)
            finally:
                airflow.stop()


@contextmanager
def _database(server: MySQLServer) -> Iterator[Callable[[str], None]]:
    """A database with the tables, and what runs a statement in it."""
    with closing(server.connect_as_admin(autocommit=True)) as connection:

        def execute(statement: str) -> None:
            with closing(connection.cursor()) as cursor:
                cursor.execute(statement)

        execute(f"CREATE DATABASE {DATABASE}")
        try:
            execute(f"GRANT SELECT ON {DATABASE}.* TO {server.reader}")
            execute(f"USE {DATABASE}")
            for name in TABLES:
                execute(
                    f"CREATE TABLE {name} "
                    "(id INT PRIMARY KEY, day DATE, updated_at DATETIME NOT NULL, KEY (updated_at))"
                )
            yield execute
        finally:
            execute(f"DROP DATABASE {DATABASE}")


@contextmanager
def _open_transaction(server: MySQLServer, midnight: datetime) -> Iterator[None]:
    """Somebody has written into a table, and does not commit."""
    with (
        closing(server.connect_as_admin(db=DATABASE)) as writer,
        closing(writer.cursor()) as cursor,
    ):
        cursor.execute(f"INSERT INTO open_transaction VALUES (10, NULL, '{_written(midnight)}')")
        yield


def _environment(root: Path, server: MySQLServer, sheets: GoogleSheetsServer) -> dict[str, str]:
    mysql = {
        "conn_type": "mysql",
        "host": server.host,
        "port": server.port,
        "login": server.reader_user,
        "password": server.reader_password,
        "schema": DATABASE,
    }
    return {
        "AIRFLOW_CONN_MYSQL_PROD": json.dumps(mysql),
        "AIRFLOW_CONN_MYSQL_LOCKED": json.dumps(mysql | {"password": "expired"}),
        "AIRFLOW_CONN_MYSQL_DOWN": json.dumps(mysql | {"port": free_port(0)}),
        "AIRFLOW_CONN_GOOGLE_SHEETS": json.dumps(sheets.airflow_connection()),
        "LANDING_URL": (root / "landing").as_uri(),
        "DUCKDB_PATH": str(root / "warehouse" / "w.duckdb"),
        "TARGET": "dev",
    }


def _pipeline(project: Project, environment: Mapping[str, str]) -> Pipeline:
    """The watcher's own: here every connection works."""
    good = in_environment(environment)
    broken = {"mysql_locked", "mysql_down"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        pipeline = Pipeline(
            project,
            Settings.read(environment),
            lambda conn_id: good("mysql_prod" if conn_id in broken else conn_id),
        )
        # dbt reads the environment.
        assert pipeline.warehouse
    return pipeline


def _load_yesterday(pipeline: Pipeline, execute: Callable[[str], None], due: datetime) -> None:
    """Load each table up to the day before, publish, and make each as it is to be found."""
    midnight = due.replace(hour=0, minute=0)
    yesterday = midnight - timedelta(days=1)
    for name in TABLES:
        for key in range(5):
            execute(f"INSERT INTO {name} VALUES ({key}, NULL, '{_written(yesterday)}')")
        pipeline.ingest(pipeline.catalog.table(f"shop.{name}"), Interval(None, yesterday))
        execute(f"INSERT INTO {name} VALUES (9, NULL, '{_written(midnight)}')")
    for name in MARTS:
        publication = pipeline.catalog.publication(f"{name}_sheet")
        pipeline.destination(publication).publish(
            publication,
            pa.table({"id": [1]}),
            refreshed=f"{yesterday + 10 * MINUTE:%Y-%m-%d %H:%M} UTC, a run",
            warehouse=pipeline.origin(publication),
        )
    execute("DROP TABLE not_there")
    execute("RENAME TABLE broken_view TO gone")
    execute("CREATE VIEW broken_view AS SELECT * FROM gone")
    execute("DROP TABLE gone")
    execute("ALTER TABLE frozen ADD COLUMN more INT")
    execute("ALTER TABLE discarded ADD COLUMN more INT")


def _written(before: datetime) -> str:
    """When a row of the interval before a midnight was written."""
    return f"{before - MINUTE:%Y-%m-%d %H:%M:%S}"


def _run_everything(airflow: Airflow, pipeline: Pipeline) -> None:
    """Let Airflow run what it can, until all stands still."""
    airflow.start()
    client = airflow.client()
    client.ensure_pool("warehouse", slots=1)
    client.ensure_pool("full", slots=0)
    dag_ids = {name: pipeline.catalog.table(f"shop.{name}").dag_id() for name in OF_AIRFLOW}
    client.wait_for_dags({*dag_ids.values(), "transform"})
    for name in OF_AIRFLOW:
        if name != "paused":
            client.unpause(dag_ids[name])
    # A task that waits looks again from time to time.
    seen: dict[str, set[str]] = {name: set() for name in STANDS_STILL}

    def missing() -> set[str]:
        for name in STANDS_STILL:
            seen[name] |= _states(client, dag_ids[name])
        return {name for name, state in STANDS_STILL.items() if state not in seen[name]}

    assert poll(lambda: not missing(), TIMEOUT, interval=2), {
        name: seen[name] for name in missing()
    }
    discarded = pipeline.catalog.table("shop.discarded")
    last = _when_free(lambda: pipeline.warehouse.ledgers([discarded])[discarded.key][-1])
    _when_free(lambda: pipeline.warehouse.discard(discarded, last.batch_id))


def _when_free(use: Callable[[], Result]) -> Result:
    """Use the DuckDB file when no task of Airflow has it."""
    results: list[Result] = []

    def is_done() -> bool:
        with suppress(WarehouseLocked):
            results.append(use())
        return bool(results)

    assert poll(is_done, 30, interval=0.2)
    return results[0]


def _states(client: AirflowClient, dag_id: str) -> set[str]:
    """The states of a DAG's runs and of their tasks."""
    tasks = {f"{task.task_id}: {task.state}" for task in client.task_instances(dag_id)}
    return tasks | {run.state for run in client.runs(dag_id)}


def _watcher(pipeline: Pipeline, airflow: Airflow, sink: HttpSink) -> Watcher:
    login = airflow.login
    api = Connection(
        "airflow_api", "http", host=airflow.url, login=login.user, password=login.password
    )
    places = Connection("alerts", "apprise", extra={"config": [{"path": sink.url}]})
    return Watcher(pipeline, AirflowApi(api), AppriseChannel(places))


def files(tables: Iterable[str], spreadsheet: str, due: datetime) -> dict[str, str]:
    """A project with these tables, and a mart of two of them for a sheet each."""
    declared = [
        {
            "name": name,
            "config": {
                "meta": {
                    "owner": f"The owners of {name}",
                    "ingest": {"table": name, "expected_by": f"{due:%H:%M}", **TABLES[name]},
                }
            },
        }
        for name in tables
    ]
    ingest = {
        "kind": "mysql",
        "connection": "mysql_prod",
        "primary_key": ["id"],
        "cursor": "updated_at",
        "schedule": "@daily",
    }
    source = {"name": "shop", "schema": "raw_shop", "config": {"meta": {"ingest": ingest}}}
    exposures = [
        {
            "name": f"{table}_sheet",
            "type": "dashboard",
            "owner": {"name": f"The readers of {table}"},
            "depends_on": [f"ref('{table}_mart')"],
            "config": {
                "meta": {
                    "publish": {
                        "kind": "google_sheet",
                        "connection": "google_sheets",
                        "spreadsheet": spreadsheet,
                        "tab": table,
                        "order_by": ["id"],
                        "fresh_by": f"{due:%H:%M}",
                    }
                }
            },
        }
        for table in MARTS
    ]
    marts = {
        f"models/{table}_mart.sql": f"select id from {{{{ source('shop', '{table}') }}}}"
        for table in MARTS
    }
    return {
        "dbt_project.yml": "{name: silences, version: '1.0.0', profile: millrace}",
        "models/_shop.yml": json.dumps(
            {"sources": [source | {"tables": declared}], "exposures": exposures}
        ),
        **marts,
    }


def test_the_time_of_day_is_a_deadline_of_each_run_in_airflow(watched: Watched) -> None:
    airflow = watched.airflow
    with psycopg.connect(airflow._postgres.url(airflow._database, "postgresql")) as connection:
        found = connection.execute(
            "SELECT dag_run.dag_id, deadline.deadline_time FROM deadline "
            "JOIN dag_run ON dag_run.id = deadline.dagrun_id"
        ).fetchall()
    # A run that has ended well needs none any more.
    assert dict(found) == {
        f"ingest__shop__{name}": watched.due
        for name, state in STANDS_STILL.items()
        if state != "success"
    }


def test_each_silence_makes_one_message_that_names_its_cause(watched: Watched) -> None:
    before = watched.told(watched.due - MINUTE, len(FAILED) + 1)
    changed = before.pop("shop.discarded has changed its columns")
    assert "What      shop.discarded has the new column more (int32): raw_shop.discarded" in changed
    assert "Owner     The owners of discarded" in changed
    assert "millrace diff shop.discarded" in changed
    # Before the time of day, only what has failed is told besides.
    assert sorted(before) == sorted(title for title in before if " failed: " in title)
    for name, says in FAILED.items():
        (text,) = [
            text for title, text in before.items() if title.startswith(f"ingest__shop__{name} ")
        ]
        assert re.search(says, text), (name, text)
        assert f"Owner     The owners of {name}" in text
        assert "Way out" in text
    assert len(before) == len(FAILED)

    late = watched.told(watched.due + MINUTE / 60, len(LATE) + len(MARTS))
    tables = {title.partition(" ")[0]: title for title in late}
    assert tables.keys() == {*(f"shop.{name}" for name in LATE), "paused_sheet", "well_sheet"}
    for name, says in LATE.items():
        title = tables[f"shop.{name}"]
        assert re.fullmatch(rf"shop\.{name} is late: {says}", title), title
        assert f"Since     {watched.due:%Y-%m-%d %H:%M} UTC" in late[title]
        assert "Way out" in late[title]
    assert "paused_sheet" in late[tables["shop.paused"]]
    assert tables["paused_sheet"] == f"paused_sheet is late: {tables['shop.paused']}"
    assert tables["well_sheet"] == "well_sheet is late: its DAG is paused"

    assert watched.told(watched.due + 2 * MINUTE) == {}


def test_what_is_loaded_after_all_is_well_again(watched: Watched) -> None:
    pipeline = watched.watcher.pipeline
    _when_free(lambda: pipeline.ingest(pipeline.catalog.table("shop.paused")))
    told = watched.told(watched.due + 10 * MINUTE, 1)
    assert list(told) == ["Well again: shop.paused is late: its DAG is paused"]
    assert "It lasted 10 min." in told.popitem()[1]


def test_a_watcher_that_is_started_again_repeats_nothing(watched: Watched) -> None:
    before = watched.watcher
    again = Watcher(before.pipeline, before.api, before.channel)
    again.look(watched.due + 11 * MINUTE)
    watched.sink.received.clear()
    again.look(watched.due + 12 * MINUTE)
    assert watched.sink.titles == []


def test_parts_of_airflow_that_die_are_told(watched: Watched) -> None:
    api = watched.watcher.api
    assert api is not None
    for part in PARTS:
        watched.airflow.services[part].stop()

    def are_noticed() -> bool:
        health = api.health()
        return all(health[part.replace("-", "_")]["status"] != "healthy" for part in PARTS)

    # Airflow calls a part healthy for half a minute after its last sign of life.
    assert poll(are_noticed, 90, interval=1)
    told = watched.told(watched.due + 20 * MINUTE)
    assert told.keys() == {f"Airflow's {called} is dead" for called in PARTS.values()}
    for part, called in PARTS.items():
        assert f"Start it again: airflow {part}" in told[f"Airflow's {called} is dead"]


def test_the_status_says_on_one_page_what_is_ill_since_when_and_what_to_do(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, api = watched.watcher.pipeline, watched.watcher.api
    assert api is not None
    # dbt reads the environment.
    monkeypatch.setenv("DUCKDB_PATH", watched.airflow.env["DUCKDB_PATH"])
    monkeypatch.setenv("TARGET", watched.airflow.env["TARGET"])

    def connection(conn_id: str) -> Connection:
        return api._connection if conn_id == "airflow_api" else before.connection(conn_id)

    found = look(replace(before, connection=connection), watched.due + 21 * MINUTE)
    lines = {line.what: line for line in found}
    ill = {what: line for what, line in lines.items() if line.state is State.ILL}
    # By this connection a table is declared that is not there.
    assert ill.keys() == {
        "connection mysql_prod, to read",
        *(f"Airflow's {called}" for called in PARTS.values()),
        *(f"shop.{name}" for name in LATE if name != "paused"),
        *(f"ingest__shop__{name}" for name in FAILED),
        *(f"{name}_sheet" for name in MARTS),
    }
    assert [what for what, line in ill.items() if not line.since] == [
        "connection mysql_prod, to read"
    ]
    assert [what for what, line in ill.items() if not line.way_out] == []
    assert ill["shop.unknown"].since == watched.due
    assert {lines[what].state for what in ("shop.paused", "watcher", "warehouse", "landing")} == {
        State.WELL
    }
    assert lines["Airflow's metadata database"].state is State.WELL


def test_an_api_server_that_stays_away_is_told(watched: Watched) -> None:
    watched.airflow.services["api-server"].stop()
    # It may only be started again.
    assert watched.told(watched.due + 30 * MINUTE) == {}
    told = watched.told(watched.due + 31 * MINUTE)
    assert list(told) == ["Airflow's API cannot be asked"]
