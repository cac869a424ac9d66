"""The tab that is published to: what it must not lose, and the changes that make it the mart.

Pure functions. Ours in a tab are the columns that the last line of the note on A1 names, as long
as they are where they were published; everything else is its users'.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gspread.utils import rowcol_to_a1

from ingestion.destinations.sheet_cells import SheetColumn, SheetTable, row_data
from ingestion.errors import PublicationRefused
from ingestion.google_sheets import Cell

MAX_CELLS = 10_000_000
_COLUMNS_LINE = "Columns: "

Request = Mapping[str, Any]
"""One change of a ``spreadsheets.batchUpdate``."""


@dataclass(frozen=True)
class Tab:
    """A tab as it is found.

    Attributes:
        title: Its title.
        sheet_id: Google's id of it, or the one it will get.
        exists: Whether it is there already.
        grid_rows: Rows of its grid, filled or not.
        grid_columns: Columns of its grid.
        published: The columns that were published last, by its note.
        cells: Its values from A1 on, without trailing empty ones, as wide as is looked at.
    """

    title: str
    sheet_id: int
    exists: bool = False
    grid_rows: int = 0
    grid_columns: int = 0
    published: tuple[SheetColumn, ...] = ()
    cells: Sequence[Sequence[Cell]] = field(default=(), repr=False)

    @property
    def rows(self) -> int:
        """Rows under the headings of the table that was published last."""
        ours = [at for at in range(len(self.published)) if self.is_ours(at)]
        filled = [
            number
            for number in range(1, len(self.cells))
            if any(not _is_blank(self.cell(number, at)) for at in ours)
        ]
        return max(filled, default=0)

    def is_ours(self, at: int) -> bool:
        """Whether the column at this place, from 0, was published and not moved since."""
        return at < len(self.published) and self.cell(0, at) == self.published[at].name

    def cell(self, row: int, column: int) -> Cell:
        """The value of a cell, both counted from 0."""
        if row < len(self.cells) and column < len(self.cells[row]):
            return self.cells[row][column]
        return None

    def grid_cells_with(self, table: SheetTable) -> int:
        """How many cells the grid has once the table fits in."""
        return max(self.grid_rows, len(table.rows) + 1) * max(self.grid_columns, len(table.columns))


def published_columns(note: str) -> tuple[SheetColumn, ...]:
    """The columns that a note names."""
    for line in reversed(note.split("\n")):
        if line.startswith(_COLUMNS_LINE):
            try:
                names = json.loads(line.removeprefix(_COLUMNS_LINE))
                return tuple(SheetColumn(name, str(type_)) for name, type_ in names.items())
            except (ValueError, AttributeError):
                return ()
    return ()


def note(table: SheetTable, *, name: str, mart: str, refreshed: str) -> str:
    """What the first heading's note says, for people and for the next publication."""
    columns = {column.name: column.type for column in table.columns}
    return (
        f"Refreshed {refreshed}\n"
        f"From {mart} by {name}. These columns are overwritten; columns to their right are "
        "yours.\n"
        f"{_COLUMNS_LINE}{json.dumps(columns, ensure_ascii=False)}"
    )


def check_loss(tab: Tab, table: SheetTable, min_row_ratio: float) -> None:
    """Refuse what would lose a user's cells, or most of the table.

    Raises:
        PublicationRefused: says which cells, or how many rows.
    """
    problems = []
    for at, heading in enumerate(table.headings):
        if tab.is_ours(at):
            continue
        there = tab.cell(0, at)
        if not _is_blank(there) and there != heading:
            problems.append(f"{_named(tab, 0, at)} holds {there!r}, not '{heading}'")
        for row in range(1, len(tab.cells)):
            if not _is_blank(tab.cell(row, at)):
                problems.append(f"{_named(tab, row, at)} holds {tab.cell(row, at)!r}")
                break
    if problems:
        raise PublicationRefused(
            "Publishing would overwrite cells that were not published before:\n  "
            + "\n  ".join(problems),
            fix=f"Move them to the right of the {len(table.columns)} columns that are published; "
            "delete them where they are the mart's own, without its note on A1; or declare "
            "another `tab`.",
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


def make_room(tab: Tab, table: SheetTable) -> list[Request]:
    """Add the tab, or the rows and columns that it lacks; it never shrinks.

    Dimensions are appended rather than set: rows that a user added meanwhile stay, at the price
    of a few blank ones too many where the request is repeated.
    """
    rows, columns = len(table.rows) + 1, len(table.columns)
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


def write_values(sheet_id: int, columns: int, rows: Sequence[Sequence[Cell]]) -> Request:
    """Write values from A1 on, and blank what is below them in these columns.

    ``updateCells`` clears the cells of its range that it brings nothing for, and the range has
    no end.
    """
    return {
        "updateCells": {
            "range": _grid_range(sheet_id, 0, None, 0, columns),
            "rows": [row_data(row) for row in rows],
            "fields": "userEnteredValue",
        }
    }


def write_chunk(sheet_id: int, first: int, rows: Sequence[Sequence[Cell]]) -> Request:
    """Write the values of a few rows, from a row on, counted from 0."""
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
            "destination": _grid_range(tab.sheet_id, 1, rows + 1, 0, columns),
            "pasteType": "PASTE_VALUES",
            "pasteOrientation": "NORMAL",
        }
    }


def dress(tab: Tab, table: SheetTable, text: str) -> list[Request]:
    """Number formats, the note, and blanks where columns of ours are no longer published."""
    changes: list[Request] = []
    end = len(table.rows) + 1
    for at, column in enumerate(table.columns):
        # A format that another column had here would show these values as something else.
        replaces = tab.is_ours(at) and tab.published[at] != column
        if end > 1 and (column.number_format or replaces):
            changes.append(
                {
                    "repeatCell": {
                        "range": _grid_range(tab.sheet_id, 1, end, at, at + 1),
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
                "range": _grid_range(tab.sheet_id, 0, None, at, at + 1),
                "fields": "userEnteredValue",
            }
        }
        for at in range(len(table.columns), len(tab.published))
        if tab.is_ours(at)
    ]
    changes.append(
        {
            "updateCells": {
                "range": _grid_range(tab.sheet_id, 0, 1, 0, 1),
                "rows": [{"values": [{"note": text}]}],
                "fields": "note",
            }
        }
    )
    return changes


def _grid_range(
    sheet_id: int, row: int, row_end: int | None, column: int, column_end: int
) -> dict[str, int]:
    found = {
        "sheetId": sheet_id,
        "startRowIndex": row,
        "endRowIndex": row_end,
        "startColumnIndex": column,
        "endColumnIndex": column_end,
    }
    return {name: value for name, value in found.items() if value is not None}


def _named(tab: Tab, row: int, column: int) -> str:
    return f"{tab.title}!{rowcol_to_a1(row + 1, column + 1)}"


def _is_blank(cell: Cell) -> bool:
    return cell is None or cell == ""
