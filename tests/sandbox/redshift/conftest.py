"""A Redshift stand-in beside the S3 server, and connections to it."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from redshift_standin.launcher import RedshiftServer

if TYPE_CHECKING:
    from collections.abc import Iterator


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
