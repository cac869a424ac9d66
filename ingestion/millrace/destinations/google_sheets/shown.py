"""Which value of the mart a cell of a published table shows. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from gspread.exceptions import IncorrectCellLabel
from gspread.utils import a1_to_rowcol

from millrace.destinations.base import Shown
from millrace.errors import CellNotPublished
from millrace.google_sheets.client import EPOCH, Cell
from millrace.google_sheets.column import SheetColumn
from millrace.google_sheets.note import Note
from millrace.google_sheets.tab import Tab
from millrace.google_sheets.to_cells import SheetTable, canonical

_PUBLISH = "Publish it again (`millrace publish`), then ask again."


def shown(tab: Tab, note: Note, table: SheetTable, cell: str, key: Sequence[str]) -> Shown:
    """Find the row and the column of the mart that a cell shows.

    Args:
        tab: The tab with the table.
        note: The table's note.
        table: The mart as it is now.
        cell: In A1 notation.
        key: Columns that identify a row.

    Raises:
        CellNotPublished: it is no published cell, or shows what the mart does not have now.
    """
    row, column = _coordinates(cell)
    at = column - tab.column
    if at not in tab.ours or not tab.row <= row <= tab.row + tab.rows:
        raise CellNotPublished(
            f"{tab.named(row, column)} is not in the published table, which is "
            f"{tab.named(tab.row, tab.column)} to "
            f"{tab.named(tab.row + tab.rows, tab.column + len(tab.published) - 1)}.",
            fix="Name a cell of that table: what is beside it belongs to people.",
        )
    name = tab.published[at].name
    if row == tab.row:
        raise CellNotPublished(
            f"{tab.named(row, column)} is the heading of the column {name}.",
            fix="Name a cell below it.",
        )
    if missing := [found.name for found in tab.published if found.name not in _names(table)]:
        raise CellNotPublished(
            f"{tab.title} shows the column {missing[0]}, and the mart has no such column now.",
            fix=_PUBLISH,
        )
    return Shown(
        place=tab.named(row, column),
        column=name,
        row=_row_of_mart(tab, row - tab.row, tab.named(row, column), table, key),
        refreshed=note.text.partition("\n")[0],
    )


def _coordinates(cell: str) -> tuple[int, int]:
    """Row and column of a cell, from 0."""
    try:
        row, column = a1_to_rowcol(cell)
    except IncorrectCellLabel:
        raise CellNotPublished(
            f"{cell!r} does not name a cell.", fix="Write its column and row, as in C12."
        ) from None
    return row - 1, column - 1


def _row_of_mart(tab: Tab, row: int, where: str, table: SheetTable, key: Sequence[str]) -> int:
    """The mart's row that equals a row of the tab, counted from the first heading.

    Raises:
        CellNotPublished: there is none.
    """
    ours = [tab.published[at] for at in tab.ours]
    names = [column.name for column in ours]
    there = canonical([tab.value(row, at) for at in tab.ours], len(ours))
    found = table.keys(names)
    if there in found:
        return found.index(there)
    of_key = [at for at, name in enumerate(names) if name in key]
    wanted = tuple(there[at] for at in of_key)
    known = [tuple(line[at] for at in of_key) for line in found]
    if wanted not in known:
        row_key = ", ".join(f"{names[at]} {_text(there[at], ours[at])}" for at in of_key)
        raise _changed(f"{where} is in the row of {row_key}, and the mart has no such row")
    in_mart = found[known.index(wanted)]
    at = next(at for at in range(len(ours)) if there[at] != in_mart[at])
    raise _changed(
        f"The row of {where} shows {names[at]} {_text(there[at], ours[at])}, and the mart has "
        f"{_text(in_mart[at], ours[at])}"
    )


def _changed(problem: str) -> CellNotPublished:
    return CellNotPublished(
        f"{problem} now: it was built again since the sheet was published, or somebody changed the "
        "sheet.",
        fix=_PUBLISH,
    )


def _names(table: SheetTable) -> set[str]:
    return {column.name for column in table.columns}


def _text(value: Cell, column: SheetColumn) -> str:
    """A value as a person sees it in the sheet."""
    if value is None:
        return "nothing"
    if isinstance(value, float) and column.type in ("date", "datetime"):
        moment = EPOCH + timedelta(days=value)
        return f"{moment:%Y-%m-%d}" if column.type == "date" else f"{moment:%Y-%m-%d %H:%M:%S}"
    return f"{value:.15g}" if isinstance(value, float) else str(value)
