"""The tab that is published to: what it must not lose, and the changes that bring the mart into it.

Pure functions. The table is where its note is (``note.py``). Everything that the note does not name
belongs to the tab's users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gspread.utils import rowcol_to_a1

from millrace.errors import PublicationRefused
from millrace.google_sheets.client import Cell
from millrace.google_sheets.column import SheetColumn
from millrace.google_sheets.headings import column_name
from millrace.google_sheets.note import Record
from millrace.google_sheets.rows import RowChange
from millrace.google_sheets.to_cells import (
    Canonical,
    SheetTable,
    canonical,
    digest,
    row_data,
)

MAX_CELLS = 10_000_000
_LISTED = 5

Request = Mapping[str, Any]
"""One change of a ``spreadsheets.batchUpdate``."""


Size = tuple[int, int]
"""Rows and columns of a grid."""


@dataclass(frozen=True)
class Tab:
    """A tab as it is found.

    Attributes:
        title: Its title.
        sheet_id: Google's id of it, or the one it will get.
        row: Row of the headings, from 0.
        column: Column of the first heading, from 0.
        exists: Whether the tab is there already.
        grid_rows: Rows of its grid, filled or not.
        grid_columns: Columns of its grid.
        record: What its note keeps of the last publication.
        cells: Its values from A1 on, without trailing empty ones.
        noted: Cells with a note, as row and column from 0.
    """

    title: str
    sheet_id: int
    row: int = 0
    column: int = 0
    exists: bool = False
    grid_rows: int = 0
    grid_columns: int = 0
    record: Record | None = None
    cells: Sequence[Sequence[Cell]] = field(default=(), repr=False)
    noted: frozenset[tuple[int, int]] = frozenset()

    @property
    def published(self) -> tuple[SheetColumn, ...]:
        """The columns that were published last."""
        return self.record.columns if self.record else ()

    def is_ours(self, at: int) -> bool:
        """Whether the column at this place, from 0, was published and not moved since.

        A heading may be written in other capitals.
        """
        return at in self.ours

    @cached_property
    def ours(self) -> tuple[int, ...]:
        """Places of the columns for which ``is_ours`` holds."""

        def is_there(at: int, column: SheetColumn) -> bool:
            heading = self.value(0, at)
            there = "" if heading is None else str(heading)
            return column_name(there) == column_name(column.heading)

        return tuple(at for at, column in enumerate(self.published) if is_there(at, column))

    def value(self, row: int, at: int) -> Cell:
        """A value of the table, counted from its first heading."""
        return self.cell(self.row + row, self.column + at)

    def cell(self, row: int, column: int) -> Cell:
        """The value of a cell, both counted from 0."""
        if row < len(self.cells) and column < len(self.cells[row]):
            return self.cells[row][column]
        return None

    def named(self, row: int, column: int) -> str:
        """A cell's name for people; row and column are counted from 0."""
        return f"{self.title}!{rowcol_to_a1(row + 1, column + 1)}"

    @cached_property
    def rows(self) -> int:
        """Rows under the headings that were published last, as they stand now.

        People may have sorted, inserted or deleted some, and may keep something below them.
        """
        if self.record is None:
            return 0
        filled = 0
        while any(value is not None for value in self._row(filled + 1)):
            filled += 1
        if self.record.rows is None:
            return filled
        if self.is_untouched:
            return self.record.rows
        last = len(self.cells) - self.row - 1
        for row in range(last, 0, -1):
            if digest([self._row(row)]) == self.record.last_row:
                return row
        return min(filled, self.record.rows)

    @cached_property
    def is_untouched(self) -> bool:
        """Whether our rows are as they were published, in any order."""
        if self.record is None or self.record.rows is None:
            return False
        if self.record.rows >= len(self.cells) - self.row:
            return False
        rows = (self._row(row + 1) for row in range(self.record.rows))
        return digest(rows) == self.record.all_rows

    def keys(self, names: Sequence[str]) -> list[Canonical]:
        """What these columns hold in each of our rows."""
        places = {self.published[at].name: at for at in self.ours}
        chosen = [places[name] for name in names]
        return [
            canonical([self.value(row + 1, at) for at in chosen], len(chosen))
            for row in range(self.rows)
        ]

    def beside(self, row: int, table: SheetTable) -> list[tuple[int, int]]:
        """People's cells in a row of the table, from 1: values, ticks and notes."""
        at = self.row + row
        width = max(len(self.published), len(table.columns))
        ours = range(self.column, self.column + width)
        line = self.cells[at] if at < len(self.cells) else ()
        # A check box that nobody ticked says nothing about its row.
        filled = {
            column
            for column, cell in enumerate(line)
            if column not in ours and not _is_blank(cell) and cell is not False
        }
        noted = {column for row_, column in self.noted if row_ == at}
        return [(at, column) for column in sorted(filled | noted)]

    def size_with(self, table: SheetTable) -> Size:
        """How large the grid must be at least for the table."""
        return self.row + len(table.rows) + 1, self.column + len(table.columns)

    def grid_cells_with(self, size: Size) -> int:
        """How many cells the grid has once it is at least this large."""
        return max(self.grid_rows, size[0]) * max(self.grid_columns, size[1])

    def _row(self, row: int) -> Canonical:
        """A row of the columns that are still where they were published."""
        return canonical([self.value(row, at) for at in self.ours], len(self.ours))


