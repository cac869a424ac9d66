"""Declared tables and batches for tests that need no MySQL."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from millrace.catalog import IngestTable, MySQLOptions, Pii


def declared(
    *, cursor: str | None = "updated_at", pii: dict[str, Pii] | None = None, **options: Any
) -> IngestTable:
    """The declaration of mysql.nps; the options are keys of its ingest block."""
    return IngestTable(
        source="mysql",
        name="nps",
        schema="raw_mysql",
        identifier="nps",
        options=MySQLOptions(
            kind="mysql",
            connection="mysql_prod",
            table="prod.nps",
            primary_key=("id",),
            cursor=cursor,
            **options,
        ),
        pii=pii or {},
        file="models/staging/mysql/_mysql__sources.yml",
    )


def batches_of(rows: pa.Table, size: int = 1000) -> list[pa.RecordBatch]:
    """The rows as record batches of at most that many rows."""
    return rows.combine_chunks().to_batches(max_chunksize=size)
