"""What a tab of a Google Sheet tells of itself: headings, types, and what tells its rows apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import combinations

from millrace.errors import SourceMismatch
from millrace.google_sheets.client import SheetCell
from millrace.google_sheets.column import SheetColumn
from millrace.google_sheets.headings import column_name
from millrace.google_sheets.to_columns import convert, heading_row, text_of
from millrace.sources.base import FoundColumn, FoundTable

# A title and remarks may stand above a table, but not more than this.
_HEADINGS_WITHIN = 20
_TYPES_OF_TEXTS_TOO = ("boolean", "date", "datetime")
# A sheet keeps 15 digits; some are left for larger values than there are today.
_DIGITS, _MOST_DIGITS = 12, 15
_MOST_PLACES = 6
_KEY_TYPES = ("string", "integer", "date", "datetime")
_MOST_KEY_COLUMNS = 3
_SAMPLED = 200


@dataclass(frozen=True)
class _Column:
    """A column under its heading.

    Attributes:
        name: Its name in the warehouse.
        cells: Its cells.
        type: Its type, as a declaration names it.
    """

    name: str
    cells: Sequence[SheetCell]
    type: str

    @property
    def values(self) -> list[object] | None:
        """Its values, None where a cell is empty; no list if its type cannot hold one."""
        try:
            return [convert(cell, self.type) for cell in self.cells]
        except ValueError:
            return None


def described(
    cells: Sequence[Sequence[SheetCell]], spreadsheet: str, place: str, tab: str
) -> FoundTable | None:
    """A tab as a table; None: it has no headings with something under them.

    Args:
        cells: Its cells, from the first row on.
        spreadsheet: The spreadsheet, as a declaration names it.
        place: What tells the tab from all others.
        tab: Its title.

    Raises:
        SourceMismatch: two of its columns have the same heading.
    """
    at = _headings_at(cells)
    if at is None:
        return None
    names = [column_name(text_of(cell)) for cell in cells[at]]
    if doubles := sorted({name for name in names if name and names.count(name) > 1}):
        raise SourceMismatch(
            f"{tab}: several columns are called {', '.join(doubles)}.",
            fix="Give each a heading of its own.",
        )
    rows = [row for row in cells[at + 1 :] if any(not cell.is_blank for cell in row)]
    columns = [
        _column(name, [row[number] if number < len(row) else SheetCell() for row in rows])
        for number, name in enumerate(names)
        if name
    ]
    types = {column.name: column.type for column in columns}
    options: dict[str, object] = {"spreadsheet": spreadsheet, "tab": tab, "columns": types}
    if heading_row(cells, types, {}) != at:
        options["header_row"] = at + 1
    return FoundTable(
        place=place,
        name=tab,
        columns=tuple(map(_found, columns)),
        description=f"The tab {tab}, which people keep by hand.",
        key=_key(columns),
        cursor_why="a sheet is read whole",
        is_empty=not rows,
        options=options,
    )


def _headings_at(cells: Sequence[Sequence[SheetCell]]) -> int | None:
    """The row of the headings: of the first rows, the first one with the most texts."""
    texts = [
        sum(isinstance(cell.value, str) and bool(cell.value.strip()) for cell in row)
        for row in cells[:_HEADINGS_WITHIN]
    ]
    return texts.index(max(texts)) if any(texts) else None


def _column(name: str, cells: Sequence[SheetCell]) -> _Column:
    filled = [cell for cell in cells if not cell.is_blank]
    guesses = _guesses(filled) if filled else iter(())
    columns = (_Column(name, cells, type_) for type_ in guesses)
    return next((one for one in columns if one.values is not None), _Column(name, cells, "string"))


def _guesses(cells: Sequence[SheetCell]) -> Iterator[str]:
    yield from _TYPES_OF_TEXTS_TOO
    numbers = [cell.value for cell in cells if not isinstance(cell.value, str | bool)]
    if len(numbers) < len(cells):
        # A text of digits may be a postcode: it is declared to be a number by a person only.
        return
    yield "percent"
    shown = max(map(_places_shown, cells))
    if not shown:
        yield "integer"
    exact = [Decimal(f"{number:.{_MOST_DIGITS}g}") for number in numbers if number is not None]
    places = max([shown, *(-int(number.as_tuple().exponent) for number in exact)])
    before = max(len(str(abs(int(number)))) for number in exact)
    if places <= _MOST_PLACES and before + places <= _MOST_DIGITS:
        yield f"decimal({max(_DIGITS, before + places)},{places})"
    yield "double"


def _places_shown(cell: SheetCell) -> int:
    """With how many decimals a number is shown."""
    found = re.search(r"0\.([0#]+)", cell.number_format.get("pattern", ""))
    return len(found[1]) if found else 0


def _key(columns: Sequence[_Column]) -> tuple[str, ...]:
    """The fewest columns, from the left, whose values tell all rows apart."""
    values = {column.name: column.values for column in columns if column.type in _KEY_TYPES}
    whole = {name: of for name, of in values.items() if of and None not in of}
    for count in range(1, _MOST_KEY_COLUMNS + 1):
        for names in combinations(whole, count):
            rows = list(zip(*(whole[name] for name in names), strict=True))
            if len(set(rows)) == len(rows) > 1:
                return names
    return ()


def _found(column: _Column) -> FoundColumn:
    texts = [cell.value for cell in column.cells if isinstance(cell.value, str) and cell.value]
    return FoundColumn(
        column.name,
        column.type,
        SheetColumn(column.name, column.type).arrow_type,
        sample=tuple(texts[:_SAMPLED]) if column.type == "string" else (),
    )
