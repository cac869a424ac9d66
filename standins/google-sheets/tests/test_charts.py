"""Charts of the stand-in, with gspread as the judge."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from typing import Any

import gspread
import pytest
import requests
from gspread.exceptions import APIError

from sheets_standin import GoogleSheetsServer, SheetsAdmin, TabSpec, gspread_client
from sheets_standin.charts import deleted, inserted, moved
from sheets_standin.errors import ApiError
from sheets_standin.server import ACCOUNT_EMAIL
from sheets_standin.workbook import Spreadsheet

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("no_internet")]

DAYS = [date(2026, 11, 1) + timedelta(day) for day in range(10)]
TABLE = TabSpec(
    "nps",
    [
        ["day", "nps", "<b>"],
        *([day, at * 7 % 50 - 20, None if at == 4 else at] for at, day in enumerate(DAYS)),
    ],
)


@pytest.fixture(scope="module")
def admin(server: GoogleSheetsServer) -> SheetsAdmin:
    return server.admin()


@pytest.fixture
def book(server: GoogleSheetsServer, admin: SheetsAdmin) -> gspread.Spreadsheet:
    key = admin.create("A book", [TABLE, TabSpec("other")], {ACCOUNT_EMAIL: "writer"})
    return gspread_client.connect(server.endpoint).open_by_key(key)


def column(at: int, end: int | None = None) -> dict[str, Any]:
    cells = {"startRowIndex": 0, "startColumnIndex": at, "endColumnIndex": at + 1}
    source = {"sheetId": 0, **cells, **({"endRowIndex": end} if end else {})}
    return {"sourceRange": {"sources": [source]}}


def chart(kind: str = "LINE", end: int | None = None, **changes: Any) -> dict[str, Any]:
    spec = {
        "title": "A <b>title",
        "basicChart": {
            "chartType": kind,
            "axis": [{"position": "BOTTOM_AXIS", "title": "the day"}],
            "domains": [{"domain": column(0, end)}],
            "series": [{"series": column(at, end)} for at in (1, 2)],
            "headerCount": 1,
        },
    }
    anchor = {"sheetId": 0, "rowIndex": 1, "columnIndex": 4}
    return {
        "chartId": 7,
        "spec": spec,
        "position": {"overlayPosition": {"anchorCell": anchor}},
    } | changes


def apply(book: gspread.Spreadsheet, *wanted: dict[str, Any]) -> list[dict[str, Any]]:
    return list(book.batch_update({"requests": list(wanted)})["replies"])


def charts(book: gspread.Spreadsheet) -> list[dict[str, Any]]:
    return [
        each for sheet in book.fetch_sheet_metadata()["sheets"] for each in sheet.get("charts", [])
    ]


def test_a_chart_is_kept_as_it_was_made(
    server: GoogleSheetsServer, admin: SheetsAdmin, book: gspread.Spreadsheet
):
    assert apply(book, {"addChart": {"chart": chart()}}) == [{"addChart": {"chart": chart()}}]
    assert charts(book) == [chart()] == admin.tab(book.id, "nps").charts
    kept = json.loads((server.folder / "spreadsheets" / f"{book.id}.json").read_text())
    assert [each.to_json() for each in Spreadsheet.from_json(kept).charts()] == [chart()]
    without_id = {name: value for name, value in chart().items() if name != "chartId"}
    [reply] = apply(book, {"addChart": {"chart": without_id}})
    assert reply["addChart"]["chart"]["chartId"] != 7


def test_what_google_does_not_take_is_refused(book: gspread.Spreadsheet):
    far = {"overlayPosition": {"anchorCell": {"sheetId": 0, "rowIndex": 1, "columnIndex": 26}}}
    two = chart()
    two["spec"]["basicChart"]["series"][0]["series"] = column(1, 5)
    apply(book, {"addChart": {"chart": chart()}})
    cases: list[tuple[dict[str, Any], str]] = [
        ({"addChart": {"chart": chart()}}, "A chart with id 7 already exists"),
        ({"addChart": {"chart": chart(chartId=8, position=far)}}, "outside the grid"),
        ({"addChart": {"chart": two | {"chartId": 8}}}, "must have the same rows"),
        ({"addChart": {"chart": chart("PIE", chartId=8)}}, "basicChart.chartType"),
        ({"deleteEmbeddedObject": {"objectId": 8}}, "No embedded object with id 8"),
    ]
    for wanted, says in cases:
        with pytest.raises(APIError, match=re.escape(says)):
            apply(book, wanted)
    assert charts(book) == [chart()]


def test_people_change_move_and_delete_a_chart(book: gspread.Spreadsheet):
    apply(book, {"addChart": {"chart": chart()}})
    place = {"anchorCell": {"sheetId": 0, "rowIndex": 9, "columnIndex": 0}, "widthPixels": 300}
    position = {"overlayPosition": place}
    apply(
        book,
        {"updateChartSpec": {"chartId": 7, "spec": chart("AREA")["spec"]}},
        {"updateEmbeddedObjectPosition": {"objectId": 7, "newPosition": position, "fields": "*"}},
    )
    assert charts(book) == [chart("AREA", position=position)]
    apply(book, {"deleteEmbeddedObject": {"objectId": 7}})
    assert charts(book) == []


def test_a_chart_follows_its_cells(book: gspread.Spreadsheet):
    apply(book, {"addChart": {"chart": chart(end=11)}})
    sheet = book.worksheet("nps")
    sheet.insert_rows([[], []], row=1)
    sheet.insert_rows([["2026-11-11", 1]], row=6)
    sheet.insert_cols([[]], col=1)
    sheet.delete_rows(7, 8)
    [found] = charts(book)
    [source] = found["spec"]["basicChart"]["domains"][0]["domain"]["sourceRange"]["sources"]
    assert source == {
        "sheetId": 0,
        "startRowIndex": 2,
        "endRowIndex": 12,
        "startColumnIndex": 1,
        "endColumnIndex": 2,
    }
    anchor = found["position"]["overlayPosition"]["anchorCell"]
    assert (anchor["rowIndex"], anchor["columnIndex"]) == (3, 5)
    with pytest.raises(APIError, match="does not delete all cells that a chart reads"):
        sheet.delete_columns(2)


def test_a_tab_takes_its_charts_with_it(book: gspread.Spreadsheet):
    apply(book, {"addChart": {"chart": chart()}})
    copy = book.duplicate_sheet(0, new_sheet_id=77, new_sheet_name="copy")
    first, second = charts(book)
    [source] = first["spec"]["basicChart"]["domains"][0]["domain"]["sourceRange"]["sources"]
    assert (first["chartId"] == 7, source["sheetId"]) == (False, 77)
    assert second == chart()
    book.del_worksheet(copy)
    assert charts(book) == [chart()]


@pytest.mark.parametrize(
    ("edges", "span", "becomes"),
    [
        (inserted(0, 2), (0, 5), (2, 7)),
        (inserted(3, 2), (0, 5), (0, 7)),
        (inserted(5, 2), (0, 5), (0, 5)),
        (inserted(3, 2), (4, None), (6, None)),
        (deleted(0, 2), (1, 5), (0, 3)),
        (deleted(4, 9), (1, 5), (1, 4)),
        (deleted(0, 2), (5, None), (3, None)),
        (moved(2, 4, 7), (0, None), (0, None)),
        (moved(4, 6, 1), (0, 8), (0, 8)),
        (moved(0, 3, 9), (1, 2), (7, 8)),
        (moved(8, 9, 0), (1, 5), (2, 6)),
        (moved(0, 1, 9), (1, 5), (0, 4)),
        (moved(2, 3, 9), (0, 5), None),
        (moved(6, 7, 3), (0, 5), None),
    ],
)
def test_rows_that_come_go_or_move_take_a_span_with_them(
    edges: Any, span: tuple[int, int | None], becomes: tuple[int, int | None] | None
):
    if becomes is None:
        with pytest.raises(ApiError, match="does not move the edge"):
            edges(*span)
    else:
        assert edges(*span) == becomes


@pytest.mark.parametrize(
    ("kind", "drawn"), [("LINE", "<polyline"), ("AREA", "<polygon"), ("COLUMN", 'height="')]
)
def test_the_page_draws_a_chart(
    server: GoogleSheetsServer, book: gspread.Spreadsheet, kind: str, drawn: str
):
    apply(book, {"addChart": {"chart": chart(kind)}})
    page = requests.get(f"{server.url}/spreadsheets/{book.id}", timeout=10).text
    svg = page[page.index("<svg") : page.index("</svg>")]
    assert drawn in svg
    assert "<b>" not in svg
    for text in ("A &lt;b&gt;title", ">&lt;b&gt;<", ">nps<", ">2026-11-01<", ">the day<", ">-20<"):
        assert text in svg
    if kind == "LINE":
        # A value is missing in the second series: its line has a gap.
        assert svg.count("<polyline") == 3


def test_a_file_of_an_older_version_has_no_charts():
    data = Spreadsheet("key", "A book", []).to_json()
    tab = {"sheet_id": 0, "title": "a", "rows": 5, "columns": 5, "cells": []}
    assert list(Spreadsheet.from_json(data | {"tabs": [tab]}).charts()) == []
