"""DuckDB by itself: a bare INSERT … SELECT FROM read_parquet."""

from __future__ import annotations

import json
import os

import duckdb
import job

columns = os.environ["BENCH_COLUMNS"]
parts = json.loads(os.environ["BENCH_PARTS"])
began = job.ready()
with duckdb.connect(os.environ["DUCKDB_PATH"]) as connection:
    connection.execute("create schema raw_bench")
    connection.execute(f"create table raw_bench.{job.TABLE} ({columns})")
    connection.execute(f"insert into raw_bench.{job.TABLE} select * from read_parquet(?)", [parts])
job.done(began)
