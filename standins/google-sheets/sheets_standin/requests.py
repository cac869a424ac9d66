"""The requests of ``spreadsheets.batchUpdate``."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import chain, count
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic.alias_generators import to_camel

from sheets_standin import chart_requests, charts, fields
from sheets_standin.a1 import Area, format_range
from sheets_standin.cells import Cell, Json, check_validation, patch_cell
from sheets_standin.errors import ApiError, invalid, refuse_unknown
from sheets_standin.fields import Mask
from sheets_standin.models import GridCoordinate, GridRange, Index, Model
from sheets_standin.workbook import Bounds, Dimension, Spreadsheet, Tab


class _GridProperties(Model):
    row_count: int | None = None
    column_count: int | None = None
    frozen_row_count: Index | None = None
    frozen_column_count: Index | None = None


class _SheetProperties(Model):
    sheet_id: Index | None = None
    title: str | None = None
    index: Index | None = None
    sheet_type: Literal["GRID"] = "GRID"
    hidden: bool | None = None
    grid_properties: _GridProperties = _GridProperties()


class _DimensionRange(Model):
    sheet_id: int = 0
    dimension: Dimension
    start_index: Index = 0
    end_index: Index | None = None


class _RowData(Model):
    values: list[dict[str, Any]] = Field(default_factory=list)


class _AddSheet(Model):
    properties: _SheetProperties = _SheetProperties()


class _DeleteSheet(Model):
    sheet_id: int = 0


class _DuplicateSheet(Model):
    source_sheet_id: int = 0
    insert_sheet_index: Index | None = None
    new_sheet_id: Index | None = None
    new_sheet_name: str | None = None


class _UpdateSheetProperties(Model):
    properties: _SheetProperties
    fields: str = ""


class _UpdateCells(Model):
    rows: list[_RowData] = Field(default_factory=list)
    fields: str = ""
    start: GridCoordinate | None = None
    range: GridRange | None = None


class _RepeatCell(Model):
    range: GridRange
    cell: dict[str, Any] = Field(default_factory=dict)
    fields: str = ""


class _CopyPaste(Model):
    source: GridRange
    destination: GridRange
    paste_type: Literal["PASTE_VALUES", "PASTE_FORMAT"]
    paste_orientation: Literal["NORMAL"] = "NORMAL"


class _AppendDimension(Model):
    sheet_id: int = 0
    dimension: Dimension
    length: Annotated[int, Field(ge=1)]


class _InsertDimension(Model):
    range: _DimensionRange
    inherit_from_before: bool = False


class _DeleteDimension(Model):
    range: _DimensionRange


class _MoveDimension(Model):
    source: _DimensionRange
    destination_index: Index = 0


class _SetDataValidation(Model):
    range: GridRange
    rule: dict[str, Any] | None = None


class _UpdateDimensionProperties(Model):
    range: _DimensionRange
    properties: dict[str, Any] = Field(default_factory=dict)
    fields: str = ""


def apply(book: Spreadsheet, body: Json) -> Json:
    """Apply a ``batchUpdate`` body to a draft of a spreadsheet, half changed after an error.

    Returns:
        The answer, with one reply per request.

    Raises:
        ApiError: 400, a request is unknown, malformed or impossible; the message has its index.
    """
    wanted = body.get("requests")
    if not isinstance(wanted, list) or not wanted:
        raise invalid("Must specify at least one request.")
    refuse_unknown(body, {"requests"})
    replies = [_apply_one(book, number, request) for number, request in enumerate(wanted)]
    return {"spreadsheetId": book.spreadsheet_id, "replies": replies}


def _apply_one(book: Spreadsheet, number: int, request: Any) -> Json:
    if not isinstance(request, dict) or len(request) != 1:
        raise invalid(f"Invalid requests[{number}]: exactly one kind of request is expected.")
    [(kind, content)] = request.items()
    if kind not in _REQUESTS:
        raise invalid(
            f"Invalid JSON payload received. Unknown name \"{kind}\" at 'requests[{number}]': "
            f"the stand-in knows {', '.join(_REQUESTS)}."
        )
    model, handler = _REQUESTS[kind]
    where = f"Invalid requests[{number}].{kind}"
    try:
        reply = handler(book, model.model_validate(_without_nulls(content or {})))
        book.check_size()
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise invalid(f"{where}: {place}: {problem['msg']}") from None
    except ApiError as error:
        raise ApiError(error.code, f"{where}: {error.message}", error.details) from None
    return {kind: reply} if reply else {}


def _without_nulls(value: Any) -> Any:
    # In the JSON of Google's APIs null is the same as left out.
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _add_sheet(book: Spreadsheet, request: _AddSheet) -> Json:
    wanted = request.properties
    sheet_id = book.new_sheet_id() if wanted.sheet_id is None else wanted.sheet_id
    tab = Tab(
        sheet_id, wanted.title or _free_title(book, (f"Sheet{number}" for number in count(1)))
    )
    _set_grid(tab, wanted.grid_properties, wanted.grid_properties.model_fields_set)
    tab.hidden = bool(wanted.hidden)
    book.add_tab(tab, wanted.index)
    return {"properties": tab.properties(book.tabs.index(tab))}


def _delete_sheet(book: Spreadsheet, request: _DeleteSheet) -> None:
    tab = book.tab_by_id(request.sheet_id, "No sheet with id")
    if len(book.tabs) == 1:
        raise invalid("You can't remove all the sheets in a document.")
    book.tabs.remove(tab)
    if any(
        cells.sheet_id == tab.sheet_id for chart in book.charts() for cells in chart.spec.ranges()
    ):
        raise invalid("the stand-in does not delete a sheet that a chart of another one reads.")
    book.check_visible("You can't remove all the visible sheets in a document.")


def _duplicate_sheet(book: Spreadsheet, request: _DuplicateSheet) -> Json:
    source = book.tab_by_id(request.source_sheet_id, "No sheet with id")
    tab = source.copy()
    tab.sheet_id = book.new_sheet_id() if request.new_sheet_id is None else request.new_sheet_id
    first = f"Copy of {source.title}"
    others = (f"{first} {number}" for number in count(2))
    tab.title = request.new_sheet_name or _free_title(book, chain([first], others))
    tab.charts = []
    book.add_tab(tab, request.insert_sheet_index or 0)
    for chart in source.charts:
        tab.charts.append(chart.copied(book.new_chart_id(), source.sheet_id, tab.sheet_id))
    return {"properties": tab.properties(book.tabs.index(tab))}


def _update_sheet_properties(book: Spreadsheet, request: _UpdateSheetProperties) -> None:
    wanted = request.properties
    tab = book.tab_by_id(wanted.sheet_id or 0, "No sheet with id")
    mask = _mask(request.fields)
    everything: Mask = {"title": {}, "index": {}, "hidden": {}, "gridProperties": {}}
    for name, below in (mask or everything).items():
        if name == "title":
            book.check_title(wanted.title or "", tab)
            tab.title = wanted.title or ""
        elif name == "index":
            _move_tab(book, tab, wanted.index or 0)
        elif name == "hidden":
            tab.hidden = bool(wanted.hidden)
            book.check_visible("You can't hide all the sheets in a document.")
        elif name == "gridProperties":
            _set_grid(tab, wanted.grid_properties, _grid_fields(below))
        else:
            raise invalid(f"Invalid field: the stand-in does not know '{name}' of a sheet.")


def _grid_fields(mask: Mask) -> set[str]:
    names = {to_camel(name): name for name in _GridProperties.model_fields}
    if unknown := set(mask) - set(names):
        raise invalid(f"Invalid field: the stand-in does not know {sorted(unknown)} of a grid.")
    return {names[name] for name in mask} or set(names.values())


def _set_grid(tab: Tab, wanted: _GridProperties, names: set[str]) -> None:
    rows = wanted.row_count or 0 if "row_count" in names else tab.rows
    columns = wanted.column_count or 0 if "column_count" in names else tab.columns
    tab.resize(rows, columns)
    if "frozen_row_count" in names:
        tab.frozen_rows = wanted.frozen_row_count or 0
    if "frozen_column_count" in names:
        tab.frozen_columns = wanted.frozen_column_count or 0
    tab.check_frozen()


def _move_tab(book: Spreadsheet, tab: Tab, index: int) -> None:
    # The new index is counted before the move, with the tab still in its old place.
    old = book.tabs.index(tab)
    if index > len(book.tabs):
        raise invalid(f"Invalid sheet index: {index}")
    book.tabs.remove(tab)
    book.tabs.insert(index - 1 if index > old else index, tab)


def _update_cells(book: Spreadsheet, request: _UpdateCells) -> None:
    mask = _mask(request.fields)
    if (request.start is None) == (request.range is None):
        raise invalid("Exactly one of start and range must be given.")
    if request.range is not None:
        tab = book.tab_by_id(request.range.sheet_id)
        bounds = _bound(tab, request.range.area)
    else:
        start = request.start or GridCoordinate()
        tab = book.tab_by_id(start.sheet_id)
        bounds = _bound(tab, Area(start.row_index, None, start.column_index, None))
    _check_fits(request.rows, bounds)
    height = bounds.end_row - bounds.start_row if request.range else len(request.rows)
    for offset in range(height):
        line = request.rows[offset].values if offset < len(request.rows) else []
        width = bounds.end_column - bounds.start_column if request.range else len(line)
        for place in range(width):
            at = bounds.start_row + offset, bounds.start_column + place
            data = line[place] if place < len(line) else {}
            where = f"rows[{offset}].values[{place}]"
            tab.put(*at, patch_cell(tab.get(*at), data, mask, where))


def _check_fits(rows: list[_RowData], bounds: Bounds) -> None:
    if bounds.start_row + len(rows) > bounds.end_row:
        raise invalid(
            f"Attempting to write row: {bounds.end_row}, "
            f"beyond the last requested row of: {bounds.end_row - 1}"
        )
    if bounds.start_column + max((len(row.values) for row in rows), default=0) > bounds.end_column:
        raise invalid(
            f"Attempting to write column: {bounds.end_column}, "
            f"beyond the last requested column of: {bounds.end_column - 1}"
        )


def _repeat_cell(book: Spreadsheet, request: _RepeatCell) -> None:
    mask = _mask(request.fields)
    tab = book.tab_by_id(request.range.sheet_id)
    bounds = _bound(tab, request.range.area)
    for row in range(bounds.start_row, bounds.end_row):
        for column in range(bounds.start_column, bounds.end_column):
            cell = patch_cell(tab.get(row, column), request.cell, mask, "cell")
            tab.put(row, column, cell)


def _copy_paste(book: Spreadsheet, request: _CopyPaste) -> None:
    """Copy values only or formats only; an empty source cell empties its destination.

    A destination several times as large as the source gets as many copies of it.
    """
    source_tab = book.tab_by_id(request.source.sheet_id)
    tab = book.tab_by_id(request.destination.sheet_id)
    source = _bound(source_tab, request.source.area)
    bounds = _bound(tab, request.destination.area)
    height, width = source.end_row - source.start_row, source.end_column - source.start_column
    rows, columns = bounds.end_row - bounds.start_row, bounds.end_column - bounds.start_column
    if not rows or rows % height or not columns or columns % width:
        raise invalid(
            "the stand-in copies to a destination as large as the source, or some times as large."
        )
    copied = {
        (row, column): source_tab.get(source.start_row + row, source.start_column + column)
        for row in range(height)
        for column in range(width)
    }
    for row in range(rows):
        for column in range(columns):
            at = bounds.start_row + row, bounds.start_column + column
            tab.put(*at, _pasted(tab.get(*at), copied[row % height, column % width], request))


def _pasted(cell: Cell, copied: Cell, request: _CopyPaste) -> Cell:
    if request.paste_type == "PASTE_VALUES":
        return cell.with_value(copied.value)
    return replace(cell, format=copied.format, validation=copied.validation)


def _append_dimension(book: Spreadsheet, request: _AppendDimension) -> None:
    tab = book.tab_by_id(request.sheet_id)
    if request.dimension == "ROWS":
        tab.resize(tab.rows + request.length, tab.columns)
    else:
        tab.resize(tab.rows, tab.columns + request.length)


def _insert_dimension(book: Spreadsheet, request: _InsertDimension) -> None:
    tab, start, end = _dimension(book, request.range)
    tab.insert(request.range.dimension, start, end - start, request.inherit_from_before)
    book.follow(tab, request.range.dimension, charts.inserted(start, end - start))


def _delete_dimension(book: Spreadsheet, request: _DeleteDimension) -> None:
    tab, start, end = _dimension(book, request.range)
    tab.delete(request.range.dimension, start, end)
    book.follow(tab, request.range.dimension, charts.deleted(start, end))


def _move_dimension(book: Spreadsheet, request: _MoveDimension) -> None:
    tab, start, end = _dimension(book, request.source)
    to = request.destination_index
    tab.move(request.source.dimension, start, end, to)
    book.follow(tab, request.source.dimension, charts.moved(start, end, to))


def _set_data_validation(book: Spreadsheet, request: _SetDataValidation) -> None:
    if request.rule is not None:
        check_validation(request.rule, "rule")
    tab = book.tab_by_id(request.range.sheet_id)
    bounds = _bound(tab, request.range.area)
    for row in range(bounds.start_row, bounds.end_row):
        for column in range(bounds.start_column, bounds.end_column):
            tab.put(row, column, replace(tab.get(row, column), validation=request.rule or {}))


def _update_dimension_properties(book: Spreadsheet, request: _UpdateDimensionProperties) -> None:
    """Check widths and hidden rows, without keeping them: nothing here shows them."""
    _dimension(book, request.range)
    known = {"pixelSize", "hiddenByUser"}
    if unknown := {*request.properties, *_mask(request.fields)} - known:
        raise invalid(f"Invalid field: the stand-in does not know {sorted(unknown)}.")


def _dimension(book: Spreadsheet, wanted: _DimensionRange) -> tuple[Tab, int, int]:
    tab = book.tab_by_id(wanted.sheet_id)
    size = tab.rows if wanted.dimension == "ROWS" else tab.columns
    end = size if wanted.end_index is None else wanted.end_index
    if end <= wanted.start_index:
        raise invalid(f"endIndex ({end}) must be after startIndex ({wanted.start_index})")
    return tab, wanted.start_index, end


def _bound(tab: Tab, area: Area) -> Bounds:
    if area.end_row is not None and area.end_row < area.start_row:
        raise invalid(f"Range ({format_range(tab.title, area)}) ends before it starts.")
    return tab.bound(area)


def _mask(text: str) -> Mask:
    if not text.strip():
        raise invalid(
            "At least one field must be listed in 'fields'. (Use '*' to indicate all fields.)"
        )
    return fields.parse(text)


def _free_title(book: Spreadsheet, titles: Iterable[str]) -> str:
    return next(title for title in titles if book.tab(title) is None)


_Handler = Callable[[Spreadsheet, Any], Json | None]

_REQUESTS: dict[str, tuple[type[Model], _Handler]] = {
    "addSheet": (_AddSheet, _add_sheet),
    "deleteSheet": (_DeleteSheet, _delete_sheet),
    "duplicateSheet": (_DuplicateSheet, _duplicate_sheet),
    "updateSheetProperties": (_UpdateSheetProperties, _update_sheet_properties),
    "updateCells": (_UpdateCells, _update_cells),
    "repeatCell": (_RepeatCell, _repeat_cell),
    "copyPaste": (_CopyPaste, _copy_paste),
    "appendDimension": (_AppendDimension, _append_dimension),
    "insertDimension": (_InsertDimension, _insert_dimension),
    "deleteDimension": (_DeleteDimension, _delete_dimension),
    "moveDimension": (_MoveDimension, _move_dimension),
    "setDataValidation": (_SetDataValidation, _set_data_validation),
    "updateDimensionProperties": (_UpdateDimensionProperties, _update_dimension_properties),
    "addChart": (chart_requests.AddChart, chart_requests.add_chart),
    "updateChartSpec": (chart_requests.UpdateChartSpec, chart_requests.update_chart_spec),
    "updateEmbeddedObjectPosition": (
        chart_requests.UpdateEmbeddedObjectPosition,
        chart_requests.update_position,
    ),
    "deleteEmbeddedObject": (chart_requests.DeleteEmbeddedObject, chart_requests.delete_object),
}
