"""Files that others deliver to a bucket of S3."""

from __future__ import annotations

from typing import cast

from millrace.catalog import IngestTable
from millrace.connections import Connection
from millrace.datasets import Dataset
from millrace.sources.base import Source, SourceKind
from millrace.sources.s3_files.options import S3FilesOptions


def _open(connection: Connection) -> Source:
    from millrace.sources.s3_files.source import S3FilesSource

    return S3FilesSource(connection)


def _dataset(table: IngestTable, connection: Connection) -> Dataset:
    files = cast("S3FilesOptions", table.options).files
    return Dataset(f"s3://{files.bucket}", files.pattern)


KIND = SourceKind(
    options=S3FilesOptions,
    open=_open,
    requirement="millrace",
    dataset=_dataset,
    conn_types=("aws",),
)
"""The kind ``s3_files``."""
