"""Spreadsheets and their tabs, as they are kept and changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from sheets_standin import a1, cells
from sheets_standin.a1 import Area
from sheets_standin.cells import EMPTY, Cell, Json
from sheets_standin.charts import Chart, Edges
from sheets_standin.errors import ApiError, invalid

MAX_CELLS = 10_000_000
MAX_COLUMNS = 18_278
MAX_TITLE = 100

Dimension = Literal["ROWS", "COLUMNS"]
Role = Literal["reader", "writer"]


@dataclass(frozen=True)
class Bounds:
    """An area that lies in a grid: half open, every end known."""

    start_row: int
    end_row: int
    start_column: int
    end_column: int

    @property
    def area(self) -> Area:
        """These bounds as an `Area`."""
        return Area(self.start_row, self.end_row, self.start_column, self.end_column)


@dataclass
class Tab:
    """One sheet of a spreadsheet: a grid, the cells in it that are not empty, the charts on it."""

    sheet_id: int
    title: str
    rows: int = 1000
    columns: int = 26
    hidden: bool = False
    frozen_rows: int = 0
    frozen_columns: int = 0
    cells: dict[int, dict[int, Cell]] = field(default_factory=dict)
    charts: list[Chart] = field(default_factory=list)

    def copy(self) -> Tab:
        """A tab that can be changed without changing this one."""
        cells_ = {row: dict(line) for row, line in self.cells.items()}
        return replace(self, cells=cells_, charts=list(self.charts))

    def get(self, row: int, column: int) -> Cell:
        """The cell there, which may be empty."""
        return self.cells.get(row, {}).get(column, EMPTY)

    def put(self, row: int, column: int, cell: Cell) -> None:
        """Set the cell there; the place is in the grid."""
        if cell != EMPTY:
            self.cells.setdefault(row, {})[column] = cell
        elif row in self.cells:
            self.cells[row].pop(column, None)
            if not self.cells[row]:
                del self.cells[row]

    def bound(self, area: Area, *, for_writing: bool = False) -> Bounds:
        """The part of an area that lies in the grid.

        Args:
            area: What was asked for.
            for_writing: Refuse an area that ends beyond the grid too.

        Raises:
            ApiError: 400, it starts beyond the grid.
        """
        end_row = self.rows if area.end_row is None else area.end_row
        end_column = self.columns if area.end_column is None else area.end_column
        is_outside = area.start_row >= self.rows or area.start_column >= self.columns
        is_beyond = end_row > self.rows or end_column > self.columns
        if is_outside or (for_writing and is_beyond):
            # A1 notation cannot name an area that is open in both directions.
            is_open = area.end_row is None and area.end_column is None
            shown = replace(area, end_column=self.columns) if is_open else area
            raise invalid(
                f"Range ({a1.format_range(self.title, shown)}) exceeds grid limits. "
                f"Max rows: {self.rows}, max columns: {self.columns}"
            )
        return Bounds(
            area.start_row,
            min(end_row, self.rows),
            area.start_column,
            min(end_column, self.columns),
        )

    def used(self, bounds: Bounds) -> Iterator[tuple[int, int, Cell]]:
        """The cells in the bounds that hold a value, a note or a format, row by row."""
        for row in sorted(self.cells):
            if bounds.start_row <= row < bounds.end_row:
                for column in sorted(self.cells[row]):
                    if bounds.start_column <= column < bounds.end_column:
                        yield row, column, self.cells[row][column]

    def resize(self, rows: int, columns: int) -> None:
        """Change the grid; what falls outside is gone."""
        if rows < 1 or columns < 1 or columns > MAX_COLUMNS:
            raise invalid(f"A grid of {rows} rows and {columns} columns cannot be.")
        shrinks = rows < self.rows or columns < self.columns
        self.rows, self.columns = rows, columns
        if shrinks:
            everything = self.bound(Area())
            kept = list(self.used(everything))
            self.cells = {}
            for row, column, cell in kept:
                self.put(row, column, cell)

    def grow(self, rows: int, columns: int) -> None:
        """Make the grid at least this large."""
        self.resize(max(rows, self.rows), max(columns, self.columns))

    def check_frozen(self) -> None:
        """Refuse a grid whose rows or columns are all frozen."""
        if self.frozen_rows >= self.rows:
            raise invalid("You can't freeze all visible rows on the sheet.")
        if self.frozen_columns >= self.columns:
            raise invalid("You can't freeze all visible columns on the sheet.")

    def move(self, dimension: Dimension, start: int, end: int, to: int) -> None:
        """Move rows or columns before the one at `to`, an index from before the move."""
        if to > self._size(dimension):
            raise invalid(f"Cannot move {dimension} to index {to} of {self._size(dimension)}.")
        if start < to < end:
            raise invalid(f"Cannot move {dimension} {start} to {end} into themselves, to {to}.")
        count = end - start
        if to <= start:
            self._move(
                dimension,
                lambda index: (
                    to + index - start
                    if start <= index < end
                    else index + count * (to <= index < start)
                ),
            )
        else:
            self._move(
                dimension,
                lambda index: (
                    to - count + index - start
                    if start <= index < end
                    else index - count * (end <= index < to)
                ),
            )

    def insert(self, dimension: Dimension, start: int, count: int, from_before: bool) -> None:
        """Insert empty rows or columns that look like the ones before or after them."""
        size = self._size(dimension)
        if start > size or (from_before and start == 0) or (not from_before and start == size):
            raise invalid(f"Cannot insert {dimension} at index {start} of {size}.")
        model = self._line(dimension, start - 1 if from_before else start)
        self._move(dimension, lambda index: index + count if index >= start else index)
        self._set_size(dimension, size + count)
        if start < self._frozen(dimension):
            self._set_frozen(dimension, self._frozen(dimension) + count)
        for offset in range(count):
            for other, cell in model.items():
                at = (start + offset, other) if dimension == "ROWS" else (other, start + offset)
                self.put(*at, Cell(format=cell.format))

    def delete(self, dimension: Dimension, start: int, end: int) -> None:
        """Delete rows or columns; the ones after them move up."""
        size, frozen = self._size(dimension), self._frozen(dimension)
        word = dimension[:-1].lower()
        if end > size:
            raise invalid(
                f"Cannot delete a {word} that doesn't exist. "
                f"Tried to delete {word} index {end - 1} but there are only {size} {word}s."
            )
        if start == 0 and end == size:
            raise invalid(f"You can't delete all the {word}s on the sheet.")
        if frozen and start <= frozen and end == size:
            raise invalid(f"Sorry, it is not possible to delete all non-frozen {word}s.")
        self._move(
            dimension,
            lambda index: None if start <= index < end else index - (end - start) * (index >= end),
        )
        self._set_size(dimension, size - (end - start))
        self._set_frozen(dimension, frozen - max(0, min(end, frozen) - start))

    def _line(self, dimension: Dimension, index: int) -> dict[int, Cell]:
        if dimension == "ROWS":
            return dict(self.cells.get(index, {}))
        return {row: line[index] for row, line in self.cells.items() if index in line}

    def _move(self, dimension: Dimension, where: Callable[[int], int | None]) -> None:
        old, self.cells = self.cells, {}
        for row, line in old.items():
            for column, cell in line.items():
                index = where(row if dimension == "ROWS" else column)
                if index is None:
                    continue
                at = (index, column) if dimension == "ROWS" else (row, index)
                self.put(*at, cell)

    def _size(self, dimension: Dimension) -> int:
        return self.rows if dimension == "ROWS" else self.columns

    def _set_size(self, dimension: Dimension, size: int) -> None:
        if dimension == "ROWS":
            self.rows = size
        else:
            self.columns = size

    def _frozen(self, dimension: Dimension) -> int:
        return self.frozen_rows if dimension == "ROWS" else self.frozen_columns

    def _set_frozen(self, dimension: Dimension, count: int) -> None:
        if dimension == "ROWS":
            self.frozen_rows = count
        else:
            self.frozen_columns = count

    def properties(self, index: int) -> Json:
        """The tab's ``SheetProperties``."""
        grid = {"rowCount": self.rows, "columnCount": self.columns}
        if self.frozen_rows:
            grid["frozenRowCount"] = self.frozen_rows
        if self.frozen_columns:
            grid["frozenColumnCount"] = self.frozen_columns
        properties: Json = {
            "sheetId": self.sheet_id,
            "title": self.title,
            "index": index,
            "sheetType": "GRID",
            "gridProperties": grid,
        }
        if self.hidden:
            properties["hidden"] = True
        return properties

    def to_json(self) -> Json:
        """The tab for the state file."""
        return {
            "sheet_id": self.sheet_id,
            "title": self.title,
            "rows": self.rows,
            "columns": self.columns,
            "hidden": self.hidden,
            "frozen_rows": self.frozen_rows,
            "frozen_columns": self.frozen_columns,
            "cells": [
                [row, column, cells.to_json(cell)]
                for row, line in self.cells.items()
                for column, cell in line.items()
            ],
            "charts": [chart.to_json() for chart in self.charts],
        }

    @classmethod
    def from_json(cls, data: Json) -> Tab:
        """A tab from what `to_json` made."""
        plain = {name: value for name, value in data.items() if name not in ("cells", "charts")}
        charts = [Chart.model_validate(chart) for chart in data.get("charts", [])]
        tab = cls(**plain, charts=charts)
        for row, column, cell in data["cells"]:
            tab.put(row, column, cells.from_json(cell))
        return tab


