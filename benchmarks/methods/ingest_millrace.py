"""Millrace: a whole batch, landed and loaded, as ``millrace ingest`` does it."""

from __future__ import annotations

import os

import job

from millrace.landing.memory import keep_no_freed_memory
from millrace.pipeline import Pipeline
from millrace.settings import Settings

keep_no_freed_memory()
pipeline = Pipeline.find(Settings.read(os.environ))
began = job.ready()
pipeline.ingest(pipeline.catalog.table(os.environ["BENCH_DECLARED"]))
job.done(began)
