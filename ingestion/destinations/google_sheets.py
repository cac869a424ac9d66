"""Publishing to a tab of a Google Sheet, so that its readers see the old table or the new one.

A table of normal size is one ``spreadsheets.batchUpdate``, of which Google applies all or
nothing. A larger one goes to a hidden staging tab in chunks, and one ``batchUpdate`` copies it
over. Every request may be repeated; what a request whose answer was lost did is read back.
https://developers.google.com/workspace/sheets/api/reference/rest/v4/spreadsheets/batchUpdate
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from gspread.exceptions import APIError
from gspread.utils import rowcol_to_a1

from ingestion.catalog import GoogleSheetPublishOptions, Publication
from ingestion.destinations import sheet_tab
from ingestion.destinations.base import Published
from ingestion.destinations.sheet_cells import (
    SheetTable,
    canonical,
    checksum,
    row_data,
    to_sheet_table,
)
from ingestion.destinations.sheet_tab import Request, Tab
from ingestion.errors import PublicationRefused, SheetError, SheetUnavailable
from ingestion.google_sheets import Cell, GoogleSheets, quote_tab, said

if TYPE_CHECKING:
    from ingestion.connections import Connection

# Google recommends at most 2 MB a request, and gives up on one that takes three minutes.
# https://developers.google.com/workspace/sheets/api/limits
REQUEST_BYTES = 2_000_000

_STAGING = "_millrace_staging_"
_BOOK_FIELDS = (
    "spreadsheetUrl,sheets.properties(sheetId,title,sheetType,gridProperties(rowCount,columnCount))"
)


class GoogleSheetDestination:
    """The spreadsheets that a service account may edit.

    Args:
        connection: With the service account's key; see ``GoogleSheets``.
        request_bytes: A larger table is published through a staging tab, in chunks of this size.
    """

    def __init__(self, connection: Connection, *, request_bytes: int = REQUEST_BYTES) -> None:
        self._sheets = GoogleSheets(connection, may_write=True)
        self._request_bytes = request_bytes

    def check(self) -> str:
        """Sign in."""
        return f"as {self._sheets.check()}"

    def publish(self, publication: Publication, rows: pa.Table, *, refreshed: str) -> Published:
        """Replace the tab's table; see ``Destination.publish``."""
        with _explained(publication.options):
            return self._publish(publication, to_sheet_table(rows), refreshed)

    def _publish(self, publication: Publication, table: SheetTable, refreshed: str) -> Published:
        options = publication.options
        chunks = list(_chunks(table.rows, self._request_bytes))
        book = self._book(options)
        tab = self._tab(options, book, table)
        sheet_tab.check_loss(tab, table, options.min_row_ratio)
        book.check_space(tab, table, staged=len(chunks) > 1)

        note = sheet_tab.note(
            table,
            name=publication.name,
            mart=publication.mart,
            refreshed=refreshed,
        )
        leftovers = [sheet_tab.delete_tab(sheet_id) for sheet_id in book.leftovers]
        width = len(table.columns)
        if len(chunks) > 1:
            staging = self._stage(options, table, chunks, leftovers)
            changes = [
                *sheet_tab.make_room(tab, table),
                sheet_tab.write_values(tab.sheet_id, width, [table.headings]),
                sheet_tab.copy_under_headings(staging, tab, table),
                *sheet_tab.dress(tab, table, note),
                sheet_tab.delete_tab(staging),
            ]
        else:
            changes = [
                *leftovers,
                *sheet_tab.make_room(tab, table),
                sheet_tab.write_values(tab.sheet_id, width, [table.headings, *table.rows]),
                *sheet_tab.dress(tab, table, note),
            ]
        found = self._replace(options, table, changes, note)
        return Published(
            rows=len(table.rows),
            columns=tuple(table.headings),
            url=f"{book.url}#gid={tab.sheet_id}",
            checksum=found,
        )

    def _book(self, options: GoogleSheetPublishOptions) -> _Book:
        found = self._sheets.metadata(options.spreadsheet, _BOOK_FIELDS)
        sheets = [sheet["properties"] for sheet in found["sheets"]]
        staging = _staging_title(options.tab)
        for sheet in sheets:
            if sheet["title"] == options.tab and "gridProperties" not in sheet:
                raise PublicationRefused(
                    f"The tab '{options.tab}' of {options.spreadsheet} is a chart, not a grid.",
                    fix="Declare another `tab`.",
                )
        grids = {
            sheet["title"]: _Grid(
                sheet["sheetId"],
                sheet["gridProperties"]["rowCount"],
                sheet["gridProperties"]["columnCount"],
            )
            for sheet in sheets
            if "gridProperties" in sheet
        }
        leftovers = [grid.sheet_id for title, grid in grids.items() if title == staging]
        grids.pop(staging, None)
        return _Book(found["spreadsheetUrl"], grids, leftovers)

    def _tab(self, options: GoogleSheetPublishOptions, book: _Book, table: SheetTable) -> Tab:
        grid = book.grids.get(options.tab)
        if grid is None:
            return Tab(options.tab, secrets.randbelow(2**31))
        published = sheet_tab.published_columns(self._note(options))
        # Google refuses a range that goes beyond the grid.
        width = min(grid.columns, max(len(table.columns), len(published)))
        return Tab(
            title=options.tab,
            sheet_id=grid.sheet_id,
            exists=True,
            grid_rows=grid.rows,
            grid_columns=grid.columns,
            published=published,
            cells=self._values(options, width),
        )

    def _note(self, options: GoogleSheetPublishOptions) -> str:
        corner = f"{quote_tab(options.tab)}!A1"
        found = self._sheets.metadata(
            options.spreadsheet, "sheets.data.rowData.values.note", ranges=[corner]
        )
        for sheet in found.get("sheets", []):
            for data in sheet.get("data", []):
                for row in data.get("rowData", []):
                    for cell in row.get("values", []):
                        return str(cell.get("note", ""))
        return ""

    def _values(self, options: GoogleSheetPublishOptions, width: int) -> list[list[Cell]]:
        last = rowcol_to_a1(1, width).rstrip("1")
        return self._sheets.values(options.spreadsheet, f"{quote_tab(options.tab)}!A1:{last}")

    def _stage(
        self,
        options: GoogleSheetPublishOptions,
        table: SheetTable,
        chunks: list[Sequence[Sequence[Cell]]],
        leftovers: list[Request],
    ) -> int:
        """Fill a hidden tab with the rows; returns its id."""
        staging = secrets.randbelow(2**31)
        added = sheet_tab.add_tab(
            _staging_title(options.tab),
            staging,
            len(table.rows),
            len(table.columns),
            hidden=True,
        )
        try:
            self._sheets.batch_update(options.spreadsheet, [*leftovers, added])
        except APIError:
            # When the answer is lost and the request repeated, Google finds nothing left to do.
            found = self._sheets.metadata(options.spreadsheet, "sheets.properties.sheetId")
            if staging not in [sheet["properties"]["sheetId"] for sheet in found["sheets"]]:
                raise
        first = 0
        for chunk in chunks:
            self._sheets.batch_update(
                options.spreadsheet, [sheet_tab.write_chunk(staging, first, chunk)]
            )
            first += len(chunk)
        return staging

    def _replace(
        self,
        options: GoogleSheetPublishOptions,
        table: SheetTable,
        changes: list[Request],
        note: str,
    ) -> str:
        """Apply the changes that a reader sees, and read back; returns the checksum."""
        failure: Exception | None = None
        try:
            self._sheets.batch_update(options.spreadsheet, changes)
        except (APIError, SheetUnavailable) as error:
            # It may have been applied all the same, its answer lost, and then refused as repeated.
            failure = error
        if failure and options.tab not in self._sheets.tabs(options.spreadsheet):
            raise failure
        width = len(table.columns)
        written = [table.headings, *table.rows]
        found = self._values(options, width)
        found += [[] for _ in range(len(written) - len(found))]
        difference = _difference(options.tab, written, found, width)
        if failure and (difference or self._note(options) != note):
            raise failure
        if difference:
            raise SheetError(
                f"What {options.tab} shows is not what was published: {difference}.",
                fix="Somebody, or a formula, changed it meanwhile: publish again.",
            )
        return checksum(found, width)


