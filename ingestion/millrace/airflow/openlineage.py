"""Tells OpenLineage what the tasks have read and written, where Airflow's provider for it is on.

The provider tells of each task that it began and how it ended, and knows nothing of what Millrace's
tasks did in between. Each of them tells that itself, in one more event of the same run.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from millrace.catalog import IngestTable, Publication
from millrace.datasets import Dataset, folder

if TYPE_CHECKING:
    from millrace.airflow.project import AirflowProject
    from millrace.pipeline import Pipeline

log = logging.getLogger(__name__)

_BUILT = ("model", "seed", "snapshot")


@dataclass(frozen=True)
class Lines:
    """What a task reads and writes."""

    reads: Sequence[Dataset]
    writes: Sequence[Dataset]

    def to_json(self) -> dict[str, Any]:
        """As tasks hand it to each other."""
        return {
            "reads": [astuple(found) for found in self.reads],
            "writes": [astuple(found) for found in self.writes],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Lines:
        """As ``to_json`` gave it."""
        return cls(
            [Dataset(*found) for found in value["reads"]],
            [Dataset(*found) for found in value["writes"]],
        )


def is_on() -> bool:
    """Whether the provider is installed and told where to send to."""
    try:
        from airflow.providers.openlineage.api import is_openlineage_active
    except ImportError:
        return False
    return bool(is_openlineage_active())


def extracted(pipeline: Pipeline, table: IngestTable) -> None:
    """Tell that a table was read and landed."""
    _tell(lambda: _Names(pipeline).of_extraction(table))


def loaded(pipeline: Pipeline, table: IngestTable) -> None:
    """Tell that what was landed was loaded."""
    _tell(lambda: _Names(pipeline).of_load(table))


def published(pipeline: Pipeline, publication: Publication) -> None:
    """Tell that a mart was published."""
    _tell(lambda: _Names(pipeline).of_publication(publication))


def built(lines: Mapping[str, Any] | None) -> None:
    """Tell what a task of dbt's has built.

    Args:
        lines: What ``of_nodes`` found, as JSON; None: nothing that is told.
    """
    if lines is not None:
        _tell(lambda: Lines.from_json(lines))


def of_nodes(project: AirflowProject) -> Mapping[str, Lines]:
    """What each node that dbt builds reads and writes, by its id; nothing where nobody is told."""
    if not is_on():
        return {}
    with _harmless():
        manifest = json.loads(project.dbt.manifest_path.read_text())
        return dict(_Names(project.pipeline()).of_nodes(manifest))
    return {}


class _Names:
    """What the tables, sheets and folders of a project are called.

    Args:
        pipeline: The project.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def of_extraction(self, table: IngestTable) -> Lines:
        from millrace.sources.base import source_dataset

        connection = self._pipeline.connection(table.options.connection)
        return Lines([source_dataset(table, connection)], [self._landed(table)])

    def of_load(self, table: IngestTable) -> Lines:
        return Lines([self._landed(table)], [self._relation(table.schema, table.identifier)])

    def of_publication(self, publication: Publication) -> Lines:
        from millrace.destinations.base import published_dataset

        connection = self._pipeline.connection(publication.options.connection)
        return Lines(
            [self._relation(publication.schema, publication.identifier)],
            [published_dataset(publication, connection)],
        )

    def of_nodes(self, manifest: Mapping[str, Any]) -> Iterator[tuple[str, Lines]]:
        relations = {**manifest["nodes"], **manifest["sources"]}

        def parents(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
            named = node["depends_on"]["nodes"]
            for parent in (relations[name] for name in named if name in relations):
                # It has no relation: it is part of what reads it.
                yield from parents(parent) if _is_ephemeral(parent) else [parent]

        for name, node in manifest["nodes"].items():
            if node["resource_type"] in _BUILT and not _is_ephemeral(node):
                reads = {self._of_node(parent): None for parent in parents(node)}
                yield name, Lines(list(reads), [self._of_node(node)])

    def _landed(self, table: IngestTable) -> Dataset:
        return folder(self._pipeline.landing.url, table.key.replace(".", "/", 1))

    def _of_node(self, node: Mapping[str, Any]) -> Dataset:
        name = node["schema"], node.get("alias") or node["identifier"]
        # The manifest's own `database` is that of the environment in which dbt parsed.
        return self._relation(*name, database=node["config"].get("database"))

    def _relation(self, schema: str, identifier: str, database: str | None = None) -> Dataset:
        database = database or self._credentials.database
        return Dataset(self._namespace, f"{database}.{schema}.{identifier}")

    @cached_property
    def _namespace(self) -> str:
        from millrace.warehouses.base import warehouse_namespace

        return warehouse_namespace(self._credentials, self._pipeline.project.root)

    @cached_property
    def _credentials(self) -> Any:
        return self._pipeline.project.credentials()


def _is_ephemeral(node: Mapping[str, Any]) -> bool:
    return bool(node["config"].get("materialized") == "ephemeral")


def _tell(find: Callable[[], Lines]) -> None:
    if not is_on():
        return
    with _harmless():
        from airflow.providers.openlineage.api import emit_dataset_lineage
        from openlineage.client.event_v2 import InputDataset, OutputDataset

        lines = find()
        emit_dataset_lineage(
            inputs=[InputDataset(found.namespace, found.name) for found in lines.reads],
            outputs=[OutputDataset(found.namespace, found.name) for found in lines.writes],
        )


@contextmanager
def _harmless() -> Iterator[None]:
    """Let no task fail because of what is only told of it."""
    try:
        yield
    except Exception as error:
        log.warning("OpenLineage is not told of this task: %s", error)
