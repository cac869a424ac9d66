"""Starting, watching and ending the sandbox's services.

A service outlives the command that starts it, so all that is known about it is on disk: a pid
file and a log. The system may have given the pid to another process since, so the file also holds
the process's start time, and nothing is signalled unless both agree.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from millrace_sandbox.paths import SandboxPaths

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
LOG_TAIL_LINES = 15


class SandboxError(Exception):
    """A failure the user can act on; the message says what happened and what to do."""


def poll(condition: Callable[[], bool], timeout: float, interval: float = 0.05) -> bool:
    """Whether the condition came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


class Service:
    """One background process with everything it starts, its log and its pid file.

    Args:
        name: Names the log and the pid file.
        paths: The sandbox it belongs to.
    """

    def __init__(self, name: str, paths: SandboxPaths) -> None:
        self.name = name
        self.paths = paths
        self.log = paths.logs / f"{name}.log"
        self.pid_file = paths.run / f"{name}.pid"
        self._child: subprocess.Popen[bytes] | None = None

    def start(
        self, command: Sequence[str], env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        """Start the command in a session of its own; the previous log is kept as ``.log.1``.

        Args:
            command: The program and its arguments.
            env: Its whole environment; the current one when None.
            cwd: Its working directory.

        Raises:
            SandboxError: It runs already, or the program cannot be started.
        """
        if self.is_running():
            raise SandboxError(f"{self.name} runs already (pid {self.pid}).")
        # Processes that a crashed service left behind may still hold its port and its files.
        self.stop()
        self.paths.create()
        if self.log.exists():
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("wb") as log:
            try:
                self._child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=env,
                    cwd=cwd,
                    start_new_session=True,
                )
            except OSError as error:
                raise SandboxError(f"{self.name} cannot be started: {error}") from error
        started = _read_process(self._child.pid)
        self.pid_file.write_text(f"{self._child.pid} {started.start_time if started else 0}\n")
        logger.debug("Started %s, pid %s, log %s", self.name, self._child.pid, self.log)

    @property
    def pid(self) -> int | None:
        """The pid of the running service, None when it does not run."""
        recorded = self._recorded()
        if recorded is None:
            return None
        pid, start_time = recorded
        if self._child is not None:
            self._child.poll()
        process = _read_process(pid)
        if process is None or process.start_time != start_time or process.is_dead:
            return None
        return pid

    def is_running(self) -> bool:
        """Whether the started process is alive."""
        return self.pid is not None

    def wait_until(self, condition: Callable[[], bool], timeout: float, what: str) -> None:
        """Wait for a condition on the running service.

        Args:
            condition: Called every few hundredths of a second.
            timeout: Seconds to wait at most.
            what: What the service has then done, for the error: "answered on port 13306".

        Raises:
            SandboxError: The process died or time ran out; carries the end of the log.
        """

        def is_settled() -> bool:
            return not self.is_running() or condition()

        settled = poll(is_settled, timeout)
        if not self.is_running():
            raise SandboxError(f"{self.name} died before it {what}.{self._log_tail()}")
        if not settled:
            raise SandboxError(
                f"{self.name} runs, but not within {timeout:g} s it {what}.{self._log_tail()}"
            )

    def stop(self, timeout: float = 15) -> None:
        """End the service and all it started; does nothing when nothing is left of it.

        Args:
            timeout: Seconds to wait after SIGTERM before SIGKILL.
        """
        for number in (signal.SIGTERM, signal.SIGKILL):
            members = self._members()
            if not members:
                break
            for pid in members:
                _send(pid, number)
            if poll(lambda: not self._members(), timeout):
                break
            logger.warning("%s did not end on %s within %g s", self.name, number.name, timeout)
        else:
            raise SandboxError(f"{self.name} cannot be ended: pids {self._members()} stay.")
        self.pid_file.unlink(missing_ok=True)

    def _recorded(self) -> tuple[int, int] | None:
        try:
            pid, start_time = self.pid_file.read_text().split()
            return int(pid), int(start_time)
        except (FileNotFoundError, ValueError):
            return None

    def _members(self) -> list[int]:
        """The living processes of the service's session, even when its leader is gone.

        Children that moved to a process group of their own are still in the session. The kernel
        gives no new process the number of a session that has members, so either the leader is
        ours, or it is gone and the session is ours, or its pid was given away and nothing is left.
        """
        recorded = self._recorded()
        if recorded is None:
            return []
        if self._child is not None:
            self._child.poll()
        leader, start_time = recorded
        found = _read_process(leader)
        if found is not None and found.start_time != start_time:
            return []
        numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        processes = [process for number in numbers if (process := _read_process(number))]
        return [
            process.pid
            for process in processes
            if process.session == leader
            and process.start_time >= start_time
            and not process.is_dead
        ]

    def _log_tail(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        tail = "".join(f"\n  {line}" for line in lines[-LOG_TAIL_LINES:])
        return f" The end of {self.log}:{tail or ' (empty)'}"


@dataclass(frozen=True)
class _Process:
    pid: int
    state: str
    session: int
    threads: int
    start_time: int

    @property
    def is_dead(self) -> bool:
        """Whether it has ended; a zombie has, and only waits for its parent.

        A program whose first thread has ended looks like a zombie, too, while its other threads
        still hold its ports.
        """
        return self.state in "ZX" and self.threads <= 1


def _read_process(pid: int) -> _Process | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the program's name in brackets and may itself hold spaces and brackets.
    fields = stat.rpartition(")")[2].split()
    return _Process(
        pid=pid,
        state=fields[0],
        session=int(fields[3]),
        threads=int(fields[17]),
        start_time=int(fields[19]),
    )


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
