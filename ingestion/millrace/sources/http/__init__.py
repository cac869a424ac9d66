"""Tables that HTTP APIs serve as JSON."""

from __future__ import annotations

from typing import cast

from millrace.catalog import IngestTable
from millrace.connections import Connection
from millrace.datasets import Dataset
from millrace.sources.base import Source, SourceKind
from millrace.sources.http.address import Address
from millrace.sources.http.options import HttpOptions


def _open(connection: Connection) -> Source:
    from millrace.sources.http.source import HttpSource

    return HttpSource(connection)


def _dataset(table: IngestTable, connection: Connection) -> Dataset:
    options = cast("HttpOptions", table.options)
    address = Address.of(connection)
    return Dataset(address.origin, f"{address.path}{options.endpoint}".lstrip("/"))


KIND = SourceKind(
    options=HttpOptions,
    open=_open,
    requirement="millrace[http]",
    dataset=_dataset,
    conn_types=("http", "https"),
)
"""The kind ``http``."""
