"""An Airflow DAG a source table that the dbt project declares an ``ingest`` block for."""

from __future__ import annotations

from millrace.airflow.orchestration import ingest_dag, ingest_dag_id, is_wanted, project
from millrace.catalog import load_catalog

for table in load_catalog(project().manifest_path).tables:
    if is_wanted(ingest_dag_id(table)):
        globals()[ingest_dag_id(table)] = ingest_dag(table)
