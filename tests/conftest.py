"""Real services for the tests, started when the first test asks and stopped after the last."""

from __future__ import annotations

import os
import re
import secrets
import signal
import tempfile
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from dbt_common.tests import enable_test_caching
from google.auth.crypt import RSASigner
from xdist.scheduler import LoadScopeScheduling

from millrace_sandbox.bigquery import BigQuery
from millrace_sandbox.gcs import GCS
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.mysql import MySQL, MySQLServer
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.postgres import Postgres
from redshift_standin import RedshiftServer
from redshift_standin.s3 import S3Server
from sheets_standin import GoogleSheetsServer
from tests import services
from tests.buckets import Bucket, GoogleBucket, S3Bucket
from tests.forked import run_dbt

if TYPE_CHECKING:
    from collections.abc import Iterator


class ByFile(LoadScopeScheduling):  # type: ignore[misc]  # its library is untyped
    """Shares the tests among processes (``-n``) by file.

    One process runs all that start a whole sandbox: two that start at the same time would choose
    the same ports. Interruptions are shared by world, the warehouses' contract by warehouse.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if _kind(self.config.rootpath / file) == "sandbox":
            return "sandbox"
        world = _WORLD.search(nodeid) or _CONTRACT.search(nodeid)
        return f"{file} {world[1]}" if world else file


_WORLD = re.compile(r"^tests/faults/.*\[.*\b(duckdb|folder|redshift)\b")
_CONTRACT = re.compile(r"^tests/millrace/test_warehouses\.py::(\w+)::")


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    """Use our scheduler: xdist's own groups are lost on pytest 9.2."""
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest: else it would run alone at the end."""
    kinds = ["sandbox", "airflow", ""]
    items.sort(key=lambda item: (kinds.index(_kind(item.path)), not _CONTRACT.search(item.nodeid)))


@cache
def _kind(file: Path) -> str:
    """What the tests of a file start: a whole sandbox, only an Airflow, or neither."""
    text = file.read_text()
    return next((mark for mark in ("sandbox", "airflow") if f"mark.{mark}" in text), "")


@pytest.fixture(scope="session", autouse=True)
def forked_dbt() -> Iterator[None]:
    """Millrace, where it runs in a test's own process, parses with a dbt that is imported once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("millrace.dbt.project._run_dbt", run_dbt)
        yield


@pytest.fixture(scope="session", autouse=True)
def interruptible() -> None:
    """Take Ctrl-C, which a program that a script starts in the background ignores.

    So would all that the tests start, and those that interrupt it would wait for ever.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def read_once() -> None:
    """Let a process read once what never changes: dbt's own macros, and each private key.

    dbt has the cache for its own tests; OpenSSL tries the primes of a key for 50 ms each time.
    """
    enable_test_caching()
    pytest.MonkeyPatch().setattr(RSASigner, "from_string", cache(RSASigner.from_string))


@pytest.fixture(scope="module")
def short_folder() -> Iterator[Path]:
    """A folder for TMPDIR: Python's forkserver has its socket there, whose path must be short."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def sandbox_paths(tmp_path_factory: pytest.TempPathFactory) -> SandboxPaths:
    return SandboxPaths(services.shared_folder() or tmp_path_factory.mktemp("sandbox"))


@pytest.fixture(scope="session")
def mariadb(sandbox_paths: SandboxPaths) -> Iterator[MariaDB]:
    """A running MariaDB; its address and accounts are `mariadb.server`."""
    with services.running(services.mariadb(sandbox_paths)) as server:
        yield server


@pytest.fixture(scope="session")
def real_mysql(sandbox_paths: SandboxPaths) -> Iterator[MySQLServer]:
    """A running MySQL: the sandbox's, or the one whose admin MYSQL_TEST_URI names."""
    if uri := os.environ.get("MYSQL_TEST_URI"):
        yield _prepared(uri)
        return
    server = MySQL(sandbox_paths, port=0)
    try:
        yield server.start()
    finally:
        server.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test marked `both_servers` runs on MariaDB and on MySQL."""
    if "mysql_server" in metafunc.fixturenames and metafunc.definition.get_closest_marker(
        "both_servers"
    ):
        metafunc.parametrize("mysql_server", ["mariadb", "mysql"], indirect=True)


@pytest.fixture
def mysql_server(request: pytest.FixtureRequest) -> MySQLServer:
    """The server to read from. Default: MariaDB; a test marked `both_servers` gets each in turn."""
    if getattr(request, "param", "mariadb") == "mysql":
        found: MySQLServer = request.getfixturevalue("real_mysql")
        return found
    service: MariaDB = request.getfixturevalue("mariadb")
    return service.server


def _prepared(uri: str) -> MySQLServer:
    """Make a reader's account for this run on an existing server."""
    parts = urlsplit(uri)
    reader, password = f"millrace_{secrets.token_hex(4)}", secrets.token_urlsafe(24)
    server = MySQLServer(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        admin_user=parts.username or "root",
        admin_password=parts.password or "",
        reader_user=reader,
        reader_password=password,
    )
    with server.admin_cursor() as cursor:
        cursor.execute(f"create user '{reader}'@'%' identified by '{password}'")
        cursor.execute(f"grant process on *.* to '{reader}'@'%'")
    return server


