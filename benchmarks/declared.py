"""dbt projects that declare measured tables to Millrace, as its users would."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks import REPOSITORY
from benchmarks.workspace import Workspace
from millrace.dbt.project import Project

SOURCE = "bench"
SCHEMA = "raw_bench"
PARTITIONS = (None, 1, 2, 4)
PERSONAL = (None, "comment", "user_id")
"""Columns to hash: a text, about as long as its hash, and a number, which else takes 2 bytes."""


@dataclass(frozen=True)
class DeclaredTable:
    """A parsed project that declares one table in several ways.

    Attributes:
        root: The project's own folder.
        table: The table in the database ``prod``.
    """

    root: Path
    table: str

    @property
    def duckdb(self) -> Path:
        """The warehouse file of the target ``dev``."""
        return self.root / "warehouse.duckdb"

    def environment(
        self, partitions: int | None = None, hashed: str | None = None
    ) -> dict[str, str]:
        """The environment variables that name the project, and the table as it is declared there.

        Args:
            partitions: How many connections read it; None means as many as Millrace chooses.
            hashed: Which of its columns is hashed, if any.
        """
        return {
            "BENCH_DECLARED": f"{SOURCE}.{_declared_name(self.table, partitions, hashed)}",
            "DBT_PROJECT_DIR": str(self.root / "dbt_project"),
            "DBT_PROFILES_DIR": str(REPOSITORY),
            "DUCKDB_PATH": str(self.duckdb),
        }


@cache
def declare(workspace: Workspace, table: str) -> DeclaredTable:
    """Declare a table of the database ``prod`` and let dbt parse the project.

    Args:
        workspace: The folders of the benchmarks.
        table: The table. It has no cursor, so each batch is the whole table.
    """
    root = workspace.scratch / f"project_{table}"
    ways = []
    for partitions, hashed in product(PARTITIONS, PERSONAL):
        options = {} if partitions is None else {"partitions": partitions}
        name = _declared_name(table, partitions, hashed)
        ways.append(declaration(name, table, hashed=hashed, **options))
    write_project(root / "dbt_project", ways)
    return DeclaredTable(root, table)


def declaration(
    name: str, table: str, *, hashed: str | None = None, **options: Any
) -> dict[str, Any]:
    """A source table as in dbt's YAML: a table of the database ``prod``, without a cursor.

    Args:
        name: Its name in dbt.
        table: Its name in the database.
        hashed: A column to hash.
        options: More keys of its ``ingest`` block.
    """
    ingest = {"table": f"prod.{table}", "primary_key": ["id"], **options}
    personal = [{"name": hashed, "config": {"meta": {"pii": "hash"}}}] if hashed else []
    return {"name": name, "config": {"meta": {"ingest": ingest}}, "columns": personal}


def write_project(
    folder: Path,
    tables: Sequence[Mapping[str, Any]],
    models: Mapping[str, str] | None = None,
    tests: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write a dbt project with one MySQL source, and let dbt parse it.

    Args:
        folder: The folder of ``dbt_project.yml``.
        tables: The source's tables, as ``declaration`` returns them.
        models: SQL by name.
        tests: The models' entries in dbt's YAML.
    """
    (folder / "models").mkdir(parents=True, exist_ok=True)
    ingest = {"kind": "mysql", "connection": "mysql_prod", "pool": "mysql_prod"}
    source = {
        "name": SOURCE,
        "schema": SCHEMA,
        "config": {"meta": {"ingest": ingest}},
        "tables": list(tables),
    }
    project = {"name": "bench", "profile": "millrace", "version": "1.0"}
    # JSON is YAML.
    (folder / "dbt_project.yml").write_text(json.dumps(project))
    (folder / "models" / "bench.yml").write_text(
        json.dumps({"sources": [source], "models": list(tests)})
    )
    for name, sql in (models or {}).items():
        (folder / "models" / f"{name}.sql").write_text(sql)
    Project(folder, REPOSITORY).parse()


def copy_dags(project: Path) -> Path:
    """Copy this repository's DAG files beside another dbt project; returns their folder."""
    folder = project.parent / "dags"
    shutil.copytree(
        REPOSITORY / "dags",
        folder,
        ignore=shutil.ignore_patterns("__pycache__"),
        dirs_exist_ok=True,
    )
    return folder


def _declared_name(table: str, partitions: int | None, hashed: str | None) -> str:
    by = "" if partitions is None else f"_by_{partitions}"
    return f"{table}{by}{f'_{hashed}_hashed' if hashed else ''}"
