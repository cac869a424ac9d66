"""What happens, for the person who waits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Progress:
    """Says each step on standard error: live on a terminal, a line each elsewhere.

    Args:
        console: Where.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say that something goes on."""
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
