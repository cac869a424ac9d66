"""A small disk of its own that can be filled."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Disk:
    """A disk in memory.

    Attributes:
        folder: Where it is mounted.
    """

    folder: Path

    def fill(self, left: int) -> None:
        """Take all its room, but for some bytes."""
        room = os.statvfs(self.folder)
        size = room.f_bavail * room.f_frsize - left
        if size > 0:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size)

    def free(self) -> None:
        """Give its room back."""
        self._ballast.unlink(missing_ok=True)

    @property
    def _ballast(self) -> Path:
        return self.folder / "ballast"


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Disk | None]:
    """Mount a disk; None where this machine lets nobody mount one.

    Args:
        folder: Where; made if it is missing.
        megabytes: Its size.
    """
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield Disk(folder)
    finally:
        # A process that was killed may still have a file open for a moment.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
