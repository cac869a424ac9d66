"""Fifty tables ingested at once, through Airflow, on this machine."""

from __future__ import annotations

from datetime import UTC, datetime

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from benchmarks import REPOSITORY
from benchmarks.declared import SCHEMA, SOURCE, copy_dags, declaration, write_project
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, Target, seconds
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import BenchmarkError, Workspace, leaving_on_sigterm
from millrace_sandbox import sample_data
from millrace_sandbox.airflow import SOURCE_SLOTS
from millrace_sandbox.airflow_api import AirflowClient
from millrace_sandbox.mysql import MySQLServer
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import SandboxError, poll
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
                client = _start(workspace, stack)
            with progress.step(f"ingest {TABLES} tables at once"):
                run = _ingest(stack, client)
            progress.say(f"{run.wall:8.2f} s  {METHOD}")
        finally:
            stack.stop()
    result.runs.append(run)
    file.save(result)
    return result


def _start(workspace: Workspace, stack: Stack) -> AirflowClient:
    folder = workspace.scratch / "fifty" / "dbt_project"
    tables = [declaration(f"t{number}", f"t{number}") for number in range(TABLES)]
    # The DAG transform needs a model.
    models = {"stg_t0": f"select * from {{{{ source('{SOURCE}', 't0') }}}}"}
    write_project(folder, tables, models)
    stack.airflow.stop()
    stack.start_services()
    stack.reset()
    _fill(stack.mysql.server)
    stack.airflow.env = {**stack.environment(), "DBT_PROFILES_DIR": str(REPOSITORY)}
    stack.airflow.dags_folder = copy_dags(folder)
    stack.airflow.start()
    client = stack.airflow.client()
    client.wait_for_dags(_dag_ids())
    # DuckDB has one writer. The source's pool was created with Airflow.
    client.ensure_pool(WAREHOUSE_POOL, slots=1)
    return client


# With both cores taken, Airflow's API may not answer in time.
_patiently = Retrying(
    retry=retry_if_exception_type(SandboxError),
    stop=stop_after_delay(300),
    wait=wait_fixed(_POLL_SECONDS),
    reraise=True,
)


def _ingest(stack: Stack, client: AirflowClient) -> Run:
    server = stack.mysql.server
    with server.admin_cursor() as cursor:
        cursor.execute("flush status")
    began = datetime.now(UTC)
    for dag_id in _dag_ids():
        _patiently(client.unpause, dag_id)

    def is_done() -> bool:
        runs = _patiently(client.runs, since=began)
        return _dag_ids() <= {run.dag_id for run in runs if run.ended_at is not None}

    if not poll(is_done, _TIMEOUT, interval=_POLL_SECONDS):
        raise BenchmarkError(f"{TABLES} tables were not ingested within {_TIMEOUT} s.")
    runs = [run for run in _patiently(client.runs, since=began) if run.dag_id in _dag_ids()]
    if failed := [run.dag_id for run in runs if run.state != "success"]:
        raise BenchmarkError(f"{len(failed)} of {TABLES} ingest runs failed, {failed[0]} first.")
    tasks = [
        task for task in _patiently(client.task_instances, since=began) if task.dag_id in _dag_ids()
    ]
    _, loaded = stack.query(f"select count(*), sum(row_count) from {SCHEMA}._batches")
    values = {
        "tasks": len(tasks),
        "retried": sum(task.try_number > 1 for task in tasks),
        "connections": _max_used_connections(server),
        "batches": int(loaded[0][0]),
        "rows": int(loaded[0][1]),
    }
    if (values["batches"], values["rows"]) != (TABLES, TABLES * _ROWS_EACH):
        raise BenchmarkError(f"The ledger has {values['batches']} batches, {values['rows']} rows.")
    ended = max(run.ended_at for run in runs if run.ended_at is not None)
    return Run(CASE, METHOD, 1, (ended - began).total_seconds(), values)


def _dag_ids() -> set[str]:
    return {f"ingest__{SOURCE}__t{number}" for number in range(TABLES)}


def _fill(server: MySQLServer) -> None:
    sample_data.create_schema(server)
    with server.admin_cursor(database="prod") as cursor:
        for number in range(TABLES):
            cursor.execute(
                f"create or replace table t{number} (id int primary key, note varchar(40) not null)"
            )
            cursor.execute(f"insert into t{number} select seq, md5(seq) from seq_1_to_{_ROWS_EACH}")


def _max_used_connections(server: MySQLServer) -> int:
    with server.admin_cursor() as cursor:
        cursor.execute("show global status like 'Max_used_connections'")
        # Less this connection itself.
        return int(cursor.fetchone()[1]) - 1


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
