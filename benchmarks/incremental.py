"""A day of new rows on a short and on a long history: how long ``dbt build`` takes."""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb

from benchmarks import REPOSITORY, history
from benchmarks import measure as measuring
from benchmarks.progress import Progress
from benchmarks.report import Chart, Report, Table, Target, megabytes, ratio, seconds, times
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import (
    Workspace,
    clean_environment,
    leaving_on_sigterm,
)
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.standins import Redshift
from redshift_standin.supervisor import connect_superuser

SECTION = "incremental"
DUCKDB, REDSHIFT = "DuckDB", "Redshift stand-in"
BACKFILL = "backfill"
SNAPSHOT = "nps_responses_snapshot"
DAY_ROWS = 10_000

SHORT = 200_000
# The long history has this many times the rows that are asked for.
_TIMES = 4
_NODES_SHOWN = 4


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Build both histories in both warehouses, then add and build days, in turns.

    Args:
        workspace: Where the histories are kept: a later run adds the next days to them, unless
            the models have changed since.
        rows: The long history has four times as many responses.
        rounds: How many days.
        progress: Where progress is reported.
        resume: Whether to go on where the last measurement of this size stopped.

    Raises:
        BenchmarkError: dbt failed.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    result.facts["versions"] = f"DuckDB {duckdb.__version__}"
    with leaving_on_sigterm(), ExitStack() as running:
        histories: list[_History] = []
        for kind in (_DuckDBHistory, _RedshiftHistory):
            for responses in (SHORT, rows * _TIMES):
                opened = kind(workspace, responses)
                running.enter_context(opened.running())
                histories.append(opened)
        for kept in histories:
            backfill = kept.prepare(progress)
            if not result.has(BACKFILL, kept.name, 1):
                result.runs.append(backfill)
                file.save(result)
        for day in range(1, rounds + 1):
            for kept in histories:
                if result.has(kept.warehouse, str(kept.responses), day):
                    continue
                with progress.step(f"day {day} of {rounds}: {kept.name}"):
                    run = kept.next_day(day)
                progress.say(f"{run.wall:8.2f} s  {kept.name}")
                result.runs.append(run)
                file.save(result)
    return result


def build_a_day(workspace: Workspace, progress: Progress, under: Sequence[str | Path]) -> float:
    """Add a day to the short history on DuckDB, and build it.

    Args:
        workspace: Where the history is kept.
        progress: Where progress is reported.
        under: A program that dbt is run under, and its arguments.

    Returns:
        The seconds of the build.

    Raises:
        BenchmarkError: dbt failed.
    """
    kept = _DuckDBHistory(workspace, SHORT)
    with kept.running():
        kept.prepare(progress)
        return kept.next_day(1, under).wall


def dbt_build(
    log_path: str, *, select: Sequence[str] = (), exclude: Sequence[str] = ()
) -> tuple[str, ...]:
    """The command that builds the project as production does, or a part of it.

    Args:
        log_path: The folder of its logs.
        select: Nodes to build; default: all.
        exclude: Nodes to leave out.
    """
    return (
        *(sys.executable, "-m", "dbt.cli.main", "--quiet", "--no-use-colors"),
        *("--log-path", log_path, "build"),
        *(("--select", *select) if select else ()),
        # Unit tests are for continuous integration.
        *("--exclude", "resource_type:unit_test", *exclude),
        *("--project-dir", str(REPOSITORY / "dbt_project")),
        *("--profiles-dir", str(REPOSITORY)),
    )


