"""Hundreds of tables due at once, on three Celery workers: what each service has to bear."""

from __future__ import annotations

import re
import statistics
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from typing import Any, Self

import psutil
import psycopg

from benchmarks import REPOSITORY, at_once
from benchmarks.declared import copy_dags
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, Target, markdown, megabytes, seconds
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import Workspace, leaving_on_sigterm
from millrace_sandbox import celery
from millrace_sandbox.airflow import SERVICES, SOURCE_SLOTS, Airflow
from millrace_sandbox.airflow_api import TaskInstance
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.redis import Redis
from millrace_sandbox.stack import WAREHOUSE_POOL, Stack

SECTION = "workers"
CASE, METHOD = "ingest", "tables at once, on Celery workers"
WORKERS, CONCURRENCY = 3, 4

_MOST_TABLES, _ROWS_A_TABLE = 200, 25_000
_ROWS_EACH = 2_000
_WAREHOUSE_SLOTS = 4
_TIMEOUT = 1_800
# Polling takes time of the API server that the tasks need.
_POLL_SECONDS = 10
_SAMPLE_SECONDS = 2
_LOOP = re.compile(r"Ran scheduling loop in ([\d.]+) ms")
_PARSED = re.compile(r"ingest\.py .*? (\d+) +\d+ +([\d.]+)s ")
_SETTINGS = {
    # No more than the workers can run: what waits for a worker would be taken for lost.
    "AIRFLOW__CORE__PARALLELISM": str(WORKERS * CONCURRENCY),
    # The scheduler says how long each loop took.
    "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.jobs.scheduler_job_runner=DEBUG",
    "AIRFLOW__DAG_PROCESSOR__PRINT_STATS_INTERVAL": "10",
}


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Let the schedules of all DAGs start at the same moment, once.

    Args:
        workspace: The folders of the benchmarks.
        rows: Decides how many tables there are: one for each 25,000, at most 200.
        rounds: Not used: it runs once.
        progress: Where progress is reported.
        resume: Whether to keep the last result instead of running again.

    Raises:
        BenchmarkError: a run failed, or the runs did not end in time.
        SandboxError: a service failed.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, 1, resume=resume)
    if result.runs:
        return result
    tables = max(1, min(_MOST_TABLES, rows // _ROWS_A_TABLE))
    paths = SandboxPaths(workspace.root / "stack-redshift")
    stack, redis = Stack(paths, target="redshift"), Redis(paths)
    with leaving_on_sigterm(), ExitStack() as started:
        started.callback(stack.stop)
        started.callback(redis.stop)
        with progress.step(f"start the services, Airflow and {WORKERS} workers"):
            workers = _start(workspace, stack, redis, tables, started)
        with progress.step(f"ingest {tables} tables at once"):
            run = _ingest(stack, workers, tables)
        progress.say(f"{run.wall:8.2f} s  {tables} {METHOD}")
    result.runs.append(run)
    file.save(result)
    return result


def _start(
    workspace: Workspace, stack: Stack, redis: Redis, tables: int, started: ExitStack
) -> list[celery.Worker]:
    folder = workspace.scratch / SECTION / "dbt_project"
    at_once.declare(folder, tables)
    stack.airflow.stop()
    redis.stop()
    stack.start_services()
    stack.reset()
    redis.start()
    at_once.fill(stack.mysql.server, tables, _ROWS_EACH)
    airflow = stack.airflow
    airflow.env = {
        **stack.environment(),
        **celery.settings(redis),
        **_SETTINGS,
        "DBT_PROFILES_DIR": str(REPOSITORY),
    }
    airflow.dags_folder = copy_dags(folder)
    airflow.start()
    workers = [
        celery.Worker(airflow, f"worker-{number}", ["default"], CONCURRENCY)
        for number in range(1, WORKERS + 1)
    ]
    for worker in workers:
        # Before Airflow is stopped, which its tasks would wait for.
        started.callback(worker.stop)
        worker.start()
    client = airflow.client()
    client.wait_for_dags(at_once.dag_ids(tables), timeout=180)
    # The source's pool was created with Airflow.
    client.ensure_pool(WAREHOUSE_POOL, slots=_WAREHOUSE_SLOTS)
    for worker in workers:
        worker.wait_until_ready()
    return workers


def _ingest(stack: Stack, workers: Sequence[celery.Worker], tables: int) -> Run:
    with Watch(stack.airflow, workers) as watch:
        found = at_once.ingest(stack, tables, timeout=_TIMEOUT, interval=_POLL_SECONDS)
    at_once.refuse_missing(stack, tables, _ROWS_EACH)
    values = {
        "tables": tables,
        **_of_tasks(found.tasks),
        **_of_logs(stack.airflow),
        "mysql": at_once.max_used_connections(stack.mysql.server),
        "components": watch.components,
        "postgres": watch.connections,
        "database": watch.database_bytes(),
    }
    return Run(CASE, METHOD, 1, found.seconds, values)


def _of_tasks(tasks: Iterable[TaskInstance]) -> dict[str, Any]:
    """How long tasks waited: for a slot, then, when they were sent, for a worker."""
    tasks = list(tasks)
    for_a_slot = [(t.queued_at - t.scheduled_at) for t in tasks if t.queued_at and t.scheduled_at]
    for_a_worker = [(t.started_at - t.queued_at) for t in tasks if t.started_at and t.queued_at]
    return {
        "tasks": len(tasks),
        "retried": sum(task.try_number > 1 for task in tasks),
        "for_a_slot": _spread(wait.total_seconds() for wait in for_a_slot),
        "for_a_worker": _spread(wait.total_seconds() for wait in for_a_worker),
        "ran": _spread(task.seconds for task in tasks if task.seconds is not None),
    }


def _of_logs(airflow: Airflow) -> dict[str, Any]:
    loops = _LOOP.findall(airflow.services["scheduler"].log.read_text(errors="replace"))
    parsed = _PARSED.findall(airflow.services["dag-processor"].log.read_text(errors="replace"))
    return {
        "loop": _spread(float(loop) / 1_000 for loop in loops),
        # While it finds no DAG in the file, it has not parsed it.
        "parse": _spread(float(took) for dags, took in parsed if dags != "0"),
    }


def _spread(values: Iterable[float]) -> list[float] | None:
    """Median, 95th percentile and the highest; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return [statistics.median(ordered), ordered[int(len(ordered) * 0.95)], ordered[-1]]


@dataclass
class _Component:
    """What the processes of one service took at most, and their processor time since it began."""

    processes: int = 0
    memory: int = 0
    connections: int = 0
    cpu: float = 0
    cpu_before: float | None = None


class Watch:
    """Looks at an Airflow every few seconds, from a thread of its own, until the block ends.

    Attributes:
        connections: The most connections to the metadata database at a time.
    """

    def __init__(self, airflow: Airflow, workers: Sequence[celery.Worker]) -> None:
        self.connections = 0
        self._url = airflow.environment()["AIRFLOW_CONN_AIRFLOW_METADATA"]
        self._port = int(self._url.rpartition(":")[2].partition("/")[0])
        self._leaders = {name: airflow.services[name].pid for name in SERVICES} | {
            worker.name: worker.pid for worker in workers
        }
        self._found = {name: _Component() for name in self._leaders}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look_again, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def components(self) -> dict[str, dict[str, float]]:
        """What each service took, by its name."""
        return {
            name: {
                "processes": found.processes,
                "memory": found.memory,
                "connections": found.connections,
                "cpu": found.cpu - (found.cpu_before or 0),
            }
            for name, found in self._found.items()
        }

    def database_bytes(self) -> int:
        """The size of the metadata database."""
        return self._ask("select pg_database_size(current_database())")

    def _look_again(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            self.connections = max(
                self.connections,
                # Less this one.
                self._ask("select count(*) from pg_stat_activity where datname is not null") - 1,
            )
            for name, leader in self._leaders.items():
                if leader is not None:
                    self._look(self._found[name], leader)

    def _look(self, component: _Component, leader: int) -> None:
        memory, cpu = 0, 0.0
        # By their own ports: a process that was forked has its parent's connections, too.
        connections: set[int] = set()
        with suppress(psutil.NoSuchProcess):
            main = psutil.Process(leader)
            family = [main, *main.children(recursive=True)]
            for process in family:
                with suppress(psutil.NoSuchProcess):
                    # Shared pages are divided among those that share them.
                    memory += process.memory_full_info().pss
                    times = process.cpu_times()
                    # With that of processes that have ended.
                    cpu += times.user + times.system + times.children_user + times.children_system
                    connections |= {
                        each.laddr.port
                        for each in process.net_connections("tcp4")
                        if each.raddr and each.raddr.port == self._port
                    }
            component.processes = max(component.processes, len(family))
        component.cpu = max(component.cpu, cpu)
        if component.cpu_before is None:
            component.cpu_before = cpu
        component.memory = max(component.memory, memory)
        component.connections = max(component.connections, len(connections))

    def _ask(self, sql: str) -> int:
        with closing(psycopg.connect(self._url, autocommit=True)) as connection:
            row = connection.execute(sql.encode()).fetchone()
        return int(row[0]) if row else 0


def report(result: Result) -> Report:
    """The table and the targets of this section."""
    run = result.runs[0]
    values = run.values
    tables = values["tables"]
    return Report(
        title=f"{tables} tables at once on {WORKERS} Celery workers",
        method=_METHOD.format(tables=tables),
        table=Table(
            ("", "median", "95 of 100", "most"),
            (
                ("until all were ingested", "", "", seconds(run.wall)),
                ("a task ran", *_cells(values["ran"])),
                ("a task waited for a slot of its pool", *_cells(values["for_a_slot"])),
                ("a task that was sent waited for a worker", *_cells(values["for_a_worker"])),
                ("a loop of the scheduler", *_cells(values["loop"])),
                (f"the DAG processor parsed the file of {tables} DAGs", *_cells(values["parse"])),
                ("connections to the metadata database", "", "", str(values["postgres"])),
                ("connections to MySQL", "", "", str(values["mysql"])),
                ("the metadata database afterwards", "", "", megabytes(values["database"])),
            ),
        ),
        remark=_components(values["components"]),
        targets=(
            Target(f"{tables} tables on Celery: tasks tried again", 0, values["retried"], ""),
            Target(
                f"{tables} tables on Celery: most connections to MySQL, of the pool's slots",
                SOURCE_SLOTS,
                values["mysql"],
                "",
            ),
        ),
    )


def _cells(spread: Sequence[float] | None) -> tuple[str, ...]:
    return tuple(map(seconds, spread or (None, None, None)))


def _components(components: Mapping[str, Mapping[str, float]]) -> str:
    rows = [
        (
            name,
            str(found["processes"]),
            megabytes(found["memory"]),
            f"{found['cpu']:.0f} s",
            str(found["connections"]),
        )
        for name, found in components.items()
    ]
    headings = ("at most", "processes", "memory", "processor time", "metadata connections")
    return markdown(headings, rows, frozenset())


_METHOD = f"""\
{{tables}} declared tables of {_ROWS_EACH:,} rows, each with its DAG of three tasks; the schedules
of all are switched on at the same moment. {WORKERS} Celery workers run {CONCURRENCY} tasks each;
`[core] parallelism` is their sum. The pool `mysql_prod` has {SOURCE_SLOTS} slots, that of the
warehouse (the Redshift stand-in) {_WAREHOUSE_SLOTS}. Everything shares this one machine: MySQL, S3,
PostgreSQL, Redis, the warehouse and Airflow. So the seconds are this machine's; the counts are what
a larger one would see, too. Memory: shared pages are divided among those that share them.
Afterwards the ledger has all batches and all rows."""
