"""Publishing to a tab of a Google Sheet, so that its readers see the old table or the new one.

A table of normal size is one ``spreadsheets.batchUpdate``, of which Google applies all or
nothing. A larger one goes to a hidden staging tab in chunks, and one ``batchUpdate`` copies it
over and deletes that tab. So every request may be repeated: it writes the same again, or is
refused. If the answer to a request is lost, its result is read back.
https://developers.google.com/workspace/sheets/api/reference/rest/v4/spreadsheets/batchUpdate
"""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
from gspread.exceptions import APIError
from gspread.utils import a1_to_rowcol, rowcol_to_a1

from millrace.catalog import Publication
from millrace.destinations.base import Published, Shown
from millrace.destinations.google_sheets.options import GoogleSheetPublishOptions
from millrace.destinations.google_sheets.place import (
    Layout,
    Place,
    find_note,
    locate,
    read_book,
    read_layout,
    staging_title,
)
from millrace.destinations.google_sheets.shown import shown
from millrace.errors import (
    CellNotPublished,
    PublicationRefused,
    SheetChanged,
    SheetError,
    SheetUnavailable,
)
from millrace.google_sheets import tab as sheet_tab
from millrace.google_sheets.chart import Chart, new_chart
from millrace.google_sheets.client import Cell, GoogleSheets, quote_tab, said
from millrace.google_sheets.note import News, Owner, refreshed_at, stale_note, written_note
from millrace.google_sheets.rows import RowChange, added_rows, changes
from millrace.google_sheets.tab import Request, Size, Tab
from millrace.google_sheets.to_cells import (
    Canonical,
    SheetTable,
    canonical,
    checksum,
    row_data,
    to_sheet_table,
)

if TYPE_CHECKING:
    from millrace.connections import Connection

log = logging.getLogger(__name__)

# Google recommends at most 2 MB per request, and gives up on one that takes three minutes.
# https://developers.google.com/workspace/sheets/api/limits
REQUEST_BYTES = 2_000_000

