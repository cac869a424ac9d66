"""A1 notation: ``Sheet1!A1:C5``, ``'It''s a tab'!A2:D``, ``A:C``, ``2:5``, ``Sheet1``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sheets_standin.errors import invalid

_CORNER = r"(?:\$?([A-Za-z]{1,3}))?(?:\$?([1-9]\d*))?"
_CELLS = re.compile(rf"{_CORNER}(?::{_CORNER})?")
_QUOTED = re.compile(r"'((?:[^']|'')+)'(?:!(.+))?", re.DOTALL)
_PLAIN_TITLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Area:
    """A rectangle of cells, counted from zero and half open; an end of None has no bound."""

    start_row: int = 0
    end_row: int | None = None
    start_column: int = 0
    end_column: int | None = None

    @property
    def is_single_cell(self) -> bool:
        """Whether it is one cell, which a write takes as its upper left corner."""
        return (self.end_row, self.end_column) == (self.start_row + 1, self.start_column + 1)

    def __str__(self) -> str:
        """The cells in A1 notation, empty for a whole tab."""
        if self == Area():
            return ""
        rows_only = self.start_column == 0 and self.end_column is None and self.end_row is not None
        columns_only = self.start_row == 0 and self.end_row is None and self.end_column is not None
        first = "" if rows_only else column_name(self.start_column)
        first += "" if columns_only else str(self.start_row + 1)
        if self.is_single_cell:
            return first
        last = "" if self.end_column is None else column_name(self.end_column - 1)
        last += "" if self.end_row is None else str(self.end_row)
        return f"{first}:{last}"


@dataclass(frozen=True)
class Range:
    """An area and the title of its tab; no title means the first tab."""

    title: str | None
    area: Area


def parse(text: str) -> Range:
    """Read A1 notation.

    Raises:
        ApiError: 400, it is not a range.
    """
    if quoted := _QUOTED.fullmatch(text):
        title, cells = quoted[1].replace("''", "'"), quoted[2]
        return Range(title, _parse_cells(cells, text) if cells else Area())
    title, bang, cells = text.rpartition("!")
    if bang:
        return Range(title, _parse_cells(cells, text))
    if not text:
        raise invalid("Unable to parse range: ")
    # As Google does: a tab whose title looks like cells is only reached in quotes.
    match = _CELLS.fullmatch(text)
    if match and (":" in text or (match[1] and match[2])):
        return Range(None, _parse_cells(text, text))
    return Range(text, Area())


def _parse_cells(cells: str, whole: str) -> Area:
    match = _CELLS.fullmatch(cells)
    if not match:
        raise invalid(f"Unable to parse range: {whole}")
    column, row, last_column, last_row = match.groups()
    if ":" not in cells:
        last_column, last_row = column, row
        if not (column and row):
            raise invalid(f"Unable to parse range: {whole}")
    if not (column or row) or not (last_column or last_row):
        raise invalid(f"Unable to parse range: {whole}")
    rows = _span(*(None if text is None else int(text) - 1 for text in (row, last_row)))
    columns = _span(
        *(None if text is None else column_index(text) for text in (column, last_column))
    )
    return Area(*rows, *columns)


def _span(first: int | None, last: int | None) -> tuple[int, int | None]:
    # One bound missing leaves the range open after the other: A5:A and A:A5 are the same.
    known = [bound for bound in (first, last) if bound is not None]
    if not known:
        return 0, None
    return min(known), max(known) + 1 if len(known) == 2 else None


def column_index(letters: str) -> int:
    """The index of a column: 0 for A, 26 for AA."""
    index = 0
    for letter in letters.upper():
        index = index * 26 + ord(letter) - ord("A") + 1
    return index - 1


def column_name(index: int) -> str:
    """The letters of a column: A for 0, AA for 26."""
    letters = ""
    index += 1
    while index:
        index, rest = divmod(index - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return letters


def cell_name(row: int, column: int) -> str:
    """A cell in A1 notation: A1 for row 0, column 0."""
    return f"{column_name(column)}{row + 1}"


def format_range(title: str, area: Area) -> str:
    """A range as Google writes it: the title in quotes only where it needs them."""
    if not _PLAIN_TITLE.fullmatch(title) or _CELLS.fullmatch(title):
        title = "'" + title.replace("'", "''") + "'"
    cells = str(area)
    return f"{title}!{cells}" if cells else title
