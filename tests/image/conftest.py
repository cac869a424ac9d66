"""The images that ``scripts/image`` has built, and podman, which runs them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.image.compose import FIRST, Compose, make_project, stand_in_for_others
from tests.image.podman import Podman, find


@pytest.fixture(scope="session")
def podman() -> Podman:
    """Podman, where the images are."""
    return find()


@pytest.fixture(scope="session")
def compose(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    """The services of docker-compose.yaml beside Airflow, with sample data."""
    stand_in_for_others(podman, tmp_path_factory.mktemp("services"))
    made = make_project(podman, tmp_path_factory.mktemp("compose"))
    # What a run that was killed has left.
    made.remove()
    try:
        made.up(*FIRST)
        made.wait(*FIRST)
        # Docker needs no profile for a service that is named.
        made("run", "--rm", "--no-deps", "sample-data", profile="jobs")
        yield made
    finally:
        made.remove()
