"""Programs that run as children of this process and end with it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Protocol

from redshift_standin.errors import StandinError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

LOG_TAIL_LINES = 15
POLL_SECONDS = 0.05


class Runner(Protocol):
    """Runs one program: as a child of this process (``Child``), or in the background."""

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start it, with a whole environment of its own when one is given."""

    @property
    def pid(self) -> int | None:
        """Its process, None when it does not run."""

    def is_running(self) -> bool:
        """Whether it is alive."""

    def wait_until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait at most `timeout` seconds for a condition; `what` names it in the error."""

    def stop(self, timeout: float) -> None:
        """End it; the timeout is in seconds, from SIGTERM to SIGKILL."""


class Child:
    """A program that ends with this process, and its log; see ``Runner``.

    Where util-linux is installed, the program ends even when this process is killed: as soon as
    the thread that started it has ended.

    Args:
        name: What it is called in errors.
        log: The file for what it prints.
        through: The beginning of the command, for example what runs a program as another account.
        stop_signal: The signal that ends it in good order.
        keeps: Open files that it inherits.
        watches: Whether it notices by itself that this process has ended, without util-linux.
    """

    def __init__(
        self,
        name: str,
        log: Path,
        *,
        through: Sequence[str] = (),
        stop_signal: signal.Signals = signal.SIGTERM,
        keeps: Sequence[int] = (),
        watches: bool = False,
    ) -> None:
        self._name = name
        self._log = log
        self._prefix = [*through, *([] if watches else _ends_with_parent(stop_signal))]
        self._stop_signal = stop_signal
        self._keeps = keeps
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start it; see ``Runner``.

        Raises:
            StandinError: The program cannot be started.
        """
        with self._log.open("wb") as log:
            try:
                self._process = subprocess.Popen(
                    [*self._prefix, *command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    cwd=cwd,
                    pass_fds=self._keeps,
                    # A terminal's Ctrl-C is for this process, which ends its children in order.
                    process_group=0,
                )
            except OSError as error:
                raise StandinError(f"{self._name} cannot be started: {error}") from error

    @property
    def pid(self) -> int | None:
        """The pid of the running program, None when it does not run."""
        return self._process.pid if self._process and self.is_running() else None

    def is_running(self) -> bool:
        """Whether it is alive."""
        return self._process is not None and self._process.poll() is None

    def wait_until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait for a condition; see ``Runner``.

        Raises:
            StandinError: The program died or time ran out; carries the end of the log.
        """
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.is_running():
                raise StandinError(f"{self._name} died before it {what}.{self.log_tail()}")
            if time.monotonic() >= deadline:
                raise StandinError(
                    f"{self._name} runs, but not within {timeout:g} s it {what}.{self.log_tail()}"
                )
            time.sleep(POLL_SECONDS)

    def stop(self, timeout: float) -> None:
        """End it; does nothing when it does not run."""
        if self._process is None:
            return
        self._process.send_signal(self._stop_signal)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log_tail(self) -> str:
        """The end of its log, for an error."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "".join(f"\n  {line}" for line in lines[-LOG_TAIL_LINES:])
        return f" The end of {self._log}:{tail or ' (empty)'}"


def _ends_with_parent(number: signal.Signals) -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", number.name.removeprefix("SIG")] if setpriv else []
