"""A project of a test's own with DuckDB and a folder, or with the Redshift stand-in and S3."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

from millrace.dbt.project import Project
from tests.e2e.small_project import write_project
from tests.forked import run
from tests.millrace.conftest import CLEARED

if TYPE_CHECKING:
    from redshift_standin import RedshiftServer
    from redshift_standin.s3 import S3Server
    from tests.millrace.conftest import Database

TARGETS = ("dev", pytest.param("redshift", marks=[pytest.mark.redshift, pytest.mark.nightly]))


@dataclass(frozen=True)
class Shop:
    """A project, and the environment that it runs in."""

    project: Project
    environment: Mapping[str, str]

    def run(self, *command: str, **changes: str) -> str:
        """Run `millrace` or `dbt`, with changes of the environment."""
        dbt = ("--project-dir", "dbt_project", "--profiles-dir", ".")
        options = dbt if command[0] == "dbt" else ()
        environment = {**self.environment, **changes}
        return run(self.project.root, environment, *command, *options)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement in the warehouse."""
        with duckdb.connect(self.environment["DUCKDB_PATH"]) as connection:
            return connection.execute(sql).fetchall()


@dataclass(frozen=True)
class RedshiftShop(Shop):
    """The same on the stand-in."""

    server: RedshiftServer

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement in the warehouse."""
        with closing(self.server.endpoint.connect()) as client, closing(client.cursor()) as cursor:
            client.autocommit = True
            cursor.execute(sql)
            return list(map(tuple, cursor.fetchall())) if cursor.description else []


def open_shop(
    request: pytest.FixtureRequest,
    mysql: Database,
    folder: Path,
    files: Mapping[str, str],
    **environment: str,
) -> Shop:
    """Write a project with these files, for the target that is the fixture's parameter."""
    project = write_project(folder, files)
    given = {
        **{name: value for name, value in os.environ.items() if name not in CLEARED},
        "AIRFLOW_CONN_MYSQL_PROD": mysql.uri,
        "TARGET": request.param,
        "DUCKDB_PATH": str(folder / "warehouse.duckdb"),
        "LANDING_URL": (folder / "landing").as_uri(),
        "DO_NOT_TRACK": "1",
        **environment,
    }
    if request.param == "dev":
        return Shop(project, given)
    server: RedshiftServer = request.getfixturevalue("redshift")
    s3: S3Server = request.getfixturevalue("s3_server")
    own = {
        **server.endpoint.environment(),
        "AIRFLOW_CONN_AWS_LANDING": json.dumps(s3.endpoint.airflow_connection()),
        "LANDING_URL": f"s3://{request.getfixturevalue('bucket')}/raw",
    }
    return RedshiftShop(project, given | own, server)
