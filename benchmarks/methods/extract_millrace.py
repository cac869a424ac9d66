"""Millrace: the production code path, as Airflow's task and ``millrace ingest`` call it."""

from __future__ import annotations

import os

import job

from millrace.batch import Batch
from millrace.landing.memory import keep_no_freed_memory
from millrace.pipeline import Pipeline
from millrace.settings import Settings

keep_no_freed_memory()
pipeline = Pipeline.find(Settings.read(os.environ))
table = pipeline.catalog.table(os.environ["BENCH_DECLARED"])
# Part of the start-up: opening them imports their clients.
_ = pipeline.landing, pipeline.source(table)
began = job.ready()
pipeline.extract(table, Batch(table.key))
job.done(began)
