"""Podman, with the storage that ``scripts/image`` has put images into."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from dotenv import dotenv_values

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".sandbox" / "containers"
IMAGE = "localhost/nps"


@dataclass(frozen=True)
class Podman:
    """Podman with the storage of the checkout's own.

    Attributes:
        environment: What it needs to find that.
    """

    environment: dict[str, str]

    def __call__(self, *arguments: str | Path, timeout: float = 120) -> str:
        """Run it; a failure fails the test. Returns what it prints."""
        done = self.tried(*arguments, timeout=timeout)
        assert done.returncode == 0, (
            f"podman {arguments}\n{done.stdout[-5000:]}{done.stderr[-5000:]}"
        )
        return done.stdout

    def tried(
        self, *arguments: str | Path, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run it, whatever comes of it."""
        return subprocess.run(
            ["podman", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )


def find() -> Podman:
    """Podman, where the images are."""
    settings = dotenv_values(FOLDER / "env")
    if not settings:
        pytest.fail("There are no images. Build them: make image")
    found = {name: str(value) for name, value in settings.items()}
    # Without systemd nobody would run the health checks: the tests do.
    return Podman({**os.environ, **found, "DISABLE_HC_SYSTEMD": "true"})


def build(podman: Podman, folder: Path, name: str, *options: str) -> None:
    """Build an image of a folder that has a Dockerfile."""
    how = ("bud", "--quiet", "--layers", "--isolation=chroot", "--network=host", "--pull-never")
    done = subprocess.run(
        ["buildah", *how, *options, "--tag", name, folder],
        env=podman.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-5000:]
