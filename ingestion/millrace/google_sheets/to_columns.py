"""Converts a sheet's cells to typed columns: pure functions, which report all misfits at once.

The API gives dates as serial numbers and every number as a double. The cell's number format says
what such a number means, and that must be what the column is declared to be.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

import pyarrow as pa
from gspread.utils import rowcol_to_a1

from millrace.bad_values import Misfit
from millrace.errors import SheetUnavailable, SourceMismatch
from millrace.google_sheets.client import EPOCH, Cell, SheetCell
from millrace.google_sheets.column import SheetColumn
from millrace.google_sheets.headings import column_name

_LISTED = 20
# The sheet rounds a number with more digits when it is typed, before anybody can read it.
_EXACT_DIGITS = 15
_TOO_MANY_DIGITS = (
    f"has more than the {_EXACT_DIGITS} digits that a sheet keeps: format the column as plain "
    "text, then type it again"
)
# Python itself would also accept digits of any script, underscores, infinity and NaN.
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?"
)
# Formats that show a number's own digits: as a text, it is then what a person sees.
_PLAIN_FORMAT = re.compile(r"@|General|[#,]*0?(\.[0#?]*)?", re.IGNORECASE)

Shown = Literal["number", "date", "duration", "percent"]
"""What a number format shows a number as."""


@dataclass(frozen=True)
class FoundColumn(SheetColumn):
    """A column as it was found in a sheet.

    Attributes:
        at: Its place in a row, from 0.
    """

    at: int = 0


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
    headings: Sequence[SheetCell],
    rows: Sequence[Sequence[SheetCell]],
    declared: Mapping[str, str],
    corner: Corner,
    *,
    labels: Mapping[str, str],
    undeclared: bool,
) -> list[FoundColumn]:
    """Match headings with declared columns.

    Args:
        headings: The heading row.
        rows: The rows under it.
        declared: Type by column name.
        corner: Where the heading row begins.
        labels: Heading by column name, where it differs from the name.
        undeclared: Whether columns that are not declared are read too, as text. Otherwise they
            are ignored.

    Returns:
        The declared columns in their declared order, then the others.

    Raises:
        SourceMismatch: a declared column has no heading or two, or a column that is to be read
            cannot be named; the message lists all of them.
    """
    wanted = wanted_headings(declared, labels)
    places: dict[str, list[int]] = {}
    for at, heading in enumerate(headings):
        if name := column_name(text_of(heading)):
            places.setdefault(name, []).append(at)
    problems = list(_repeated(places if undeclared else set(wanted.values()), places, corner))
    others = [name for name in places if name not in wanted.values()] if undeclared else []
    problems += [f"'{name}' is declared with another heading" for name in others if name in wanted]
    if undeclared:
        problems += _unnamed(headings, rows, corner)
    found = ", ".join(places) or "none"
    problems += [
        f"no column '{heading}' (headings: {found})"
        for heading in wanted.values()
        if heading not in places
    ]
    if problems:
        raise SourceMismatch(
            f"The headings of {corner.tab} do not fit:\n  " + "\n  ".join(problems),
            fix="Correct the headings in the sheet, or `columns`, `labels`, `header_row` or "
            "`range` in the declaration. The raw table keeps what it has.",
        )
    columns = [
        FoundColumn(name, type_, at=places[wanted[name]][0]) for name, type_ in declared.items()
    ]
    return columns + [FoundColumn(name, "string", at=places[name][0]) for name in others]


def wanted_headings(declared: Mapping[str, str], labels: Mapping[str, str]) -> dict[str, str]:
    """What the heading of each declared column is, in the form in which headings are compared."""
    return {name: column_name(labels.get(name, name)) for name in declared}


def heading_row(
    rows: Sequence[Sequence[SheetCell]], declared: Mapping[str, str], labels: Mapping[str, str]
) -> int:
    """Which row has the headings: the first one, or the one under a title.

    Somebody may have put a title above the table: it has none of the headings, and fewer cells
    than the table has columns. A row that looks like part of a table is not skipped as a title:
    the first row is then taken for the headings, and what is wrong with it is reported.
    """
    wanted = set(wanted_headings(declared, labels).values())
    for number, row in enumerate(rows):
        names = _names(row)
        if wanted <= names:
            return number
        if wanted & names or sum(not cell.is_blank for cell in row) >= len(wanted):
            break
    return 0


def to_record_batch(
    rows: Sequence[Sequence[SheetCell]],
    columns: Sequence[FoundColumn],
    corner: Corner,
    *,
    skip_blank_rows: bool,
) -> tuple[pa.RecordBatch, list[Misfit]]:
    """Convert the rows, exactly.

    Args:
        rows: The rows under the headings.
        columns: What to read.
        corner: Where the first row begins.
        skip_blank_rows: Whether rows are left out that have nothing in these columns, or nothing
            but check boxes that nobody ticked.

    Returns:
        The rows, and the cells that their column's type cannot hold, which are NULL among them.

    Raises:
        SheetUnavailable: Google is still computing a cell.
    """
    values: list[list[Any]] = [[] for _ in columns]
    misfits: list[Misfit] = []
    loading: list[str] = []
    currencies: list[dict[int, str]] = [{} for _ in columns]
    places: list[int] = []
    for number, row in enumerate(rows):
        cells = [row[column.at] if column.at < len(row) else _BLANK for column in columns]
        if skip_blank_rows and all(cell.is_blank or cell.is_unticked for cell in cells):
            continue
        at_row = len(places)
        places.append(number)
        for column, cell, into, of_column in zip(columns, cells, values, currencies, strict=True):
            where = corner.cell(number, column.at)
            if cell.is_loading:
                loading.append(where)
            try:
                into.append(convert(cell, column.type))
            except ValueError as problem:
                into.append(None)
                misfits.append(Misfit(at_row, column.name, str(problem), _content(cell), where))
            if currency := _currency(cell):
                of_column[at_row] = currency
    if loading:
        raise SheetUnavailable(
            f"Google is still computing {', '.join(loading[:_LISTED])}.",
            fix="It may pass: try again. If it stays, look at the formula.",
        )
    for column, found in zip(columns, currencies, strict=True):
        if column.type != "string":
            misfits += [
                Misfit(row, column.name, problem, found[row], corner.cell(places[row], column.at))
                for row, problem in _mixed_currencies(found)
            ]
    batch = pa.record_batch(
        [
            pa.array(converted, column.arrow_type)
            for column, converted in zip(columns, values, strict=True)
        ],
        names=[column.name for column in columns],
    )
    return batch, misfits


def convert(cell: SheetCell, type_: str) -> Any:
    """One cell as a value of a declared type; an empty cell is None.

    Raises:
        ValueError: the type cannot hold it exactly, or it is something else; the message is for
            a person.
    """
    if cell.error:
        raise ValueError(f"the formula ends in {cell.error}")
    if cell.is_blank:
        return None
    if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
        _check_format(cell, type_)
    if type_.startswith("decimal"):
        precision, scale = map(int, re.findall(r"\d+", type_))
        return _to_decimal(cell.value, precision, scale)
    return _CONVERTERS[type_](cell.value)


def shown_as(number_format: Mapping[str, str]) -> Shown:
    """What a number format shows a number as."""
    kind, pattern = number_format.get("type", ""), number_format.get("pattern", "")
    # Quoted text, escaped signs, currencies, colours and conditions show nothing of the value.
    bare = re.sub(r'"[^"]*"|\\.|\[(?!h+\]|m+\]|s+\])[^\]]*\]', "", pattern)
    if kind == "TIME" or "[" in bare:
        return "duration"
    if kind in ("DATE", "DATE_TIME"):
        return "date"
    return "percent" if kind == "PERCENT" or "%" in bare else "number"


def _check_format(cell: SheetCell, type_: str) -> None:
    """Refuse a number whose format shows it as something else than the column's declared type."""
    shown = shown_as(cell.number_format)
    kind = type_.partition("(")[0]
    if kind == "string":
        pattern = cell.number_format.get("pattern", "")
        if shown != "number":
            problem = f"is {_SHOWN_WORDS[shown]}, not a text"
        elif not _PLAIN_FORMAT.fullmatch(pattern):
            problem = f"is shown by the format {pattern}"
        else:
            return
        way_out = "format the column as plain text, then type it again"
        raise ValueError(f"{_shown(cell.value, shown)} {problem}: {way_out}")
    fitting: Shown = {"date": "date", "datetime": "date", "percent": "percent"}.get(kind, "number")  # type: ignore[assignment]
    if kind != "boolean" and shown != fitting:
        raise ValueError(
            f"{_shown(cell.value, shown)} is {_SHOWN_WORDS[shown]}, not {_TYPE_WORDS[kind]}"
        )