# Until the last try, somebody who typed into the table while it was written has time to finish.
_TRIES = 3


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

    def publish(
        self,
        publication: Publication,
        rows: pa.Table,
        *,
        refreshed: str,
        warehouse: str,
        loaded: str = "",
    ) -> Published:
        """Replace the tab's table; see ``Destination.publish``."""
        owner = Owner(publication.name, warehouse)
        try:
            with _explained(_options(publication)):
                return self._until_it_stays(publication, rows, owner, News(refreshed, loaded))
        except SheetError as error:
            if isinstance(error, SheetChanged) or not error.may_pass:
                self.mark_stale(publication, error.message, when=refreshed, warehouse=warehouse)
            raise

    def mark_stale(
        self, publication: Publication, reason: str, *, when: str, warehouse: str
    ) -> None:
        """Let the note say that the table is not refreshed; see ``Destination.mark_stale``."""
        options = _options(publication)
        try:
            book = read_book(self._sheets, options)
            note = find_note(self._sheets, book, options, Owner(publication.name, warehouse))
            if note is None:
                return
            text = stale_note(note.text, when=when, reason=reason)
            written = sheet_tab.write_note(note.sheet_id, note.row, note.column, text)
            self._sheets.batch_update(options.spreadsheet, [written])
        except (APIError, SheetError) as error:
            # Not raised: another error already says why the table is stale.
            log.warning("%s: its note does not say that it is stale: %s", publication.name, error)

    def shown(
        self, publication: Publication, rows: pa.Table, cell: str, *, warehouse: str
    ) -> Shown:
        """Tell which value of the mart a cell shows; see ``Destination.shown``."""
        options = _options(publication)
        owner = Owner(publication.name, warehouse)
        with _explained(options):
            book = read_book(self._sheets, options)
            note = find_note(self._sheets, book, options, owner)
            if note is None:
                raise CellNotPublished(
                    f"No tab of {options.spreadsheet} has a table of {owner}.",
                    fix=f"Publish it: `millrace publish {publication.name}`. If it was published "
                    "from another warehouse, choose that one: `--target`.",
                )
            tab = self._tab(options, book.place_of(note))
        return shown(tab, note, _sheet_table(options, rows), cell, options.row_key)

    def link(self, publication: Publication) -> str:
        """Where the spreadsheet is opened; see ``Destination.link``."""
        return self._sheets.page(_options(publication).spreadsheet)

    def published_at(self, publication: Publication, *, warehouse: str) -> datetime | None:
        """When the table was published; see ``Destination.published_at``."""
        options = _options(publication)
        with _explained(options):
            book = read_book(self._sheets, options)
            note = find_note(self._sheets, book, options, Owner(publication.name, warehouse))
        return refreshed_at(note.text) if note else None

    def _until_it_stays(
        self, publication: Publication, rows: pa.Table, owner: Owner, news: News
    ) -> Published:
        """Publish; try again if somebody types into the table meanwhile."""
        table = _sheet_table(_options(publication), rows)
        for _ in range(_TRIES - 1):
            try:
                return self._publish(publication, table, owner, news)
            except SheetChanged as error:
                log.info("%s: %s Publishing again.", publication.name, error.message)
        return self._publish(publication, table, owner, news)

    def _publish(
        self, publication: Publication, table: SheetTable, owner: Owner, news: News
    ) -> Published:
        options = _options(publication)
        book = read_book(self._sheets, options)
        tab = self._tab(options, locate(self._sheets, book, options, owner))
        row_changes = self._row_changes(options, tab, table)
        standing = len(table.rows) if row_changes else tab.rows
        # A request that moves rows must not be applied twice. If it also deletes a staging tab,
        # Google refuses its repetition as a whole.
        chunks = list(_chunks(table.rows, self._request_bytes))
        is_staged = len(chunks) > 1 or bool(row_changes)
        grown = replace(tab, grid_rows=tab.grid_rows + added_rows(row_changes))
        chart = new_chart(_chart(options), owner, tab, table, book.charts)
        size = tab.size_with(table)
        if chart is not None:
            size = max(size[0], chart.size[0]), max(size[1], chart.size[1])
        book.check_space(grown, table, size, staged=is_staged)

        made = tab.record.chart if tab.record else None
        note = written_note(
            table,
            sheet_id=tab.sheet_id,
            owner=owner,
            mart=publication.mart,
            declared_tab=options.tab,
            news=news,
            chart=chart.chart_id if chart else made,
        )
        leftovers = [sheet_tab.delete_tab(sheet_id) for sheet_id in book.leftovers]
        arranged = [*sheet_tab.move_rows(tab, row_changes), *sheet_tab.make_room(grown, size)]
        finish = [
            *sheet_tab.dress(tab, table, standing),
            *([chart.request(tab, table)] if chart else []),
            sheet_tab.write_note(tab.sheet_id, tab.row, tab.column, note),
        ]
        if is_staged:
            staging = self._stage(options, table, chunks, leftovers)
            changes = [
                *arranged,
                sheet_tab.write_values(tab, table, [table.headings], standing),
                sheet_tab.copy_under_headings(staging, tab, table),
                *finish,
                sheet_tab.delete_tab(staging),
            ]
        else:
            values = [table.headings, *table.rows]
            changes = [
                *leftovers,
                *arranged,
                sheet_tab.write_values(tab, table, values, standing),
                *finish,
            ]
        found = self._replace(options, grown, table, size, changes, note, standing)
        return Published(
            rows=len(table.rows),
            columns=tuple(column.name for column in table.columns),
            tab=tab.title,
            url=f"{book.url}#gid={tab.sheet_id}",
            checksum=found,
        )

    def _row_changes(
        self, options: GoogleSheetPublishOptions, tab: Tab, table: SheetTable
    ) -> list[RowChange]:
        """The moves of the sheet's rows with which each keeps what people wrote beside it.

        Raises:
            PublicationRefused: publishing would lose or overwrite what it must not.
        """
        key = options.row_key
        follows = options.follow_rows and tab.rows > 0 and sheet_tab.has_key(tab, key)
        sheet_tab.check_loss(tab, table, options.min_row_ratio, follows=follows)
        if not follows:
            shifted = sheet_tab.shifted_cells(tab, table, key)
            typed = self._typed(options, tab, shifted) if shifted else []
            sheet_tab.refuse_shift(tab, typed, key)
            return []
        before, after = tab.keys(key), table.keys(key)
        _check_unique(after, key)
        row_changes = changes(before, after)
        kept = set(after)
        removed = [row for row, key in enumerate(before, start=1) if key not in kept]
        for cell in sheet_tab.check_removed(tab, table, removed):
            log.warning("%s goes with its row, which the mart no longer has", cell)
        return row_changes

    def _typed(
        self, options: GoogleSheetPublishOptions, tab: Tab, cells: list[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        """Those of these cells that would be wrong beside another row.

        Cells that are computed from their row would not be: a formula that names its own row, and
        the cells that a formula elsewhere fills.
        """
        rows, columns = [row for row, _ in cells], [column for _, column in cells]
        first = rowcol_to_a1(min(rows) + 1, min(columns) + 1)
        last = rowcol_to_a1(max(rows) + 1, max(columns) + 1)
        found = self._sheets.metadata(
            options.spreadsheet,
            "sheets.data.rowData.values.userEnteredValue",
            ranges=[f"{quote_tab(tab.title)}!{first}:{last}"],
        )
        lines = found["sheets"][0]["data"][0].get("rowData", [])
        entered = {
            (min(rows) + down, min(columns) + right): data.get("userEnteredValue", {})
            for down, line in enumerate(lines)
            for right, data in enumerate(line.get("values", []))
        }

        def is_typed(cell: tuple[int, int]) -> bool:
            value = entered.get(cell, {})
            formula = str(value.get("formulaValue", ""))
            names_its_row = re.search(rf"(?<![A-Za-z0-9$])\$?[A-Z]{{1,3}}{cell[0] + 1}\b", formula)
            return cell in tab.noted or (bool(value) and not names_its_row)

        return [cell for cell in cells if is_typed(cell)]

    def _tab(self, options: GoogleSheetPublishOptions, place: Place) -> Tab:
        row, column = (number - 1 for number in a1_to_rowcol(options.at))
        if place.grid is None:
            return Tab(options.tab, secrets.randbelow(2**31), row, column)
        grid, note = place.grid, place.note
        if note is not None:
            if options.at != "A1" and (note.row, note.column) != (row, column):
                there = rowcol_to_a1(note.row + 1, note.column + 1)
                log.warning("%s: the table is at %s, not at %s", grid.title, there, options.at)
            row, column = note.row, note.column
        return Tab(
            title=grid.title,
            sheet_id=grid.sheet_id,
            row=row,
            column=column,
            exists=True,
            grid_rows=grid.rows,
            grid_columns=grid.columns,
            record=note.record if note else None,
            cells=self._sheets.values(options.spreadsheet, quote_tab(grid.title)),
            noted=frozenset((other.row, other.column) for other in place.notes),
        )

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
            staging_title(options.tab),
            staging,
            len(table.rows),
            len(table.columns),
            hidden=True,
        )
        try:
            self._sheets.batch_update(options.spreadsheet, [*leftovers, added])
        except APIError:
            # If the first answer was lost, Google refused the repeated request: the tab is there.
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
        tab: Tab,
        table: SheetTable,
        size: Size,
        changes: list[Request],
        note: str,
        standing: int,
    ) -> str:
        """Apply the changes that a reader sees, and read back; returns the checksum."""
        failure: Exception | None = None
        try:
            self._sheets.batch_update(options.spreadsheet, changes)
        except (APIError, SheetUnavailable) as error:
            # The changes may have been applied: if the answer was lost, the repetition is refused.
            failure = error
        if failure and tab.title not in self._sheets.tabs(options.spreadsheet):
            raise failure
        width = len(table.columns)
        written: list[Sequence[Cell]] = [table.headings, *table.rows]
        height = max(len(written), standing + 1)
        first = rowcol_to_a1(tab.row + 1, tab.column + 1)
        last = rowcol_to_a1(tab.row + height, tab.column + width)
        found = self._sheets.values(options.spreadsheet, f"{quote_tab(tab.title)}!{first}:{last}")
        found += [[] for _ in range(len(written) - len(found))]
        difference = _difference(tab, written, found, width)
        layout = read_layout(self._sheets, options, tab.title)
        if failure and (difference or note not in [there.text for there in layout.notes]):
            raise failure
        if difference:
            raise SheetChanged(
                f"What {tab.title} shows is not what was published: {difference}.",
                fix="Somebody, or a formula, changes it while it is written: publish again.",
            )
        _check_layout(layout, tab, size)
        return checksum(found, width)