class _History(ABC):
    """A warehouse with the responses of many days, which dbt has built."""

    warehouse: str

    def __init__(self, workspace: Workspace, responses: int) -> None:
        self.responses = responses
        slug = self.warehouse.split()[0].lower()
        self.folder = workspace.scratch / f"history_{slug}_{responses}"
        self._built = self.folder / "built.json"

    @property
    def name(self) -> str:
        return f"{self.warehouse}, {self.responses:,} rows of history"

    @abstractmethod
    def running(self) -> Any:
        """Start what it needs, and stop it at the end."""

    @abstractmethod
    def connect(self) -> Any:
        """A connection that the generator of the history takes."""

    @abstractmethod
    def forget(self) -> None:
        """Drop everything."""

    @abstractmethod
    def settle(self) -> None:
        """Do the maintenance that the warehouse would do by itself overnight."""

    @abstractmethod
    def environment(self) -> dict[str, str]:
        """The environment variables by which dbt finds the warehouse."""

    def prepare(self, progress: Progress) -> Run:
        """Fill and build it, unless that was done with the same models; returns the build's run."""
        models = _fingerprint()
        if self._built.is_file():
            built = json.loads(self._built.read_text())
            if built["models"] == models:
                return Run(**built["run"])
        self._built.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "target", ignore_errors=True)
        with progress.step(f"fill {self.name}"):
            self.forget()
            with closing(self.connect()) as connection:
                history.fill(connection, self.responses)
            self.settle()
        with progress.step(f"first dbt build: {self.name}"):
            usage, said = self._build()
        progress.say(f"{usage.wall:8.2f} s  {megabytes(usage.peak)}  first build: {self.name}")
        self.settle()
        run = Run(BACKFILL, self.name, 1, usage.wall, {"peak": usage.peak, **said})
        self._built.write_text(
            json.dumps({"models": models, "run": {**run.__dict__, "values": dict(run.values)}})
        )
        return run

    def next_day(self, day: int, under: Sequence[str | Path] = ()) -> Run:
        """Add a day, and build it; `under` is a program that dbt is run under, and its arguments.

        dbt's own snapshot of the responses is built separately, after the rest.
        """
        with closing(self.connect()) as connection:
            history.add_day(connection, DAY_ROWS)
        usage, said = self._build(under, exclude=(SNAPSHOT,))
        _, of_snapshot = self._build(select=(SNAPSHOT,))
        values = {"cpu": usage.cpu, "peak": usage.peak, "snapshot": of_snapshot["elapsed"], **said}
        return Run(self.warehouse, str(self.responses), day, usage.wall, values)

    def _build(
        self,
        under: Sequence[str | Path] = (),
        *,
        select: Sequence[str] = (),
        exclude: Sequence[str] = (),
    ) -> tuple[measuring.Usage, dict[str, Any]]:
        target = self.folder / "target"
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            usage = measuring.run(
                [
                    *under,
                    *dbt_build(folder, select=select, exclude=exclude),
                    "--target-path",
                    str(target),
                ],
                environment={**clean_environment(), **self.environment()},
                folder=Path(folder),
                timeout=1_800,
            )
        said = json.loads((target / "run_results.json").read_text())
        nodes = {
            node["unique_id"].split(".", 2)[2]: float(node["execution_time"])
            for node in said["results"]
        }
        return usage, {"elapsed": float(said["elapsed_time"]), "nodes": nodes}


class _DuckDBHistory(_History):
    warehouse = DUCKDB

    @property
    def _file(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @contextmanager
    def running(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        yield

    def connect(self) -> Any:
        return duckdb.connect(str(self._file), config={"memory_limit": "2GB"})

    def forget(self) -> None:
        for suffix in ("", ".wal"):
            Path(f"{self._file}{suffix}").unlink(missing_ok=True)

    def settle(self) -> None:
        with closing(self.connect()) as connection:
            connection.execute("checkpoint")

    def environment(self) -> dict[str, str]:
        return {"TARGET": "dev", "DUCKDB_PATH": str(self._file)}


class _RedshiftHistory(_History):
    warehouse = REDSHIFT

    def __init__(self, workspace: Workspace, responses: int) -> None:
        super().__init__(workspace, responses)
        self._server = Redshift(SandboxPaths(self.folder), port=0)

    @contextmanager
    def running(self) -> Iterator[None]:
        try:
            self._server.start()
            yield
        finally:
            self._server.stop()

    def connect(self) -> Any:
        connection = self._server.endpoint.connect()
        connection.autocommit = True
        return connection

    def forget(self) -> None:
        self._server.reset()

    def settle(self) -> None:
        # Redshift vacuums and analyses when it is idle; PostgreSQL would do so during a build.
        with connect_superuser(self._server.endpoint) as connection:
            connection.execute("vacuum analyze")
            connection.execute("checkpoint")

    def environment(self) -> dict[str, str]:
        return {"TARGET": "redshift", **self._server.endpoint.environment()}


def _fingerprint() -> str:
    """The digest of all files that decide how a history is built."""
    project = REPOSITORY / "dbt_project"
    generated = {"target", "logs", "dbt_packages"}
    files = [Path(history.__file__), REPOSITORY / "profiles.yml"]
    files += sorted(
        file
        for file in project.rglob("*")
        if file.is_file() and file.relative_to(project).parts[0] not in generated
    )
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(REPOSITORY)).encode() + file.read_bytes())
    return digest.hexdigest()


