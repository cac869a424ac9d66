"""Charts as a page draws them: where each line, column and label is, in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import ceil, floor, log10

from sheets_standin.a1 import cell_name
from sheets_standin.charts import Chart
from sheets_standin.models import GridRange
from sheets_standin.workbook import Spreadsheet

# Google's own.
_COLORS = ("#4285f4", "#ea4335", "#fbbc04", "#34a853", "#ff6d01", "#46bdc6")
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 56, 62
_TICKS = 5
_LABELS = 8

Point = tuple[float, float]


@dataclass(frozen=True)
class SeriesView:
    """One series: lines, areas or columns, each as the points of a polygon or polyline."""

    name: str
    color: str
    lines: list[str]
    areas: list[str]
    columns: list[tuple[float, float, float, float]]


@dataclass(frozen=True)
class ChartView:
    """A chart of this many pixels."""

    title: str
    width: int
    height: int
    series: list[SeriesView]
    ticks: list[tuple[float, str]]
    labels: list[tuple[float, str]]
    left: float
    right: float
    bottom: float
    axis: str
    at: str


def draw(book: Spreadsheet, chart: Chart) -> ChartView:
    """Lay out a chart over the cells as they are now."""
    basic = chart.spec.basic_chart
    domain = _read(book, basic.domains[0].domain.cells)
    columns = [_read(book, series.series.cells) for series in basic.series]
    headers = basic.header_count
    names = [" ".join(text for _, text in column[:headers]) for column in columns]
    # Rows without a place on the axis are not drawn.
    rows = [row for row in range(headers, len(domain)) if domain[row][1]]
    values = [[_number(column[row][0]) for row in rows] for column in columns]
    place = chart.position.overlay_position
    right, bottom = place.width_pixels - _RIGHT, place.height_pixels - _BOTTOM
    steps = _ticks([value for line in values for value in line if value is not None])
    low, high = steps[0], steps[-1]
    is_columns = basic.chart_type == "COLUMN"
    slot = (right - _LEFT) / max(1, len(rows) if is_columns else len(rows) - 1)

    def x(row: int) -> float:
        return round(_LEFT + slot * (row + is_columns / 2), 1)

    def y(value: float) -> float:
        return round(bottom - (value - low) / (high - low) * (bottom - _TOP), 1)

    views = []
    for number, (name, line) in enumerate(zip(names, values, strict=True)):
        runs = _runs(
            [None if value is None else (x(at), y(value)) for at, value in enumerate(line)]
        )
        bar = slot * 0.8 / len(values)
        bars = [
            (
                round(x(at) - slot * 0.4 + number * bar, 1),
                min(y(value), y(0)),
                round(bar, 1),
                abs(round(y(value) - y(0), 1)),
            )
            for at, value in enumerate(line)
            if value is not None
        ]
        areas = [[(run[0][0], y(0)), *run, (run[-1][0], y(0))] for run in runs]
        views.append(
            SeriesView(
                name,
                _COLORS[number % len(_COLORS)],
                [] if is_columns else [_points(run) for run in runs],
                [_points(area) for area in areas] if basic.chart_type == "AREA" else [],
                bars if is_columns else [],
            )
        )
    every = max(1, ceil(len(rows) / _LABELS))
    return ChartView(
        title=chart.spec.title,
        width=place.width_pixels,
        height=place.height_pixels,
        series=views,
        ticks=[(y(step), f"{step:,.10g}") for step in steps],
        labels=[(x(at), domain[row][1]) for at, row in enumerate(rows) if at % every == 0],
        left=_LEFT,
        right=right,
        bottom=bottom,
        axis=next((axis.title for axis in basic.axis if axis.position == "BOTTOM_AXIS"), ""),
        at=cell_name(place.anchor_cell.row_index, place.anchor_cell.column_index),
    )


def _read(book: Spreadsheet, cells: GridRange) -> list[tuple[object, str]]:
    """The value and the text of each cell, from top to bottom."""
    tab = book.tab_by_id(cells.sheet_id)
    end = tab.rows if cells.end_row_index is None else min(tab.rows, cells.end_row_index)
    rows = range(cells.start_row_index, end)
    found = (tab.get(row, cells.start_column_index) for row in rows)
    return [(cell.value, cell.formatted) for cell in found]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _ticks(values: Sequence[float]) -> list[float]:
    """Round numbers from below the smallest value, or zero, to above the largest."""
    low, high = min([0.0, *values]), max([0.0, *values])
    rough = (high - low or 1) / _TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = floor(low / step), max(ceil(high / step), floor(low / step) + 1)
    return [number * step for number in range(first, last + 1)]


def _runs(points: Sequence[Point | None]) -> list[list[Point]]:
    """The stretches without a gap."""
    groups = groupby(points, key=lambda point: point is not None)
    return [[point for point in group if point] for is_there, group in groups if is_there]


def _points(points: Sequence[Point]) -> str:
    return " ".join(f"{x},{y}" for x, y in points)
