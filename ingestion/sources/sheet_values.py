"""A sheet's cells as typed columns: pure functions, and every misfit is found at once.

The API gives dates as serial numbers and every number as a double; what a cell means is what its
column is declared to be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
from gspread.utils import rowcol_to_a1

from ingestion.errors import SourceMismatch, ValueDoesNotFit
from ingestion.google_sheets import EPOCH, Cell

_LISTED = 20
# A double counts exactly up to here, and holds 15 decimal digits of anything.
_EXACT_INTEGER = 2**53
_EXACT_DIGITS = 15


@dataclass(frozen=True)
class SheetColumn:
    """A column of a sheet.

    Attributes:
        name: Its name in the raw table.
        type: As declared, e.g. ``decimal(5,2)``.
        at: Its place in a row, from 0.
    """

    name: str
    type: str
    at: int

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type of its values."""
        if match := re.fullmatch(r"decimal\((\d+), ?(\d+)\)", self.type):
            return pa.decimal128(int(match[1]), int(match[2]))
        return _ARROW_TYPES[self.type]


@dataclass(frozen=True)
class Corner:
    """Where the cells that were read begin in their tab, so that messages can name cells.

    Attributes:
        tab: Title of the tab.
        row: Row of the first cell, from 1.
        column: Column of the first cell, from 1.
    """

    tab: str
    row: int
    column: int

    def cell(self, row: int, column: int) -> str:
        """Names the cell that lies this many rows and columns on, e.g. ``targets!B7``."""
        return f"{self.tab}!{rowcol_to_a1(self.row + row, self.column + column)}"


def find_columns(
    headings: Sequence[Cell],
    rows: Sequence[Sequence[Cell]],
    declared: Mapping[str, str],
    corner: Corner,
    *,
    undeclared: bool,
) -> list[SheetColumn]:
    """Match headings with declared columns.

    Args:
        headings: The heading row.
        rows: The rows under it.
        declared: Type by column name.
        corner: Where the heading row begins.
        undeclared: Whether columns that are not declared come too, as text.

    Returns:
        The declared columns in their declared order, then the others.

    Raises:
        SourceMismatch: duplicate or blank headings, or a declared column without one; all named.
    """
    problems = []
    places: dict[str, int] = {}
    width = max([len(headings), *map(len, rows)])
    for at in range(width):
        heading = headings[at] if at < len(headings) else None
        name = column_name(heading)
        if not name:
            if any(_is_filled(row[at]) for row in rows if at < len(row)):
                problems.append(
                    f"{corner.cell(0, at)}: the heading is blank, but the column is not"
                )
        elif name in places:
            problems.append(
                f"{corner.cell(0, at)}: '{heading}' is there twice, "
                f"in {corner.cell(0, places[name])} too"
            )
        else:
            places[name] = at
    found = ", ".join(places) or "none"
    problems += [
        f"no column '{name}' (headings: {found})" for name in declared if name not in places
    ]
    if problems:
        raise SourceMismatch(
            f"The headings of {corner.tab} do not fit:\n  " + "\n  ".join(problems),
            fix="Correct the headings in the sheet, or `columns`, `header_row` or `range` in the "
            "declaration. The raw table keeps what it has.",
        )
    columns = [SheetColumn(name, type_, places[name]) for name, type_ in declared.items()]
    if undeclared:
        columns += [
            SheetColumn(name, "string", at) for name, at in places.items() if name not in declared
        ]
    return columns


def column_name(heading: Cell) -> str:
    """A heading as a column's name: "Target NPS (%)" is ``target_nps``."""
    text = "" if heading is None else str(heading)
    return re.sub(r"\W+", "_", text.strip().lower()).strip("_")


def to_record_batch(
    rows: Sequence[Sequence[Cell]],
    columns: Sequence[SheetColumn],
    corner: Corner,
    *,
    skip_blank_rows: bool,
) -> pa.RecordBatch:
    """Convert the rows, exactly.

    Args:
        rows: The rows under the headings.
        columns: What to read.
        corner: Where the first row begins.
        skip_blank_rows: Whether rows without a value in these columns are left out.

    Raises:
        ValueDoesNotFit: cells that their column's type cannot hold; each is named.
    """
    values: list[list[Any]] = [[] for _ in columns]
    problems = []
    for number, row in enumerate(rows):
        cells = [row[column.at] if column.at < len(row) else None for column in columns]
        if skip_blank_rows and not any(map(_is_filled, cells)):
            continue
        for column, cell, converted in zip(columns, cells, values, strict=True):
            try:
                converted.append(convert(cell, column.type))
            except ValueError as problem:
                problems.append(f"{corner.cell(number, column.at)}: {problem}")
    if problems:
        listed = problems[:_LISTED]
        if len(problems) > _LISTED:
            listed.append(f"… and {len(problems) - _LISTED:,} more")
        raise ValueDoesNotFit(
            f"{len(problems):,} cells of {corner.tab} do not fit their column's type:\n  "
            + "\n  ".join(listed),
            fix="Correct the cells in the sheet, or the types in the declaration. "
            "The raw table keeps what it has.",
        )
    return pa.record_batch(
        [
            pa.array(converted, column.arrow_type)
            for column, converted in zip(columns, values, strict=True)
        ],
        names=[column.name for column in columns],
    )


