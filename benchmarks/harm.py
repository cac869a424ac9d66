"""What a read does to its server: its longest statement and snapshot, and the queries beside it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks import peers, tables
from benchmarks.declared import declaration, write_project
from benchmarks.peers import FLOOR, METHODS
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, Target, ratio, seconds, times
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import (
    BUFFER_POOL_MB,
    Services,
    Workspace,
    clean_environment,
    running_services,
)
from millrace_sandbox.mysql import MySQL, MySQLService

SECTION = "harm"

PIECES, MOMENT = "Millrace, moments of its pieces", "Millrace, as of one moment"
BUSY = f"{FLOOR}, beside two busy loops"
HOW = (FLOOR, BUSY, PIECES, MOMENT)
_DECLARED = {PIECES: False, MOMENT: True}

# A client on another machine takes nothing from the server: here it runs where a core is idle.
_ELSEWHERE = ("chrt", "--idle", "0")
_LOOP = (sys.executable, "-c", "while True: pass")
# A store on another machine takes nothing from this one's disk.
_MEMORY = Path("/dev/shm")  # noqa: S108 each read has a folder of its own there

_ALONE_SECONDS = 10
_STATEMENT_SECONDS = 5.0
_SLOWER = 1.2


@dataclass
class Beside:
    """The point queries of one window: when each began, and how long it took, in seconds."""

    taken: list[tuple[float, float]] = field(default_factory=list)

    def p99(self, began: float, ended: float) -> float:
        """The 99th percentile of those in a part of the window."""
        found = [took for at, took in self.taken if began <= at <= ended]
        return statistics.quantiles(found, n=100)[-1]


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Read a whole table from MariaDB and from MySQL while an application looks up single rows.

    Raises:
        BenchmarkError: something failed.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    with running_services(workspace) as services:
        result.facts |= {"versions": services.mysql_version}
        for name, place in _servers(workspace, services):
            with progress.step(f"a table of {rows:,} rows in {name}"):
                table = tables.create_plain_rows(place.mariadb.server, rows)
            project = workspace.scratch / f"harm_{table}"
            write_project(
                project / "dbt_project",
                [
                    declaration(f"{table}_{moment}", table, as_of_one_moment=moment, partitions=1)
                    for moment in _DECLARED.values()
                ],
            )
            for round_ in range(1, rounds + 1):
                for how in HOW:
                    if result.has(name, how, round_):
                        continue
                    run = _measured(workspace, place, project, table, name, how, round_)
                    progress.say(f"{run.wall:8.2f} s  {name}: {how}: {run.values}")
                    result.runs.append(run)
                    file.save(result)
    return result


def _servers(workspace: Workspace, services: Services) -> Iterator[tuple[str, Services]]:
    yield "MariaDB", services
    mysql = MySQL(workspace.sandbox, port=0, buffer_pool_mb=BUFFER_POOL_MB)
    try:
        mysql.start()
        yield "MySQL", replace(services, mariadb=mysql)
    finally:
        mysql.stop()


def _measured(
    workspace: Workspace,
    services: Services,
    project: Path,
    table: str,
    case: str,
    how: str,
    round_: int,
) -> Run:
    """The queries alone, then the read with the queries beside it."""
    job = services.job(table, f"{SECTION}/{table}")
    rows = int(table.rpartition("_")[2])
    with _application(job, rows) as alone:
        began = time.time()
        time.sleep(_ALONE_SECONDS)
    before = alone.p99(began, began + _ALONE_SECONDS)
    with (
        _application(job, rows) as beside,
        _logged(services.mariadb) as log,
        tempfile.TemporaryDirectory(dir=_MEMORY) as folder,
    ):
        if how in _DECLARED:
            usage = peers.run_declared(
                services,
                project,
                f"{table}_{_DECLARED[how]}",
                "extract_millrace.py",
                {"LANDING_URL": f"file://{folder}"},
                under=_ELSEWHERE,
            )
            began, wall = usage.output["began"], usage.output["working"]
        else:
            with _busy_loops(2 if how == BUSY else 0):
                began = time.time()
                usage = peers.extract(
                    workspace,
                    services,
                    peers.BY_NAME[FLOOR],
                    table,
                    prefix=SECTION,
                    folder=Path(folder),
                    under=_ELSEWHERE,
                )
            wall = usage.wall
    p99 = beside.p99(began, began + wall)
    statement, snapshot, statements = log()
    values = {
        "alone": before,
        "beside": p99,
        "slower": p99 / before,
        "statement": statement,
        "snapshot": snapshot,
        "statements": statements,
    }
    return Run(case, how, round_, wall, values)


@contextmanager
def _busy_loops(count: int) -> Iterator[None]:
    """Run as many loops as Millrace has busy threads; they read nothing, and keep a core warm."""
    loops = [subprocess.Popen([*_ELSEWHERE, *_LOOP]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


@contextmanager
def _application(job: dict[str, Any], rows: int) -> Iterator[Beside]:
    """Look up single rows in another process until the block ends."""
    beside = Beside()
    with tempfile.TemporaryDirectory() as folder:
        out, stop = Path(folder) / "taken.json", Path(folder) / "stop"
        environment = clean_environment() | {
            **{f"BENCH_{key.upper()}": str(value) for key, value in job.items()},
            "BENCH_ROWS": str(rows),
            "BENCH_FILES": f"{out}:{stop}",
        }
        command = [sys.executable, str(METHODS / "point_queries.py")]
        process = subprocess.Popen(command, env=environment)
        try:
            # Its start is not measured.
            time.sleep(1)
            yield beside
        finally:
            stop.touch()
            process.wait(30)
        beside.taken.extend(map(tuple, json.loads(out.read_text())))


@contextmanager
def _logged(service: MySQLService) -> Iterator[Callable[[], tuple[float, float, int]]]:
    """Let the server log every statement of the reader; gives what they came to, in seconds."""
    found: list[tuple[Any, ...]] = []

    def longest() -> tuple[float, float, int]:
        took = max((query_time.total_seconds() for _, _, query_time, _ in found), default=0)
        return took, max(_snapshots(found), default=timedelta()).total_seconds(), len(found)

    with service.server.admin_cursor() as cursor:
        cursor.execute("SET SESSION long_query_time = 3600")
        cursor.execute("SET GLOBAL log_output = 'TABLE'")
        cursor.execute("SET GLOBAL slow_query_log = OFF")
        cursor.execute("TRUNCATE mysql.slow_log")
        cursor.execute("SET GLOBAL long_query_time = 0")
        cursor.execute("SET GLOBAL slow_query_log = ON")
        try:
            yield longest
        finally:
            cursor.execute("SET GLOBAL slow_query_log = OFF")
            cursor.execute("SET GLOBAL long_query_time = 10")
        cursor.execute(
            "SELECT thread_id, start_time, query_time, CONVERT(sql_text USING utf8mb4) "
            "FROM mysql.slow_log WHERE user_host LIKE %s ORDER BY thread_id, start_time",
            [f"%{service.server.reader_user}%"],
        )
        found.extend(cursor.fetchall())


def _snapshots(log: list[tuple[Any, ...]]) -> Iterator[timedelta]:
    """How long each snapshot was open, from the statements of each connection in their order."""
    began: dict[int, datetime] = {}
    for thread, at, took, text in log:
        if text.startswith("START TRANSACTION"):
            began[thread] = at
        elif thread in began:
            yield at + took - began[thread]
            if text.startswith(("COMMIT", "ROLLBACK")):
                del began[thread]


def report(result: Result) -> Report:
    """The table and the targets of this section."""

    def median(case: str, how: str, value: str) -> float | None:
        return result.median(case, how, lambda run: float(run.values[value]))

    rows, targets = [], []
    for case in result.cases():
        rows += [
            (
                case,
                how,
                seconds(result.median(case, how)),
                seconds(median(case, how, "statement")),
                seconds(median(case, how, "snapshot")) if how in _DECLARED else "",
                _milliseconds(median(case, how, "alone")),
                _milliseconds(median(case, how, "beside")),
                times(median(case, how, "slower")),
            )
            for how in result.methods(case)
        ]
        targets += [
            Target(
                f"longest statement of a read of {result.rows:,} rows, {case}",
                _STATEMENT_SECONDS,
                max(run.values["statement"] for run in result.select(case, PIECES)),
                "s",
            ),
            Target(
                f"99th percentile of a point query beside it, {case}",
                _SLOWER,
                median(case, PIECES, "slower"),
                "×",
            ),
            Target(
                f"the same, compared with the C client beside busy loops, {case}",
                _SLOWER,
                ratio(median(case, PIECES, "slower"), median(case, BUSY, "slower")),
                "×",
            ),
        ]
    return Report(
        title=f"Harm: what a read of {result.rows:,} rows does to its server",
        method=_METHOD,
        table=Table(
            (
                *("server", "read by", "wall", "longest statement", "longest snapshot"),
                *("point query alone, p99", "beside the read, p99", "slower"),
            ),
            tuple(rows),
            texts=frozenset({1}),
        ),
        targets=tuple(targets),
    )


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{1000 * value:.2f} ms"


_METHOD = f"""\
Another process looks up single rows by their keys, at most 500 in a second: for {_ALONE_SECONDS} s
alone, and then while one connection reads the whole table. The server's own log tells how long each
statement of the read took, and how long its snapshots were open. On a server of its own, a query
shares nothing with the client that reads, nor with S3: here the client runs where a core is idle
(the policy SCHED_IDLE), and lands in memory. The C client only reads and discards: it shows what a
read by one statement does. Two loops that compute nothing, at the same policy, are as many busy
threads as Millrace has: beside the C client they show how much of a query's wait is for a core."""
