"""Airflow's metadata on a real MySQL: migrated, run on, backed up and restored."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace_sandbox.airflow import Airflow
from millrace_sandbox.mysql import MySQLServer
from millrace_sandbox.paths import SandboxPaths
from redshift_standin.files import write_private
from tests.e2e.small_project import write_project

pytestmark = [pytest.mark.service, pytest.mark.airflow, pytest.mark.nightly]

DATABASE, RESTORED = "airflow_metadata", "airflow_restored"
TIMEOUT = 180


class OnMySQL(Airflow):
    """The sandbox's Airflow, with its metadata on MySQL."""

    server: MySQLServer

    def _prepare_database(self) -> None:
        program = Path(sys.executable).with_name("airflow")
        subprocess.run([program, "db", "migrate"], env=self.process_environment(), check=True)

    def _connection(self, database: str) -> dict[str, str]:
        url = self.server.admin_uri(DATABASE)
        address = f"{url.removeprefix('mysql://')}?charset=utf8mb4"
        return {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"mysql+mysqldb://{address}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"mysql+aiomysql://{address}",
            "AIRFLOW_CONN_AIRFLOW_METADATA": url,
        }


def query(server: MySQLServer, sql: str) -> list[tuple[object, ...]]:
    with server.admin_cursor() as cursor:
        cursor.execute(sql)
        return sorted(cursor.fetchall(), key=repr)


@pytest.fixture
def airflow(real_mysql: MySQLServer, tmp_path: Path, short_folder: Path) -> Iterator[OnMySQL]:
    with real_mysql.admin_cursor() as cursor:
        for name in (DATABASE, RESTORED):
            cursor.execute(
                f"create database {name} character set utf8mb4 collate utf8mb4_unicode_ci"
            )
    project = write_project(tmp_path / "project")
    environment = {
        "DUCKDB_PATH": str(tmp_path / "warehouse.duckdb"),
        "LANDING_URL": (tmp_path / "landing").as_uri(),
        "TARGET": "dev",
        "TMPDIR": str(short_folder),
    }
    airflow = OnMySQL(
        SandboxPaths(tmp_path / "sandbox"), project.root / "dags", environment, port=0
    )
    airflow.server = real_mysql
    try:
        airflow.start()
        yield airflow
    finally:
        airflow.stop()
        with real_mysql.admin_cursor() as cursor:
            for name in (DATABASE, RESTORED):
                cursor.execute(f"drop database {name}")


def test_a_dag_runs_and_its_backup_restores(airflow: OnMySQL, tmp_path: Path) -> None:
    client, server = airflow.client(), airflow.server
    client.ensure_pool("warehouse", slots=1)
    client.wait_for_dags({"maintenance"})
    body = {"connection_id": "made_by_hand", "conn_type": "http", "password": "secret"}
    client._call("POST", "/api/v2/connections", body)
    client.trigger("maintenance", run_id="now")
    client.unpause("maintenance")
    client.wait_for_run("maintenance", lambda run: run.run_id == "now", TIMEOUT)

    (backup,) = (tmp_path / "landing" / "_backups" / "airflow").iterdir()
    restore(server, gzip.decompress(backup.read_bytes()), tmp_path / "client.cnf")
    for table in ("connection", "slot_pool"):
        rows = query(server, f"select * from {RESTORED}.{table}")
        assert rows == query(server, f"select * from {DATABASE}.{table}")
    assert "made_by_hand" in str(query(server, f"select conn_id from {RESTORED}.connection"))
    # It was running when it made the backup.
    runs = f"select state from {RESTORED}.dag_run where run_id = 'now'"
    assert query(server, runs) == [("running",)]


def restore(server: MySQLServer, dump: bytes, options: Path) -> None:
    write_private(
        options,
        f"[client]\nhost={server.host}\nport={server.port}\nprotocol=tcp\n"
        f"user={server.admin_user}\npassword={server.admin_password}\n",
    )
    client = ["mariadb", f"--defaults-file={options}", RESTORED]
    subprocess.run(client, input=dump, check=True)
