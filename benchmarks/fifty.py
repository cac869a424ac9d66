"""Fifty tables ingested at once, through Airflow, on this machine."""

from __future__ import annotations

from benchmarks import REPOSITORY, at_once
from benchmarks.declared import copy_dags
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, Target, seconds
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import Workspace, leaving_on_sigterm
from millrace_sandbox.airflow import SOURCE_SLOTS
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.stack import WAREHOUSE_POOL, Stack

SECTION = "fifty"
CASE, METHOD = "ingest", "fifty tables at once"
TABLES = 50

_ROWS_EACH = 20_000
_TIMEOUT = 1_200
# Polling takes time of the API server that the tasks need.
_POLL_SECONDS = 5


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Let the schedules of fifty DAGs start at the same moment, once.

    Args:
        workspace: The folders of the benchmarks.
        rows: Only recorded.
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
    stack = Stack(SandboxPaths(workspace.root / "stack"))
    with leaving_on_sigterm():
        try:
            with progress.step(f"start the services and Airflow, fill {TABLES} tables"):
                _start(workspace, stack)
            with progress.step(f"ingest {TABLES} tables at once"):
                run = _ingest(stack)
            progress.say(f"{run.wall:8.2f} s  {METHOD}")
        finally:
            stack.stop()
    result.runs.append(run)
    file.save(result)
    return result


def _start(workspace: Workspace, stack: Stack) -> None:
    folder = workspace.scratch / "fifty" / "dbt_project"
    at_once.declare(folder, TABLES)
    stack.airflow.stop()
    stack.start_services()
    stack.reset()
    at_once.fill(stack.mysql.server, TABLES, _ROWS_EACH)
    stack.airflow.env = {**stack.environment(), "DBT_PROFILES_DIR": str(REPOSITORY)}
    stack.airflow.dags_folder = copy_dags(folder)
    stack.airflow.start()
    client = stack.airflow.client()
    client.wait_for_dags(at_once.dag_ids(TABLES))
    # DuckDB has one writer. The source's pool was created with Airflow.
    client.ensure_pool(WAREHOUSE_POOL, slots=1)


def _ingest(stack: Stack) -> Run:
    found = at_once.ingest(stack, TABLES, timeout=_TIMEOUT, interval=_POLL_SECONDS)
    values = {
        "tasks": len(found.tasks),
        "retried": sum(task.try_number > 1 for task in found.tasks),
        "connections": at_once.max_used_connections(stack.mysql.server),
    }
    at_once.refuse_missing(stack, TABLES, _ROWS_EACH)
    return Run(CASE, METHOD, 1, found.seconds, values)


def report(result: Result) -> Report:
    """The table and the targets of this section."""
    run = result.runs[0]
    values = run.values
    return Report(
        title=f"{TABLES} tables at once",
        method=_METHOD,
        table=Table(
            ("tables", "wall", "tasks", "tasks tried again", "most connections to MySQL"),
            (
                (
                    str(TABLES),
                    seconds(run.wall),
                    str(values["tasks"]),
                    str(values["retried"]),
                    str(values["connections"]),
                ),
            ),
        ),
        targets=(
            Target(f"{TABLES} tables at once: tasks tried again", 0, values["retried"], ""),
            Target(
                f"{TABLES} tables at once: most connections to MySQL, of the pool's slots",
                SOURCE_SLOTS,
                values["connections"],
                "",
            ),
        ),
    )


_METHOD = f"""\
{TABLES} declared tables of {_ROWS_EACH:,} rows, each with its DAG; the schedules of all are
switched on at the same moment in a running Airflow. The wall time is until the last run has ended.
The pool `mysql_prod` has {SOURCE_SLOTS} slots, the warehouse's (DuckDB) one. Afterwards the ledger
has all batches and all rows."""
