"""The ``spreadsheets.values`` methods: reading and writing rectangles of values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sheets_standin import a1, formats
from sheets_standin.a1 import Area, cell_name, column_name, format_range
from sheets_standin.cells import Cell, Json, scalar
from sheets_standin.errors import invalid, refuse_unknown
from sheets_standin.workbook import Bounds, Spreadsheet, Tab

RENDER_OPTIONS = ("FORMATTED_VALUE", "UNFORMATTED_VALUE", "FORMULA")
DATE_RENDER_OPTIONS = ("SERIAL_NUMBER", "FORMATTED_STRING")
INPUT_OPTIONS = ("RAW", "USER_ENTERED")
INSERT_OPTIONS = ("OVERWRITE", "INSERT_ROWS")
DIMENSIONS = ("ROWS", "COLUMNS")
READ_OPTIONS = {"majorDimension", "valueRenderOption", "dateTimeRenderOption"}
WRITE_OPTIONS = {
    "valueInputOption",
    "includeValuesInResponse",
    "responseValueRenderOption",
    "responseDateTimeRenderOption",
}


def choice(options: Json, name: str, allowed: tuple[str, ...], default: str | None) -> str:
    """The option of that name.

    Raises:
        ApiError: 400, it is missing and has no default, or is none of the allowed ones.
    """
    value = options.get(name)
    if value is None:
        value = default
    if value is None:
        raise invalid(f"'{name}' is required but not specified")
    if value not in allowed:
        raise invalid(f"Invalid value at '{name}': {value!r}, must be one of {', '.join(allowed)}")
    return str(value)


def read(book: Spreadsheet, text: str, options: Json) -> Json:
    """The ``ValueRange`` of a range: trailing empty cells and rows are left out.

    Args:
        book: The spreadsheet.
        text: The range in A1 notation.
        options: majorDimension, valueRenderOption and dateTimeRenderOption.
    """
    tab, area = book.locate(text)
    bounds = tab.bound(area)
    major = choice(options, "majorDimension", DIMENSIONS, "ROWS")
    render = choice(options, "valueRenderOption", RENDER_OPTIONS, "FORMATTED_VALUE")
    dates = choice(options, "dateTimeRenderOption", DATE_RENDER_OPTIONS, "SERIAL_NUMBER")
    lines: list[list[Any]] = []
    for row, column, cell in tab.used(bounds):
        if cell.value is None and cell.formula is None:
            continue
        at = row - bounds.start_row, column - bounds.start_column
        line, place = at if major == "ROWS" else at[::-1]
        lines.extend([] for _ in range(line + 1 - len(lines)))
        lines[line].extend("" for _ in range(place + 1 - len(lines[line])))
        lines[line][place] = _render(cell, render, dates)
    answer: Json = {"range": format_range(tab.title, bounds.area), "majorDimension": major}
    if lines:
        answer["values"] = lines
    return answer


def _render(cell: Cell, render: str, dates: str) -> Any:
    if render == "FORMATTED_VALUE":
        return cell.formatted
    if render == "FORMULA" and cell.formula is not None:
        return cell.formula
    if dates == "FORMATTED_STRING" and cell.number_format.get("type") in formats.DATE_TYPES:
        return cell.formatted
    return cell.raw


def update(book: Spreadsheet, value_range: Json, options: Json) -> Json:
    """Write a ``ValueRange``; the answer is an ``UpdateValuesResponse``.

    A null leaves its cell as it is, an empty text empties it. A range of one cell is the upper
    left corner of whatever is written.

    Raises:
        ApiError: 400, the values do not fit the range or the grid.
    """
    text = str(value_range.get("range") or "")
    tab, area = book.locate(text)
    option = choice(options, "valueInputOption", INPUT_OPTIONS, None)
    rows = _rows(value_range)
    bounds = tab.bound(area, for_writing=True)
    end_row = tab.rows if area.is_single_cell else bounds.end_row
    end_column = tab.columns if area.is_single_cell else bounds.end_column
    last_row = bounds.start_row + len(rows)
    last_column = bounds.start_column + max(map(len, rows), default=0)
    shown = format_range(tab.title, area)
    if last_row > end_row:
        raise invalid(
            f"Requested writing within range [{shown}], but tried writing to row [{end_row + 1}]"
        )
    if last_column > end_column:
        raise invalid(
            f"Requested writing within range [{shown}], "
            f"but tried writing to column [{column_name(end_column)}]"
        )
    written = _write(tab, bounds.start_row, bounds.start_column, rows, option)
    return _written(book, tab, written, options)


def append(book: Spreadsheet, text: str, value_range: Json, options: Json) -> Json:
    """Write rows below the table found in a range; the answer is an ``AppendValuesResponse``."""
    tab, area = book.locate(text)
    option = choice(options, "valueInputOption", INPUT_OPTIONS, None)
    insert = choice(options, "insertDataOption", INSERT_OPTIONS, "OVERWRITE")
    rows = _rows(value_range)
    bounds = tab.bound(area)
    table = _find_table(tab, bounds)
    start_row = table.end_row if table else bounds.start_row
    start_column = table.start_column if table else bounds.start_column
    if insert == "INSERT_ROWS" and rows and start_row < tab.rows:
        tab.insert("ROWS", start_row, len(rows), from_before=start_row > 0)
    width = max(map(len, rows), default=0)
    tab.grow(start_row + len(rows), start_column + width)
    book.check_size()
    written = _write(tab, start_row, start_column, rows, option)
    answer: Json = {
        "spreadsheetId": book.spreadsheet_id,
        "updates": _written(book, tab, written, options),
    }
    if table:
        answer["tableRange"] = format_range(tab.title, table.area)
    return answer


def clear(book: Spreadsheet, text: str) -> str:
    """Empty the cells of a range, whose notes and formats stay; the answer is the range."""
    tab, area = book.locate(text)
    bounds = tab.bound(area)
    for row, column, cell in list(tab.used(bounds)):
        tab.put(row, column, cell.with_value(None))
    return format_range(tab.title, bounds.area)


def batch_update(book: Spreadsheet, body: Json) -> Json:
    """Write several value ranges."""
    refuse_unknown(body, WRITE_OPTIONS | {"data"})
    data = body.get("data") or []
    if not isinstance(data, list) or not all(isinstance(part, dict) for part in data):
        raise invalid("Invalid value at 'data': a list of value ranges is expected")
    responses = [update(book, part, body) for part in data]
    changed = [part for part in responses if part.get("updatedCells")]
    return {
        "spreadsheetId": book.spreadsheet_id,
        "totalUpdatedRows": sum(part["updatedRows"] for part in changed),
        "totalUpdatedColumns": sum(part["updatedColumns"] for part in changed),
        "totalUpdatedCells": sum(part["updatedCells"] for part in changed),
        "totalUpdatedSheets": len({a1.parse(part["updatedRange"]).title for part in changed}),
        "responses": responses,
    }


def _rows(value_range: Json) -> list[list[Any]]:
    refuse_unknown(value_range, {"range", "majorDimension", "values"})
    major = choice(value_range, "majorDimension", DIMENSIONS, "ROWS")
    lines = value_range.get("values") or []
    if not isinstance(lines, list) or not all(isinstance(line, list) for line in lines):
        raise invalid("Invalid value at 'data.values': a list of lists is expected")
    for row, line in enumerate(lines):
        for column, value in enumerate(line):
            scalar(value, f"values[{row}][{column}]")
    if major == "ROWS":
        return lines
    height = max(map(len, lines), default=0)
    return [[line[row] if row < len(line) else None for line in lines] for row in range(height)]


def _write(
    tab: Tab, start_row: int, start_column: int, rows: list[list[Any]], option: str
) -> Bounds:
    for row, line in enumerate(rows, start_row):
        for column, value in enumerate(line, start_column):
            if value is not None:
                tab.put(row, column, _written_cell(tab.get(row, column), value, option))
    width = max(map(len, rows), default=0)
    return Bounds(start_row, start_row + len(rows), start_column, start_column + width)


def _written_cell(cell: Cell, value: Any, option: str) -> Cell:
    is_text = cell.number_format.get("type") == "TEXT"
    if option == "RAW" or not isinstance(value, str) or is_text:
        return cell.with_value(scalar(value, "values"))
    parsed, number_format = formats.parse_typed(value)
    written = cell.with_value(parsed)
    if number_format and not cell.number_format:
        return replace(written, format={**cell.format, "numberFormat": number_format})
    return written


def _written(book: Spreadsheet, tab: Tab, bounds: Bounds, options: Json) -> Json:
    rows = bounds.end_row - bounds.start_row
    columns = bounds.end_column - bounds.start_column
    answer: Json = {"spreadsheetId": book.spreadsheet_id}
    if not rows or not columns:
        start = cell_name(bounds.start_row, bounds.start_column)
        answer["updatedRange"] = format_range(tab.title, a1.parse(start).area)
        return answer
    shown = format_range(tab.title, bounds.area)
    answer |= {
        "updatedRange": shown,
        "updatedRows": rows,
        "updatedColumns": columns,
        "updatedCells": rows * columns,
    }
    if str(options.get("includeValuesInResponse")).lower() == "true":
        answer["updatedData"] = read(
            book,
            shown,
            {
                "valueRenderOption": options.get("responseValueRenderOption", RENDER_OPTIONS[0]),
                "dateTimeRenderOption": options.get(
                    "responseDateTimeRenderOption", DATE_RENDER_OPTIONS[0]
                ),
            },
        )
    return answer


def _find_table(tab: Tab, bounds: Bounds) -> Bounds | None:
    """The last table that a range touches: the block of filled cells around its last value."""
    filled = [(row, column) for row, column, cell in tab.used(bounds) if cell.value is not None]
    if not filled:
        return None
    row, column = filled[-1]
    table = Bounds(row, row + 1, column, column + 1)
    while True:
        around = tab.bound(
            Area(
                max(0, table.start_row - 1),
                table.end_row + 1,
                max(0, table.start_column - 1),
                table.end_column + 1,
            )
        )
        block = [(row, column) for row, column, cell in tab.used(around) if cell.value is not None]
        rows, columns = [row for row, _ in block], [column for _, column in block]
        grown = Bounds(min(rows), max(rows) + 1, min(columns), max(columns) + 1)
        if grown == table:
            return table
        table = grown
