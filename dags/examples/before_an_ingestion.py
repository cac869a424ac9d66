"""A DAG of yours that fills a table, has Millrace load it, and goes on when that is done.

The ingest DAG has to be switched on: the runs of one that is paused stay queued. Its own schedule
may load the same day as well: loading a day twice leaves what loading it once leaves.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, CronDataIntervalTimetable, task

with DAG(
    "example__before_an_ingestion",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["example"],
):

    @task
    def fill_the_table() -> None:
        """Your own work: what writes the day's rows into MySQL."""

    load_the_day = TriggerDagRunOperator(
        task_id="load_the_day",
        trigger_dag_id="ingest__mysql__nps",
        # The ingest DAG takes the last whole interval before this: here, this run's own. Without
        # the second, this would be the date of the ingest DAG's own next run.
        logical_date="{{ data_interval_end + macros.timedelta(seconds=1) }}",
        # When this task is tried or cleared again, that run is repeated, not refused as a double.
        reset_dag_run=True,
        fail_when_dag_is_paused=True,
        wait_for_completion=True,
        deferrable=True,
        poke_interval=30,
        execution_timeout=timedelta(hours=6),
    )

    @task
    def go_on() -> None:
        """What comes after the load."""

    fill_the_table() >> load_the_day >> go_on()
