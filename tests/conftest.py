"""Real services for the tests, started when the first test asks and stopped after the last."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from sandbox.mariadb import MariaDB
from sandbox.paths import SandboxPaths
from sandbox.s3 import S3Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sandbox.redshift.launcher import RedshiftServer


@pytest.fixture(scope="session")
def sandbox_paths(tmp_path_factory: pytest.TempPathFactory) -> SandboxPaths:
    return SandboxPaths(tmp_path_factory.mktemp("sandbox"))


@pytest.fixture(scope="session")
def mariadb(sandbox_paths: SandboxPaths) -> Iterator[MariaDB]:
    """A running MariaDB; its address and accounts are `mariadb.server`."""
    server = MariaDB(sandbox_paths, port=0)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3_server(sandbox_paths: SandboxPaths) -> Iterator[S3Server]:
    """A running S3 server; its address and keys are `s3_server.endpoint`."""
    server = S3Server(sandbox_paths, port=0)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[str]:
    """The name of a test's own MySQL database, which the reader account may read too."""
    server = mariadb.server
    name = f"test_{uuid4().hex[:12]}"
    connection = server.connect_as_admin(
        autocommit=True,
    )
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(f"create database {name} character set utf8mb4")
        cursor.execute(f"grant select on {name}.* to '{server.reader_user}'@'{server.host}'")
        yield name
        cursor.execute(f"revoke select on {name}.* from '{server.reader_user}'@'{server.host}'")
        # A test that left a transaction open fails here rather than hangs.
        cursor.execute("set lock_wait_timeout = 10")
        cursor.execute(f"drop database {name}")


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[str]:
    """The name of a test's own bucket, empty at first."""
    name = f"test-{uuid4().hex[:12]}"
    s3_server.create_bucket(name)
    yield name
    # SeaweedFS deletes what is in it with it.
    s3_server.endpoint.client().delete_bucket(Bucket=name)


@pytest.fixture(scope="session")
def redshift(sandbox_paths: SandboxPaths, s3_server: S3Server) -> Iterator[RedshiftServer]:
    """A running stand-in; its address and account are `redshift.endpoint`."""
    # Imported here: most tests do without PostgreSQL's client.
    from sandbox.redshift.launcher import RedshiftServer

    server = RedshiftServer(sandbox_paths, s3_server.endpoint, port=0)
    try:
        server.start()
        yield server
    finally:
        server.stop()
