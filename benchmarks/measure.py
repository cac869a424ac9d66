"""One run of a command in a fresh process: how long, how much processor time, how much memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.workspace import BenchmarkError

_SAMPLE_SECONDS = 0.1
_OUTPUT_TAIL = 2_000
_KILOBYTES = re.compile(r"^(VmRSS|VmHWM):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """The time and memory that a command took.

    Attributes:
        wall: Seconds from its start to its end.
        cpu: Seconds of processor time, user and system, of it and of all processes it started.
        peak: The highest resident memory of all its processes together, in bytes. Pages that
            processes share count in each of them.
        services_cpu: Seconds of processor time that the watched services took meanwhile.
        output: The JSON that it printed on its last line; empty if it printed none.
    """

    wall: float
    cpu: float
    peak: int
    services_cpu: float
    output: Mapping[str, Any]


def run(
    command: Sequence[str | Path],
    *,
    environment: Mapping[str, str],
    folder: Path,
    services: Iterable[int] = (),
    timeout: float = 900,
) -> Usage:
    """Run a command to its end.

    Args:
        command: The program and its arguments.
        environment: Its whole environment.
        folder: Its working directory; its output is kept there.
        services: Process ids of the services that it uses.
        timeout: Seconds after which it is killed.

    Raises:
        BenchmarkError: it failed or took too long; the message has the end of its output.
    """
    watched = [psutil.Process(pid) for pid in services]
    before = _cpu(watched)
    out, err = folder / "stdout.log", folder / "stderr.log"
    with out.open("wb") as stdout, err.open("wb") as stderr:
        started = time.monotonic()
        # A session of its own, so that all processes that it starts can be killed with it.
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
        )
        memory = _MemoryWatch(process.pid)
        too_slow = threading.Timer(timeout, _end_session, [process.pid])
        too_slow.start()
        try:
            # Unlike psutil, wait4 counts the children that have ended.
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            _end_session(process.pid)
            raise
        finally:
            too_slow.cancel()
            sampled = memory.stop()
    if process.returncode:
        said = (err.read_text(errors="replace") + out.read_text(errors="replace")).strip()
        raise BenchmarkError(
            f"{Path(command[0]).name} {command[-1]} ended with {process.returncode} after "
            f"{wall:.1f} s:\n{said[-_OUTPUT_TAIL:]}"
        )
    return Usage(
        wall=wall,
        cpu=usage.ru_utime + usage.ru_stime,
        # Not the peak of rusage, which begins with the memory of this process.
        peak=sampled,
        services_cpu=_cpu(watched) - before,
        output=_last_json(out),
    )


class _MemoryWatch:
    """Adds up the resident memory of a process and its descendants, again and again."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self._peak

    def _watch(self) -> None:
        while True:
            with suppress(psutil.Error):
                family = [self._process, *self._process.children(recursive=True)]
                memory = [_memory(process.pid) for process in family]
                now = sum(resident for resident, _ in memory)
                # The kernel's peak of a single process also covers the time between samples.
                highest = max(peak for _, peak in memory)
                self._peak = max(self._peak, now, highest)
            if self._stop.wait(_SAMPLE_SECONDS):
                return


def _memory(pid: int) -> tuple[int, int]:
    """The resident memory of a process and its peak, in bytes; 0 and 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    found = dict(_KILOBYTES.findall(status))
    return int(found.get("VmRSS", 0)) * 1024, int(found.get("VmHWM", 0)) * 1024


def _cpu(processes: Iterable[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(float(found.user + found.system) for found in times)


def _end_session(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, 9)


def _last_json(file: Path) -> Mapping[str, Any]:
    lines = file.read_text(errors="replace").strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        return {}
    output: dict[str, Any] = json.loads(lines[-1])
    return output
