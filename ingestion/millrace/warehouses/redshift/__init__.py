"""Amazon Redshift."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from millrace.settings import Settings
from millrace.warehouses.base import Warehouse, WarehouseKind
from millrace.warehouses.redshift.options import LIMITS, RedshiftOptions

# The address of a cluster: its name, something of the account's, the region.
_OF_AMAZON = re.compile(
    r"(?P<name>[^.]+)\.[^.]+\.(?P<region>[^.]+)\.redshift(-serverless)?\.amazonaws\.com(\.cn)?"
)


def _open(credentials: Any, root: Path, settings: Settings) -> Warehouse:
    from millrace.warehouses.redshift.warehouse import RedshiftWarehouse

    return RedshiftWarehouse(
        credentials, settings.redshift_iam_role, settings.redshift_statement_seconds
    )


def _namespace(credentials: Any, root: Path) -> str:
    amazon = _OF_AMAZON.fullmatch(credentials.host)
    place = f"{amazon['name']}.{amazon['region']}" if amazon else credentials.host
    return f"redshift://{place}:{credentials.port}"


KIND = WarehouseKind(
    open=_open,
    requirement="millrace[redshift]",
    table_options=RedshiftOptions,
    limits=LIMITS,
    namespace=_namespace,
)
"""The kind ``redshift``."""
