"""DuckDB: the warehouse on a laptop, one file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from millrace.errors import ProjectError
from millrace.settings import Settings
from millrace.warehouses.base import Warehouse, WarehouseKind


def _open(credentials: Any, root: Path, settings: Settings) -> Warehouse:
    from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse

    path: str = credentials.path
    if path.startswith("md:") and "?" in path:
        # The path is shown by errors, and to the readers of a publication.
        raise ProjectError(
            "The path of the target in profiles.yml has options after a ?, such as a token.",
            fix="Set the token as the environment variable motherduck_token, and leave it out.",
        )
    # ":memory:" and "md:…" are no files.
    return DuckDBWarehouse(Path(path) if ":" in path else root / path)


def _namespace(credentials: Any, root: Path) -> str:
    path: str = credentials.path
    return f"duckdb://{path if ':' in path else (root / path).resolve()}"


KIND = WarehouseKind(
    open=_open,
    requirement="millrace[duckdb]",
    # One process at a time can open the file to write to it.
    writers=1,
    enough=("path",),
    namespace=_namespace,
)
"""The kind ``duckdb``."""