def convert(cell: Cell, type_: str) -> Any:
    """One cell as a value of a declared type; an empty cell is None.

    Raises:
        ValueError: the type cannot hold it exactly; says so for a person.
    """
    if not _is_filled(cell):
        return None
    if type_.startswith("decimal"):
        precision, scale = map(int, re.findall(r"\d+", type_))
        return _to_decimal(cell, precision, scale)
    return _CONVERTERS[type_](cell)


def _is_filled(cell: Cell) -> bool:
    return cell is not None and cell != ""


def _to_string(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    return str(cell)


def _to_integer(cell: Cell) -> int:
    number = _number(cell, "an integer")
    if number != number.to_integral_value():
        raise ValueError(f"{_shown(cell)} is not an integer")
    if abs(number) > _EXACT_INTEGER and not isinstance(cell, str):
        raise ValueError(f"{_shown(cell)} is larger than a sheet's number holds exactly")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{_shown(cell)} is larger than an integer of 64 bits")
    return int(number)


def _to_double(cell: Cell) -> float:
    return float(_number(cell, "a number"))


def _to_decimal(cell: Cell, precision: int, scale: int) -> Decimal:
    number = _number(cell, "a decimal")
    if isinstance(cell, float):
        # A sheet counts with 15 digits; what a double has beyond them is noise (0.1 + 0.2).
        number = Decimal(f"{cell:.{_EXACT_DIGITS}g}")
    exponent = Decimal(1).scaleb(-scale)
    try:
        fitted = number.quantize(exponent)
    except InvalidOperation:
        fitted = None
    if fitted is None or len(fitted.as_tuple().digits) > precision:
        raise ValueError(f"{_shown(cell)} has more digits than decimal({precision},{scale}) holds")
    if fitted != number:
        raise ValueError(f"{_shown(cell)} has more than {scale} decimals")
    return fitted


def _to_boolean(cell: Cell) -> bool:
    if isinstance(cell, bool):
        return cell
    if isinstance(cell, str) and cell.strip().upper() in ("TRUE", "FALSE"):
        return cell.strip().upper() == "TRUE"
    raise ValueError(f"{_shown(cell)} is not a boolean")


def _to_date(cell: Cell) -> date:
    moment = _moment(cell, "a date")
    if moment != datetime.combine(moment, datetime.min.time()):
        raise ValueError(f"{_shown(cell)} is not a date: it has a time of day")
    return moment.date()


def _to_datetime(cell: Cell) -> datetime:
    return _moment(cell, "a date and time")


def _moment(cell: Cell, what: str) -> datetime:
    if isinstance(cell, str):
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            raise ValueError(f"{_shown(cell)} is not {what}") from None
        if moment.tzinfo is not None:
            raise ValueError(f"{_shown(cell)} has a time zone; a sheet's times have none")
        return moment
    if isinstance(cell, bool) or cell is None:
        raise ValueError(f"{_shown(cell)} is not {what}")
    try:
        # A serial number of these days resolves to some microseconds; people see milliseconds.
        return EPOCH + timedelta(milliseconds=round(cell * 86_400_000))
    except OverflowError:
        raise ValueError(f"{_shown(cell)} is not {what}") from None


def _number(cell: Cell, what: str) -> Decimal:
    if isinstance(cell, bool):
        raise ValueError(f"{_shown(cell)} is not {what}")
    try:
        number = Decimal(cell.strip()) if isinstance(cell, str) else Decimal(repr(cell))
    except InvalidOperation:
        raise ValueError(f"{_shown(cell)} is not {what}") from None
    if not number.is_finite():
        raise ValueError(f"{_shown(cell)} is not {what}")
    return number


def _shown(cell: Cell) -> str:
    if isinstance(cell, str):
        return f'"{cell}"' if len(cell) <= 40 else f'"{cell[:40]}…"'
    return _to_string(cell)


_CONVERTERS: dict[str, Callable[[Cell], Any]] = {
    "string": _to_string,
    "integer": _to_integer,
    "double": _to_double,
    "boolean": _to_boolean,
    "date": _to_date,
    "datetime": _to_datetime,
}
_ARROW_TYPES = {
    "string": pa.string(),
    "integer": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
}
