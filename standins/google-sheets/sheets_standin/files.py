"""Files that only their owner may read, and a folder that only one server may use."""

from __future__ import annotations

import fcntl
import os
from typing import IO, TYPE_CHECKING

from sheets_standin.errors import StandinError

if TYPE_CHECKING:
    from pathlib import Path


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
    """Lock a folder until the returned file is closed.

    Raises:
        StandinError: Another server uses it.
    """
    file = (folder / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise StandinError(
            f"{folder} is in use by another sheets-standin. Stop that one, or choose another "
            "folder: --folder"
        ) from None
    return file


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
