"""PostgreSQL itself, without the stand-in: its own COPY of a CSV file that the server reads."""

from __future__ import annotations

import os

import job
import psycopg

with psycopg.connect(os.environ["BENCH_POSTGRES"], autocommit=True) as connection:
    connection.execute("create schema raw_bench")
    connection.execute(f"create table raw_bench.{job.TABLE} ({os.environ['BENCH_COLUMNS']})")
    began = job.ready()
    connection.execute(f"copy raw_bench.{job.TABLE} from '{os.environ['BENCH_CSV']}' (format csv)")
    job.done(began)
