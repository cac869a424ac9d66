"""The results: one JSON file per section, written after every run."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from benchmarks.workspace import Workspace

_PACKAGES = ("apache-airflow", "astronomer-cosmos", "dbt-core", "duckdb", "pyarrow")


@dataclass(frozen=True)
class Run:
    """One measured run.

    Attributes:
        case: What was done, e.g. ``extract``.
        method: How it was done.
        round: The number of the round, from 1.
        wall: Wall time in seconds.
        values: What else was measured, by name.
    """

    case: str
    method: str
    round: int
    wall: float
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Result:
    """The runs of one section at one size.

    Attributes:
        section: Its name.
        rows: The size that was asked for.
        rounds: How often each method runs.
        measured_at: When it began, in UTC.
        machine: The machine that it ran on.
        facts: What else the page says.
        runs: The runs, in their order.
    """

    section: str
    rows: int
    rounds: int
    measured_at: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    machine: dict[str, str] = field(default_factory=lambda: describe_machine())
    facts: dict[str, Any] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)

    def has(self, case: str, method: str, round_: int) -> bool:
        """Whether that run was done."""
        key = (case, method, round_)
        return any((run.case, run.method, run.round) == key for run in self.runs)

    def select(self, case: str, method: str) -> list[Run]:
        """The runs of one method."""
        return [run for run in self.runs if (run.case, run.method) == (case, method)]

    def methods(self, case: str) -> list[str]:
        """The methods of a case, in the order of their first runs."""
        return list(dict.fromkeys(run.method for run in self.runs if run.case == case))

    def cases(self) -> list[str]:
        """The cases, in the order of their first runs."""
        return list(dict.fromkeys(run.case for run in self.runs))

    def median(
        self, case: str, method: str, value: Callable[[Run], float] = lambda run: run.wall
    ) -> float | None:
        """The median over a method's runs; None if there are none."""
        found = [value(run) for run in self.select(case, method)]
        return statistics.median(found) if found else None

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)


class ResultFile:
    """A section's result on disk.

    Args:
        workspace: Where the results are.
        section: Its name.
    """

    def __init__(self, workspace: Workspace, section: str) -> None:
        self._path = workspace.results / f"{section}.json"
        self._section = section

    def load(self) -> Result | None:
        """The last result; None where the section never ran."""
        if not self._path.is_file():
            return None
        value = json.loads(self._path.read_text())
        return Result(**{**value, "runs": [Run(**run) for run in value["runs"]]})

    def begin(self, rows: int, rounds: int, *, resume: bool) -> Result:
        """A new result; or the last one, if it is to be resumed and has the same size."""
        last = self.load()
        if resume and last is not None and last.rows == rows:
            last.rounds = rounds
            return last
        return Result(self._section, rows, rounds)

    def save(self, result: Result) -> None:
        """Write the result, whole or not at all."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n")
        draft.replace(self._path)


def describe_machine() -> dict[str, str]:
    """The machine and the versions that the figures depend on."""
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in _PACKAGES)
    return {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory:.0f} GB",
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
