"""A DAG of yours that waits for a file which somebody else delivers to a bucket of their own.

The connection `partner_s3` is how their account lets us in: our key, their role, and the external
id that they have given us.

    {"conn_type": "aws", "login": "…", "password": "…", "extra": {
        "region_name": "eu-central-1",
        "role_arn": "arn:aws:iam::123456789012:role/for-us",
        "assume_role_kwargs": {"ExternalId": "…"}}}

Needs `apache-airflow-providers-amazon[aiobotocore]`, in the triggerer.
"""

from datetime import UTC, datetime, timedelta

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor
from airflow.sdk import DAG, CronDataIntervalTimetable, task

FILE = "s3://partner-deliveries/targets/{{ data_interval_start | ds }}.csv"

with DAG(
    "example__when_a_file_arrives",
    schedule=CronDataIntervalTimetable("@daily", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    tags=["example"],
):
    # It waits in the triggerer: no worker and no slot of a pool is taken.
    wait_for_the_file = S3KeySensor(
        task_id="wait_for_the_file",
        bucket_key=FILE,
        aws_conn_id="partner_s3",
        deferrable=True,
        poke_interval=60,
        timeout=timedelta(hours=12).total_seconds(),
    )

    @task
    def use_the_file(path: str) -> str:
        """What you do with the file; here: say which one it is."""
        return path

    wait_for_the_file >> use_the_file(FILE)
