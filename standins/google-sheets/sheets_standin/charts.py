"""Charts over the cells of a tab, and how they follow the rows and columns that people move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from sheets_standin.errors import invalid
from sheets_standin.models import GridCoordinate, GridRange, Index, Model

Edges = Callable[[int, int | None], tuple[int, int | None]]
"""Where a span of rows or columns is, once others were inserted, deleted or moved."""


class _SourceRange(Model):
    sources: Annotated[list[GridRange], Field(min_length=1, max_length=1)]


class ChartData(Model):
    """The cells that a chart reads along one axis: a part of one column."""

    source_range: _SourceRange

    @property
    def cells(self) -> GridRange:
        """The one range that the stand-in takes."""
        return self.source_range.sources[0]


class _Domain(Model):
    domain: ChartData


class _Series(Model):
    series: ChartData
    target_axis: Literal["LEFT_AXIS"] = "LEFT_AXIS"


class _Axis(Model):
    position: Literal["BOTTOM_AXIS", "LEFT_AXIS"]
    title: str = ""


class BasicChart(Model):
    """A chart of one kind, with series over one domain."""

    chart_type: Literal["LINE", "COLUMN", "AREA"]
    legend_position: Literal[
        "BOTTOM_LEGEND", "LEFT_LEGEND", "RIGHT_LEGEND", "TOP_LEGEND", "NO_LEGEND"
    ] = "RIGHT_LEGEND"
    axis: list[_Axis] = Field(default_factory=list)
    domains: Annotated[list[_Domain], Field(min_length=1, max_length=1)]
    series: Annotated[list[_Series], Field(min_length=1)]
    header_count: Index = 0


class ChartSpec(Model):
    """What a chart shows."""

    title: str = ""
    basic_chart: BasicChart

    def ranges(self) -> Iterator[GridRange]:
        """The cells that it reads: of the domain, then of each series."""
        yield self.basic_chart.domains[0].domain.cells
        for series in self.basic_chart.series:
            yield series.series.cells


class OverlayPosition(Model):
    """Where a chart lies over the cells."""

    anchor_cell: GridCoordinate = GridCoordinate()
    offset_x_pixels: Index = 0
    offset_y_pixels: Index = 0
    width_pixels: Annotated[int, Field(ge=1)] = 600
    height_pixels: Annotated[int, Field(ge=1)] = 371


class Position(Model):
    """Where a chart is; the stand-in knows only charts over cells."""

    overlay_position: OverlayPosition


class Chart(Model):
    """A chart, with its id."""

    chart_id: Index
    spec: ChartSpec
    position: Position

    def to_json(self) -> dict[str, Any]:
        """Google's ``EmbeddedChart``."""
        return self.model_dump(by_alias=True, exclude_unset=True)

    def followed(self, sheet_id: int, dimension: str, edges: Edges) -> Chart:
        """The chart after rows or columns of a tab came, went or moved.

        Raises:
            ApiError: 400, the cells that it reads would be gone.
        """
        chart = self.model_copy(deep=True)
        side = "row" if dimension == "ROWS" else "column"
        start, end = f"start_{side}_index", f"end_{side}_index"
        for cells in chart.spec.ranges():
            if cells.sheet_id == sheet_id:
                first, last = edges(getattr(cells, start), getattr(cells, end))
                if first == last:
                    raise invalid("the stand-in does not delete all cells that a chart reads.")
                setattr(cells, start, first)
                if last is not None:
                    setattr(cells, end, last)
        anchor = chart.position.overlay_position.anchor_cell
        if anchor.sheet_id == sheet_id:
            at = getattr(anchor, f"{side}_index")
            setattr(anchor, f"{side}_index", edges(at, at + 1)[0])
        return chart

    def copied(self, chart_id: int, source: int, copy: int) -> Chart:
        """The chart of a tab's copy, which reads the copy."""
        chart = self.model_copy(deep=True)
        chart.chart_id = chart_id
        for cells in chart.spec.ranges():
            if cells.sheet_id == source:
                cells.sheet_id = copy
        chart.position.overlay_position.anchor_cell.sheet_id = copy
        return chart


def inserted(at: int, count: int) -> Edges:
    """After lines were inserted before the one at this index."""

    def edges(start: int, end: int | None) -> tuple[int, int | None]:
        return (
            start + count if at <= start else start,
            end + count if end is not None and at < end else end,
        )

    return edges


def deleted(first: int, last: int) -> Edges:
    """After the lines from `first` to before `last` were deleted."""

    def left(index: int) -> int:
        return index - max(0, min(index, last) - first)

    def edges(start: int, end: int | None) -> tuple[int, int | None]:
        return left(start), None if end is None else left(end)

    return edges


def moved(first: int, last: int, to: int) -> Edges:
    """After the lines from `first` to before `last` were moved before the one at `to`."""
    count = last - first

    def edges(start: int, end: int | None) -> tuple[int, int | None]:
        stop = float("inf") if end is None else end
        if first <= start and stop <= last:
            shift = to - first if to <= first else to - last
        elif start < first and last <= stop and start < to <= stop:
            shift = 0
        elif (last <= start or stop <= first) and not start < to < stop:
            shift = count * (to <= start < first) - count * (last <= start < to)
        else:
            raise invalid("the stand-in does not move the edge of what a chart reads.")
        return start + shift, None if end is None else end + shift

    return edges