def _chunks(rows: Sequence[Sequence[Cell]], size: int) -> Iterator[Sequence[Sequence[Cell]]]:
    """Split the rows into chunks: each is at most this large as JSON, or is a single row."""
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
    tab: Tab, written: Sequence[Sequence[Cell]], found: Sequence[Sequence[Cell]], width: int
) -> str:
    """The first cell that is not what was written; empty where there is none."""
    if len(found) != len(written):
        return f"it has {len(found) - 1:,} rows, not {len(written) - 1:,}"
    for row, (wanted, there) in enumerate(zip(written, found, strict=True)):
        pairs = zip(canonical(wanted, width), canonical(there, width), strict=True)
        for column, (want, have) in enumerate(pairs):
            # In Python, 1 == True.
            if want != have or type(want) is not type(have):
                where = tab.named(tab.row + row, tab.column + column)
                return f"{where} holds {have!r}, not {want!r}"
    return ""


def _check_layout(layout: Layout, tab: Tab, size: Size) -> None:
    """Notice rows and columns that people added or deleted while the tab was published.

    Raises:
        SheetError: some did.
    """
    tables = [(note.row, note.column) for note in layout.notes if note.record]
    sizes = (
        (layout.rows, tab.grid_rows, size[0]),
        (layout.columns, tab.grid_columns, size[1]),
    )
    # A request that is repeated makes room twice.
    is_same = all(
        found in (max(before, needed), max(before, needed) + max(0, needed - before))
        for found, before, needed in sizes
    )
    if not is_same or tables != [(tab.row, tab.column)]:
        raise SheetError(
            f"Rows or columns of {tab.title} were inserted or deleted while it was written.",
            fix="Look at the tab: what people wrote may stand beside another row, and rows may be "
            "left over below the table; its version history has what was there. Then publish "
            "again.",
        )


