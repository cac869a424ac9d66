"""Where the two hottest paths spend their time: what a sampling profiler sees, by stage."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks import peers, tables
from benchmarks.environments import pinned_versions, python_of
from benchmarks.incremental import SHORT, build_a_day
from benchmarks.peers import MILLRACE
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, seconds
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import BenchmarkError, Workspace, running_services

SECTION = "profiles"
EXTRACTION, DAY = MILLRACE, "a day's dbt build on DuckDB"

_RATE = 200
OTHER = "other"
# The stages of a path, with the frames that mark them. A stack belongs to the first stage that
# matches. A thread that waits for another thread is left out.
_WAITING = (
    *("_queue_SimpleQueue_get", "PyThread_acquire_lock"),
    # Waiting for the GIL; and the thread of a pool that looks after its workers.
    *("pthread_cond_timedwait", "_wait_for_updates"),
)
_STAGES = {
    EXTRACTION: {
        "imports": ("_find_and_load (",),
        "receiving, with the wait for the server": ("recv (", "poll ("),
        # libmariadb calls it back for each value.
        "values into Arrow's buffers": ("result__", "Result__array ("),
        "rows out of packets: libmariadb": ("mysql_stmt_fetch (",),
        "casts to the columns' types": ("to_array (",),
        "SHA-256, handing over to the upload": ("_HashingSink.",),
        "Parquet with zstd": ("_PartWriter.",),
    },
    DAY: {
        "imports": ("_find_and_load (",),
        "SQL in DuckDB": ("_duckdb",),
        "Python's garbage collection": ("gc_collect_main",),
        "reading the project and the last parse": ("ManifestLoader.", "dbt/config/", "msgpack"),
        "Jinja: contexts, macros, compiling": ("dbt/context/", "jinja2/", "clients/jinja"),
        "messages, logs and artifacts": ("/events/", "logging/", "write_file", "write_node"),
    },
}


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Profile an extraction, and the build of a day.

    Args:
        workspace: The folders of the benchmarks.
        rows: Rows of the table that is extracted.
        rounds: Not used: the shares of two runs hardly differ.
        progress: Where progress is reported.
        resume: Whether to keep the profiles that were made at this size.

    Raises:
        BenchmarkError: the profiler may not look at a process, or what it ran failed.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, 1, resume=resume)
    result.facts["versions"] = f"py-spy {pinned_versions()['py-spy']}"
    for path, profile in ((EXTRACTION, _extraction), (DAY, _day)):
        if not result.has(path, "py-spy", 1):
            with (
                progress.step(f"profile {path}"),
                tempfile.TemporaryDirectory(dir=workspace.scratch) as folder,
            ):
                result.runs.append(
                    _profiled(workspace, path, rows, progress, Path(folder), profile)
                )
                file.save(result)
    return result


def stages_of(path: str, stacks: Iterable[str]) -> dict[str, int]:
    """Count the samples per stage.

    Args:
        path: Which of the two paths.
        stacks: py-spy's ``raw`` lines: frames joined by semicolons, a blank, and a number of
            samples.
    """
    found: Counter[str] = Counter()
    for line in stacks:
        stack, _, samples = line.rpartition(" ")
        if any(mark in stack for mark in _WAITING):
            continue
        stage = next(
            (
                stage
                for stage, marks in _STAGES[path].items()
                if any(mark in stack for mark in marks)
            ),
            OTHER,
        )
        found[stage] += int(samples)
    return {stage: found[stage] for stage in (*_STAGES[path], OTHER)}


_Profile = Callable[[Workspace, int, Progress, Path, Sequence[str | Path]], float]


def _profiled(
    workspace: Workspace,
    path: str,
    rows: int,
    progress: Progress,
    folder: Path,
    profile: _Profile,
) -> Run:
    # Kept, for those who want to see more than stages.
    stacks = workspace.results / (re.sub(r"\W+", "-", path) + ".stacks")
    stacks.unlink(missing_ok=True)
    py_spy = python_of(workspace, "profiler").with_name("py-spy")
    record = ("record", "--native", "--threads", "--rate", str(_RATE), "--format", "raw")
    wall = profile(workspace, rows, progress, folder, [py_spy, *record, "--output", stacks, "--"])
    if not stacks.is_file():
        raise BenchmarkError(
            "py-spy wrote nothing. Let it look at its own children: "
            "sysctl kernel.yama.ptrace_scope has to be 0 or 1."
        )
    stages = stages_of(path, stacks.read_text().splitlines())
    return Run(path, "py-spy", 1, wall, {"stages": stages, "rate": _RATE})


def _extraction(
    workspace: Workspace, rows: int, progress: Progress, folder: Path, under: Sequence[str | Path]
) -> float:
    millrace = peers.BY_NAME[MILLRACE]
    with running_services(workspace) as services:
        table = tables.create_rows(workspace, services.mariadb.server, rows)
        peers.prepare(workspace, millrace, table)
        return peers.extract(
            workspace, services, millrace, table, prefix=SECTION, folder=folder, under=under
        ).wall


def _day(
    workspace: Workspace, rows: int, progress: Progress, folder: Path, under: Sequence[str | Path]
) -> float:
    return build_a_day(workspace, progress, under)


def report(result: Result) -> Report:
    """The table of this section."""
    rows = []
    for run in result:
        samples = sum(run.values["stages"].values())
        for stage, count in run.values["stages"].items():
            share = f"{count / samples:.0%}"
            rows.append((run.case, stage, seconds(count / run.values["rate"]), share))
    return Report(
        title="Profiles: where the two hottest paths spend their time",
        method=_METHOD.format(rows=result.rows),
        table=Table(("path", "stage", "time", "share"), tuple(rows), texts=frozenset({1})),
    )


_METHOD = f"""\
py-spy samples all threads {_RATE} times per second, with their frames of C and C++. That slows the
process, so the shares count, not the seconds. Each stack is counted for one stage; threads that
wait for another thread are left out. The paths are an extraction of {{rows:,}} rows as above, and a
day of new rows as above on {SHORT:,} rows of history."""
