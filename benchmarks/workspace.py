"""Where the benchmarks keep what they make, and the services that they run against."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from obstore.store import S3Store

from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.mysql import MySQLService
from millrace_sandbox.paths import SandboxPaths
from redshift_standin import RedshiftEndpoint, RedshiftServer
from redshift_standin.s3 import S3Server

BUCKET = "benchmarks"
# Holds all twenty million rows of the largest table, so that reading is measured, not the disk.
BUFFER_POOL_MB = 4096


class BenchmarkError(Exception):
    """A failure that the user can act on; the message says what happened and what to do."""


@dataclass(frozen=True)
class Workspace:
    """The folders of the benchmarks, all under one root; removing it removes everything.

    Attributes:
        root: ``.sandbox/bench``.
    """

    root: Path

    @classmethod
    def default(cls) -> Workspace:
        """The folder in the checkout's sandbox, or in ``MILLRACE_SANDBOX_DIR``."""
        return cls(SandboxPaths.default().root / "bench")

    @property
    def venvs(self) -> Path:
        """One virtual environment per peer."""
        return self.root / "venvs"

    @property
    def results(self) -> Path:
        """One JSON file per section."""
        return self.root / "results"

    @property
    def scratch(self) -> Path:
        """Files that can be made again."""
        return self.root / "scratch"

    @property
    def sandbox(self) -> SandboxPaths:
        """The benchmarks' own services: the user's sandbox is left alone."""
        return SandboxPaths(self.root / "sandbox")

    def create(self) -> None:
        """Make the folders that are missing."""
        for folder in (self.root, self.venvs, self.results, self.scratch):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@dataclass(frozen=True)
class Services:
    """A running MariaDB and an S3 server with one bucket; the Redshift stand-in where asked for.

    One section puts a MySQL in the place of MariaDB.
    """

    mariadb: MySQLService
    s3: S3Server
    redshift: RedshiftServer | None

    @property
    def pids(self) -> list[int]:
        """The process ids of MariaDB and of the S3 server."""
        return [pid for pid in (self.mariadb.pid, self.s3.pid) if pid is not None]

    @property
    def redshift_endpoint(self) -> RedshiftEndpoint:
        """The address and account of the Redshift stand-in.

        Raises:
            BenchmarkError: it was not asked for.
        """
        if self.redshift is None:
            raise BenchmarkError("The Redshift stand-in does not run. Ask for it.")
        return self.redshift.endpoint

    @property
    def mysql_version(self) -> str:
        """The version that the server reports."""
        server = self.mariadb.server
        with closing(server.connect_as_reader()) as connection:
            return f"MariaDB {connection.get_server_info().partition('-')[0]}"

    @property
    def store(self) -> S3Store:
        """The bucket."""
        endpoint = self.s3.endpoint
        return S3Store(
            BUCKET,
            endpoint=endpoint.endpoint_url,
            region=endpoint.region,
            access_key_id=endpoint.access_key_id,
            secret_access_key=endpoint.secret_access_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )

    def environment(self) -> dict[str, str]:
        """The connections as Millrace's environment variables, with their secrets."""
        return {
            "AIRFLOW_CONN_MYSQL_PROD": self.mariadb.server.reader_uri(),
            "AIRFLOW_CONN_AWS_LANDING": json.dumps(self.s3.endpoint.airflow_connection()),
            **(self.redshift.endpoint.environment() if self.redshift else {}),
        }

    def job(self, table: str, prefix: str) -> dict[str, Any]:
        """The settings of a script in ``benchmarks/methods``, with their secrets."""
        server, endpoint = self.mariadb.server, self.s3.endpoint
        return {
            "host": server.host,
            "port": server.port,
            "user": server.reader_user,
            "password": server.reader_password,
            "database": "prod",
            "table": table,
            "endpoint_url": endpoint.endpoint_url,
            "access_key_id": endpoint.access_key_id,
            "secret_access_key": endpoint.secret_access_key,
            "region": endpoint.region,
            "bucket": BUCKET,
            "prefix": prefix,
        }


@contextmanager
def running_services(workspace: Workspace, *, redshift: bool = False) -> Iterator[Services]:
    """Run the services on free ports; stop them at the end, also on Ctrl-C and SIGTERM.

    Args:
        workspace: Where their data is kept between runs.
        redshift: Whether the Redshift stand-in is among them.
    """
    with leaving_on_sigterm(), ExitStack() as running:
        mariadb = MariaDB(workspace.sandbox, port=0, buffer_pool_mb=BUFFER_POOL_MB)
        running.callback(mariadb.stop)
        mariadb.start()
        s3 = S3Server(workspace.sandbox.s3, port=0)
        running.callback(s3.stop)
        s3.start()
        s3.create_bucket(BUCKET)
        cluster = None
        if redshift:
            cluster = RedshiftServer(workspace.sandbox.root / "redshift", s3.endpoint)
            running.callback(cluster.stop)
            cluster.start()
        yield Services(mariadb, s3, cluster)


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that what was started is stopped."""

    def leave(*_: Any) -> None:
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def clean_environment() -> dict[str, str]:
    """The environment without the variables that would point Millrace, dbt or Airflow elsewhere."""
    misleading = ("AIRFLOW", "DBT_", "REDSHIFT_", "LANDING_URL", "TARGET", "DUCKDB_", "WAREHOUSE_")
    return {
        name: value for name, value in os.environ.items() if not name.startswith(misleading)
    } | {"DO_NOT_TRACK": "1"}
