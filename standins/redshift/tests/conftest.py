"""A Redshift stand-in beside an S3 server, and connections to it: nothing of Millrace's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest

from redshift_standin import RedshiftServer
from redshift_standin.s3 import S3Server


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server; its address and keys are `s3_server.endpoint`."""
    with S3Server(tmp_path_factory.mktemp("s3"), port=0) as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[str]:
    """The name of a test's own bucket, empty at first."""
    name = f"test-{uuid4().hex[:12]}"
    s3_server.create_bucket(name)
    yield name
    # SeaweedFS deletes the bucket's objects with it.
    s3_server.endpoint.client().delete_bucket(Bucket=name)


@pytest.fixture(scope="session")
def redshift(
    tmp_path_factory: pytest.TempPathFactory, s3_server: S3Server
) -> Iterator[RedshiftServer]:
    """A running stand-in; its address and account are `redshift.endpoint`."""
    with RedshiftServer(tmp_path_factory.mktemp("redshift"), s3_server.endpoint) as server:
        yield server


@pytest.fixture
def connection(redshift: RedshiftServer) -> Iterator[Any]:
    """A session of redshift_connector, in autocommit."""
    with closing(redshift.endpoint.connect()) as opened:
        opened.autocommit = True
        yield opened


@pytest.fixture
def schema(connection: Any) -> Iterator[str]:
    """The name of a test's own schema."""
    name = f"test_{uuid4().hex[:12]}"
    run(connection, f"create schema {name}")
    yield name
    connection.autocommit = True
    run(connection, f"drop schema {name} cascade")


def run(connection: Any, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Run a statement and give its rows, if it has any."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return [tuple(row) for row in cursor.fetchall()] if cursor.description else []


def poll(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether the condition came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