def _currency(cell: SheetCell) -> str:
    """The currency that a number is shown in; empty where there is none."""
    pattern = cell.number_format.get("pattern", "")
    if cell.is_blank or not pattern:
        return ""
    if match := re.search(r"\[\$([^\]-]+)", pattern):
        return match[1]
    return "".join(sorted({sign for sign in pattern if unicodedata.category(sign) == "Sc"}))


def _mixed_currencies(found: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    """The rows that are in another currency than most of their column, and what is wrong."""
    if len(set(found.values())) < 2:
        return
    usual = Counter(found.values()).most_common(1)[0][0]
    for row, currency in found.items():
        if currency != usual:
            yield row, f"is in {currency}, and others of its column in {usual}"


def _content(cell: SheetCell) -> str:
    """What is in a cell, for a person."""
    if isinstance(cell.value, int | float) and not isinstance(cell.value, bool):
        return _shown(cell.value, shown_as(cell.number_format))
    return str(cell.error or cell.value)


def _repeated(
    names: Iterable[str], places: Mapping[str, Sequence[int]], corner: Corner
) -> Iterator[str]:
    for name in names:
        first, *others = places.get(name, [0])
        for at in others:
            yield f"{corner.cell(0, at)}: '{name}' is there twice, in {corner.cell(0, first)} too"


def _unnamed(
    headings: Sequence[SheetCell], rows: Sequence[Sequence[SheetCell]], corner: Corner
) -> Iterator[str]:
    for at in range(max([len(headings), *map(len, rows)])):
        is_named = at < len(headings) and column_name(text_of(headings[at]))
        if not is_named and any(not row[at].is_blank for row in rows if at < len(row)):
            yield f"{corner.cell(0, at)}: the heading is blank, but the column is not"


def _names(row: Sequence[SheetCell]) -> set[str]:
    return {column_name(text_of(cell)) for cell in row}


def text_of(cell: SheetCell) -> str:
    """A heading as a person reads it."""
    if isinstance(cell.value, int | float):
        return _shown(cell.value, shown_as(cell.number_format))
    return cell.error or cell.value or ""


def _to_string(cell: Cell) -> str:
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, int | float):
        _check_digits(cell)
        if float(cell).is_integer():
            return str(int(cell))
        # The last bits of a sum like 0.1 + 0.2 are noise.
        short = f"{cell:.{_EXACT_DIGITS}g}"
        return short if abs(float(short) - cell) <= 2 * math.ulp(cell) else repr(cell)
    return str(cell)


