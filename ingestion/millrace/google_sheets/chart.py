"""The chart beside a published table: made once, then its readers'. Pure functions.

Its id says whose chart it is and how it was declared. The table's note keeps the id, so that a
chart that people delete does not come back.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

from millrace.errors import PublicationRefused
from millrace.google_sheets.note import Owner
from millrace.google_sheets.tab import Request, Tab
from millrace.google_sheets.to_cells import SheetTable

log = logging.getLogger(__name__)

# Google's own size of a chart, and of a cell.
_WIDTH, _HEIGHT = 600, 371
_COLUMN, _ROW = 100, 21
_NUMBERS = ("integer", "double", "percent", "decimal")

ChartKind = Literal["line", "column", "area"]


@dataclass(frozen=True)
class Chart:
    """A chart as it is declared.

    Attributes:
        kind: How it is drawn.
        x: The column along the bottom.
        y: The columns that are drawn, all of numbers.
        title: What is written above it.
    """

    kind: ChartKind
    x: str
    y: tuple[str, ...]
    title: str = ""

    def chart_id(self, owner: Owner) -> int:
        """Google's id of this chart of this publication: another one if anything is declared new.

        Google refuses to add a chart with an id that is there, so a repeated request adds none.
        """
        whose = [owner.publication, owner.warehouse, self.kind, self.x, self.y, self.title]
        digest = hashlib.sha256(json.dumps(whose).encode()).digest()
        return int.from_bytes(digest[:4]) % 2**31


@dataclass(frozen=True)
class ChartThere:
    """A chart of the spreadsheet.

    Attributes:
        chart_id: Google's id of it.
        sheet_id: The tab that it lies on; None: it is a tab of its own.
        end: The first column that it does not cover, from 0.
    """

    chart_id: int
    sheet_id: int | None
    end: int

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> ChartThere:
        """A chart as Google describes it."""
        place = found.get("position", {}).get("overlayPosition")
        if place is None:
            return cls(found["chartId"], None, 0)
        anchor = place.get("anchorCell", {})
        pixels = place.get("offsetXPixels", 0) + place.get("widthPixels", _WIDTH)
        end = anchor.get("columnIndex", 0) + ceil(pixels / _COLUMN)
        return cls(found["chartId"], anchor.get("sheetId", 0), end)


@dataclass(frozen=True)
class NewChart:
    """A chart that is to be made.

    Attributes:
        chart: How it is declared.
        chart_id: The id that it gets.
        row: Row of the cell that its corner lies on, from 0.
        column: Column of that cell.
    """

    chart: Chart
    chart_id: int
    row: int
    column: int

    @property
    def size(self) -> tuple[int, int]:
        """The rows and columns that the grid must have, so that it lies on cells."""
        return self.row + ceil(_HEIGHT / _ROW), self.column + _WIDTH // _COLUMN

    def request(self, tab: Tab, table: SheetTable) -> Request:
        """Add it.

        What it reads is open below: it draws rows that come later.
        """
        names = [column.name for column in table.columns]

        def cells(name: str) -> dict[str, Any]:
            at = tab.column + names.index(name)
            source = {
                "sheetId": tab.sheet_id,
                "startRowIndex": tab.row,
                "startColumnIndex": at,
                "endColumnIndex": at + 1,
            }
            return {"sourceRange": {"sources": [source]}}

        below = table.columns[names.index(self.chart.x)].heading
        corner = {"sheetId": tab.sheet_id, "rowIndex": self.row, "columnIndex": self.column}
        return {
            "addChart": {
                "chart": {
                    "chartId": self.chart_id,
                    "spec": {
                        "title": self.chart.title,
                        "basicChart": {
                            "chartType": self.chart.kind.upper(),
                            "legendPosition": "TOP_LEGEND",
                            "axis": [{"position": "BOTTOM_AXIS", "title": below}],
                            "domains": [{"domain": cells(self.chart.x)}],
                            "series": [
                                {"series": cells(name), "targetAxis": "LEFT_AXIS"}
                                for name in self.chart.y
                            ],
                            "headerCount": 1,
                        },
                    },
                    "position": {
                        "overlayPosition": {
                            "anchorCell": corner,
                            "widthPixels": _WIDTH,
                            "heightPixels": _HEIGHT,
                        }
                    },
                }
            }
        }


def new_chart(
    declared: Chart | None, owner: Owner, tab: Tab, table: SheetTable, there: Sequence[ChartThere]
) -> NewChart | None:
    """The chart that is to be made; None: none is declared, or it was made before.

    Args:
        declared: The chart that is declared.
        owner: Whose it is.
        tab: The tab as it is.
        table: The table to publish.
        there: The charts of the spreadsheet.

    Raises:
        PublicationRefused: it would draw what are no numbers.
    """
    if declared is None:
        return None
    for column in table.columns:
        if column.name in declared.y and not column.type.startswith(_NUMBERS):
            raise PublicationRefused(
                f"`chart` draws the column '{column.name}', which is a {column.type}, no number.",
                fix="Name columns of numbers in `chart.y`.",
            )
    wanted = declared.chart_id(owner)
    made = tab.record.chart if tab.record else None
    ids = [chart.chart_id for chart in there]
    if wanted == made or wanted in ids:
        return None
    if made in ids:
        log.warning(
            "%s: its chart was declared otherwise when it was made, and is its readers' now: "
            "change it in the sheet, or delete it to get the declared one",
            tab.title,
        )
        return None
    ends = [tab.column + len(table.columns), tab.column + len(tab.published)]
    ends += [len(line) for line in tab.cells]
    ends += [column + 1 for _, column in tab.noted]
    ends += [chart.end for chart in there if chart.sheet_id == tab.sheet_id]
    # A column stays free beside what people have.
    return NewChart(declared, wanted, tab.row, max(ends) + 1)
