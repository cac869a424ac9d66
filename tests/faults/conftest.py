"""The worlds in which things are broken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.faults.world import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """The shop: with DuckDB and MariaDB, or with the Redshift stand-in and MySQL."""
    is_redshift = request.param == "redshift"
    folder: Path = tmp_path_factory.mktemp("world")
    server = request.getfixturevalue("real_mysql" if is_redshift else "mariadb")
    with ExitStack() as open_:
        yield World.make(
            folder,
            server if is_redshift else server.server,
            request.getfixturevalue("s3_server"),
            request.getfixturevalue("google_sheets"),
            request.getfixturevalue("redshift") if is_redshift else None,
            open_,
        )