def _to_integer(cell: Cell) -> int:
    number = _number(cell, "an integer")
    if number != number.to_integral_value():
        raise ValueError(f"{_shown(cell)} is not an integer")
    if not isinstance(cell, str):
        _check_digits(number)
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{_shown(cell)} is larger than an integer of 64 bits")
    return int(number)


def _to_double(cell: Cell) -> float:
    number = _number(cell, "a number")
    double = float(number)
    if math.isinf(double) or (double == 0) != (number == 0):
        raise ValueError(f"{_shown(cell)} is beyond what a double holds")
    return double


def _to_percent(cell: Cell) -> float:
    if isinstance(cell, str | bool):
        raise ValueError(f"{_shown(cell)} is not {_TYPE_WORDS['percent']}")
    return _to_double(cell)


def _to_decimal(cell: Cell, precision: int, scale: int) -> Decimal:
    number = _number(cell, "a decimal")
    exact = number
    if isinstance(cell, int | float):
        _check_digits(cell)
        # A sheet counts with 15 digits; what a double has beyond them is noise (0.1 + 0.2).
        number = Decimal(f"{cell:.{_EXACT_DIGITS}g}")
    exponent = Decimal(1).scaleb(-scale)
    try:
        fitted = number.quantize(exponent)
        is_noise = exact.quantize(exponent) == fitted
    except InvalidOperation:
        fitted = None
    if fitted is None or len(fitted.as_tuple().digits) > precision:
        raise ValueError(f"{_shown(cell)} has more digits than decimal({precision},{scale}) holds")
    if not is_noise:
        raise ValueError(f"{_shown(cell)} {_TOO_MANY_DIGITS}")
    if fitted != number:
        raise ValueError(f"{_shown(cell)} has more than {scale} decimals")
    return fitted


