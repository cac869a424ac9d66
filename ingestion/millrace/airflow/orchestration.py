"""How declarations become Airflow's objects: what ``ingest.py`` and ``transform.py`` share.

Nothing here imports pyarrow, dbt or a database client while Airflow parses the DAG files; the
tasks do, when they run.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.configuration import conf
from airflow.sdk import (
    DAG,
    Asset,
    AssetAny,
    AssetOrTimeSchedule,
    BaseOperator,
    CronDataIntervalTimetable,
    CronTriggerTimetable,
    get_parsing_context,
    task,
)
from airflow.sdk.exceptions import AirflowSkipException

from millrace.airflow.outcomes import RETRY_POLICY, interrupt, look_again, refuse, unfold
from millrace.catalog import Catalog, IngestTable
from millrace.dbt.project import Project
from millrace.errors import ConnectionNotFound, IntervalOpen, MillraceError

if TYPE_CHECKING:
    from millrace.batch import Interval
    from millrace.connections import Connection
    from millrace.pipeline import Pipeline
    from millrace.progress import Progress

# What is imported by now stays as long as the process. The garbage collector would look through it
# again and again while a DAG file is parsed: a third of the time for a large project.
gc.freeze()

log = logging.getLogger(__name__)

DEFAULT_POOL = "default_pool"
"""Airflow's own, which is always there."""

WAREHOUSE_POOL = "warehouse"
"""Whoever writes to the warehouse takes a slot: one slot for DuckDB, which has one writer."""

DEFAULT_ARGS = {
    "owner": "millrace",
    "retries": 3,
    "retry_delay": timedelta(seconds=30),
    "retry_exponential_backoff": 2,
    "max_retry_delay": timedelta(minutes=15),
    "execution_timeout": timedelta(hours=2),
    "retry_policy": RETRY_POLICY,
}

_PROGRESS_SECONDS = 10
_OPEN_PATIENCE = timedelta(minutes=30)
_OPEN_LOOK = timedelta(seconds=30)


def project() -> Project:
    """The dbt project beside the DAGs' folder, or the one that ``DBT_PROJECT_DIR`` names."""
    return Project.find(Path(conf.get("core", "dags_folder")).parent)


def is_wanted(dag_id: str) -> bool:
    """Whether Airflow needs this DAG: all of them, but for a task just the task's own."""
    return get_parsing_context().dag_id in (None, dag_id)


class RawTables(AssetAny):  # type: ignore[misc]  # mypy does not follow Airflow
    """News in any raw table.

    Airflow hashes a DAG by the text of its schedule, twice for every edge between its tasks.
    """

    def __repr__(self) -> str:
        return "RawTables()"


def raw_asset(table: IngestTable) -> Asset:
    """The asset that stands for a raw table: ingestion updates it, ``transform`` waits for it."""
    return Asset(
        name=f"{table.schema}.{table.identifier}",
        uri=f"millrace://raw/{table.schema}/{table.identifier}",
    )


def ingest_dag_id(table: IngestTable) -> str:
    """The id of the DAG that keeps a raw table."""
    return f"ingest__{table.source}__{table.name}"


