"""Millrace: the load of a landed batch, as Airflow's task calls it."""

from __future__ import annotations

import os

import job

from millrace.pipeline import Pipeline
from millrace.settings import Settings

pipeline = Pipeline.find(Settings.read(os.environ))
table = pipeline.catalog.table(os.environ["BENCH_DECLARED"])
# Part of the start-up: reading the profile imports dbt.
_ = pipeline.warehouse, pipeline.landing
manifest = pipeline.landing.read_manifest(os.environ["BENCH_MANIFEST"])
began = job.ready()
pipeline.load(table, manifest)
job.done(began)
