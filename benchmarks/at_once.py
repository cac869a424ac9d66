"""Tables whose DAGs are all switched on at the same moment: what two sections do alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_fixed

from benchmarks.declared import SCHEMA, SOURCE, declaration, write_project
from benchmarks.workspace import BenchmarkError
from millrace_sandbox import sample_data
from millrace_sandbox.airflow_api import TaskInstance
from millrace_sandbox.mysql import MySQLServer
from millrace_sandbox.processes import SandboxError, poll
from millrace_sandbox.stack import Stack

_PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Ingested:
    """What came of it.

    Attributes:
        seconds: From the first DAG that was switched on to the end of the last run.
        tasks: The tasks of all runs.
    """

    seconds: float
    tasks: list[TaskInstance]


def declare(folder: Path, tables: int) -> None:
    """Write a dbt project with that many tables."""
    declared = [declaration(f"t{number}", f"t{number}") for number in range(tables)]
    # The DAG transform needs a model.
    models = {"stg_t0": f"select * from {{{{ source('{SOURCE}', 't0') }}}}"}
    write_project(folder, declared, models)


def dag_ids(tables: int) -> set[str]:
    """The DAGs of the declared tables."""
    return {f"ingest__{SOURCE}__t{number}" for number in range(tables)}


def fill(server: MySQLServer, tables: int, rows: int) -> None:
    """Make the tables, with that many rows each."""
    sample_data.create_schema(server)
    with server.admin_cursor(database="prod") as cursor:
        for number in range(tables):
            cursor.execute(
                f"create or replace table t{number} (id int primary key, note varchar(40) not null)"
            )
            cursor.execute(f"insert into t{number} select seq, md5(seq) from seq_1_to_{rows}")


def ingest(stack: Stack, tables: int, *, timeout: float, interval: float) -> Ingested:
    """Switch all DAGs on, and wait until each has run.

    Args:
        stack: The stack, which runs.
        tables: How many tables are declared.
        timeout: How long the runs may take, in seconds.
        interval: How often Airflow is asked, in seconds.

    Raises:
        BenchmarkError: a run failed, or they did not end in time.
    """
    client, wanted = stack.airflow.client(), dag_ids(tables)
    # With both cores taken, Airflow's API may not answer in time.
    patiently = Retrying(
        retry=retry_if_exception_type(SandboxError),
        stop=stop_after_delay(_PATIENCE_SECONDS),
        wait=wait_fixed(interval),
        reraise=True,
    )
    with stack.mysql.server.admin_cursor() as cursor:
        cursor.execute("flush status")
    began = datetime.now(UTC)
    for dag_id in wanted:
        patiently(client.unpause, dag_id)

    def is_done() -> bool:
        runs = patiently(client.runs, since=began)
        return wanted <= {run.dag_id for run in runs if run.ended_at is not None}

    if not poll(is_done, timeout, interval=interval):
        raise BenchmarkError(f"{tables} tables were not ingested within {timeout} s.")
    runs = [run for run in patiently(client.runs, since=began) if run.dag_id in wanted]
    if failed := [run.dag_id for run in runs if run.state != "success"]:
        raise BenchmarkError(f"{len(failed)} of {tables} ingest runs failed, {failed[0]} first.")
    ended = max(run.ended_at for run in runs if run.ended_at is not None)
    tasks = patiently(client.task_instances, since=began)
    return Ingested(
        (ended - began).total_seconds(), [task for task in tasks if task.dag_id in wanted]
    )


def refuse_missing(stack: Stack, tables: int, rows: int) -> None:
    """See that the ledger has a batch of each table, with all its rows.

    Raises:
        BenchmarkError: it has not.
    """
    _, loaded = stack.query(f"select count(*), sum(row_count) from {SCHEMA}._batches")
    found = int(loaded[0][0]), int(loaded[0][1])
    if found != (tables, tables * rows):
        raise BenchmarkError(f"The ledger has {found[0]} batches, {found[1]} rows.")


def max_used_connections(server: MySQLServer) -> int:
    """The most connections to MySQL at a time since ``ingest`` began."""
    with server.admin_cursor() as cursor:
        cursor.execute("show global status like 'Max_used_connections'")
        # Less this connection itself.
        return int(cursor.fetchone()[1]) - 1
