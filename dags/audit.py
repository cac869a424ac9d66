"""The DAG that compares every raw table with its source, at night."""

from pathlib import Path

from millrace.airflow import AirflowProject, audit_dag

audit_dag(AirflowProject(Path(__file__).parents[1] / "dbt_project"))
