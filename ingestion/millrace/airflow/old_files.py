"""Removes files that nobody has written to for a long time."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path


@dataclass(frozen=True)
class Removed:
    """What was removed.

    Attributes:
        files: How many files.
        size: Their bytes.
    """

    files: int
    size: int


def remove_old_files(folder: Path, before: datetime, pattern: str = "*") -> Removed:
    """Remove the files below a folder that were last written before a moment.

    A file that a process of this machine has open stays, however old it is. So do links, and what
    they lead to. Folders that are empty then, and were made before that moment, go too.

    Args:
        folder: The folder; it stays, and need not exist.
        before: The moment, with a time zone.
        pattern: Of the files' names.
    """
    limit, folder = before.timestamp(), folder.resolve()
    folders = list(_folders(folder, limit))
    open_files = _open_files(folder)
    files = size = 0
    for path in folder.rglob(pattern):
        with suppress(FileNotFoundError):
            about = path.lstat()
            if _is_plain(path) and about.st_mtime < limit and path not in open_files:
                path.unlink()
                files += 1
                size += about.st_size
    # From below: a folder is empty only once those in it are gone.
    for path in reversed(folders):
        with suppress(OSError):
            path.rmdir()
    return Removed(files, size)


def remove_old_folders(folder: Path, before: datetime, pattern: str) -> Removed:
    """Remove folders, and files, directly in a folder, in which nothing was written since.

    Args:
        folder: The folder; it need not exist.
        before: The moment, with a time zone.
        pattern: Of their names.
    """
    limit = before.timestamp()
    files = size = 0
    for path in folder.glob(pattern):
        inside = [found for found in (path, *path.rglob("*")) if not found.is_symlink()]
        if path.is_symlink() or any(_changed(found) >= limit for found in inside):
            continue
        size += sum(found.stat().st_size for found in inside if found.is_file())
        files += sum(found.is_file() for found in inside)
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return Removed(files, size)


def _folders(folder: Path, limit: float) -> Iterator[Path]:
    """The folders below it that were last changed before the limit, outer ones first.

    Looked for beforehand, because removing what is in them changes them.
    """
    for path, names, _ in os.walk(folder):
        for name in names:
            found = Path(path, name)
            if not found.is_symlink() and _changed(found) < limit:
                yield found


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return 0


def _is_plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _open_files(folder: Path) -> set[Path]:
    """The files below a folder that a process of this machine has open, as far as one may see."""
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):
            target = link.readlink()
            if folder in target.parents:
                found.add(target)
    return found
