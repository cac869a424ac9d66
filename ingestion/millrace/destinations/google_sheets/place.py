"""Finds a publication's table in its spreadsheet: by the tab's title, or by the table's note.

People rename tabs and move tables; the note on the first heading moves with them.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gspread.utils import rowcol_to_a1

from millrace.destinations.google_sheets.options import GoogleSheetPublishOptions
from millrace.errors import PublicationRefused
from millrace.google_sheets import tab as sheet_tab
from millrace.google_sheets.chart import ChartThere
from millrace.google_sheets.client import GoogleSheets, quote_tab
from millrace.google_sheets.note import Note, Owner
from millrace.google_sheets.tab import Size, Tab
from millrace.google_sheets.to_cells import SheetTable

log = logging.getLogger(__name__)

_STAGING = "_millrace_staging_"
_BOOK_FIELDS = (
    "spreadsheetUrl,sheets.properties(sheetId,title,sheetType,gridProperties(rowCount,columnCount)),"
    "sheets.charts(chartId,position)"
)
_LAYOUT_FIELDS = (
    "sheets(properties(sheetId,gridProperties(rowCount,columnCount)),"
    "data(startRow,startColumn,rowData.values.note))"
)


@dataclass(frozen=True)
class Grid:
    """A tab that is a grid of cells."""

    sheet_id: int
    title: str
    rows: int
    columns: int


@dataclass(frozen=True)
class Book:
    """A spreadsheet.

    Attributes:
        url: Where people open it.
        grids: Its tabs, without the staging tabs of the tab that is published.
        leftovers: Ids of staging tabs that a killed attempt left.
        charts: Its charts.
    """

    url: str
    grids: list[Grid]
    leftovers: list[int]
    charts: list[ChartThere]

    def titled(self, title: str) -> Grid | None:
        """The tab with that title, in whatever case: Google allows only one."""
        found = (grid for grid in self.grids if grid.title.casefold() == title.casefold())
        return next(found, None)

    def place_of(self, note: Note) -> Place:
        """Where the table of a note is; the tab's other notes are left out."""
        (grid,) = (grid for grid in self.grids if grid.sheet_id == note.sheet_id)
        return Place(grid, note, [note])

    def check_space(self, tab: Tab, table: SheetTable, size: Size, *, staged: bool) -> None:
        """Refuse a table that does not fit beside what the spreadsheet has.

        Args:
            tab: Its tab.
            table: The table to publish.
            size: The size that the tab must have at least.
            staged: Whether the table goes through a staging tab.

        Raises:
            PublicationRefused: says how many cells there would be.
        """
        others = sum(
            grid.rows * grid.columns for grid in self.grids if grid.sheet_id != tab.sheet_id
        )
        staging = len(table.rows) * len(table.columns) if staged else 0
        cells = others + tab.grid_cells_with(size) + staging
        if cells > sheet_tab.MAX_CELLS:
            raise PublicationRefused(
                f"The spreadsheet would have {cells:,} cells, {staging:,} of them in a hidden tab "
                f"while it is written; Google allows {sheet_tab.MAX_CELLS:,}, and its other tabs "
                f"have {others:,}.",
                fix="Publish to a spreadsheet of its own, with fewer columns, or a smaller mart.",
            )


@dataclass(frozen=True)
class Layout:
    """The size of a tab, and its notes."""

    rows: int
    columns: int
    notes: list[Note]


@dataclass(frozen=True)
class Place:
    """Where a table is, or is to be.

    Attributes:
        grid: The tab; None where it is to be added.
        note: The note of the publication; None where it was not published there.
        notes: All notes of the tab.
    """

    grid: Grid | None
    note: Note | None
    notes: list[Note]

    @property
    def title(self) -> str:
        """The title of the tab; empty where it is to be added."""
        return self.grid.title if self.grid else ""


def read_book(sheets: GoogleSheets, options: GoogleSheetPublishOptions) -> Book:
    """The spreadsheet, with the size of each tab.

    Raises:
        SheetUnavailable: Google cannot be reached, or is busy.
        SheetRefused: Google refuses our key.
        SpreadsheetNotFound: no such spreadsheet, or it is not shared with us.
        PublicationRefused: the declared tab is a chart.
    """
    found = sheets.metadata(options.spreadsheet, _BOOK_FIELDS)
    tabs = [sheet["properties"] for sheet in found["sheets"]]
    staging = staging_title(options.tab)
    for sheet in tabs:
        is_declared = sheet["title"].casefold() == options.tab.casefold()
        if is_declared and "gridProperties" not in sheet:
            raise PublicationRefused(
                f"The tab '{options.tab}' of {options.spreadsheet} is a chart, not a grid.",
                fix="Declare another `tab`.",
            )
    grids = [
        Grid(
            sheet["sheetId"],
            sheet["title"],
            sheet["gridProperties"]["rowCount"],
            sheet["gridProperties"]["columnCount"],
        )
        for sheet in tabs
        if "gridProperties" in sheet
    ]
    leftovers = [grid.sheet_id for grid in grids if grid.title == staging]
    others = [grid for grid in grids if grid.title != staging]
    charts = [
        ChartThere.of(chart) for sheet in found["sheets"] for chart in sheet.get("charts", [])
    ]
    return Book(found["spreadsheetUrl"], others, leftovers, charts)


