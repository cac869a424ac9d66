"""Many tables at once: they finish, within the connections allowed and without meeting a lock.

Fifty are measured by `make bench`.
"""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest
import yaml

from millrace.dbt.project import Project
from millrace_sandbox.airflow import SOURCE_SLOTS, Airflow
from millrace_sandbox.paths import SandboxPaths

pytestmark = [pytest.mark.service, pytest.mark.airflow, pytest.mark.nightly]

ROOT = Path(__file__).parents[2]
TABLES = [f"table_{number:02}" for number in range(16)]
DAGS = {f"ingest__mysql__{name}" for name in TABLES}
ROWS = 200
TIMEOUT = 600


@pytest.fixture
def admin(mariadb):
    with mariadb.server.admin_cursor() as cursor:
        yield cursor


@pytest.fixture
def filled(admin, database):
    """The name of a database with the tables."""
    admin.execute(f"use {database}")
    for name in TABLES:
        admin.execute(
            f"create table {name} (id int primary key, note varchar(20) not null, "
            "updated_at datetime not null)"
        )
        admin.execute(
            f"insert into {name} "
            f"select seq, concat('note ', seq), '2026-01-01' from seq_1_to_{ROWS}"
        )
    return database


@pytest.fixture
def project(tmp_path, filled):
    """A dbt project that declares them."""
    folder = tmp_path / "dbt_project"
    (folder / "models").mkdir(parents=True)
    shutil.copy(ROOT / "profiles.yml", tmp_path)
    shutil.copytree(ROOT / "dags", tmp_path / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    settings = {"name": "many", "version": "1.0.0", "profile": "millrace"}
    (folder / "dbt_project.yml").write_text(yaml.safe_dump(settings))
    tables = [
        {
            "name": name,
            "config": {
                "meta": {
                    "ingest": {
                        "table": f"{filled}.{name}",
                        "primary_key": ["id"],
                        "cursor": "updated_at",
                    }
                }
            },
        }
        for name in TABLES
    ]
    bounded = {"connection": "mysql_prod", "pool": "mysql_prod"}
    source = {
        "name": "mysql",
        "schema": "raw_mysql",
        "config": {"meta": {"ingest": {"kind": "mysql", **bounded}}},
        "tables": tables,
    }
    declared = yaml.safe_dump({"version": 2, "sources": [source]})
    (folder / "models" / "_sources.yml").write_text(declared)
    (folder / "models" / "first.sql").write_text("select 1 as id")
    project = Project(folder, tmp_path)
    project.ensure_manifest()
    return project


@pytest.fixture
def airflow(tmp_path, mariadb, database, project):
    landing = tmp_path / "landing"
    landing.mkdir()
    environment = {
        "AIRFLOW_CONN_MYSQL_PROD": mariadb.server.reader_uri(database),
        "DUCKDB_PATH": str(tmp_path / "warehouse.duckdb"),
        "LANDING_URL": landing.as_uri(),
        "TARGET": "dev",
    }
    airflow = Airflow(SandboxPaths(tmp_path / "sandbox"), tmp_path / "dags", environment, port=0)
    try:
        airflow.start()
        yield airflow
    finally:
        airflow.stop()


def test_many_tables_at_once(admin, airflow, tmp_path):
    client = airflow.client()
    client.ensure_pool("warehouse", slots=1)
    client.wait_for_dags(DAGS)
    admin.execute("flush status")
    before = status(admin, "Threads_connected")
    since = datetime.now(UTC)

    # Unpaused, each DAG starts the run of its last day.
    for dag_id in DAGS:
        client.unpause(dag_id)
    changes = client.watch(
        DAGS,
        lambda runs: {run.dag_id for run in runs if run.state == "success"} == DAGS,
        TIMEOUT,
        since=since,
    )

    assert {task.try_number for task in changes} == {1}
    used = status(admin, "Max_used_connections") - before
    # Besides the extractions, one plan at a time asks the source how to split a batch.
    assert 1 <= used <= SOURCE_SLOTS + 1
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), read_only=True) as warehouse:
        for name in TABLES:
            counted = warehouse.execute(f"select count(*) from raw_mysql.{name}").fetchone()
            assert counted == (ROWS,)


def status(admin, name):
    admin.execute("show global status like %s", [name])
    ((_, value),) = admin.fetchall()
    return int(value)
