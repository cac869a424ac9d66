"""Waiting for a file that somebody delivers to S3."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import BaseOperator

from millrace.airflow.project import AirflowProject
from millrace.catalog import AwaitedFile, IngestTable
from millrace.catalog.kinds import needing

_LOOK_SECONDS = 60


def wait_for(project: AirflowProject, table: IngestTable, file: AwaitedFile) -> BaseOperator:
    """The task that waits in the triggerer, without a worker and a slot of a pool.

    Args:
        project: The project.
        table: The table.
        file: What it waits for.

    Raises:
        NotInstalled: Airflow's provider for AWS is missing.
    """
    with needing("apache-airflow-providers-amazon[aiobotocore]", table.options.kind):
        from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor

    class WaitForFile(S3KeySensor):
        """Waits for the file of the run's interval."""

        # The places in the key are filled in here: Jinja would read some formats of times.
        template_fields: Sequence[str] = ()

        def execute(self, context: Any) -> None:
            self.bucket_key = key_of(file, context)
            super().execute(context)

    return WaitForFile(
        task_id="wait_for_file",
        bucket_name=file.bucket,
        bucket_key=file.key,
        aws_conn_id=table.options.connection,
        deferrable=True,
        poke_interval=_LOOK_SECONDS,
        timeout=file.at_most.total_seconds(),
        **project.queued("plan"),
    )


def key_of(file: AwaitedFile, context: Any) -> str:
    """The key of the file that a run waits for.

    Args:
        file: What is declared.
        context: The run's; without an interval, the file is that of the time when it began.
    """
    from millrace.batch import parse_time
    from millrace.sources.templates import Values

    # Airflow's datetime class has arithmetic of its own, and can lose its time zone.
    def moment(name: str) -> datetime | None:
        found = context.get(name) or context["dag_run"].run_after
        return parse_time(found.isoformat())

    values = Values(datetime.now(UTC), moment("data_interval_start"), moment("data_interval_end"))
    return values.render(file.key)
