"""A DAG for each source table that the dbt project declares an ``ingest`` block for."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.sdk import (
    DAG,
    BaseOperator,
    CronDataIntervalTimetable,
    Param,
    TriggerRule,
    XComArg,
    task,
)
from airflow.sdk.exceptions import AirflowSkipException

from millrace.airflow import metrics, openlineage
from millrace.airflow.deadlines import deadline_of
from millrace.airflow.files import wait_for
from millrace.airflow.outcomes import explained, look_again, refuse, unfold
from millrace.airflow.project import AirflowProject, collector_at_rest, is_wanted
from millrace.alerts.airflow_api import SCHEMA_CHANGES
from millrace.catalog import IngestTable
from millrace.errors import IntervalOpen

if TYPE_CHECKING:
    from millrace.batch import Batch, Interval
    from millrace.pipeline import Pipeline
    from millrace.progress import Progress
    from millrace.warehouses.base import LedgerRow

log = logging.getLogger(__name__)

_DEFAULT_POOL = "default_pool"
_PROGRESS_SECONDS = 10
_OPEN_PATIENCE = timedelta(minutes=30)
_OPEN_LOOK = timedelta(seconds=30)
_START = datetime(2020, 1, 1, tzinfo=UTC)


def ingest_dags(project: AirflowProject) -> list[DAG]:
    """Make the DAGs of all declared tables; Airflow finds them by itself.

    Args:
        project: The project.

    Raises:
        ProjectError: there is no project or no manifest of it.
        DeclarationError: a declaration does not make sense.
    """
    with collector_at_rest():
        return [
            ingest_dag(project, table)
            for table in project.catalog.tables
            if is_wanted(project.ingest_dag_id(table))
        ]


def ingest_dag(project: AirflowProject, table: IngestTable) -> DAG:
    """The DAG that keeps one raw table: plan, extract, load.

    Three tasks, so that a failed load does not read the source again, and so that each waits only
    for the pool of what it touches: the warehouse, or the source. The extraction is mapped: the
    partitions of a large batch spread over the workers, and one that fails is retried alone.
    """
    with DAG(
        dag_id=project.ingest_dag_id(table),
        description=f"{table.key} → {table.schema}.{table.identifier}",
        schedule=CronDataIntervalTimetable(table.options.schedule, timezone="UTC"),
        start_date=_START,
        # The first batch takes everything before its interval's end: there is nothing to catch up.
        catchup=False,
        max_active_runs=1,
        params={"reload": _reload_param()},
        deadline=deadline_of(table),
        default_args=project.task_arguments,
        tags=["ingest", table.source],
        doc_md=f"Declared in `{table.file}` of the dbt project {project.catalog.project}.",
    ) as dag:
        plan = PlanBatch(
            task_id="plan",
            project=project,
            table=table,
            pool=project.warehouse_pool,
            **project.queued("plan"),
        )

        if awaited := table.options.awaited:
            wait_for(project, table, awaited) >> plan

        raw = project.raw_asset(table)

        # A task waits for ever for a pool that does not exist, so only a declared pool is used.
        @task(pool=table.options.pool or _DEFAULT_POOL, **project.queued("extract"))
        def extract(partition: dict[str, Any]) -> str:
            """Read a partition from the source and land it; returns its manifest's URL."""
            from millrace.batch import Partition
            from millrace.landing.memory import keep_no_freed_memory

            keep_no_freed_memory()
            with explained():
                carrier, planned = project.pipeline(), Partition.from_json(partition)
                manifest = carrier.extract_partition(table, planned, logged_progress())
            metrics.landed(carrier, table, manifest)
            openlineage.extracted(carrier, table)
            return manifest.url

        @task(
            pool=project.warehouse_pool,
            outlets=[raw],
            **project.queued("load"),
        )
        def load(
            partitions: list[dict[str, Any]],
            manifest_urls: Iterable[str],
            # Airflow passes the run's own.
            params: Mapping[str, Any] | None = None,
            outlet_events: Any = None,
        ) -> int:
            """Load what was landed; returns the number of rows."""
            from millrace.batch import Partition

            with explained():
                carrier = project.pipeline()
                planned = [Partition.from_json(value) for value in partitions]
                manifest = carrier.merge(table, planned, list(manifest_urls))
                take = carrier.replace if _is_reload(params) else carrier.load
                row = take(table, manifest)
                metrics.loaded(carrier, table, row)
            openlineage.loaded(carrier, table)
            outlet_events[raw].extra = _news(row)
            return row.rows

        # Airflow passes what these tasks return.
        loaded = load(plan.output, extract.expand(partition=plan.output))  # type: ignore[arg-type]
        if table.options.deletes == "keys":
            loaded >> _mark_deletes(project, table)
    return dag


