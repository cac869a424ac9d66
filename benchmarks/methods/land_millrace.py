"""Millrace lands the table; prints the manifest's address."""

from __future__ import annotations

import json
import os

from millrace.batch import Batch
from millrace.landing.memory import keep_no_freed_memory
from millrace.pipeline import Pipeline
from millrace.settings import Settings

keep_no_freed_memory()
pipeline = Pipeline.find(Settings.read(os.environ))
table = pipeline.catalog.table(os.environ["BENCH_DECLARED"])
manifest = pipeline.extract(table, Batch(table.key))
print(json.dumps({"manifest": manifest.url, "parts": [part.url for part in manifest.parts]}))
