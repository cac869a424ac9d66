"""Millrace: the production code path, as Airflow's task and ``millrace ingest`` call it."""

from __future__ import annotations

import os

import job

from ingestion import connections
from ingestion.batch import Batch
from ingestion.pipeline import Pipeline
from ingestion.project import Project

pipeline = Pipeline(Project.find(), connections.from_environment)
table = pipeline.catalog.table(os.environ["BENCH_DECLARED"])
# The start-up: opening them imports their clients.
_ = pipeline.landing, pipeline.source(table)
began = job.ready()
pipeline.extract(table, Batch(table.key))
job.done(began)
