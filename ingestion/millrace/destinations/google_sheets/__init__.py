"""Tabs of Google Sheets, to publish to."""

from __future__ import annotations

from typing import cast

from millrace.catalog import Publication
from millrace.connections import Connection
from millrace.datasets import Dataset
from millrace.destinations.base import Destination, DestinationKind
from millrace.destinations.google_sheets.options import GoogleSheetPublishOptions
from millrace.google_sheets.names import tab_dataset


def _open(connection: Connection) -> Destination:
    from millrace.destinations.google_sheets.destination import GoogleSheetDestination

    return GoogleSheetDestination(connection)


def _dataset(publication: Publication, connection: Connection) -> Dataset:
    options = cast("GoogleSheetPublishOptions", publication.options)
    return tab_dataset(options.spreadsheet, options.tab)


KIND = DestinationKind(
    options=GoogleSheetPublishOptions,
    open=_open,
    requirement="millrace[sheets]",
    dataset=_dataset,
)
"""The kind ``google_sheet``."""
