"""Google BigQuery."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.errors import ProjectError
from millrace.settings import Settings
from millrace.warehouses.base import Warehouse, WarehouseKind
from millrace.warehouses.bigquery.options import LIMITS, BigQueryOptions


def _open(credentials: Any, root: Path, settings: Settings) -> Warehouse:
    from millrace.warehouses.bigquery.warehouse import BigQueryWarehouse

    if credentials.execution_project not in (None, credentials.database):
        raise ProjectError(
            f"The dbt target runs its jobs in the project {credentials.execution_project}, and its "
            f"tables are in {credentials.database}: Millrace loads where both are one.",
            fix="Leave `execution_project` of the target out of profiles.yml.",
        )
    return BigQueryWarehouse(credentials)


def _namespace(credentials: Any, root: Path) -> str:
    # As OpenLineage names it; a dataset belongs to a project, and the project is in each name.
    return "bigquery"


KIND = WarehouseKind(
    open=_open,
    requirement="millrace[bigquery]",
    table_options=BigQueryOptions,
    limits=LIMITS,
    namespace=_namespace,
)
"""The kind ``bigquery``."""