def check_loss(tab: Tab, table: SheetTable, min_row_ratio: float, *, follows: bool) -> None:
    """Refuse what would lose a user's cells, or most of the table.

    Args:
        tab: The tab as it is.
        table: The table to publish.
        min_row_ratio: Share of the rows that must be left.
        follows: Whether rows are inserted, so that what is below the table moves down.

    Raises:
        PublicationRefused: says which cells, or how many rows.
    """
    problems = []
    for at, heading in enumerate(table.headings):
        first, last = 1, len(table.rows)
        if tab.is_ours(at):
            first = tab.rows + 1
        else:
            there = tab.value(0, at)
            if not _is_blank(there) and there != heading:
                where = tab.named(tab.row, tab.column + at)
                problems.append(f"{where} holds {there!r}, not '{heading}'")
        if follows:
            last = min(last, tab.rows)
        for row in range(first, last + 1):
            if not _is_blank(tab.value(row, at)):
                where = tab.named(tab.row + row, tab.column + at)
                problems.append(f"{where} holds {tab.value(row, at)!r}")
                break
    if problems:
        raise PublicationRefused(
            "Publishing would overwrite cells that were not published before:\n  "
            + "\n  ".join(problems),
            fix=f"Move them beside the {len(table.columns)} columns that are published, or further "
            "down; below the table, `follow_rows: true` moves them down with it. Delete them where "
            "they are the mart's own, without its note; or declare another `tab`, or `at`.",
        )
    rows = len(table.rows)
    if not rows and tab.rows:
        raise PublicationRefused(
            f"The mart is empty, and {tab.title} shows {tab.rows:,} rows of it.",
            fix="Look at the mart. If it is right, delete the rows in the sheet. "
            "The sheet keeps what it has.",
        )
    if rows < tab.rows * min_row_ratio:
        raise PublicationRefused(
            f"The mart has {rows:,} rows, and {tab.title} shows {tab.rows:,}: less than "
            f"{min_row_ratio:.0%} would be left.",
            fix="Look at the mart. If it is right, lower `min_row_ratio` in the declaration. "
            "The sheet keeps what it has.",
        )


def has_key(tab: Tab, key: Sequence[str]) -> bool:
    """Whether the rows that are there can be identified by this key."""
    return set(key) <= {tab.published[at].name for at in tab.ours}


def shifted_cells(tab: Tab, table: SheetTable, key: Sequence[str]) -> list[tuple[int, int]]:
    """People's cells that would stand beside another row than now."""
    published = {tab.published[at].name for at in tab.ours}
    both = [column.name for column in table.columns if column.name in published]
    # Without the key, a row is another one as soon as anything in it changes.
    names = [name for name in key if name in both] or both
    before, after = tab.keys(names), table.keys(names)
    return [
        cell
        for row, known in enumerate(before)
        if after[row : row + 1] != [known]
        for cell in tab.beside(row + 1, table)
    ]