def ingest_dag(table: IngestTable) -> DAG:
    """The DAG that keeps one raw table: plan, extract, load.

    Three tasks, so that a failed load does not read the source again, and so that each waits only
    for the pool of what it touches: the warehouse, or the source. The extraction is mapped: the
    partitions of a large batch spread over the workers, and one that fails is retried alone.
    """
    with DAG(
        dag_id=ingest_dag_id(table),
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
        plan = PlanBatch(task_id="plan", table=table, pool=WAREHOUSE_POOL)

        # A task whose pool is missing would wait for ever: only one that is declared is asked for.
        @task(pool=table.options.pool or DEFAULT_POOL)
        def extract(partition: dict[str, Any]) -> str:
            """Read a partition from the source and land it; returns its manifest's URL."""
            from millrace.batch import Partition

            with explained():
                return (
                    pipeline()
                    .extract_partition(table, Partition.from_json(partition), logged_progress())
                    .url
                )

        @task(pool=WAREHOUSE_POOL, outlets=[raw_asset(table)])
        def load(partitions: list[dict[str, Any]], manifest_urls: Iterable[str]) -> int:
            """Load what was landed; returns the number of rows."""
            from millrace.batch import Partition

            with explained():
                carrier = pipeline()
                planned = [Partition.from_json(value) for value in partitions]
                manifest = carrier.merge(table, planned, list(manifest_urls))
                return carrier.load(table, manifest.url, planned[0].batch).rows

        load(plan.output, extract.expand(partition=plan.output))
    return dag


class PlanBatch(BaseOperator):  # type: ignore[misc]  # mypy does not follow Airflow
    """Decides the batch, and how workers share it.

    The batch is the run's data interval, or everything before its end. A run without an interval,
    which a person or an asset started, takes what is new up to now. While transactions can still
    write into the interval, it waits without a worker and a slot, and after a while fails and names
    who holds it up.

    Args:
        table: The table.
    """

    def __init__(self, *, table: IngestTable, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.table = table

    def execute(self, context: Any, until: str | None = None) -> list[dict[str, Any]]:
        """Plan; returns the partitions."""
        interval = _interval(context)
        with explained():
            carrier = pipeline()
            try:
                batch = carrier.plan(self.table, interval, whole=interval is not None)
            except IntervalOpen as error:
                self._wait(error, until)
            if batch is None:
                log.info("Nothing can be new.")
                raise AirflowSkipException
            return [partition.to_json() for partition in carrier.partitions(self.table, batch)]

    def resume(
        self, context: Any, event: Any = None, until: str | None = None
    ) -> list[dict[str, Any]]:
        """Go on after the wait."""
        unfold()
        return self.execute(context, until)

    def _wait(self, error: IntervalOpen, until: str | None) -> NoReturn:
        now = datetime.now(UTC)
        end = datetime.fromisoformat(until) if until else now + _OPEN_PATIENCE
        if now >= end:
            refuse(str(error))
        log.warning("%s Waiting until %s.", error.message, f"{end:%H:%M:%S}")
        look_again(self, _OPEN_LOOK, until=end.isoformat())


def _interval(context: Any) -> Interval | None:
    from millrace.batch import Interval, parse_time

    # A run without a logical date has none; one that is triggered for a moment has an empty one.
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if not start or not end or start >= end:
        return None
    # Airflow's own times compute by rules of their own, and can lose their zone.
    return Interval(parse_time(start.isoformat()), parse_time(end.isoformat()))


def transform_schedule(catalog: Catalog) -> AssetOrTimeSchedule:
    """When ``transform`` runs: after news in any raw table, and every morning in any case.

    In the morning for models that read the clock, and to try again what failed in the night.
    """
    return AssetOrTimeSchedule(
        # Without the last argument, a DAG that is switched on up to 10 % of a day late still runs.
        timetable=CronTriggerTimetable("0 6 * * *", timezone="UTC", run_immediately=timedelta(0)),
        assets=RawTables(*(raw_asset(table) for table in catalog.tables)),
    )


def pipeline() -> Pipeline:
    """The pipeline of this project, with Airflow's own connections."""
    from millrace.pipeline import Pipeline

    return Pipeline(project(), airflow_connection)


def airflow_connection(conn_id: str) -> Connection:
    """A connection as Airflow keeps it, in whichever backend.

    Raises:
        ConnectionNotFound: Airflow has none under that id, or one that cannot be read.
    """
    from airflow.sdk.bases.hook import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    from millrace.connections import Connection, from_environment

    if f"AIRFLOW_CONN_{conn_id.upper()}" in os.environ:
        # Refuses a URI in which Airflow would take the end of a password for the host.
        from_environment(conn_id)
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
        (interrupt if error.may_pass else refuse)(str(error))


def logged_progress() -> Progress:
    """A progress callback that writes a line to the task's log every few seconds."""
    from millrace.progress import describe

    began = said = time.monotonic()

    def landed(rows: int, size: int, expected_rows: int | None) -> None:
        nonlocal said
        now = time.monotonic()
        if now - said >= _PROGRESS_SECONDS:
            said = now
            log.info("%s", describe(rows, size, expected_rows, now - began))

    return landed
