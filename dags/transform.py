"""The DAG that builds the dbt project, with one task per model, and publishes its marts."""

from pathlib import Path

from millrace.airflow import AirflowProject, transform_dag

transform_dag(AirflowProject(Path(__file__).parents[1] / "dbt_project"))
