"""How declarations become Airflow's objects: what ``ingest.py`` and ``transform.py`` share.

Nothing here imports pyarrow, dbt or a database client while Airflow parses the DAG files; the
tasks do, when they run.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import (
    DAG,
    Asset,
    AssetAll,
    AssetOrTimeSchedule,
    CronDataIntervalTimetable,
    CronTriggerTimetable,
    task,
)
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from ingestion.catalog import Catalog, IngestTable
from ingestion.errors import ConnectionNotFound, MillraceError
from ingestion.project import Project

if TYPE_CHECKING:
    from airflow.sdk import TaskGroup
    from cosmos.dbt.graph import DbtNode

    from ingestion.connections import Connection
    from ingestion.pipeline import Pipeline
    from ingestion.progress import Progress

log = logging.getLogger(__name__)

WAREHOUSE_POOL = "warehouse"
"""Whoever writes to the warehouse takes a slot: one slot for DuckDB, which has one writer."""

DEFAULT_ARGS = {
    "owner": "millrace",
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=15),
    "execution_timeout": timedelta(hours=2),
}

_PROGRESS_SECONDS = 10


def project() -> Project:
    """The dbt project beside the DAGs' folder, or the one that ``DBT_PROJECT_DIR`` names."""
    return Project.find(Path(__file__).parent.parent)


def raw_asset(table: IngestTable) -> Asset:
    """The asset that stands for a raw table: ingestion updates it, ``transform`` waits for it."""
    return Asset(
        name=f"{table.schema}.{table.identifier}",
        uri=f"millrace://raw/{table.schema}/{table.identifier}",
    )


def ingest_dag(table: IngestTable) -> DAG:
    """The DAG that keeps one raw table: plan, extract, load.

    Three tasks, so that a failed load does not read the source again, and so that only what
    touches the warehouse waits for its pool.
    """
    with DAG(
        dag_id=f"ingest__{table.source}__{table.name}",
        description=f"{table.key} → {table.schema}.{table.identifier}",
        schedule=CronDataIntervalTimetable(table.options.schedule, timezone="UTC"),
        start_date=datetime(2020, 1, 1, tzinfo=UTC),
        # The first batch takes everything before its interval's end: there is nothing to catch up.
        catchup=False,
        max_active_runs=1,
        default_args=DEFAULT_ARGS,
        tags=["ingest", table.source],
        doc_md=f"Declared in `dbt_project/{table.file}`.",
    ) as dag:

        @task(pool=WAREHOUSE_POOL)
        def plan(**context: Any) -> dict[str, str | None]:
            """Decide the batch: the run's data interval, or everything before its end."""
            from ingestion.batch import Interval

            with explained():
                interval = Interval(context["data_interval_start"], context["data_interval_end"])
                return pipeline().plan(table, interval).to_json()

        @task
        def extract(batch: dict[str, str | None]) -> str:
            """Read the batch from its source and land it; returns the manifest's URL."""
            from ingestion.batch import Batch

            with explained():
                return pipeline().extract(table, Batch.from_json(batch), logged_progress()).url

        @task(pool=WAREHOUSE_POOL, outlets=[raw_asset(table)])
        def load(manifest_url: str) -> int:
            """Load what was landed; returns the number of rows."""
            with explained():
                return pipeline().load(table, manifest_url).rows

        load(extract(plan()))
    return dag


def publication_tasks(catalog: Catalog) -> Callable[..., Any]:
    """How Cosmos renders an exposure: one that publishes is a task after its mart's tests.

    Returns:
        A converter for Cosmos's ``node_converters``; it renders nothing for other exposures.
    """
    publications = {publication.name: publication for publication in catalog.publications}

    def convert(dag: DAG, task_group: TaskGroup | None, node: DbtNode, **_: Any) -> Any:
        publication = publications.get(node.name)
        if publication is None:
            return None

        # A mart in DuckDB cannot be read while another process writes to the file.
        @task(task_id=f"publish__{node.name}", pool=WAREHOUSE_POOL, dag=dag, task_group=task_group)
        def publish(**context: Any) -> int:
            """Publish the mart; returns the number of rows."""
            with explained():
                return pipeline().publish(publication, run=context["run_id"]).rows

        return publish().operator

    return convert


def transform_schedule(catalog: Catalog) -> AssetOrTimeSchedule:
    """When ``transform`` runs.

    Once all raw tables have something new: a burst of tables makes one run. And every morning
    in any case, so that a table that is late or failing does not hold the others up for ever.
    """
    return AssetOrTimeSchedule(
        # Without the last argument, a DAG that is switched on up to 10 % of a day late still runs.
        timetable=CronTriggerTimetable("0 6 * * *", timezone="UTC", run_immediately=timedelta(0)),
        assets=AssetAll(*(raw_asset(table) for table in catalog.tables)),
    )


def pipeline() -> Pipeline:
    """The pipeline of this project, with Airflow's own connections."""
    from ingestion.pipeline import Pipeline

    return Pipeline(project(), airflow_connection)


def airflow_connection(conn_id: str) -> Connection:
    """A connection as Airflow keeps it, in whichever backend.

    Raises:
        ConnectionNotFound: Airflow has none under that id.
    """
    from airflow.sdk.bases.hook import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from ingestion.connections import Connection

    try:
        found = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConnectionNotFound(
            f"Airflow has no connection '{conn_id}'.",
            fix="Add it under Admin → Connections, or set "
            f"AIRFLOW_CONN_{conn_id.upper()} for every component of Airflow.",
        ) from None
    return Connection(
        conn_id=conn_id,
        conn_type=found.conn_type,
        host=found.host,
        port=found.port,
        login=found.login,
        password=found.password,
        schema=found.schema,
        extra=found.extra_dejson,
    )


@contextmanager
def explained() -> Iterator[None]:
    """Let Airflow retry what may pass by itself, and fail at once what only a person can mend."""
    try:
        yield
    except MillraceError as error:
        kind = AirflowException if error.may_pass else AirflowFailException
        raise kind(str(error)) from None


def logged_progress() -> Progress:
    """A progress callback that writes a line to the task's log every few seconds."""
    from ingestion.progress import describe

    began = said = time.monotonic()

    def landed(rows: int, size: int, expected_rows: int | None) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _PROGRESS_SECONDS:
            said = now
            log.info("%s", describe(rows, size, expected_rows, now - began))

    return landed


def dbt_execution() -> str:
    """Cosmos's execution mode: ``MILLRACE_DBT_EXECUTION``, or one dbt process that tasks watch.

    ``airflow dags test`` runs one task after another, in no fixed order: a task that watches would
    wait for ever for a dbt process that has not been started. There, every task starts dbt.
    """
    if sys.argv[1:3] == ["dags", "test"]:
        return "local"
    return os.environ.get("MILLRACE_DBT_EXECUTION", "watcher")


def dbt_target() -> str:
    """The target of ``profiles.yml``, chosen as dbt chooses it there."""
    return os.environ.get("TARGET", "dev")
