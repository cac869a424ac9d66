"""A DAG of yours that runs for each day, and waits until a table is loaded for that day.

The sensor looks for the run with the same logical date. So both DAGs need the same kind of
schedule: of Airflow's two, the one with data intervals. For `transform` use an asset instead: what
an asset has started has no logical date, and a sensor would wait for it in vain.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.sdk import DAG, CronDataIntervalTimetable, task

with DAG(
    "example__after_an_interval",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["example"],
):
    # The whole DAG, not its task `load`: that one is skipped where nothing is new.
    wait_for_the_load = ExternalTaskSensor(
        task_id="wait_for_the_load",
        external_dag_id="ingest__mysql__nps",
        failed_states=["failed"],
        deferrable=True,
        poke_interval=30,
        # Also of a DAG that does not exist, the sensor says nothing before this.
        timeout=timedelta(hours=6).total_seconds(),
    )

    @task
    def use_the_day(data_interval_start: Any = None, data_interval_end: Any = None) -> str:
        """What you do with the day's rows; here: say which day it is."""
        return f"{data_interval_start:%Y-%m-%d} to {data_interval_end:%Y-%m-%d}"

    wait_for_the_load >> use_the_day()
