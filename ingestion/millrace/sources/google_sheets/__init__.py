"""Tabs of Google Sheets, to read."""

from __future__ import annotations

from typing import cast

from millrace.catalog import IngestTable
from millrace.connections import Connection
from millrace.datasets import Dataset
from millrace.google_sheets.names import tab_dataset
from millrace.sources.base import Source, SourceKind
from millrace.sources.google_sheets.options import GoogleSheetOptions


def _open(connection: Connection) -> Source:
    from millrace.sources.google_sheets.source import GoogleSheetSource

    return GoogleSheetSource(connection)


def _dataset(table: IngestTable, connection: Connection) -> Dataset:
    options = cast("GoogleSheetOptions", table.options)
    return tab_dataset(options.spreadsheet, options.tab)


KIND = SourceKind(
    options=GoogleSheetOptions,
    open=_open,
    requirement="millrace[sheets]",
    dataset=_dataset,
    conn_types=("google_cloud_platform",),
)
"""The kind ``google_sheet``."""
