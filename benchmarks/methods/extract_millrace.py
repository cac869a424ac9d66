"""Millrace: the production code path, as Airflow's task and ``millrace ingest`` call it."""

from __future__ import annotations

import os

import job

from millrace import connections
from millrace.batch import Batch
from millrace.dbt.project import Project
from millrace.pipeline import Pipeline

pipeline = Pipeline(Project.find(), connections.from_environment)
table = pipeline.catalog.table(os.environ["BENCH_DECLARED"])
# The start-up: opening them imports their clients.
_ = pipeline.landing, pipeline.source(table)
began = job.ready()
pipeline.extract(table, Batch(table.key))
job.done(began)