def refuse_shift(tab: Tab, cells: Sequence[tuple[int, int]], key: Sequence[str]) -> None:
    """Refuse to put other rows beside people's cells.

    Raises:
        PublicationRefused: there are such cells.
    """
    if cells:
        raise PublicationRefused(
            f"Other rows ({', '.join(key)}) would come to stand beside what people wrote: "
            f"{_listed(tab, cells)}.",
            fix="Declare `follow_rows: true`, so that it moves with its rows; or move it above the "
            "table or to another tab. The sheet keeps what it has.",
        )


def check_removed(tab: Tab, table: SheetTable, removed: Sequence[int]) -> list[str]:
    """The cells that people wrote beside rows that the mart no longer has: they go with the rows.

    Args:
        tab: The tab as it is.
        table: The table to publish.
        removed: Rows of the table that go, from 1.

    Raises:
        PublicationRefused: perhaps no rows went, and only their keys changed: somebody changed
            the table itself, or no row at all would stay.
    """
    cells = [cell for row in removed for cell in tab.beside(row, table)]
    if cells and (not tab.is_untouched or len(removed) == tab.rows):
        others = (
            "no other row that is there"
            if tab.is_untouched
            else f"somebody changed {tab.title} since it was published"
        )
        raise PublicationRefused(
            f"The mart does not have the rows beside which people wrote {_listed(tab, cells)}, and "
            f"{others}.",
            fix="Put the rows' own values back (the sheet's version history has them), or move "
            "what people wrote to the rows where it belongs. The sheet keeps what it has.",
        )
    return [tab.named(*cell) for cell in cells]


def delete_tab(sheet_id: int) -> Request:
    """Delete a tab."""
    return {"deleteSheet": {"sheetId": sheet_id}}


def add_tab(title: str, sheet_id: int, rows: int, columns: int, *, hidden: bool = False) -> Request:
    """Add a tab."""
    grid = {"rowCount": rows, "columnCount": columns}
    return {
        "addSheet": {
            "properties": {
                "sheetId": sheet_id,
                "title": title,
                "hidden": hidden,
                "gridProperties": grid,
            }
        }
    }


def move_rows(tab: Tab, changes: Sequence[RowChange]) -> list[Request]:
    """Insert, move and delete rows of the sheet, each with all that stands beside it."""
    first = tab.row + 1
    return [_row_request(tab.sheet_id, first, change) for change in changes]


def _row_request(sheet_id: int, first: int, change: RowChange) -> Request:
    rows = {
        "sheetId": sheet_id,
        "dimension": "ROWS",
        "startIndex": first + change.start,
        "endIndex": first + change.end,
    }
    if change.kind == "move":
        return {"moveDimension": {"source": rows, "destinationIndex": first + change.to}}
    if change.kind == "delete":
        return {"deleteDimension": {"range": rows}}
    # New rows look like the row above, but not like the headings.
    return {"insertDimension": {"range": rows, "inheritFromBefore": change.start > 0}}


def make_room(tab: Tab, size: Size) -> list[Request]:
    """Add the tab, or the rows and columns that it lacks; it never shrinks.

    Dimensions are appended rather than set, so that rows that a user added meanwhile stay. If the
    request is repeated, there are a few blank rows too many.
    """
    rows, columns = size
    if not tab.exists:
        return [add_tab(tab.title, tab.sheet_id, rows, columns)]
    return [
        {"appendDimension": {"sheetId": tab.sheet_id, "dimension": dimension, "length": length}}
        for dimension, length in (
            ("ROWS", rows - tab.grid_rows),
            ("COLUMNS", columns - tab.grid_columns),
        )
        if length > 0
    ]


def write_values(
    tab: Tab, table: SheetTable, rows: Sequence[Sequence[Cell]], standing: int
) -> Request:
    """Write the headings and perhaps rows, and clear those of our own that are left over.

    ``updateCells`` clears the cells of its range that it has no value for.

    Args:
        tab: The tab to write to.
        table: The table to publish.
        rows: Headings and rows to write.
        standing: Rows of ours that are there when this is applied.
    """
    height = max(len(table.rows), standing) + 1
    return {
        "updateCells": {
            "range": _table_range(tab, 0, height, 0, len(table.columns)),
            "rows": [row_data(row) for row in rows],
            "fields": "userEnteredValue",
        }
    }


