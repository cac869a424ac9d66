"""What a project declares to Millrace: tables to ingest, marts to publish."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from pydantic import BaseModel

from millrace.catalog.options import IngestOptions, Pii, PublishOptions
from millrace.catalog.suggestions import did_you_mean
from millrace.errors import DeclarationError


@dataclass(frozen=True)
class Publication:
    """A mart that Millrace publishes.

    Attributes:
        name: The exposure's name.
        mart: Name of the dbt model.
        schema: The mart's schema.
        identifier: The mart's name there.
        options: The validated ``publish`` block.
        file: Where it is declared, relative to the dbt project.
        tables: The keys of the ingested tables that the mart is made of, in order.
        owner: Who answers for it: the exposure's owner.
    """

    name: str
    mart: str
    schema: str
    identifier: str
    options: PublishOptions
    file: str = ""
    tables: tuple[str, ...] = ()
    owner: str = ""


@dataclass(frozen=True)
class Model:
    """A dbt model or snapshot that reads a source table.

    Attributes:
        name: Its name.
        schema: Its schema.
        identifier: Its relation's name there.
        sql: Its SQL as it is written, with Jinja.
    """

    name: str
    schema: str
    identifier: str
    sql: str


@dataclass(frozen=True)
class IngestTable:
    """A source table that Millrace ingests.

    Attributes:
        source: Name of the dbt source.
        name: Name of the table in that source.
        schema: The raw table's schema.
        identifier: The raw table's name there.
        options: The validated ``ingest`` block.
        columns: The columns that the source's YAML describes, in its order.
        pii: Policy by name of the columns with personal data.
        not_personal: Columns that are declared to have none: ``pii: none``.
        not_ingested: Columns whose meta says ``ingest: false``.
        of_warehouse: The validated block of each kind of warehouse that the ingest block names.
        file: Where it is declared, relative to the dbt project.
        owner: Who answers for it: ``owner`` in dbt's meta.
        max_age: How old the last load may be: dbt's ``freshness``.
    """

    source: str
    name: str
    schema: str
    identifier: str
    options: IngestOptions
    columns: tuple[str, ...] = ()
    pii: Mapping[str, Pii] = field(default_factory=dict)
    not_personal: frozenset[str] = frozenset()
    not_ingested: frozenset[str] = frozenset()
    of_warehouse: Mapping[str, BaseModel] = field(default_factory=dict)
    file: str = ""
    owner: str = ""
    max_age: timedelta | None = None

    @property
    def left_out(self) -> frozenset[str]:
        """Columns that are never even read: ``ingest: false``, or ``pii: drop``."""
        dropped = {name for name, policy in self.pii.items() if policy is Pii.DROP}
        return self.not_ingested | dropped

    @property
    def key(self) -> str:
        """``<source>.<table>``: what the command line and the ledger call it."""
        return f"{self.source}.{self.name}"

    def dag_id(self, prefix: str = "") -> str:
        """What Airflow calls the DAG that keeps the raw table.

        Args:
            prefix: Begins the ids of the project's DAGs, where an Airflow has several projects.
        """
        return f"{prefix}ingest__{self.source}__{self.name}"

    @property
    def cursor_column(self) -> str | None:
        """The column whose intervals make the batches; None for a full refresh."""
        return self.options.cursor.column if self.options.cursor else None

    @property
    def is_full_refresh(self) -> bool:
        """Whether each batch is the whole table."""
        return self.options.cursor is None

    @property
    def is_as_of_one_moment(self) -> bool:
        """Whether all rows of a batch are read as of one moment."""
        declared = self.options.as_of_one_moment
        return self.is_full_refresh if declared is None else declared

    @property
    def min_rows(self) -> int:
        """The least rows that a batch must have."""
        if self.options.min_rows is not None:
            return self.options.min_rows
        return 1 if self.is_full_refresh else 0


@dataclass(frozen=True)
class Catalog:
    """Everything that the dbt project declares to Millrace.

    Attributes:
        tables: What is ingested, ordered by key.
        publications: What is published, ordered by name.
        project: The dbt project's name.
        warehouse: The kind of warehouse that dbt parsed the project for.
        readers: The models and snapshots that read a table directly, by the table's key.
        owners: Who answers for a model or snapshot, by its name: ``owner`` in its meta.
    """

    tables: tuple[IngestTable, ...]
    publications: tuple[Publication, ...] = ()
    project: str = ""
    warehouse: str = ""
    readers: Mapping[str, tuple[Model, ...]] = field(default_factory=dict)
    owners: Mapping[str, str] = field(default_factory=dict)

    def publication(self, name: str) -> Publication:
        """The publication of the exposure with this name.

        Raises:
            DeclarationError: there is none.
        """
        for publication in self.publications:
            if publication.name == name:
                return publication
        raise DeclarationError(
            f"No exposure '{name}' with a `publish` block is declared.",
            fix=did_you_mean(name, [found.name for found in self.publications], "Declared"),
        )

    def table(self, key: str) -> IngestTable:
        """The table whose key is ``<source>.<table>``.

        Raises:
            DeclarationError: there is none.
        """
        for table in self.tables:
            if table.key == key:
                return table
        raise DeclarationError(
            f"No source table '{key}' with an `ingest` block is declared.",
            fix=did_you_mean(key, [table.key for table in self.tables], "Declared"),
        )
