"""DuckDB: the warehouse on a laptop, one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.settings import Settings
from millrace.warehouses.base import Warehouse, WarehouseKind


def _open(credentials: Any, root: Path, settings: Settings) -> Warehouse:
    from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse

    path: str = credentials.path
    # ":memory:" and "md:…" are no files.
    return DuckDBWarehouse(Path(path) if ":" in path else root / path)


KIND = WarehouseKind(open=_open, requirement="millrace[duckdb]")
"""The kind ``duckdb``."""
