"""Millrace lands the table; prints the manifest's address."""

from __future__ import annotations

import json
import os

from millrace import connections
from millrace.batch import Batch
from millrace.dbt.project import Project
from millrace.pipeline import Pipeline

pipeline = Pipeline(Project.find(), connections.from_environment)
table = pipeline.catalog.table(os.environ["BENCH_DECLARED"])
manifest = pipeline.extract(table, Batch(table.key))
print(json.dumps({"manifest": manifest.url, "parts": [part.url for part in manifest.parts]}))
