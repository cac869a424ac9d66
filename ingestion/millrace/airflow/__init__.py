"""The DAGs of a project: the one place that imports Airflow and Cosmos.

Each kind of DAG needs one file, which only names the project:

    from pathlib import Path

    from millrace.airflow import AirflowProject, ingest_dags

    ingest_dags(AirflowProject(Path(__file__).parents[1] / "dbt_project"))
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.airflow.audit import audit_dag
    from millrace.airflow.ingest import ingest_dags
    from millrace.airflow.maintenance import Retention, maintenance_dag
    from millrace.airflow.project import AirflowProject
    from millrace.airflow.transform import transform_dag

__all__ = [
    "AirflowProject",
    "Retention",
    "audit_dag",
    "ingest_dags",
    "maintenance_dag",
    "transform_dag",
]

_MODULES = {
    "AirflowProject": "millrace.airflow.project",
    "Retention": "millrace.airflow.maintenance",
    "audit_dag": "millrace.airflow.audit",
    "ingest_dags": "millrace.airflow.ingest",
    "maintenance_dag": "millrace.airflow.maintenance",
    "transform_dag": "millrace.airflow.transform",
}


def __getattr__(name: str) -> Any:
    """Import on first use: Cosmos is slow to import, and ingestion does not need it."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