def _sheet_table(options: GoogleSheetPublishOptions, rows: pa.Table) -> SheetTable:
    """The mart as cells, with what is declared of its columns.

    Raises:
        PublicationRefused: a sheet cannot hold it, or a declared column is not in it.
    """
    needed: dict[str, Iterable[str]] = dict(options.published_columns)
    if options.follow_rows:
        needed["order_by"] = options.row_key
    for key, names in needed.items():
        if missing := [name for name in names if name not in rows.column_names]:
            raise PublicationRefused(
                f"`{key}` names the column '{missing[0]}', which is not published.",
                fix=f"Published columns: {', '.join(rows.column_names)}.",
            )
    table = to_sheet_table(rows, options.labels)
    if len(set(table.headings)) < len(table.headings):
        raise PublicationRefused(
            f"Two columns would have the same heading: {', '.join(table.headings)}.",
            fix="Give one of them another label.",
        )
    return table


def _chart(options: GoogleSheetPublishOptions) -> Chart | None:
    declared = options.chart
    return Chart(declared.kind, declared.x, declared.y, declared.title) if declared else None


def _check_unique(keys: Sequence[Canonical], names: Sequence[str]) -> None:
    """Refuse to follow rows by a key that is not unique.

    Raises:
        PublicationRefused: several rows have the same key.
    """
    repeated, times = Counter(keys).most_common(1)[0] if keys else ((), 1)
    if times > 1:
        shown = ", ".join(map(str, repeated))
        raise PublicationRefused(
            f"Rows cannot be followed by {', '.join(names)}: {times:,} rows have {shown}.",
            fix="Declare `key`: columns of the mart that tell its rows apart.",
        )


def _options(publication: Publication) -> GoogleSheetPublishOptions:
    if not isinstance(publication.options, GoogleSheetPublishOptions):
        raise TypeError(f"{publication.name} is published to another kind of destination")
    return publication.options


@contextmanager
def _explained(options: GoogleSheetPublishOptions) -> Iterator[None]:
    try:
        yield
    except APIError as error:
        raise SheetError(
            f"Google does not publish to {options.tab} of {options.spreadsheet}: {said(error)}.",
            fix="Publish again. If it stays, look at the tab for protected or merged cells.",
        ) from None
