"""No secret is in anything that Airflow keeps: its data base, its logs, at DEBUG."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from millrace_sandbox.airflow import Airflow
from millrace_sandbox.airflow_api import AirflowClient
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import poll
from sheets_standin import GoogleSheetsServer
from tests.canaries import (
    BUCKET,
    FILES,
    Canary,
    found_below,
    found_in,
    make_sheet,
    mysql_opened_by,
    s3_opened_by,
    watched_processes,
)
from tests.e2e.small_project import write_project

pytestmark = [pytest.mark.airflow, pytest.mark.service]

TIMEOUT = 300
# A table whose connection has a wrong password, to fail with all that Airflow says of a failure.
LOCKED = """
sources:
  - name: locked
    schema: raw_locked
    tables:
      - name: users
        config:
          meta: {ingest: {kind: mysql, connection: mysql_locked, table: users, primary_key: [id]}}
"""
GOOD = ("ingest__mysql__nps", "ingest__mysql__users", "ingest__sheets__targets")
BAD = "ingest__locked__users"


@dataclass(frozen=True)
class Left:
    """What a run left."""

    canaries: tuple[Canary, ...]
    database: dict[str, str]
    arguments: set[str]
    folder: Path


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[Left]:
    root = tmp_path_factory.mktemp("canaries")
    names = ("the password of MySQL", "the secret key of S3", "the salt")
    mysql, s3, salt = map(Canary.make, names)
    paths = SandboxPaths(root / "sandbox")
    paths.create()
    project = write_project(root / "project", FILES | {"models/_locked.yml": LOCKED})
    with (
        mysql_opened_by(mysql, mariadb.server) as connection,
        s3_opened_by(s3, root / "s3") as endpoint,
        GoogleSheetsServer(root / "google_sheets") as sheets,
    ):
        key = make_sheet(sheets)
        canaries = (mysql, s3, salt, key)
        locked = connection | {"password": f"{mysql.value}x"}
        environment = {
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
            "AIRFLOW_CONN_MYSQL_PROD": json.dumps(connection),
            "AIRFLOW_CONN_MYSQL_LOCKED": json.dumps(locked),
            "AIRFLOW_CONN_AWS_LANDING": json.dumps(endpoint.airflow_connection()),
            "AIRFLOW_CONN_GOOGLE_SHEETS": json.dumps(sheets.airflow_connection()),
            "LANDING_URL": f"s3://{BUCKET}/raw",
            "MILLRACE_PII_SALT": salt.value,
            "DUCKDB_PATH": str(root / "warehouse" / "w.duckdb"),
            "TARGET": "dev",
        }
        (root / "warehouse").mkdir()
        airflow = Airflow(paths, project.root / "dags", environment, port=0)
        try:
            with watched_processes(canaries) as arguments:
                run_everything(airflow)
            yield Left(canaries, dump(airflow), arguments, root)
        finally:
            airflow.stop()


def run_everything(airflow: Airflow) -> None:
    airflow.start()
    client = airflow.client()
    client.ensure_pool("warehouse", slots=1)
    client.wait_for_dags({*GOOD, BAD, "transform"})
    for dag_id in (*GOOD, BAD, "transform"):
        run_id = client.trigger(dag_id).run_id
        client.unpause(dag_id)
        assert ended(client, dag_id, run_id) == ("failed" if dag_id == BAD else "success")


def ended(client: AirflowClient, dag_id: str, run_id: str) -> str:
    def state() -> str:
        (found,) = [run for run in client.runs(dag_id) if run.run_id == run_id]
        return found.state

    assert poll(lambda: state() in ("success", "failed"), TIMEOUT, interval=0.5)
    return state()


def dump(airflow: Airflow) -> dict[str, str]:
    """All rows of Airflow's data base, as text, by table."""
    url = airflow._postgres.url(airflow._database, "postgresql")
    with psycopg.connect(url) as connection:
        names = connection.execute(
            "select table_name from information_schema.tables where table_schema = 'public'"
        ).fetchall()
        return {
            str(name): repr(
                connection.execute(
                    sql.SQL("select * from {}").format(sql.Identifier(str(name)))
                ).fetchall()
            )
            for (name,) in names
        }


def test_airflows_data_base_holds_no_secret(left: Left) -> None:
    for table in ("xcom", "rendered_task_instance_fields", "serialized_dag", "log", "dag_run"):
        assert left.database[table] != "[]", table
    found = {name: found_in(rows, left.canaries) for name, rows in left.database.items()}
    assert {name: names for name, names in found.items() if names} == {}


def test_airflows_logs_hold_no_secret(left: Left) -> None:
    logs = list((left.folder / "sandbox").rglob("*.log"))
    texts = "".join(log.read_text(errors="replace") for log in logs)
    # The failed task has logged its error, and Airflow what it does.
    assert "refuses the user 'canary'" in texts
    assert "DEBUG" in texts.upper()
    services = (left.folder / "s3", left.folder / "google_sheets")
    assert found_below(left.folder, left.canaries, without=services) == {}


def test_no_process_of_airflows_has_a_secret_among_its_arguments(left: Left) -> None:
    assert left.arguments == set()
