"""The worlds in which things are broken."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.faults.servers import Servers
from tests.faults.world import World

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# A world grows with each interruption, and what is compared after it.
_AGE = 150


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers behind the worlds, started as they are needed."""
    with Servers(tmp_path_factory.mktemp("servers")) as started:
        yield started


@pytest.fixture(scope="session")
def worlds(
    servers: Servers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], World]]:
    """Opens the world of a kind: another one, if the last was not made good or has grown old."""
    last: dict[str, tuple[World, ExitStack]] = {}

    def opened(kind: str) -> World:
        if kind in last:
            world, open_ = last[kind]
            if not world.is_broken and world.interruptions < _AGE:
                return world
            del last[kind]
            open_.close()
        folder: Path = tmp_path_factory.mktemp(kind)
        open_ = ExitStack()
        try:
            world = World.make(kind, folder, servers, open_)
        except BaseException:
            open_.close()
            raise
        last[kind] = world, open_
        return world

    yield opened
    for _, open_ in last.values():
        open_.close()


@pytest.fixture
def world(request: pytest.FixtureRequest, worlds: Callable[[str], World]) -> World:
    """The world of the kind that is the test's parameter."""
    return worlds(request.param)