def _check_digits(number: float | Decimal) -> None:
    if abs(number) >= 10**_EXACT_DIGITS:
        raise ValueError(f"{number:.0f} {_TOO_MANY_DIGITS}")


def _to_boolean(cell: Cell) -> bool:
    if isinstance(cell, bool):
        return cell
    if isinstance(cell, str) and cell.strip().upper() in ("TRUE", "FALSE"):
        return cell.strip().upper() == "TRUE"
    raise ValueError(f"{_shown(cell)} is not a boolean")


def _to_date(cell: Cell) -> date:
    moment = _moment(cell, _DATE, "a date")
    if moment != datetime.combine(moment, datetime.min.time()):
        raise ValueError(f"{_shown(moment)} is not a date: it has a time of day")
    return moment.date()


def _to_datetime(cell: Cell) -> datetime:
    return _moment(cell, _DATETIME, "a date and time")


def _moment(cell: Cell, pattern: re.Pattern[str], what: str) -> datetime:
    if isinstance(cell, str):
        try:
            moment = datetime.fromisoformat(cell.strip())
        except ValueError:
            raise ValueError(f"{_shown(cell)} is not {what}") from None
        if moment.tzinfo is not None:
            raise ValueError(f"{_shown(cell)} has a time zone; a sheet's times have none")
        # Python also accepts ISO weeks, and truncates fractions of a second.
        if not pattern.fullmatch(cell.strip()):
            raise ValueError(f"{_shown(cell)} is not {what}")
        return moment
    if isinstance(cell, bool) or cell is None:
        raise ValueError(f"{_shown(cell)} is not {what}")
    try:
        return _from_serial(cell)
    except OverflowError:
        raise ValueError(f"{_shown(cell)} is not {what}") from None


def _from_serial(number: float) -> datetime:
    # Today's serial numbers are exact only to some microseconds; people see milliseconds.
    return EPOCH + timedelta(milliseconds=round(number * 86_400_000))


def _number(cell: Cell, what: str) -> Decimal:
    if isinstance(cell, bool) or cell is None:
        raise ValueError(f"{_shown(cell)} is not {what}")
    if not isinstance(cell, str):
        return Decimal(repr(cell))
    if not _NUMBER.fullmatch(cell.strip()):
        raise ValueError(f"{_shown(cell)} is not {what}")
    return Decimal(cell.strip())


def _shown(cell: Cell | datetime, shown: Shown = "number") -> str:
    """A value in a message, about as a person sees it."""
    if isinstance(cell, str):
        return f'"{cell}"' if len(cell) <= 40 else f'"{cell[:40]}…"'
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if not isinstance(cell, int | float):
        return str(cell)
    if shown == "percent":
        return f"{cell * 100:.{_EXACT_DIGITS}g}%"
    try:
        if shown == "date":
            return str(_from_serial(cell)).removesuffix(" 00:00:00")
        if shown == "duration":
            return str(timedelta(seconds=round(cell * 86_400)))
    except OverflowError:
        pass
    return str(int(cell)) if float(cell).is_integer() else repr(cell)


_BLANK = SheetCell()
_SHOWN_WORDS: dict[Shown, str] = {
    "number": "a number",
    "date": "a date",
    "duration": "a time or a duration",
    "percent": "a percentage",
}
_TYPE_WORDS = {
    "integer": "an integer",
    "double": "a number",
    "decimal": "a decimal",
    "percent": "a percentage",
    "date": "a date",
    "datetime": "a date and time",
}
_CONVERTERS: dict[str, Callable[[Cell], Any]] = {
    "string": _to_string,
    "integer": _to_integer,
    "double": _to_double,
    "percent": _to_percent,
    "boolean": _to_boolean,
    "date": _to_date,
    "datetime": _to_datetime,
}
