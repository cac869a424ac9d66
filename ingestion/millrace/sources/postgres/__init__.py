"""Tables of PostgreSQL servers."""

from __future__ import annotations

from typing import cast

from millrace.catalog import IngestTable
from millrace.connections import Connection
from millrace.datasets import Dataset
from millrace.sources.base import Access, Source, SourceKind
from millrace.sources.postgres.options import PostgresOptions

_PORT = 5432


def _open(connection: Connection) -> Source:
    from millrace.sources.postgres.source import PostgresSource

    return PostgresSource(connection)


def _dataset(table: IngestTable, connection: Connection) -> Dataset:
    options = cast("PostgresOptions", table.options)
    schema, name = options.place
    place = f"postgres://{connection.host or ''}:{connection.port or _PORT}"
    return Dataset(place, f"{connection.schema or ''}.{schema}.{name}")


def _access(connection: Connection) -> Access:
    from millrace.sources.postgres.rights import access

    return access(connection)


KIND = SourceKind(
    options=PostgresOptions,
    open=_open,
    requirement="millrace[postgres]",
    dataset=_dataset,
    conn_types=("postgres", "postgresql"),
    access=_access,
)
"""The kind ``postgres``."""