def read_layout(sheets: GoogleSheets, options: GoogleSheetPublishOptions, tab: str) -> Layout:
    """The size of a tab, and its notes."""
    found = sheets.metadata(options.spreadsheet, _LAYOUT_FIELDS, ranges=[quote_tab(tab)])["sheets"]
    grid = found[0]["properties"]["gridProperties"]
    return Layout(grid["rowCount"], grid["columnCount"], _notes(found))


def _all_notes(sheets: GoogleSheets, options: GoogleSheetPublishOptions) -> list[Note]:
    return _notes(sheets.metadata(options.spreadsheet, _LAYOUT_FIELDS)["sheets"])


def _notes(found: Sequence[Mapping[str, Any]]) -> list[Note]:
    """The notes in tabs as Google describes them."""
    return [
        Note(
            sheet["properties"]["sheetId"],
            data.get("startRow", 0) + row,
            data.get("startColumn", 0) + column,
            cell["note"],
        )
        for sheet in found
        for data in sheet.get("data", [])
        for row, line in enumerate(data.get("rowData", []))
        for column, cell in enumerate(line.get("values", []))
        if cell.get("note")
    ]


def locate(
    sheets: GoogleSheets,
    book: Book,
    options: GoogleSheetPublishOptions,
    owner: Owner,
) -> Place:
    """The tab with the publication's note, under whatever title; else the declared one.

    Raises:
        PublicationRefused: the tab is another publication's, or there are two of this one.
    """
    declared = book.titled(options.tab)
    notes = read_layout(sheets, options, declared.title).notes if declared else []
    if declared and (note := _own_note(declared, notes, owner)):
        return Place(declared, note, notes)
    elsewhere = _elsewhere(sheets, book, options, declared, owner)
    if elsewhere is None:
        return Place(declared, None, notes)
    if declared is not None:
        raise PublicationRefused(
            f"The tab that {owner} publishes to is called '{elsewhere.title}' now, and "
            f"'{options.tab}' is another one.",
            fix=f"Declare `tab: {elsewhere.title}`. To publish to '{options.tab}' "
            f"instead, delete the other tab, or the note on its first heading.",
        )
    record = elsewhere.note and elsewhere.note.record
    if record and record.tab not in ("", options.tab):
        raise PublicationRefused(
            f"`tab` is '{options.tab}' now, and the table is in '{elsewhere.title}'.",
            fix=f"Rename that tab to '{options.tab}', so that its readers stay with it, or "
            "delete it.",
        )
    log.warning(
        "%s: the tab '%s' is called '%s' now, and is published under that title: declare it",
        *(owner.publication, options.tab, elsewhere.title),
    )
    return elsewhere


def find_note(
    sheets: GoogleSheets, book: Book, options: GoogleSheetPublishOptions, owner: Owner
) -> Note | None:
    """The note of the owner's table, in whatever tab.

    Raises:
        PublicationRefused: several tabs have it.
    """
    declared = book.titled(options.tab)
    notes = read_layout(sheets, options, declared.title).notes if declared else []
    if note := _named_note(notes, owner):
        return note
    elsewhere = _elsewhere(sheets, book, options, declared, owner)
    return elsewhere.note if elsewhere else None


def _elsewhere(
    sheets: GoogleSheets,
    book: Book,
    options: GoogleSheetPublishOptions,
    declared: Grid | None,
    owner: Owner,
) -> Place | None:
    """The tab with the owner's note, among all but the declared one."""
    found = []
    notes = _all_notes(sheets, options) if len(book.grids) > bool(declared) else []
    for grid in book.grids:
        here = [note for note in notes if note.sheet_id == grid.sheet_id]
        if grid is not declared and (note := _named_note(here, owner)):
            found.append(Place(grid, note, here))
    if len(found) > 1:
        titles = ", ".join(place.title for place in found)
        raise PublicationRefused(
            f"The tab '{options.tab}' is missing, and several have its note: {titles}.",
            fix=f"Rename the one that is meant to '{options.tab}', and delete the note on the "
            "first heading of the others.",
        )
    return found[0] if found else None


def _own_note(grid: Grid, notes: Sequence[Note], owner: Owner) -> Note | None:
    """The note of the table in the declared tab.

    Raises:
        PublicationRefused: the tab is another publication's, or there are two tables of this one.
    """
    tables = [note for note in notes if note.record]
    for note in tables:
        whose = note.record and note.record.owner
        if whose and not whose.is_same(owner):
            where = f"{grid.title}!{rowcol_to_a1(note.row + 1, note.column + 1)}"
            raise PublicationRefused(
                f"The tab '{grid.title}' belongs to {whose}, says the note on {where}; this is "
                f"{owner}.",
                fix="Declare another `tab`. If the other one is gone for good, delete all lines "
                "of that note but the last: the table is then this one's.",
            )
    if len(tables) > 1:
        places = ", ".join(rowcol_to_a1(note.row + 1, note.column + 1) for note in tables)
        raise PublicationRefused(
            f"The table is in {grid.title} more than once, say the notes on {places}.",
            fix="Delete the note of the one that is a copy.",
        )
    return tables[0] if tables else None


def _named_note(notes: Sequence[Note], owner: Owner) -> Note | None:
    """The note that names this owner, and was not copied together with its tab."""
    for note in notes:
        record = note.record
        # A copy of a tab has another id than its note says.
        is_original = record and record.sheet_id in (None, note.sheet_id)
        if record and is_original and record.owner and record.owner.is_same(owner):
            return note
    return None


def staging_title(tab: str) -> str:
    """A tab's staging tab: each tab has its own, so that no other publication deletes it."""
    return _STAGING + hashlib.sha256(tab.encode()).hexdigest()[:8]
