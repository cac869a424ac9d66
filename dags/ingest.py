"""An Airflow DAG a source table that the dbt project declares an ``ingest`` block for."""

from __future__ import annotations

from orchestration import ingest_dag, project

from ingestion.catalog import load_catalog

for table in load_catalog(project().manifest_path).tables:
    globals()[f"ingest__{table.source}__{table.name}"] = ingest_dag(table)
