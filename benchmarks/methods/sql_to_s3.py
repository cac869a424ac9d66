"""Airflow's SqlToS3Operator, executed as a task would execute it."""

from __future__ import annotations

import job
from airflow.providers.amazon.aws.transfers.sql_to_s3 import SqlToS3Operator

began = job.ready()
operator = SqlToS3Operator(
    task_id="extract",
    query=job.QUERY,
    sql_conn_id="bench_mysql",
    aws_conn_id="bench_s3",
    s3_bucket=job.BUCKET,
    s3_key=f"{job.PREFIX}/part.parquet",
    file_format="parquet",
    df_kwargs={"compression": "zstd"},
)
operator.execute(context={})
job.done(began)