def _mark_deletes(project: AirflowProject, table: IngestTable) -> XComArg:
    raw = project.raw_asset(table)

    # Rows vanish when nothing is new, too.
    @task(
        pool=project.warehouse_pool,
        outlets=[raw],
        trigger_rule=TriggerRule.NONE_FAILED,
        **project.queued("mark_deletes"),
    )
    # Airflow passes the run's own.
    def mark_deletes(outlet_events: Any = None) -> int:
        """Compare the keys with the source's; returns how many rows were corrected."""
        from millrace.audit.auditor import Auditor

        with explained():
            row = Auditor(project.pipeline()).mark_deletes(table)
            if row is None:
                log.info("No key differs.")
                raise AirflowSkipException
            outlet_events[raw].extra = _news(row)
            return row.rows

    return mark_deletes()


class PlanBatch(BaseOperator):
    """Decides the batch, and how workers share it.

    The batch is the run's data interval, or everything before its end. A run without an interval,
    which a person or an asset started, takes what is new up to now, and a reload everything. While
    transactions can still write into the interval, the task waits without a worker and a slot of
    the pool. After a while it fails and says what holds it up.

    Args:
        project: The project.
        table: The table.
    """

    def __init__(self, *, project: AirflowProject, table: IngestTable, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project = project
        self.table = table

    def execute(self, context: Any, until: str | None = None) -> list[dict[str, Any]]:
        """Plan the batch; returns its partitions."""
        with explained():
            carrier = self.project.pipeline()
            try:
                batch = self._batch(carrier, context)
            except IntervalOpen as error:
                self._wait(error, until)
            if batch is None:
                log.info("Nothing can be new.")
                raise AirflowSkipException
            return [partition.to_json() for partition in carrier.partitions(self.table, batch)]

    def _batch(self, carrier: Pipeline, context: Any) -> Batch | None:
        if _is_reload(context.get("params")):
            return carrier.plan_reload(self.table)
        interval = None if self.table.options.takes_what_is_new else _interval(context)
        return carrier.plan(self.table, interval, whole=interval is not None)

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


def _news(row: LedgerRow) -> dict[str, Any]:
    """What the event of a load says: to whoever waits for it, and to ``millrace watch``."""
    start, end = (bound and bound.isoformat() for bound in (row.start, row.end))
    # Corrections say nothing of columns: what the last load said still holds.
    changes = {} if row.is_correction else {SCHEMA_CHANGES: row.schema_changes or ""}
    return {"rows": row.rows, "start": start, "end": end, **changes}


def _reload_param() -> Param:
    return Param(
        False,
        type="boolean",
        title="Reload the whole table",
        description="Read the table from its beginning, and put it in the place of the raw table, "
        "with the columns that the source has now.",
    )


def _is_reload(params: Mapping[str, Any] | None) -> bool:
    return bool(params and params["reload"])


def _interval(context: Any) -> Interval | None:
    from millrace.batch import Interval, parse_time

    # A run without a logical date has no interval; a manual run for a given date has an empty one.
    start, end = context.get("data_interval_start"), context.get("data_interval_end")
    if not start or not end or start >= end:
        return None
    # Airflow's datetime class has arithmetic of its own, and can lose its time zone.
    return Interval(parse_time(start.isoformat()), parse_time(end.isoformat()))


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
