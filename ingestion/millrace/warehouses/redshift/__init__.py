"""Amazon Redshift."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.settings import Settings
from millrace.warehouses.base import Warehouse, WarehouseKind
from millrace.warehouses.redshift.options import LIMITS, RedshiftOptions


def _open(credentials: Any, root: Path, settings: Settings) -> Warehouse:
    from millrace.warehouses.redshift.warehouse import RedshiftWarehouse

    return RedshiftWarehouse(
        credentials, settings.redshift_iam_role, settings.redshift_statement_seconds
    )


KIND = WarehouseKind(
    open=_open,
    requirement="millrace[redshift]",
    table_options=RedshiftOptions,
    limits=LIMITS,
)
"""The kind ``redshift``."""
