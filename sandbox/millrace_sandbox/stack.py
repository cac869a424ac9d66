"""The whole local stack: MariaDB, S3, Google Sheets and Airflow.

The production code is wired to it by environment variables only.
"""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from millrace_sandbox import sample_data, sample_sheets
from millrace_sandbox.airflow import Airflow
from millrace_sandbox.bigquery import BigQuery
from millrace_sandbox.environment import users_environment
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.mysql import MySQL, MySQLService
from millrace_sandbox.processes import SandboxError, Service
from millrace_sandbox.project import NPS, Project, find_root
from millrace_sandbox.standins import GoogleSheets, Redshift
from millrace_sandbox.weather import Weather
from redshift_standin.files import write_private
from redshift_standin.s3 import S3Server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from millrace_sandbox.paths import SandboxPaths

BUCKET = "millrace-landing"
WAREHOUSE_POOL = "warehouse"
WAREHOUSES = {"dev": "DuckDB", "redshift": "Redshift", "bigquery": "BigQuery"}
"""The dbt targets, and what they are called."""


class Stack:
    """Everything that ``millrace-sandbox up`` starts.

    Args:
        paths: The sandbox.
        target: The dbt target that is the warehouse: ``dev`` (DuckDB), ``redshift`` or
            ``bigquery``.
        source: The server to read from: ``mariadb``, or a real ``mysql``.
        project: The project that runs on it; default: the one around the working directory.
    """

    def __init__(
        self,
        paths: SandboxPaths,
        target: str = "dev",
        source: str = "mariadb",
        project: Project | None = None,
    ) -> None:
        if target not in WAREHOUSES:
            raise SandboxError(
                f"There is no local {target}. Set TARGET to dev, redshift or bigquery."
            )
        if source not in ("mariadb", "mysql"):
            raise SandboxError(f"There is no local {source}. Set SOURCE to mariadb or mysql.")
        self.paths = paths
        self.target = target
        self.project = project or Project(find_root() or Path.cwd())
        self.mysql: MySQLService = MySQL(paths) if source == "mysql" else MariaDB(paths)
        self.s3 = S3Server(paths.s3, runner=Service("s3", paths))
        self.sheets = GoogleSheets(paths)
        self.bigquery = BigQuery(paths)
        self.weather = Weather(paths)
        self.airflow = Airflow(paths, self.project.dags, inherited=self._inherited)

    @property
    def redshift(self) -> Redshift:
        """The Redshift stand-in, which copies from the S3 server."""
        return Redshift(self.paths, self.s3.endpoint)

    @property
    def _redshift_as_it_is(self) -> Redshift:
        """The stand-in, for its status and to stop it: neither needs the S3 server."""
        return Redshift(self.paths)

    @property
    def _inherited(self) -> dict[str, str]:
        return users_environment(self.project.root)

    @property
    def duckdb(self) -> Path:
        """The file of the DuckDB warehouse."""
        return self.paths.root / "millrace.duckdb"

    @property
    def warehouse(self) -> str:
        """Where the warehouse is, for a person."""
        if self.target == "dev":
            return str(self.duckdb)
        if self.target == "bigquery":
            return f"{self.bigquery.endpoint.url}/{self.bigquery.endpoint.project}"
        endpoint = self.redshift.endpoint
        return f"redshift://{endpoint.user}@{endpoint.host}:{endpoint.port}/{endpoint.database}"

    @property
    def docs(self) -> Path:
        """The generated dbt docs."""
        return self.paths.root / "dbt_docs"

    @property
    def env_file(self) -> Path:
        """The file of environment variables with which a shell acts on this stack."""
        return self.paths.root / "env"

    def start_services(self) -> None:
        """Start MariaDB, S3, the warehouse and the stand-ins, and make the bucket.

        Raises:
            SandboxError: one of them does not come up.
        """
        self.paths.create()
        with ThreadPoolExecutor(3) as pool:
            mysql, s3 = pool.submit(self.mysql.start), pool.submit(self.s3.start)
            pool.submit(self.sheets.start).result()
            mysql.result()
            s3.result()
        if self.target == "redshift":
            self.redshift.start()
        if self.target == "bigquery":
            self.bigquery.start()
        # The demo starts it, and what it has loaded is read again.
        if self.weather.is_used:
            self.weather.start()
        self.s3.create_bucket(BUCKET)
        write_private(self.env_file, _shell(self.environment()))

    def ensure_sample(self) -> None:
        """Make what the project's sample has and the sources lack; MySQL and the sheets must run.

        Raises:
            SandboxError: MySQL refuses the project's file of SQL.
        """
        sample = self.project.sample
        if sample == NPS:
            sample_data.create_schema(self.mysql.server)
            sample_sheets.ensure_sheets(self.sheets.endpoint)
        else:
            sample_data.create_database(self.mysql.server)
            if sample:
                self.mysql.run_file(self.project.root / sample)
        self.mysql.let_reader_in()

    def start_airflow(self) -> None:
        """Start Airflow with the DAGs and the warehouse's pool.

        Raises:
            SandboxError: it does not come up, or a DAG file cannot be imported.
        """
        if not self.project.dags.is_dir():
            raise SandboxError(
                f"There is no folder of DAG files: {self.project.dags}. Make it, or name another: "
                "--dags-dir, or MILLRACE_DAGS_DIR"
            )
        self.docs.mkdir(mode=0o700, exist_ok=True)
        self.airflow.env = self.environment()
        self.airflow.start()
        # DuckDB has one writer.
        slots = 1 if self.target == "dev" else 4
        self.airflow.client().ensure_pool(WAREHOUSE_POOL, slots=slots)
        write_private(self.env_file, _shell(self.environment() | self.airflow.environment()))

    def stop(self) -> None:
        """Stop what runs."""
        # Both servers: this stack may have been started with another source than it has now.
        services: list[Any] = [self.airflow, MariaDB(self.paths), MySQL(self.paths)]
        services += [self.s3, self.sheets, self.bigquery, self.weather]
        if self._has_redshift():
            services.append(self._redshift_as_it_is)
        with ThreadPoolExecutor(len(services)) as pool:
            for stopped in [pool.submit(service.stop) for service in services]:
                stopped.result()

    def status(self) -> dict[str, str]:
        """Whether and where each service runs, one line per service."""
        airflow = f"running on {self.airflow.url}" if self.airflow.is_running() else "stopped"
        return {
            **{
                server.title: server.status
                for server in (MariaDB(self.paths), MySQL(self.paths))
                if server.name == self.mysql.name or server.is_running()
            },
            "S3": self._s3_status,
            "Sheets": self.sheets.status,
            **({"Redshift": self._redshift_as_it_is.status} if self._has_redshift() else {}),
            **({"BigQuery": self.bigquery.status} if self.bigquery.folder.exists() else {}),
            **({"Open-Meteo": self.weather.status} if self.weather.is_used else {}),
            "Airflow": airflow,
        }

    @property
    def _s3_status(self) -> str:
        if not self.s3.is_running():
            return "stopped"
        return f"running on {self.s3.endpoint.endpoint_url}, pid {self.s3.pid}"

    def reset(self) -> None:
        """Forget what was loaded: the landing, the warehouse and Airflow's runs.

        S3 must run, Airflow must not.
        """
        client = self.s3.endpoint.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for found in page.get("Contents", []):
                client.delete_object(Bucket=BUCKET, Key=found["Key"])
        if self.target == "redshift":
            self.redshift.reset()
        elif self.target == "bigquery":
            self.bigquery.reset()
        else:
            for file in (self.duckdb, self.duckdb.with_name(f"{self.duckdb.name}.wal")):
                file.unlink(missing_ok=True)
        shutil.rmtree(self.docs, ignore_errors=True)
        self.airflow.reset()

    def environment(self) -> dict[str, str]:
        """What the production code needs to reach this stack; it holds secrets."""
        docs = {"millrace": {"name": "Data model (dbt docs)", "dir": str(self.docs)}}
        return {
            "AIRFLOW_CONN_MYSQL_PROD": self.mysql.server.reader_uri(),
            "AIRFLOW_CONN_AWS_LANDING": json.dumps(self.s3.endpoint.airflow_connection()),
            "AIRFLOW_CONN_GOOGLE_SHEETS": json.dumps(self.sheets.endpoint.airflow_connection()),
            **(sample_sheets.ENVIRONMENT if self.project.sample == NPS else {}),
            "AIRFLOW__COSMOS__DBT_DOCS_PROJECTS": json.dumps(docs),
            "LANDING_URL": f"s3://{BUCKET}",
            "DUCKDB_PATH": str(self.duckdb),
            "MILLRACE_PII_SALT": self._salt(),
            "TARGET": self.target,
            **self._weather(),
            **(self.redshift.endpoint.environment() if self.target == "redshift" else {}),
            **(self.bigquery.endpoint.environment() if self.target == "bigquery" else {}),
        }

    def query(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Query the warehouse: the names of the columns, and the rows."""
        if self.target == "bigquery":
            with closing(self.bigquery.endpoint.connect()) as client:
                found = client.query_and_wait(sql)
                return [column.name for column in found.schema], [tuple(row) for row in found]
        if self.target == "redshift":
            connection: Any = self.redshift.endpoint.connect()
            connection.autocommit = True
        else:
            connection = duckdb.connect(str(self.duckdb), read_only=True)
        with closing(connection), closing(connection.cursor()) as cursor:
            cursor.execute(sql)
            names = [column[0] for column in cursor.description or ()]
            return names, [tuple(row) for row in cursor.fetchall()] if names else []

    def write_docs(self) -> None:
        """Write the dbt docs.

        Raises:
            SandboxError: dbt fails; carries what it said.
        """
        # The emulator has no `__TABLES__`, of which dbt reads what the warehouse says of tables.
        options = ["--empty-catalog"] if self.target == "bigquery" else []
        self.dbt("docs", "generate", "--target-path", str(self.docs), *options)

    def millrace(self, *arguments: str) -> str:
        """Run Millrace's command against this stack: what it prints.

        Raises:
            SandboxError: it fails; carries what it said.
        """
        command = [sys.executable, "-m", "millrace.cli", *self._project_options, *arguments]
        return self._run(command, "millrace", arguments)

    def dbt(self, *arguments: str) -> None:
        """Run dbt against this stack's warehouse.

        Raises:
            SandboxError: dbt fails; carries what it said.
        """
        command = [
            *(sys.executable, "-m", "dbt.cli.main", "--quiet", "--no-use-colors"),
            *("--log-path", str(self.paths.logs), *arguments, *self._project_options),
        ]
        self._run(command, "dbt", arguments)

    @property
    def _project_options(self) -> list[str]:
        profiles = self.project.profiles
        chosen = ["--profiles-dir", str(profiles)] if profiles else []
        return ["--project-dir", str(self.project.dbt), *chosen]

    def _run(self, command: Sequence[str], program: str, arguments: Sequence[str]) -> str:
        done = subprocess.run(
            command,
            env={**self._inherited, **self.environment()},
            cwd=self.project.root,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SandboxError(f"{program} {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def _weather(self) -> dict[str, str]:
        """What switches the example of the weather on, where its stand-in runs."""
        if not self.weather.is_running():
            return {}
        connection = {"conn_type": "http", "host": self.weather.url}
        return {"AIRFLOW_CONN_OPEN_METEO": json.dumps(connection), "WEATHER": "on"}

    def _has_redshift(self) -> bool:
        """Whether the stand-in was ever started here, whatever the stack's target is now."""
        return (self.paths.root / "redshift").exists()

    def _salt(self) -> str:
        file = self.paths.root / "pii_salt"
        if not file.exists():
            write_private(file, secrets.token_urlsafe(32))
        return file.read_text()


def _shell(environment: dict[str, str]) -> str:
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(environment.items()))
