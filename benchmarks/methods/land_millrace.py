"""Millrace lands the table; prints the manifest's address."""

from __future__ import annotations

import json
import os

from ingestion import connections
from ingestion.batch import Batch
from ingestion.pipeline import Pipeline
from ingestion.project import Project

pipeline = Pipeline(Project.find(), connections.from_environment)
table = pipeline.catalog.table(os.environ["BENCH_DECLARED"])
manifest = pipeline.extract(table, Batch(table.key))
print(json.dumps({"manifest": manifest.url, "parts": [part.url for part in manifest.parts]}))
