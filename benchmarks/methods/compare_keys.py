"""Millrace: which keys differ between the source and the raw table, as ``deletes: keys`` asks."""

from __future__ import annotations

import json
import os
import time
from typing import cast

from millrace.audit.auditor import Audit, Auditor
from millrace.audit.differences import differing_keys
from millrace.batch import WHOLE_TABLE
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace.sources.base import KeyedSource

pipeline = Pipeline.find(Settings.read(os.environ))
table = pipeline.catalog.table(os.environ["BENCH_DECLARED"])
rows = int(os.environ["BENCH_ROWS"])
# Part of the start-up: opening them imports their clients.
source, warehouse = cast("KeyedSource", pipeline.source(table)), pipeline.warehouse
began = time.time()
if os.environ["BENCH_COMPARED"] == "keys":
    compared = Auditor(pipeline).compared(table, deep=False)[0].only_key()
    with (
        source.by_key(table, compared, WHOLE_TABLE) as theirs,
        warehouse.by_key(table, compared, WHOLE_TABLE) as ours,
    ):
        found = differing_keys(theirs, ours, compared, rows, table.key)
else:
    found = cast("Audit", Auditor(pipeline).audit(table)).differences
counts = {kind: len(keys) for kind, keys in found.by_kind.items()}
print(json.dumps({"working": time.time() - began, **counts}))
