"""A test's own spreadsheet on the stand-in, and gspread to read what was published."""

from __future__ import annotations

import json
import weakref
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any, Literal

import gspread
import pyarrow as pa
from google.oauth2.service_account import Credentials
from gspread.utils import DateTimeOption, ValueRenderOption

from millrace.batch import WHOLE_TABLE
from millrace.catalog import IngestTable, Publication
from millrace.connections import Connection
from millrace.destinations.base import Published
from millrace.destinations.google_sheets.destination import REQUEST_BYTES, GoogleSheetDestination
from millrace.destinations.google_sheets.options import GoogleSheetPublishOptions
from millrace.sources.google_sheets.options import GoogleSheetOptions
from millrace.sources.google_sheets.source import GoogleSheetSource
from sheets_standin import GoogleSheetsServer, SheetsAdmin, TabSpec, TabState
from sheets_standin.admin import CellValue

SCOPE = "https://www.googleapis.com/auth/spreadsheets"


class Workbook:
    """A spreadsheet that is shared with the service account."""

    def __init__(
        self,
        server: GoogleSheetsServer,
        *tabs: TabSpec,
        role: Literal["reader", "writer"] | None = "writer",
    ) -> None:
        self.server = server
        self.admin = _admin(server)
        self.email = server.service_account_key()["client_email"]
        share = {self.email: role} if role else {}
        self.key = self.admin.create("Targets", tabs or (TabSpec("Sheet1"),), share=share)
        self.admin.clear_faults()
        self.admin.clear_requests()

    def connection(self, **extra: Any) -> Connection:
        given = {"keyfile_dict": self.server.service_account_key(), "endpoint_url": self.server.url}
        return Connection("google_sheets", "google_cloud_platform", extra=given | extra)

    def table(self, **options: Any) -> IngestTable:
        """The declaration of the tab `targets`."""
        declared = {
            "kind": "google_sheet",
            "connection": "google_sheets",
            "spreadsheet": self.key,
            "tab": "targets",
        }
        return IngestTable(
            source="google_sheets",
            name="nps_targets",
            schema="raw_google_sheets",
            identifier="nps_targets",
            options=GoogleSheetOptions.model_validate(declared | options),
            file="models/staging/google_sheets/_google_sheets__sources.yml",
        )

    def extract(self, **options: Any) -> pa.Table:
        source = GoogleSheetSource(self.connection())
        with source.extract(self.table(**options), WHOLE_TABLE) as extraction:
            return pa.Table.from_batches(extraction.batches, schema=extraction.schema)

    def publish(
        self,
        rows: pa.Table,
        *,
        request_bytes: int = REQUEST_BYTES,
        refreshed: str = "2026-11-20 09:41 UTC, run manual",
        name: str = "nps_summary_sheet",
        warehouse: str = "duckdb dev.duckdb, analytics",
        **options: Any,
    ) -> Published:
        declared = {
            "kind": "google_sheet",
            "connection": "google_sheets",
            "spreadsheet": self.key,
            "tab": "nps_summary",
            "order_by": ["date"],
        }
        publication = Publication(
            name=name,
            mart="nps_summary",
            schema="marts",
            identifier="nps_summary",
            options=GoogleSheetPublishOptions.model_validate(declared | options),
        )
        destination = GoogleSheetDestination(self.connection(), request_bytes=request_bytes)
        return destination.publish(publication, rows, refreshed=refreshed, warehouse=warehouse)

    @cached_property
    def judge(self) -> gspread.Spreadsheet:
        """The spreadsheet as gspread opens it."""
        account = Credentials.from_service_account_info(
            self.server.service_account_key(), scopes=[SCOPE]
        )
        url = self.server.url

        class HTTPClient(gspread.HTTPClient):
            def request(self, method: str, endpoint: str, *args: Any, **kwargs: Any) -> Any:
                local = endpoint.replace("https://sheets.googleapis.com", url, 1)
                return super().request(method, local, *args, **kwargs)

        client = gspread.Client(account, http_client=HTTPClient)
        weakref.finalize(self, client.http_client.session.close)
        return client.open_by_key(self.key)

    def titles(self) -> list[str]:
        return [tab.title for tab in self.judge.worksheets()]

    def read(self, tab: str = "nps_summary") -> list[list[Any]]:
        """A tab's unformatted values, by gspread; None where it has no such tab."""
        sheet = self.judge.worksheet(tab)
        return [
            list(row)
            for row in sheet.get(
                value_render_option=ValueRenderOption.unformatted,
                date_time_render_option=DateTimeOption.serial_number,
            )
        ]

    def state(self, tab: str = "nps_summary") -> TabState:
        """A tab with its notes and formats, as the stand-in keeps it."""
        return self.admin.tab(self.key, tab)

    def change(self, tab: str, cell: str, value: Any) -> None:
        """Type a value into a cell, as a user does."""
        self.judge.worksheet(tab).update([[value]], cell, raw=True)

    def requests(self) -> list[str]:
        """The requests to the API since the last time, without those for a token."""
        log = [
            f"{entry.method} {entry.path}"
            for entry in self.admin.requests()
            if entry.path != "/token"
        ]
        self.admin.clear_requests()
        return log


@cache
def _admin(server: GoogleSheetsServer) -> SheetsAdmin:
    """One client per server, shared by all spreadsheets, since nobody closes it."""
    return server.admin()


def targets(*rows: Sequence[CellValue], headings: Sequence[CellValue] = ()) -> TabSpec:
    """The tab `targets`: month, segment, target."""
    return TabSpec("targets", [headings or ("Month", "Segment", "Target NPS"), *rows])


def keyfile_text(workbook: Workbook) -> str:
    """The service account's key as one JSON text."""
    return json.dumps(workbook.server.service_account_key())