def report(result: Result) -> Report:
    """The table, the target and the picture of this section."""
    long = result.rows * _TIMES
    title = f"An incremental day: {DAY_ROWS:,} new rows on a short and on a long history"
    return Report(
        title=title,
        method=_METHOD,
        table=Table(
            (
                *("warehouse", "history", "a day's dbt build", "÷ short", "without start-up"),
                *("slowest nodes", "snapshot of the responses, separately"),
                *("first dbt build", "dbt's peak memory in it"),
            ),
            tuple(
                _row(result, warehouse, responses)
                for warehouse in (DUCKDB, REDSHIFT)
                for responses in (SHORT, long)
            ),
            texts=frozenset({5}),
        ),
        targets=(
            Target(
                f"{DUCKDB}: a day on {long:,} rows of history compared with one on {SHORT:,}",
                1.5,
                ratio(result.median(DUCKDB, str(long)), result.median(DUCKDB, str(SHORT))),
                "×",
            ),
        ),
        charts=(_chart(result, long),),
    )


def _row(result: Result, warehouse: str, responses: int) -> tuple[str, ...]:
    def median(of: str) -> str:
        return seconds(result.median(warehouse, str(responses), lambda run: float(run.values[of])))

    backfill = result.select(BACKFILL, f"{warehouse}, {responses:,} rows of history")
    wall = result.median(warehouse, str(responses))
    return (
        warehouse,
        f"{responses:,}",
        seconds(wall),
        times(ratio(wall, result.median(warehouse, str(SHORT)))),
        median("elapsed"),
        _dearest(result.select(warehouse, str(responses))),
        median("snapshot"),
        seconds(backfill[0].wall if backfill else None),
        megabytes(backfill[0].values["peak"] if backfill else None),
    )


def _chart(result: Result, long: int) -> Chart:
    title = f"dbt build after a day of {DAY_ROWS:,} new rows"
    series = [
        {
            "label": f"{responses:,} rows of history",
            "values": [
                result.median(warehouse, str(responses)) or 0 for warehouse in (DUCKDB, REDSHIFT)
            ],
        }
        for responses in (SHORT, long)
    ]
    return Chart(
        "incremental-day.png",
        title,
        {
            "kind": "groups",
            "title": title,
            "unit": "seconds",
            "groups": [DUCKDB, REDSHIFT],
            "series": series,
        },
    )


def _dearest(runs: Sequence[Run]) -> str:
    """The nodes that took longest, by the median of the days."""
    names = {name for run in runs for name in run.values["nodes"]}
    medians = {
        name: statistics.median(run.values["nodes"].get(name, 0.0) for run in runs)
        for name in names
    }
    dearest = sorted(medians, key=lambda name: -medians[name])[:_NODES_SHOWN]
    return ", ".join(f"{name.partition('.')[0]} {medians[name]:.2f} s" for name in dearest)


_METHOD = f"""\
The raw tables are filled with NPS responses, one load per day of 9,000, every twentieth edited two
days later, and with 50,000 users. A first `dbt build` builds everything; then days are added, of
{DAY_ROWS:,} rows each: 90 % new responses, 9.5 % edits of the last fortnight, 0.5 % edits of any
age; all users are replaced, some with another plan. After each day `dbt build` (models, snapshots,
data tests; unit tests are excluded, as in production) is measured, start-up included, in turns
between the histories. dbt's own snapshot of the responses is left out of that build, then built
separately with its tests, and given without start-up. The first build deduplicates and snapshots
the whole history. Its memory is that of dbt's process, in which DuckDB runs with a limit of 2 GB
and may spill to disk; with the stand-in, PostgreSQL does the work in its own processes. The time
without start-up and those of the slowest nodes are dbt's own figures. The Redshift stand-in has no
target: it is PostgreSQL, which stores rows and reads whole rows for a single column, where Redshift
reads only that column."""
