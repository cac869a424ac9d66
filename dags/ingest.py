"""A DAG for each source table that the dbt project declares an ``ingest`` block for."""

from pathlib import Path

from millrace.airflow import AirflowProject, ingest_dags

ingest_dags(AirflowProject(Path(__file__).parents[1] / "dbt_project"))
