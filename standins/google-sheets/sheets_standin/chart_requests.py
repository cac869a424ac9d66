"""The requests of ``spreadsheets.batchUpdate`` that make, change and delete charts."""

from __future__ import annotations

from sheets_standin.cells import Json
from sheets_standin.charts import Chart, ChartSpec, OverlayPosition, Position
from sheets_standin.errors import invalid
from sheets_standin.models import Index, Model
from sheets_standin.workbook import Spreadsheet, Tab


class _NewChart(Model):
    chart_id: Index | None = None
    spec: ChartSpec
    position: Position


class AddChart(Model):
    """Add a chart; an id that is taken is an error."""

    chart: _NewChart


class UpdateChartSpec(Model):
    """Replace what a chart shows; it stays where it is."""

    chart_id: Index
    spec: ChartSpec


class UpdateEmbeddedObjectPosition(Model):
    """Move a chart, as a whole."""

    object_id: Index
    new_position: Position
    fields: str = ""


class DeleteEmbeddedObject(Model):
    """Delete a chart."""

    object_id: Index


def add_chart(book: Spreadsheet, request: AddChart) -> Json:
    """Apply ``addChart``."""
    wanted = request.chart
    chart_id = book.new_chart_id() if wanted.chart_id is None else wanted.chart_id
    if chart_id in book.chart_ids():
        raise invalid(f"A chart with id {chart_id} already exists.")
    chart = Chart(chart_id=chart_id, spec=wanted.spec, position=wanted.position)
    _check_spec(book, chart.spec)
    _tab_at(book, chart.position.overlay_position).charts.append(chart)
    return {"chart": chart.to_json()}


def update_chart_spec(book: Spreadsheet, request: UpdateChartSpec) -> None:
    """Apply ``updateChartSpec``."""
    _check_spec(book, request.spec)
    tab, chart = _found(book, request.chart_id)
    changed = chart.model_copy(update={"spec": request.spec})
    tab.charts[tab.charts.index(chart)] = changed


def update_position(book: Spreadsheet, request: UpdateEmbeddedObjectPosition) -> Json:
    """Apply ``updateEmbeddedObjectPosition``."""
    if request.fields != "*":
        raise invalid("the stand-in moves a chart as a whole: fields must be '*'.")
    tab, chart = _found(book, request.object_id)
    target = _tab_at(book, request.new_position.overlay_position)
    tab.charts.remove(chart)
    target.charts.append(chart.model_copy(update={"position": request.new_position}))
    return {"position": target.charts[-1].to_json()["position"]}


def delete_object(book: Spreadsheet, request: DeleteEmbeddedObject) -> None:
    """Apply ``deleteEmbeddedObject``."""
    tab, chart = _found(book, request.object_id)
    tab.charts.remove(chart)


def _found(book: Spreadsheet, chart_id: int) -> tuple[Tab, Chart]:
    for tab in book.tabs:
        for chart in tab.charts:
            if chart.chart_id == chart_id:
                return tab, chart
    raise invalid(f"No embedded object with id {chart_id}")


def _tab_at(book: Spreadsheet, position: OverlayPosition) -> Tab:
    anchor = position.anchor_cell
    tab = book.tab_by_id(anchor.sheet_id)
    if anchor.row_index >= tab.rows or anchor.column_index >= tab.columns:
        raise invalid(
            f"The anchor cell ({anchor.row_index}, {anchor.column_index}) is outside the grid of "
            f"{tab.rows} rows and {tab.columns} columns."
        )
    return tab


def _check_spec(book: Spreadsheet, spec: ChartSpec) -> None:
    bounds = [book.tab_by_id(cells.sheet_id).bound(cells.area) for cells in spec.ranges()]
    if any(there.end_column - there.start_column != 1 for there in bounds):
        raise invalid("the stand-in's charts read a part of one column each.")
    if len({(there.start_row, there.end_row) for there in bounds}) > 1:
        raise invalid("the domain and all series of a chart must have the same rows.")
