"""The first task of ``transform``: let what is being ingested arrive, and say what is missing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowRuntimeError, AirflowSkipException
from croniter import croniter

from millrace.airflow.outcomes import look_again, unfold
from millrace.airflow.project import AirflowProject
from millrace.catalog import IngestTable

log = logging.getLogger(__name__)

WAIT = "wait_for_ingestion"

_LOOK_SECONDS = 2
_ACTIVE = ["queued", "running"]


class WaitForIngestion(BaseOperator):
    """Waits, without a worker and for a limited time, while tables are being loaded.

    So a burst of loads makes one run of dbt. It does not wait for a table whose DAG is paused, has
    failed or is not due: when such a table is loaded, it starts a run of its own.

    A run is skipped if the last run of dbt has already read the loads that started it.

    Args:
        project: The project.
        patience: How long it waits at most.
    """

    def __init__(self, *, project: AirflowProject, patience: timedelta, **kwargs: Any) -> None:
        raw = [project.raw_asset(table) for table in project.catalog.tables]
        super().__init__(inlets=[project.built_asset, *raw], **kwargs)
        self.project = project
        self.patience = patience

    def execute(self, context: Any, until: str | None = None) -> list[str]:
        """Wait, then say what is missing.

        Returns:
            The keys of the tables that Airflow never saw loaded.
        """
        now = datetime.now(UTC)
        end = datetime.fromisoformat(until) if until else now + self.patience
        loading = [table for table in self._tables if self._is_loading(context["ti"], table)]
        if loading and now < end:
            log.info("waiting until %s for %s", f"{end:%H:%M:%S}", _names(loading))
            look_again(self, timedelta(seconds=_LOOK_SECONDS), until=end.isoformat())
        if self._is_built_already(context):
            log.info("The last run of dbt has read all that started this run: it is skipped.")
            raise AirflowSkipException
        return self._missing(context, loading, now)

    def resume(self, context: Any, event: Any = None, until: str | None = None) -> list[str]:
        """Go on after the wait."""
        unfold()
        return self.execute(context, until)

    def _missing(self, context: Any, loading: Sequence[IngestTable], now: datetime) -> list[str]:
        never = []
        for table in self._tables:
            events = (
                context["inlet_events"][self.project.raw_asset(table)].ascending(False).limit(1)
            )
            loaded = events[0].timestamp if len(events) else None
            due = croniter(table.options.schedule, now).get_prev(datetime)
            if loaded is None:
                never.append(table.key)
            if loaded is None or loaded < due or table in loading:
                log.warning(
                    "%s: %s; %s",
                    table.key,
                    f"last loaded {loaded:%Y-%m-%d %H:%M}" if loaded else "never loaded here",
                    self._why(context["ti"], table, loading),
                )
        return never

    @property
    def _tables(self) -> Sequence[IngestTable]:
        return self.project.catalog.tables

    def _is_loading(self, ti: Any, table: IngestTable) -> bool:
        dag_id = self.project.ingest_dag_id(table)
        return ti.get_dr_count(dag_id, states=_ACTIVE) > 0 and not _is_paused(ti, dag_id)

    def _is_built_already(self, context: Any) -> bool:
        """Whether the loads that started this run came before the last good run of dbt began."""
        news = [event for events in context["triggering_asset_events"].values() for event in events]
        built = context["inlet_events"][self.project.built_asset].ascending(False).limit(1)
        if not news or not len(built):
            return False
        began = datetime.fromisoformat(built[0].extra["began"])
        return all(event.timestamp < began for event in news)

    def _why(self, ti: Any, table: IngestTable, loading: Sequence[IngestTable]) -> str:
        dag_id = self.project.ingest_dag_id(table)
        if table in loading:
            return f"{dag_id} is still loading it, and starts a run of its own when it is done"
        if _is_paused(ti, dag_id):
            return f"{dag_id} is paused"
        return f"{dag_id} has not loaded it since it was due: look at its last run"


def _is_paused(ti: Any, dag_id: str) -> bool:
    try:
        return bool(ti.get_dag(dag_id).is_paused)
    except AirflowRuntimeError:
        # Airflow has not read its file yet.
        return False


def _names(tables: Sequence[IngestTable]) -> str:
    return ", ".join(table.key for table in tables)
