"""Tables of MySQL and MariaDB servers."""

from __future__ import annotations

from typing import cast

from millrace.catalog import IngestTable
from millrace.connections import Connection
from millrace.datasets import Dataset
from millrace.sources.base import Access, Source, SourceKind
from millrace.sources.mysql.options import MySQLOptions

_PORT = 3306


def _open(connection: Connection) -> Source:
    from millrace.sources.mysql.source import MySQLSource

    return MySQLSource(connection)


def _dataset(table: IngestTable, connection: Connection) -> Dataset:
    options = cast("MySQLOptions", table.options)
    database, _, name = options.table.rpartition(".")
    place = f"mysql://{connection.host or ''}:{connection.port or _PORT}"
    return Dataset(place, f"{database or connection.schema or ''}.{name}")


def _access(connection: Connection) -> Access:
    from millrace.sources.mysql.rights import access

    return access(connection)


KIND = SourceKind(
    options=MySQLOptions,
    open=_open,
    requirement="millrace[mysql]",
    dataset=_dataset,
    conn_types=("mysql",),
    access=_access,
)
"""The kind ``mysql``."""
