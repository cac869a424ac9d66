"""The DAG `maintenance` in a running Airflow whose logs are kept on S3, and what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from millrace.connections import Connection
from millrace.landing.landing import Landing
from millrace_sandbox.airflow import Airflow
from millrace_sandbox.airflow_api import AirflowClient, TaskInstance
from millrace_sandbox.paths import SandboxPaths
from redshift_standin.s3 import S3Server
from tests.e2e.small_project import write_project

pytestmark = [pytest.mark.service, pytest.mark.airflow]

BUCKET = "kept-in-order"
TIMEOUT = 180
# What a restored database has to have again, apart from the runs of DAGs.
KEPT = "select conn_id, host, password from connection", "select pool, slots from slot_pool"
# Copies of the run that waits: "first", 100 days ago, and "recent", by an old version of the DAG.
RUNS = """
insert into dag_version select (jsonb_populate_record(v, jsonb_build_object(
    'id', gen_random_uuid(), 'version_number', 0, 'created_at', now() - interval '100 days'
))).* from dag_version as v where dag_id = 'maintenance';

insert into dag_run select (jsonb_populate_record(r, jsonb_build_object(
    'id', nextval('dag_run_id_seq'), 'run_id', run.id, 'state', 'success', 'start_date', run.at
))).* from dag_run as r, (values {runs}) as run(id, at) where r.run_id = 'now';

insert into task_instance select (jsonb_populate_record(t, jsonb_build_object(
    'id', gen_random_uuid(), 'run_id', run.id, 'state', 'success', 'start_date', run.at,
    'dag_version_id', (select id from dag_version where version_number = 0)
))).* from task_instance as t, (values {runs}) as run(id, at) where t.run_id = 'now';
""".format(runs="('first', now() - interval '100 days'), ('recent', now() - interval '1 day')")


@dataclass(frozen=True)
class Kept:
    """An Airflow in which `maintenance` has run: "first", 100 days ago, "recent", and "now"."""

    airflow: Airflow
    client: AirflowClient
    landing: Landing
    old: dict[str, Path]

    def query(self, sql: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Ask the metadata database, or another one on its server."""
        url = self.airflow._postgres.url(database or self.airflow._database, "postgresql")
        with psycopg.connect(url) as connection:
            return sorted(connection.execute(sql.encode()).fetchall(), key=repr)

    def said(self, task_id: str, run_id: str = "now") -> str:
        """What a task has logged."""
        return "\n".join(self.client.log_tail(self.task(task_id, run_id), lines=1000))

    def task(self, task_id: str, run_id: str = "now") -> TaskInstance:
        found = self.client.task_instances("maintenance", run_id)
        (task,) = [task for task in found if task.task_id == task_id]
        return task


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server, short_folder: Path
) -> Iterator[Kept]:
    root = tmp_path_factory.mktemp("order")
    s3_server.create_bucket(BUCKET)
    endpoint = s3_server.endpoint.airflow_connection()
    landing = Landing(f"s3://{BUCKET}/landing", Connection("aws_landing", **endpoint))
    project = write_project(root / "project")
    environment = {
        "AIRFLOW_CONN_AWS_LANDING": json.dumps(endpoint),
        "AIRFLOW__LOGGING__REMOTE_LOGGING": "True",
        "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER": f"s3://{BUCKET}/logs",
        "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID": "aws_landing",
        "DUCKDB_PATH": str(root / "warehouse.duckdb"),
        "LANDING_URL": landing.url,
        "TARGET": "dev",
        "TMPDIR": str(short_folder),
    }
    airflow = Airflow(SandboxPaths(root / "sandbox"), project.root / "dags", environment, port=0)
    try:
        airflow.start()
        client = airflow.client()
        client.ensure_pool("warehouse", slots=1)
        client.wait_for_dags({"maintenance"})
        body = {"connection_id": "made_by_hand", "conn_type": "http", "password": "secret"}
        client._call("POST", "/api/v2/connections", body)
        client.trigger("maintenance", run_id="now")
        url = airflow._postgres.url(airflow._database, "postgresql")
        with psycopg.connect(url) as connection:
            connection.execute(RUNS.encode())
        old = leavings(airflow, short_folder)
        client.unpause("maintenance")
        client.wait_for_run("maintenance", lambda run: run.run_id == "now", TIMEOUT)
        yield Kept(airflow, client, landing, old)
    finally:
        airflow.stop()


def leavings(airflow: Airflow, temporary: Path) -> dict[str, Path]:
    """Files that were last written a year ago."""
    home = airflow.paths.airflow
    files = {
        "log": home / "logs" / "dag_id=ingest" / "run_id=old" / "task_id=load" / "attempt=1.log",
        "cache": home / "cosmos" / "transform" / "target" / "partial_parse.msgpack",
        "dbt": temporary / "millrace-dbt-x" / "run_results.json",
        "part": temporary / "millrace-part-x.parquet",
    }
    then = time.time() - 365 * 86400
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("old")
        for path in (file, *list(file.parents)[:2]):
            os.utime(path, (then, then))
    return files


def test_every_task_succeeds_and_says_what_it_did(kept: Kept) -> None:
    said = {
        task.task_id: kept.said(task.task_id)
        for task in kept.client.task_instances("maintenance", "now")
    }
    assert f"Backed up: {kept.landing.url}/_backups/airflow/2" in said["back_up_metadata"]
    assert "Checking table dag_run" in said["clean_metadata"]
    assert "logs: removed 1 files, 3 bytes." in said["remove_task_logs"]
    assert "Removed: attempts: 0 (0 bytes); unfinished uploads: 0." in said["sweep_landing"]
    assert "removed 1 files" in said["remove_artefacts"]
    assert not any(file.exists() for file in kept.old.values())


def test_old_runs_are_gone_from_the_metadata_and_nothing_that_is_referred_to(kept: Kept) -> None:
    runs = {run.run_id for run in kept.client.runs("maintenance")}
    assert {"now", "recent"} <= runs
    assert "first" not in runs
    assert kept.query("select 1 from task_instance where run_id = 'first'") == []
    # The old version of the DAG, because of the recent run.
    assert len(kept.query("select 1 from dag_version where version_number = 0")) == 1
    archives = "select 1 from pg_tables where tablename like '_airflow_deleted%'"
    assert kept.query(archives) == []


def test_a_backup_restores_runs_connections_and_pools(kept: Kept, tmp_path: Path) -> None:
    # It was made before the clean-up of the same run.
    (backup,) = kept.landing.objects.below("_backups/airflow")
    client = kept.landing.objects._client  # type: ignore[attr-defined]
    dump = tmp_path / "airflow.dump"
    client.download_file(BUCKET, f"landing/{backup.path}", str(dump))
    postgres = kept.airflow._postgres
    postgres.create("restored")
    url = postgres.url("restored", "postgresql")
    subprocess.run(
        ["pg_restore", "--no-owner", "--exit-on-error", f"--dbname={url}", dump], check=True
    )

    for query in KEPT:
        assert kept.query(query, "restored") == kept.query(query)
    assert "made_by_hand" in str(kept.query(KEPT[0], "restored"))
    runs = kept.query("select run_id from dag_run where dag_id = 'maintenance'", "restored")
    assert {("first",), ("recent",), ("now",)} <= set(runs)
    tasks = kept.query("select 1 from task_instance where run_id = 'first'", "restored")
    assert len(tasks) == 5


def test_a_log_is_read_though_the_machine_that_wrote_it_is_gone(kept: Kept) -> None:
    shutil.rmtree(kept.airflow.paths.airflow / "logs")
    assert "Backed up: " in kept.said("back_up_metadata")
