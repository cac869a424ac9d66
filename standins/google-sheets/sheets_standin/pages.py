"""The pages that show the spreadsheets to a person."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sheets_standin.a1 import column_name
from sheets_standin.drawing import ChartView, draw
from sheets_standin.workbook import Spreadsheet, Tab

MAX_ROWS = 500
MAX_COLUMNS = 60
SPARE_ROWS = 2
SPARE_COLUMNS = 1
LEAST_COLUMNS = 6

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class _CellView:
    text: str
    note: str | None
    css: str


@dataclass(frozen=True)
class _TabView:
    title: str
    size: str
    hidden: bool
    letters: list[str]
    rows: list[tuple[int, bool, list[_CellView]]]
    charts: list[ChartView]
    left_out: str


def render_index(books: list[Spreadsheet]) -> str:
    """The page that lists the spreadsheets."""
    return _TEMPLATES.get_template("index.html").render(books=books)


def render_spreadsheet(book: Spreadsheet) -> str:
    """The page that shows the tabs of one."""
    views = [_view(book, tab) for tab in book.tabs]
    return _TEMPLATES.get_template("spreadsheet.html").render(book=book, tabs=views)


def render_missing() -> str:
    """The page for a spreadsheet that does not exist."""
    return _TEMPLATES.get_template("missing.html").render()


def _view(book: Spreadsheet, tab: Tab) -> _TabView:
    used_rows = max(tab.cells, default=-1) + 1
    used_columns = max((max(line) for line in tab.cells.values()), default=-1) + 1
    rows = min(tab.rows, used_rows + SPARE_ROWS, MAX_ROWS)
    columns = min(tab.columns, max(used_columns + SPARE_COLUMNS, LEAST_COLUMNS), MAX_COLUMNS)
    left_out = []
    if used_rows > rows:
        left_out.append(f"rows {rows + 1} to {used_rows}")
    if used_columns > columns:
        left_out.append(f"columns {column_name(columns)} to {column_name(used_columns - 1)}")
    return _TabView(
        title=tab.title,
        size=f"{tab.rows:,} rows × {tab.columns:,} columns",
        hidden=tab.hidden,
        letters=[column_name(index) for index in range(columns)],
        rows=[
            (row + 1, row < tab.frozen_rows, [_cell(tab, row, index) for index in range(columns)])
            for row in range(rows)
        ],
        charts=[draw(book, chart) for chart in tab.charts],
        left_out=" and ".join(left_out),
    )


def _cell(tab: Tab, row: int, column: int) -> _CellView:
    cell = tab.get(row, column)
    text_format = cell.format.get("textFormat") or {}
    classes = [name for name in ("bold", "italic") if text_format.get(name)]
    if isinstance(cell.value, bool):
        classes.append("center")
    elif isinstance(cell.value, float):
        classes.append("number")
    if cell.note:
        classes.append("noted")
    return _CellView(cell.formatted, cell.note, " ".join(classes))
