"""Progress messages for the person who waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Progress:
    """Reports each step: live on a terminal, elsewhere with one line per step.

    Args:
        console: Where to print; standard error.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Show what is being done, until the block ends."""
        if not self._console.is_terminal:
            self.say(what)
            yield
            return
        with self._console.status(f"{self._elapsed} {what}"):
            yield

    def say(self, line: str) -> None:
        """Say that something is done."""
        self._console.print(f"{self._elapsed} {line}", markup=False, soft_wrap=True)

    @property
    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes:3d}:{seconds:02d}"
