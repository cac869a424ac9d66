"""A table's ``expected_by`` as a deadline of its runs, which Airflow shows beside them.

Airflow notices only that a run which has begun is not done in time. ``millrace watch`` is what
tells people, also of runs that never began.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import BaseDeadlineReference, DeadlineAlert

# Every process of Airflow imports this with the plugin: nothing else that takes time.
if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from millrace.catalog import IngestTable

log = logging.getLogger(__name__)


@dataclass(eq=False)
class TimeOfDay(BaseDeadlineReference):
    """The first time of day after the end of a run's interval.

    Attributes:
        by: The time of day, as ``DueTime`` is written.
    """

    by: str = "00:00 UTC"

    # What Airflow's scheduler passes.
    required_kwargs = frozenset({"dag_id", "run_id"})

    def serialize_reference(self) -> dict[str, Any]:
        """As Airflow keeps it."""
        return {**super().serialize_reference(), "by": self.by}

    @classmethod
    def deserialize_reference(cls, reference_data: dict[str, Any]) -> TimeOfDay:
        """As Airflow kept it."""
        return cls(reference_data["by"])

    def _evaluate_with(self, *, session: Session, dag_id: str, run_id: str) -> datetime | None:
        """The deadline; None: a person started the run, or it is a backfill of the past."""
        from airflow.models import DagRun
        from sqlalchemy import select

        from millrace.catalog import DueTime

        run = DagRun.dag_id == dag_id, DagRun.run_id == run_id
        end = session.scalar(select(DagRun.data_interval_end).where(*run))
        due = DueTime.model_validate(self.by).next(end) if end else None
        return due if due and due > datetime.now(UTC) else None


def deadline_of(table: IngestTable) -> DeadlineAlert | None:
    """The deadline of each run of a table's DAG; None: nothing is promised."""
    by = table.options.expected_by
    if by is None:
        return None
    callback = AsyncCallback(tell, {"table": table.key, "by": str(by)})
    return DeadlineAlert(TimeOfDay(str(by)), timedelta(0), callback, name=f"expected by {by}")


async def tell(table: str, by: str, **_: Any) -> None:
    """Write to the triggerer's log that a run is late."""
    log.warning("%s was expected by %s, and its run is not done.", table, by)
