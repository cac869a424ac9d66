"""Declared tables and batches for tests that need no MySQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from millrace.catalog import IngestTable, Pii
from millrace.sources.mysql.options import MySQLOptions
from millrace.warehouses.base import LedgerRow, Warehouse


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


def ledger(warehouse: Warehouse, table: IngestTable) -> Sequence[LedgerRow]:
    """What the warehouse has recorded of a table, oldest load first."""
    return warehouse.ledgers([table])[table.key]


def batches_of(rows: pa.Table, size: int = 1000) -> list[pa.RecordBatch]:
    """The rows as record batches of at most that many rows."""
    return rows.combine_chunks().to_batches(max_chunksize=size)
