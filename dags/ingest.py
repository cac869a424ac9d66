"""One DAG for each source table of the dbt project with an ``ingest`` block."""

from pathlib import Path

from millrace.airflow import AirflowProject, ingest_dags

ingest_dags(AirflowProject(Path(__file__).parents[1] / "dbt_project"))