def write_chunk(sheet_id: int, first: int, rows: Sequence[Sequence[Cell]]) -> Request:
    """Write the values of a few rows of a staging tab; the first row is counted from 0."""
    return {
        "updateCells": {
            "start": {"sheetId": sheet_id, "rowIndex": first, "columnIndex": 0},
            "rows": [row_data(row) for row in rows],
            "fields": "userEnteredValue",
        }
    }


def copy_under_headings(staging_id: int, tab: Tab, table: SheetTable) -> Request:
    """Copy a whole staging tab under the headings: values only, so that formats stay."""
    rows, columns = len(table.rows), len(table.columns)
    return {
        "copyPaste": {
            "source": _grid_range(staging_id, 0, rows, 0, columns),
            "destination": _table_range(tab, 1, rows + 1, 0, columns),
            "pasteType": "PASTE_VALUES",
            "pasteOrientation": "NORMAL",
        }
    }


def dress(tab: Tab, table: SheetTable, standing: int) -> list[Request]:
    """Format what is new, and clear our columns that are no longer published.

    People's own formats of what is there already stay; new rows look like the last one.

    Args:
        tab: The tab to write to.
        table: The table to publish.
        standing: Rows of ours that are there when this is applied.
    """
    changes: list[Request] = []
    rows, columns = len(table.rows), len(table.columns)
    if 0 < standing < rows:
        last = _table_range(tab, standing, standing + 1, 0, columns)
        changes.append(
            {
                "copyPaste": {
                    "source": last,
                    "destination": _table_range(tab, standing + 1, rows + 1, 0, columns),
                    "pasteType": "PASTE_FORMAT",
                    "pasteOrientation": "NORMAL",
                }
            }
        )
    for at, column in enumerate(table.columns):
        was = tab.published[at].type if tab.is_ours(at) and standing else None
        # A format that another type had here would show these values as something else.
        if rows and was != column.type and (column.number_format or was):
            changes.append(
                {
                    "repeatCell": {
                        "range": _table_range(tab, 1, rows + 1, at, at + 1),
                        "cell": {"userEnteredFormat": {"numberFormat": column.number_format}}
                        if column.number_format
                        else {},
                        "fields": "userEnteredFormat.numberFormat",
                    }
                }
            )
    changes += [
        {
            "updateCells": {
                "range": _table_range(tab, 0, standing + 1, at, at + 1),
                "fields": "userEnteredValue",
            }
        }
        for at in range(len(table.columns), len(tab.published))
        if tab.is_ours(at)
    ]
    return changes


def write_note(sheet_id: int, row: int, column: int, text: str) -> Request:
    """Write the note on a cell, counted from 0."""
    return {
        "updateCells": {
            "range": _grid_range(sheet_id, row, row + 1, column, column + 1),
            "rows": [{"values": [{"note": text}]}],
            "fields": "note",
        }
    }


def _table_range(tab: Tab, row: int, row_end: int, column: int, column_end: int) -> dict[str, int]:
    """A range counted from the first heading."""
    return _grid_range(
        tab.sheet_id,
        tab.row + row,
        tab.row + row_end,
        tab.column + column,
        tab.column + column_end,
    )


def _grid_range(
    sheet_id: int, row: int, row_end: int, column: int, column_end: int
) -> dict[str, int]:
    return {
        "sheetId": sheet_id,
        "startRowIndex": row,
        "endRowIndex": row_end,
        "startColumnIndex": column,
        "endColumnIndex": column_end,
    }


def _listed(tab: Tab, cells: Sequence[tuple[int, int]]) -> str:
    shown = [f"{tab.named(*cell)} {tab.cell(*cell) or '(a note)'!r}" for cell in cells[:_LISTED]]
    more = f" and {len(cells) - _LISTED:,} more" if len(cells) > _LISTED else ""
    return ", ".join(shown) + more


def _is_blank(cell: Cell) -> bool:
    return cell is None or cell == ""