@dataclass(frozen=True)
class _Grid:
    sheet_id: int
    rows: int
    columns: int


@dataclass(frozen=True)
class _Book:
    """A spreadsheet.

    Attributes:
        url: Where people open it.
        grids: Its tabs by title, without staging tabs of the one that is published.
        leftovers: Ids of staging tabs that a killed attempt left.
    """

    url: str
    grids: dict[str, _Grid]
    leftovers: list[int]

    def check_space(self, tab: Tab, table: SheetTable, *, staged: bool) -> None:
        """Refuse a table that does not fit beside what the spreadsheet has.

        Raises:
            PublicationRefused: says how many cells there would be.
        """
        others = sum(
            grid.rows * grid.columns for title, grid in self.grids.items() if title != tab.title
        )
        staging = len(table.rows) * len(table.columns) if staged else 0
        cells = others + tab.grid_cells_with(table) + staging
        if cells > sheet_tab.MAX_CELLS:
            raise PublicationRefused(
                f"The spreadsheet would have {cells:,} cells, {staging:,} of them in a hidden tab "
                f"while it is written; Google allows {sheet_tab.MAX_CELLS:,}, and its other tabs "
                f"have {others:,}.",
                fix="Publish to a spreadsheet of its own, with fewer columns, or a smaller mart.",
            )


def _chunks(rows: Sequence[Sequence[Cell]], size: int) -> Iterator[Sequence[Sequence[Cell]]]:
    """The rows in runs whose JSON is of this size at most, or of one row."""
    first = used = 0
    for at, row in enumerate(rows):
        length = len(json.dumps(row_data(row)))
        if used + length > size and at > first:
            yield rows[first:at]
            first, used = at, 0
        used += length
    if first < len(rows):
        yield rows[first:]


def _difference(
    tab: str, written: Sequence[Sequence[Cell]], found: Sequence[Sequence[Cell]], width: int
) -> str:
    """The first cell that is not what was written; empty where there is none."""
    if len(found) != len(written):
        return f"it has {len(found) - 1:,} rows, not {len(written) - 1:,}"
    for row, (wanted, there) in enumerate(zip(written, found, strict=True), start=1):
        pairs = zip(canonical(wanted, width), canonical(there, width), strict=True)
        for column, (want, have) in enumerate(pairs, start=1):
            # In Python, 1 is True.
            if want != have or type(want) is not type(have):
                return f"{tab}!{rowcol_to_a1(row, column)} holds {have!r}, not {want!r}"
    return ""


@contextmanager
def _explained(options: GoogleSheetPublishOptions) -> Iterator[None]:
    try:
        yield
    except APIError as error:
        raise SheetError(
            f"Google does not publish to {options.tab} of {options.spreadsheet}: {said(error)}.",
            fix="Publish again. If it stays, look at the tab for protected or merged cells.",
        ) from None


def _staging_title(tab: str) -> str:
    """One for each tab, so that publications to other tabs of a spreadsheet keep theirs."""
    return _STAGING + hashlib.sha256(tab.encode()).hexdigest()[:8]
