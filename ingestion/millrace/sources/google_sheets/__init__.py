"""Tabs of Google Sheets, to read."""

from __future__ import annotations

from millrace.connections import Connection
from millrace.sources.base import Source, SourceKind
from millrace.sources.google_sheets.options import GoogleSheetOptions


def _open(connection: Connection) -> Source:
    from millrace.sources.google_sheets.source import GoogleSheetSource

    return GoogleSheetSource(connection)


KIND = SourceKind(options=GoogleSheetOptions, open=_open, requirement="millrace[sheets]")
"""The kind ``google_sheet``."""