@pytest.fixture(scope="session")
def postgres_server(sandbox_paths: SandboxPaths) -> Iterator[Postgres]:
    """A running PostgreSQL."""
    with services.running(services.postgres(sandbox_paths)) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(sandbox_paths: SandboxPaths) -> Iterator[S3Server]:
    """A running S3 server; its address and keys are `s3_server.endpoint`."""
    with services.running(services.s3(sandbox_paths)) as server:
        yield server


@pytest.fixture
def database(mysql_server: MySQLServer) -> Iterator[str]:
    """The name of a test's own MySQL database, which the reader account may read too."""
    server = mysql_server
    name = f"test_{uuid4().hex[:12]}"
    connection = server.connect_as_admin(
        autocommit=True,
    )
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(f"create database {name} character set utf8mb4")
        cursor.execute(f"grant select on {name}.* to '{server.reader_user}'@'{server.host}'")
        yield name
        cursor.execute(f"revoke select on {name}.* from '{server.reader_user}'@'{server.host}'")
        # If a test left a transaction open, this fails instead of hanging.
        cursor.execute("set lock_wait_timeout = 10")
        cursor.execute(f"drop database {name}")


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[str]:
    """The name of a test's own bucket, empty at first."""
    name = f"test-{uuid4().hex[:12]}"
    s3_server.create_bucket(name)
    yield name
    # SeaweedFS deletes the bucket's objects with it.
    s3_server.endpoint.client().delete_bucket(Bucket=name)


@pytest.fixture(scope="session")
def gcs(sandbox_paths: SandboxPaths) -> Iterator[GCS]:
    """A running server of Google Cloud Storage's API; what opens it is `gcs.endpoint`."""
    with services.running(services.gcs(sandbox_paths)) as server:
        yield server


@pytest.fixture(params=["s3", "gs"])
def any_bucket(request: pytest.FixtureRequest) -> Bucket:
    """A test's own bucket, empty at first: of each kind in turn."""
    if request.param == "s3":
        server = request.getfixturevalue("s3_server")
        return S3Bucket(server, request.getfixturevalue("bucket"))
    google: GoogleBucket = request.getfixturevalue("google_bucket")
    return google


@pytest.fixture
def google_bucket(gcs: GCS) -> GoogleBucket:
    """A test's own bucket of Google Cloud Storage, empty at first."""
    bucket = GoogleBucket(gcs, f"test-{uuid4().hex[:12]}")
    gcs.create_bucket(bucket.name)
    return bucket


@pytest.fixture(scope="session")
def redshift(sandbox_paths: SandboxPaths, s3_server: S3Server) -> Iterator[RedshiftServer]:
    """A running stand-in; its address and account are `redshift.endpoint`."""
    with services.running(services.redshift(sandbox_paths)) as server:
        yield server


@pytest.fixture(scope="session")
def bigquery(sandbox_paths: SandboxPaths) -> Iterator[BigQuery]:
    """A running BigQuery emulator; where it listens is `bigquery.endpoint`."""
    with services.running(services.bigquery(sandbox_paths)) as server:
        yield server


@pytest.fixture
def dataset(bigquery: BigQuery) -> Iterator[str]:
    """The name of a test's own dataset, empty at first."""
    name = f"test_{uuid4().hex[:12]}"
    with closing(bigquery.endpoint.connect()) as client:
        client.create_dataset(name)
        yield name
        client.delete_dataset(name, delete_contents=True)


@pytest.fixture(scope="session")
def google_sheets(sandbox_paths: SandboxPaths) -> Iterator[GoogleSheetsServer]:
    """A running stand-in for the Google Sheets API."""
    with services.running(services.google_sheets(sandbox_paths)) as server:
        yield server
