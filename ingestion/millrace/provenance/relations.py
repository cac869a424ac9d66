"""The relations of a dbt project, as its manifest with compiled SQL has them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.catalog import IngestTable

_NOT_FOLLOWED = {
    "snapshot": "is a snapshot, which keeps rows of earlier loads",
    "seed": "is a seed, a file of the project",
    "source": "is not loaded by Millrace",
}


@dataclass(frozen=True, eq=False)
class Relation:
    """A model, a snapshot, a seed or a source table.

    Attributes:
        id: dbt's unique id.
        name: Its name; of a source table, ``<source>.<table>``.
        database: Its database.
        schema: Its schema.
        identifier: Its name there.
        sql: The query that makes it, in the warehouse's dialect; None: not made by one query over
            what is in the warehouse now.
        parents: The ids of what it reads.
        table: The declaration, if Millrace loads it.
    """

    id: str
    name: str
    database: str
    schema: str
    identifier: str
    sql: str | None
    parents: tuple[str, ...]
    table: IngestTable | None

    @property
    def place(self) -> tuple[str, str]:
        """Its schema and name, as they are looked up."""
        return self.schema.lower(), self.identifier.lower()

    @property
    def not_followed(self) -> str:
        """Why rows are not followed through it; for relations without ``sql``."""
        kind = self.id.partition(".")[0]
        return f"{self.name} {_NOT_FOLLOWED.get(kind, 'is not made by an SQL query')}"


@dataclass(frozen=True)
class Relations:
    """All relations of a project.

    Attributes:
        by_id: By dbt's unique id.
        dialect: The SQL of the warehouse: the type of dbt's adapter.
    """

    by_id: Mapping[str, Relation]
    dialect: str

    @classmethod
    def read(cls, manifest_path: Path, tables: Iterable[IngestTable]) -> Relations:
        """Read them from a manifest that ``dbt compile`` wrote.

        Args:
            manifest_path: The manifest.
            tables: The tables that Millrace loads.
        """
        manifest = json.loads(manifest_path.read_text())
        ingested = {table.key: table for table in tables}
        nodes = {**manifest["nodes"], **manifest["sources"]}
        relations = {
            name: _relation(node, ingested)
            for name, node in nodes.items()
            if node["resource_type"] in ("model", "snapshot", "seed", "source")
        }
        return cls(relations, manifest["metadata"]["adapter_type"])

    def at(self, schema: str, identifier: str) -> Relation | None:
        """The relation of that name; None if it is none of the project's."""
        place = schema.lower(), identifier.lower()
        return next((found for found in self.by_id.values() if found.place == place), None)

    def tables_behind(self, relation: Relation) -> list[IngestTable]:
        """The loaded tables that a relation is made of, at any distance."""
        if relation.table:
            return [relation.table]
        found: dict[str, IngestTable] = {}
        for parent in relation.parents:
            if parent in self.by_id:
                found |= {table.key: table for table in self.tables_behind(self.by_id[parent])}
        return list(found.values())


def _relation(node: Mapping[str, Any], ingested: Mapping[str, IngestTable]) -> Relation:
    is_source = node["resource_type"] == "source"
    name = f"{node['source_name']}.{node['name']}" if is_source else node["name"]
    is_query = node["resource_type"] == "model" and node.get("language") == "sql"
    return Relation(
        id=node["unique_id"],
        name=name,
        database=node["database"] or "",
        schema=node["schema"],
        identifier=node["identifier"] if is_source else node["alias"],
        sql=node.get("compiled_code") if is_query else None,
        parents=() if is_source else tuple(node.get("depends_on", {}).get("nodes", ())),
        table=ingested.get(name) if is_source else None,
    )
