"""A partner who delivers files to a bucket of the S3 server."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.batch import WHOLE_TABLE
from millrace.catalog import IngestTable
from millrace.connections import Connection
from millrace.sources.s3_files.options import S3FilesOptions
from millrace.sources.s3_files.source import S3FilesSource
from redshift_standin.s3 import S3Server


@dataclass(frozen=True)
class Partner:
    """A partner with a bucket.

    Attributes:
        server: The S3 server.
        bucket: The bucket's name.
    """

    server: S3Server
    bucket: str

    @cached_property
    def _client(self) -> Any:
        return self.server.endpoint.client()

    def deliver(self, name: str, content: bytes | str) -> None:
        """Write a file, as it is."""
        body = content.encode() if isinstance(content, str) else content
        self._client.put_object(Bucket=self.bucket, Key=name, Body=body)

    def deliver_rows(
        self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]
    ) -> None:
        """Write rows in the format of the file's name."""
        self.deliver(name, written(name, columns, rows))

    def remove(self, name: str) -> None:
        """Delete a file."""
        self._client.delete_object(Bucket=self.bucket, Key=name)

    def names(self) -> list[str]:
        """The names of all files."""
        listed = self._client.list_objects_v2(Bucket=self.bucket)
        return [found["Key"] for found in listed.get("Contents", [])]

    def connection(self, **changes: Any) -> Connection:
        """What opens the bucket."""
        return Connection("partner_s3", **(self.server.endpoint.airflow_connection() | changes))

    def source(self) -> S3FilesSource:
        """The bucket as a source."""
        return S3FilesSource(self.connection())

    def read(self, **options: Any) -> pa.Table:
        """The rows of all files of a table that the options declare."""
        table = declared(self.bucket, **options)
        with self.source().extract(table, WHOLE_TABLE) as extraction:
            return pa.Table.from_batches(extraction.batches, schema=extraction.schema)


def declared(bucket: str, **options: Any) -> IngestTable:
    """The declaration of a table ``partner.orders``."""
    block = {
        "kind": "s3_files",
        "connection": "partner_s3",
        "files": f"s3://{bucket}/orders/*.csv",
        "columns": {"id": "integer"},
    }
    return IngestTable(
        source="partner",
        name="orders",
        schema="raw_partner",
        identifier="orders",
        options=S3FilesOptions.model_validate(block | options),
        file="models/staging/partner/_partner__sources.yml",
    )


def written(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    """Rows in the format of a file's name."""
    if name.endswith(".gz"):
        return gzip.compress(written(name.removesuffix(".gz"), columns, rows))
    if name.endswith(".parquet"):
        table = pa.table({column: [row[at] for row in rows] for at, column in enumerate(columns)})
        file = io.BytesIO()
        pq.write_table(table, file)
        return file.getvalue()
    text = io.StringIO()
    if name.endswith(".jsonl"):
        for row in rows:
            text.write(json.dumps(dict(zip(columns, row, strict=True))) + "\n")
    else:
        csv.writer(text).writerows([columns, *rows])
    return text.getvalue().encode()
