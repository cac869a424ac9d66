"""The DAG that compares every raw table with its source, at night."""

from __future__ import annotations

import logging

from airflow.sdk import DAG, CronTriggerTimetable, task
from airflow.sdk.exceptions import AirflowSkipException

from millrace.airflow.outcomes import explained, refuse
from millrace.airflow.project import AirflowProject, collector_at_rest
from millrace.catalog import IngestTable

log = logging.getLogger(__name__)


def audit_dag(
    project: AirflowProject,
    *,
    dag_id: str = "audit",
    schedule: str = "0 3 * * *",
    deep: bool = False,
    repair: bool = False,
) -> DAG:
    """Make the DAG that audits all declared tables; Airflow finds it by itself.

    It has a task for each table that can be audited, which fails if the table differs from its
    source.

    Args:
        project: The project.
        dag_id: The DAG's id, after the project's prefix.
        schedule: Cron expression, in UTC.
        deep: Read the landing and the source's rows as well; see ``millrace audit --deep``.
        repair: Mend what differs; a task then fails only if something is left.

    Raises:
        ProjectError: there is no project or no manifest of it.
        DeclarationError: a declaration does not make sense.
    """
    with (
        collector_at_rest(),
        DAG(
            dag_id=f"{project.prefix}{dag_id}",
            description="Compares every raw table with its source",
            schedule=CronTriggerTimetable(schedule, timezone="UTC"),
            catchup=False,
            max_active_runs=1,
            default_args=project.task_arguments,
            tags=["audit"],
        ) as dag,
    ):
        for table in project.catalog.tables:
            if not table.options.is_auditable:
                continue
            _audit(project, table, deep=deep, repair=repair)
    return dag


def _audit(project: AirflowProject, table: IngestTable, *, deep: bool, repair: bool) -> None:
    @task(
        task_id=f"{table.source}__{table.name}",
        pool=project.warehouse_pool,
        **project.queued("audit"),
    )
    def audit() -> int:
        """Compare the table with its source; returns how many rows were compared."""
        from millrace.audit.auditor import Auditor
        from millrace.audit.report import summary

        with explained():
            auditor = Auditor(project.pipeline())
            found = auditor.audit(table, deep=deep)
            if found is None:
                log.info("It was never loaded.")
                raise AirflowSkipException
            if repair and not found.is_equal:
                log.warning("%s", summary(found))
                found = auditor.repair(found, deep=deep)
            if not found.is_equal:
                refuse(summary(found))
            log.info("%s", summary(found))
            return found.rows

    audit()
