"""A small disk of its own that can be filled."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_PAGE = bytes(4_096)


@dataclass(frozen=True)
class Disk:
    """A disk in memory.

    Attributes:
        folder: Where it is mounted.
    """

    folder: Path

    def fill(self, left: int) -> None:
        """Take all its room, but for some bytes.

        Written until nothing fits, because a process that runs may take room in the meantime: a
        size that is computed first may not fit any more.
        """
        with self._ballast.open("wb", buffering=0) as file:
            with suppress(OSError):
                while file.write(_PAGE):
                    pass
            file.truncate(max(0, file.tell() - left))

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
