"""Redshift's COPY by itself, of the parts that a manifest names, into a plain table."""

from __future__ import annotations

import os

import job
import redshift_connector

connection = redshift_connector.connect(
    host=os.environ["REDSHIFT_HOST"],
    port=int(os.environ["REDSHIFT_PORT"]),
    database=os.environ["REDSHIFT_DATABASE"],
    user=os.environ["REDSHIFT_USER"],
    password=os.environ["DBT_ENV_SECRET_REDSHIFT_PASSWORD"],
    ssl=False,
)
connection.autocommit = True
with connection.cursor() as cursor:
    cursor.execute("create schema raw_bench")
    cursor.execute(f"create table raw_bench.{job.TABLE} ({os.environ['BENCH_COLUMNS']})")
    began = job.ready()
    cursor.execute(
        f"copy raw_bench.{job.TABLE} from '{os.environ['BENCH_MANIFEST']}' "
        f"iam_role '{os.environ['REDSHIFT_IAM_ROLE']}' format as parquet manifest"
    )
    job.done(began)
