"""``millrace-sandbox`` in a repository of somebody else's, from within its dbt project."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import MySQLdb
import pytest

from millrace_sandbox.airflow import Airflow
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.paths import SandboxPaths
from sheets_standin import SheetsEndpoint, gspread_client

pytestmark = [pytest.mark.service, pytest.mark.sandbox]

FILES = {
    ".git/HEAD": "",
    "warehouse/dbt_project.yml": "{name: shop, version: '1.0', profile: shop}",
    "warehouse/profiles.yml": (
        "shop: {target: dev, outputs: {dev: {type: duckdb, "
        "path: \"{{ env_var('DUCKDB_PATH') }}\"}}}"
    ),
    "warehouse/models/m.sql": "select '{{ env_var(\"SHOP_NAME\") }}' as name",
    "dags/tiny.py": ("from airflow.sdk import DAG\nwith DAG('tiny', schedule=None):\n    pass\n"),
    # A password with characters that mean something to a shell.
    ".env": (
        "SHOP_NAME=Corner\n"
        "AIRFLOW_CONN_SHOP_DB='mysql://reader:pa$HOME@db.example/shop'\n"
        "AIRFLOW_CONN_BOTH=from-dotenv\n"
        "AIRFLOW_VAR_REGION=eu\n"
        "AIRFLOW__CORE__PARALLELISM=99\n"
        "AIRFLOW_HOME=/nowhere\n"
        "LANDING_URL=s3://the-real-one\n"
    ),
}
SHELL = {
    "AIRFLOW_CONN_BOTH": "from-the-shell",
    "AIRFLOW_CONN_MYSQL_PROD": "mysql://root:x@the-real-one/prod",
    "AIRFLOW__CORE__LOAD_EXAMPLES": "True",
}


@dataclass(frozen=True)
class Stranger:
    """A repository, and the command in it."""

    root: Path

    @property
    def paths(self) -> SandboxPaths:
        return SandboxPaths(self.root / ".sandbox")

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        cleared = ("MILLRACE_SANDBOX_DIR", "DBT_PROJECT_DIR", "DBT_PROFILES_DIR", "TARGET")
        kept = {name: value for name, value in os.environ.items() if name not in cleared}
        return subprocess.run(
            [sys.executable, "-m", "millrace_sandbox", *arguments],
            cwd=self.root / "warehouse",
            env=kept | SHELL,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    def succeeds(self, *arguments: str, stdin: str | None = None) -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    root = tmp_path_factory.mktemp("shop")
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    found = Stranger(root)
    yield found
    assert "running" not in found.succeeds("down")


@pytest.fixture(scope="module")
def up(stranger: Stranger) -> str:
    """The output of `up`."""
    return stranger.succeeds("up")


def read(stranger: Stranger, sql: str) -> tuple[tuple[object, ...], ...]:
    """What the account of the connection mysql_prod reads."""
    connection = MariaDB(stranger.paths).server.connect_as_reader()
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(sql)
        return tuple(cursor.fetchall())


def test_a_table_of_ones_own_is_made_and_the_reader_reads_it(stranger: Stranger):
    stranger.succeeds(
        "mysql",
        "create database shop",
        "create table shop.orders (id int primary key, at datetime)",
        "insert into shop.orders values (1, '2026-11-26 12:00:00'), (2, null)",
    )
    assert read(stranger, "select count(*), max(id) from shop.orders") == ((2, 2),)


def test_a_dump_comes_by_a_pipe(stranger: Stranger):
    dump = (
        "create database `a b`;\nuse `a b`;\ncreate table t (n int);\ninsert into t values (7);\n"
    )
    stranger.succeeds("mysql", stdin=dump)
    assert read(stranger, "select n from `a b`.t") == ((7,),)


def test_sql_that_is_wrong_fails_and_the_reader_may_still_only_read(stranger: Stranger):
    done = stranger.run("mysql", "create nonsense")
    assert done.returncode != 0
    assert "ERROR 1064" in done.stderr
    for sql in ("create table shop.mine (n int)", "select * from mysql.global_priv"):
        with pytest.raises(MySQLdb.OperationalError, match="denied"):
            read(stranger, sql)


def test_the_password_is_on_no_command_line(stranger: Stranger):
    """Read the client's arguments while it waits for SQL, by its own command SYSTEM."""
    said = stranger.succeeds("mysql", stdin="system tr '\\0' ' ' < /proc/$PPID/cmdline\n")
    assert "--defaults-file=" in said
    assert MariaDB(stranger.paths).server.admin_password not in said


def test_a_sheet_of_ones_own_is_made_listed_and_read_by_gspread(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    # A path is relative to the folder in which the command runs.
    (stranger.root / "warehouse" / "prices.csv").write_text("item,price\ntea,2.5\n")
    url = stranger.succeeds("sheet", "new", "Prices", "--csv", "prices.csv", "--tab", "p").strip()
    assert f"{url}  Prices\n" in stranger.succeeds("sheet", "list")
    endpoint = SheetsEndpoint.read(stranger.paths.root / "google_sheets")
    tab = gspread_client.connect(endpoint).open_by_url(url).worksheet("p")
    assert tab.get_all_records() == [{"item": "tea", "price": 2.5}]


def environment(stranger: Stranger) -> dict[str, str]:
    """The environment of Airflow's scheduler, and so of every task."""
    pid = Airflow(stranger.paths, stranger.root / "dags").services["scheduler"].pid
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.partition("=")[::2] for entry in entries if entry)


@pytest.mark.usefixtures("up")
def test_connections_and_variables_of_the_users_reach_airflow(stranger: Stranger):
    found = environment(stranger)
    assert found["AIRFLOW_CONN_SHOP_DB"] == "mysql://reader:pa$HOME@db.example/shop"
    assert found["AIRFLOW_CONN_BOTH"] == "from-the-shell"
    assert found["AIRFLOW_VAR_REGION"] == "eu"
    assert found["SHOP_NAME"] == "Corner"


@pytest.mark.usefixtures("up")
def test_settings_of_another_airflow_and_real_services_do_not(stranger: Stranger):
    found = environment(stranger)
    assert found["AIRFLOW_HOME"] == str(stranger.paths.airflow)
    assert found["AIRFLOW__CORE__PARALLELISM"] != "99"
    assert found["AIRFLOW__CORE__LOAD_EXAMPLES"] == "False"
    assert found["LANDING_URL"] == "s3://millrace-landing"
    assert "the-real-one" not in json.dumps(found)


@pytest.mark.usefixtures("up")
def test_their_sources_have_pools(stranger: Stranger):
    client = Airflow(stranger.paths, stranger.root / "dags").client()
    assert {"shop_db", "both", "mysql_prod"} <= set(client.pools())


def test_up_finds_the_project_and_says_what_comes_next(stranger: Stranger, up: str):
    for part in ("Airflow: http://127.0.0.1:", "mysql ", "sheet new", "ingest", "down"):
        assert part in up
    assert (stranger.root / "warehouse" / "target" / "manifest.json").exists()
    assert "Airflow  running" in stranger.succeeds("status")
    Airflow(stranger.paths, stranger.root / "dags").client().wait_for_dags({"tiny"})
