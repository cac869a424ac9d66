"""The DAG that backs up Airflow's metadata and removes what is old, at night."""

from pathlib import Path

from millrace.airflow import AirflowProject, maintenance_dag

maintenance_dag(AirflowProject(Path(__file__).parents[1] / "dbt_project"))
