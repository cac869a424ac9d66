"""The DAG that keeps Airflow and the landing in order, at night."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.sdk import DAG, CronTriggerTimetable, task

from millrace.airflow.outcomes import explained
from millrace.airflow.project import AirflowProject, collector_at_rest

if TYPE_CHECKING:
    from airflow.sdk import XComArg

    from millrace.airflow.old_files import Removed

log = logging.getLogger(__name__)

# Tasks remove them when they end, but not when they are killed.
_TEMPORARY = ("millrace-dbt-*", "millrace-dump-*", "millrace-part-*")


@dataclass(frozen=True)
class Retention:
    """How long things are kept; None: for ever, and there is no task for them.

    Attributes:
        backups: Dumps of Airflow's metadata, in the landing.
        metadata: Runs of DAGs, their tasks, XComs and events in Airflow's metadata database.
        task_logs: Logs of tasks, and of the DAG processor, on this machine's disk.
        attempts: Attempts in the landing that the ledger does not name. Those that were never
            committed go after two days.
        artefacts: What Cosmos and dbt have left on this machine's disk.
    """

    backups: timedelta | None = timedelta(days=14)
    metadata: timedelta | None = timedelta(days=90)
    task_logs: timedelta | None = timedelta(days=30)
    attempts: timedelta | None = timedelta(days=30)
    artefacts: timedelta | None = timedelta(days=7)


KEEP = Retention()
"""How long things are kept by default."""


def maintenance_dag(
    project: AirflowProject,
    *,
    dag_id: str = "maintenance",
    schedule: str = "0 4 * * *",
    keep: Retention = KEEP,
    sweep_loaded: bool = False,
) -> DAG:
    """Make the DAG that backs up, cleans and sweeps; Airflow finds it by itself.

    Its tasks need nothing of each other, except that metadata is deleted only after a backup.

    Args:
        project: The project.
        dag_id: The DAG's id, after the project's prefix.
        schedule: Cron expression, in UTC.
        keep: How long things are kept.
        sweep_loaded: Whether old attempts that the ledger names are swept, too; see
            ``millrace sweep --loaded``.

    Raises:
        ProjectError: there is no project or no manifest of it.
    """
    with (
        collector_at_rest(),
        DAG(
            dag_id=f"{project.prefix}{dag_id}",
            description="Backs up Airflow's metadata, and removes what is old",
            schedule=CronTriggerTimetable(schedule, timezone="UTC"),
            catchup=False,
            max_active_runs=1,
            default_args=project.task_arguments | project.queued("maintenance"),
            tags=["maintenance"],
        ) as dag,
    ):
        backed_up = _back_up(project, keep.backups) if keep.backups else None
        if keep.metadata:
            cleaned = _clean(keep.metadata)
            if backed_up is not None:
                backed_up >> cleaned
        if keep.task_logs:
            _remove_task_logs(keep.task_logs)
        if keep.attempts:
            _sweep(project, keep.attempts, loaded=sweep_loaded)
        if keep.artefacts:
            _remove_artefacts(project, keep.artefacts)
    return dag


def _back_up(project: AirflowProject, keep: timedelta) -> XComArg:
    @task
    def back_up_metadata() -> str:
        """Dump Airflow's metadata into the landing; returns where the dump is."""
        from millrace.airflow.metadata import back_up, metadata_database
        from millrace.progress import in_bytes

        with explained():
            landing = project.pipeline().landing
            made = back_up(metadata_database(), landing.objects, keep)
            log.info("Backed up: %s/%s, %s.", landing.url, made.path, in_bytes(made.size))
            for path in made.removed:
                log.info("Removed, since it is older than %s days: %s", keep.days, path)
            return f"{landing.url}/{made.path}"

    return back_up_metadata()


def _clean(keep: timedelta) -> XComArg:
    @task
    def clean_metadata() -> str:
        """Delete what is old from Airflow's metadata; returns the time before which it is."""
        from millrace.airflow.metadata import clean, metadata_database

        before = datetime.now(UTC) - keep
        with explained():
            clean(metadata_database(), before)
        return before.isoformat(timespec="seconds")

    return clean_metadata()


def _remove_task_logs(keep: timedelta) -> None:
    @task
    def remove_task_logs() -> int:
        """Remove old logs below Airflow's log folder; returns how many."""
        from airflow.configuration import conf

        from millrace.airflow.old_files import remove_old_files

        folder = Path(conf.get_mandatory_value("logging", "base_log_folder"))
        return _told(folder, remove_old_files(folder, datetime.now(UTC) - keep, "*.log*"))

    remove_task_logs()


def _sweep(project: AirflowProject, keep: timedelta, *, loaded: bool) -> None:
    @task(pool=project.warehouse_pool)
    def sweep_landing() -> int:
        """Remove from the landing what nobody needs; returns the number of attempts."""
        from millrace.landing.sweep import carry_out, summary

        with explained():
            pipeline = project.pipeline()
            found = pipeline.plan_sweep(keep, loaded=loaded)
            for table, attempts, files, size, changed, swept, why in summary(found):
                log.info(
                    "%s: %s attempts, %s files, %s, last changed %s: %s; %s",
                    *(table, attempts, files, size, changed, why),
                    "removed" if swept == "yes" else "kept",
                )
            carry_out(pipeline.landing, found)
            log.info("Removed: %s.", found)
            return len(found.swept)

    sweep_landing()


def _remove_artefacts(project: AirflowProject, keep: timedelta) -> None:
    @task
    def remove_artefacts() -> int:
        """Remove what Cosmos, dbt and tasks that were killed have left; returns how many files."""
        from cosmos.settings import cache_dir

        from millrace.airflow.old_files import remove_old_files, remove_old_folders

        before, temporary = datetime.now(UTC) - keep, Path(tempfile.gettempdir())
        logs = project.dbt.folder / "logs"
        return sum(
            [
                _told(cache_dir, remove_old_files(cache_dir, before)),
                _told(logs, remove_old_files(logs, before, "dbt.log*")),
                *(
                    _told(temporary / pattern, remove_old_folders(temporary, before, pattern))
                    for pattern in _TEMPORARY
                ),
            ]
        )

    remove_artefacts()


def _told(folder: Path, removed: Removed) -> int:
    from millrace.progress import in_bytes

    log.info("%s: removed %s files, %s.", folder, f"{removed.files:,}", in_bytes(removed.size))
    return removed.files
