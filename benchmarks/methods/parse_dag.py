"""Parses one DAG file as Airflow's DAG processor does, which has imported Airflow before."""

from __future__ import annotations

import json
import sys
import time

started = time.monotonic()
import airflow.dag_processing.processor  # noqa: E402, F401 their import is measured
from airflow.dag_processing.dagbag import DagBag  # noqa: E402

imported = time.monotonic()
bag = DagBag(dag_folder=sys.argv[1])
parsed = time.monotonic()
if bag.import_errors:
    raise SystemExit(str(bag.import_errors))
print(
    json.dumps(
        {
            "airflow": imported - started,
            "file": parsed - imported,
            "dags": len(bag.dags),
            "tasks": sum(len(dag.tasks) for dag in bag.dags.values()),
            "heavy": [name for name in ("pandas", "dbt", "pyarrow") if name in sys.modules],
        }
    )
)
