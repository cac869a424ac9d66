"""Files that only their owner may read, and a folder that only one server may use."""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from typing import IO, TYPE_CHECKING

from redshift_standin.errors import StandinError

if TYPE_CHECKING:
    from pathlib import Path

LOCK_TIMEOUT = 5


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, replacing an old one atomically."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(draft, "w", encoding="utf-8", opener=_open_private) as file:
        file.write(text)
    draft.replace(path)


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner can enter, and that git leaves alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    (folder / ".gitignore").write_text("*\n")


def lock(folder: Path) -> IO[str]:
    """Lock a folder for this process and for those that inherit the file.

    A server that was killed may still be ending, so this waits a moment.

    Raises:
        StandinError: Another server uses it.
    """
    file = (folder / "lock").open("w")
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        if time.monotonic() >= deadline:
            file.close()
            raise StandinError(
                f"{folder} is in use by another redshift-standin. Stop that one, or choose "
                "another folder: --folder"
            )
        time.sleep(0.05)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