@dataclass
class Spreadsheet:
    """A spreadsheet: its tabs in their order, and who may see it.

    Attributes:
        permissions: A role for each e-mail address it is shared with.
    """

    spreadsheet_id: str
    title: str
    tabs: list[Tab]
    permissions: dict[str, Role] = field(default_factory=dict)

    def copy(self) -> Spreadsheet:
        """A spreadsheet that can be changed without changing this one."""
        return replace(
            self, tabs=[tab.copy() for tab in self.tabs], permissions=dict(self.permissions)
        )

    def tab(self, title: str | None) -> Tab | None:
        """The tab with that title, in upper or lower case; the first one for None."""
        if title is None:
            return self.tabs[0]
        found = (tab for tab in self.tabs if tab.title.casefold() == title.casefold())
        return next(found, None)

    def tab_by_id(self, sheet_id: int, missing: str = "No grid with id") -> Tab:
        """The tab with that id.

        Raises:
            ApiError: 400, there is none.
        """
        for tab in self.tabs:
            if tab.sheet_id == sheet_id:
                return tab
        raise invalid(f"{missing}: {sheet_id}")

    def locate(self, text: str) -> tuple[Tab, Area]:
        """The tab and the area that a text in A1 notation means.

        Raises:
            ApiError: 400, it is no range, or there is no such tab.
        """
        named = a1.parse(text)
        tab = self.tab(named.title)
        if tab is None:
            raise invalid(f"Unable to parse range: {text}")
        return tab, named.area

    def add_tab(self, tab: Tab, index: int | None) -> None:
        """Put a new tab at an index, at the end for None.

        Raises:
            ApiError: 400, its id or title is taken, or there would be too many cells.
        """
        if any(other.sheet_id == tab.sheet_id for other in self.tabs):
            raise invalid(f"A sheet with id {tab.sheet_id} already exists.")
        self.check_title(tab.title, tab)
        tab.check_frozen()
        place = len(self.tabs) if index is None else index
        if not 0 <= place <= len(self.tabs):
            raise invalid(f"Invalid sheet index: {place}")
        self.tabs.insert(place, tab)

    def check_title(self, title: str, owner: Tab) -> None:
        """Refuse a title that a tab cannot have."""
        if not title:
            raise invalid("A sheet name cannot be empty.")
        if len(title) > MAX_TITLE:
            raise invalid(f"The sheet name cannot be greater than {MAX_TITLE} characters.")
        taken = self.tab(title)
        if taken is not None and taken is not owner:
            raise invalid(
                f'A sheet with the name "{title}" already exists. Please enter another name.'
            )

    def check_visible(self, message: str) -> None:
        """Refuse a spreadsheet without a tab that can be seen."""
        if all(tab.hidden for tab in self.tabs):
            raise invalid(message)

    def check_size(self) -> None:
        """Refuse more cells than Google keeps, empty ones counted."""
        if sum(tab.rows * tab.columns for tab in self.tabs) > MAX_CELLS:
            raise invalid(
                "This action would increase the number of cells in the workbook "
                f"above the limit of {MAX_CELLS} cells."
            )

    def new_sheet_id(self) -> int:
        """An id that no tab has; zero for the first tab."""
        taken = {tab.sheet_id for tab in self.tabs}
        if not taken:
            return 0
        return _unused(taken)

    def charts(self) -> Iterator[Chart]:
        """The charts of all tabs."""
        for tab in self.tabs:
            yield from tab.charts

    def chart_ids(self) -> set[int]:
        """The ids of all charts."""
        return {chart.chart_id for chart in self.charts()}

    def new_chart_id(self) -> int:
        """An id that no chart has."""
        return _unused(self.chart_ids())

    def follow(self, tab: Tab, dimension: Dimension, edges: Edges) -> None:
        """Let the charts of all tabs follow the rows or columns of one.

        Raises:
            ApiError: 400, a chart cannot.
        """
        for owner in self.tabs:
            owner.charts = [
                chart.followed(tab.sheet_id, dimension, edges) for chart in owner.charts
            ]

    def check_access(self, email: str, writes: bool) -> None:
        """Refuse an account that may not read the spreadsheet, or not write to it.

        Raises:
            ApiError: 403.
        """
        role = self.permissions.get(email)
        if role is None or (writes and role != "writer"):
            raise ApiError(403, "The caller does not have permission")

    def to_json(self) -> Json:
        """The spreadsheet for the state file."""
        return {
            "spreadsheet_id": self.spreadsheet_id,
            "title": self.title,
            "permissions": self.permissions,
            "tabs": [tab.to_json() for tab in self.tabs],
        }

    @classmethod
    def from_json(cls, data: Json) -> Spreadsheet:
        """A spreadsheet from what `to_json` made."""
        return cls(**(data | {"tabs": [Tab.from_json(tab) for tab in data["tabs"]]}))


def _unused(taken: set[int]) -> int:
    numbers = iter(lambda: random.randrange(1, 2**31), None)  # noqa: S311
    return next(number for number in numbers if number not in taken)
