"""Tabs of Google Sheets, to publish to."""

from __future__ import annotations

from millrace.connections import Connection
from millrace.destinations.base import Destination, DestinationKind
from millrace.destinations.google_sheets.options import GoogleSheetPublishOptions


def _open(connection: Connection) -> Destination:
    from millrace.destinations.google_sheets.destination import GoogleSheetDestination

    return GoogleSheetDestination(connection)


KIND = DestinationKind(
    options=GoogleSheetPublishOptions, open=_open, requirement="millrace[sheets]"
)
"""The kind ``google_sheet``."""
