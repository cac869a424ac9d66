"""The chart beside a published table: made once, then its readers'."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from millrace.errors import PublicationRefused
from sheets_standin import GoogleSheetsServer, TabSpec
from tests.millrace.sheets import Workbook
from tests.millrace.test_publish import AFTER, FAULTS, TINY, refused, shown, summary

pytestmark = pytest.mark.service

CHART = {"kind": "line", "x": "date", "y": ["nps", "responses"]}


@pytest.fixture(params=[None, TINY], ids=["one request", "staged"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Both ways of publishing."""
    return {"request_bytes": request.param} if request.param else {}


def charts(workbook: Workbook, tab: str = "nps_summary") -> list[dict[str, Any]]:
    """The charts of a tab, as gspread reads them."""
    sheets = workbook.judge.fetch_sheet_metadata()["sheets"]
    (found,) = (sheet for sheet in sheets if sheet["properties"]["title"] == tab)
    return list(found.get("charts", []))


def change(workbook: Workbook, kind: str, **content: Any) -> None:
    """Change a chart, as people do."""
    workbook.judge.batch_update({"requests": [{kind: content}]})


def read_by(chart: dict[str, Any]) -> list[tuple[int, int | None, int]]:
    """First row, row after the last, and column of what a chart reads: of x, then of each y."""
    basic = chart["spec"]["basicChart"]
    data = [basic["domains"][0]["domain"], *(series["series"] for series in basic["series"])]
    ranges = [each["sourceRange"]["sources"][0] for each in data]
    return [
        (found["startRowIndex"], found.get("endRowIndex"), found["startColumnIndex"])
        for found in ranges
    ]


def test_a_chart_is_made_beside_the_table_once_and_draws_rows_that_come_later(
    workbook: Workbook, way: dict[str, Any]
):
    workbook.publish(summary(3), chart=CHART | {"title": "NPS"}, labels={"date": "Day"}, **way)
    [chart] = charts(workbook)
    assert read_by(chart) == [(0, None, 0), (0, None, 2), (0, None, 1)]
    basic = chart["spec"]["basicChart"]
    assert (chart["spec"]["title"], basic["chartType"]) == ("NPS", "LINE")
    assert (basic["headerCount"], basic["axis"][0]["title"]) == (1, "Day")
    # A free column beside the table, and cells under the whole chart.
    place = chart["position"]["overlayPosition"]
    assert (place["anchorCell"]["rowIndex"], place["anchorCell"]["columnIndex"]) == (0, 4)
    assert (workbook.state().rows, workbook.state().columns) == (18, 10)
    for number in (9, 30):
        workbook.publish(
            summary(number), chart=CHART | {"title": "NPS"}, labels={"date": "Day"}, **way
        )
        assert charts(workbook) == [chart]
    assert workbook.read()[1:] == shown(summary(30))[1:]


def test_a_chart_moves_with_its_table_and_its_rows(workbook: Workbook):
    november = summary(30)
    options: dict[str, Any] = {"chart": CHART, "follow_rows": True}
    workbook.publish(november.slice(5, 10), **options)
    workbook.judge.worksheet("nps_summary").insert_rows([["Title"], []], row=1)
    workbook.publish(november, **options)
    [chart] = charts(workbook)
    assert read_by(chart) == [(2, None, 0), (2, None, 2), (2, None, 1)]


def test_what_people_make_of_the_chart_stays(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(summary(3), chart=CHART, **way)
    [chart] = charts(workbook)
    spec = chart["spec"] | {"title": "Ours"}
    spec["basicChart"] = spec["basicChart"] | {"chartType": "AREA"}
    change(workbook, "updateChartSpec", chartId=chart["chartId"], spec=spec)
    place = {"anchorCell": {"sheetId": 0, "rowIndex": 7, "columnIndex": 1}, "widthPixels": 300}
    change(
        workbook,
        "updateEmbeddedObjectPosition",
        objectId=chart["chartId"],
        newPosition={"overlayPosition": place},
        fields="*",
    )
    workbook.publish(summary(9), chart=CHART, **way)
    assert charts(workbook) == []
    [moved] = charts(workbook, "Sheet1")
    assert (moved["spec"], moved["position"]) == (spec, {"overlayPosition": place})


def test_a_chart_that_people_delete_does_not_come_back(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(summary(3), chart=CHART, **way)
    change(workbook, "deleteEmbeddedObject", objectId=charts(workbook)[0]["chartId"])
    # Neither if the declaration is without it for a while.
    for declared in (CHART, None, CHART):
        workbook.publish(summary(4), chart=declared, **way)
        assert charts(workbook) == []


def test_a_chart_that_is_declared_otherwise_is_made_where_the_old_one_was_deleted(
    workbook: Workbook, caplog: pytest.LogCaptureFixture
):
    workbook.publish(summary(3), chart=CHART)
    [old] = charts(workbook)
    with caplog.at_level(logging.WARNING, "millrace"):
        workbook.publish(summary(3), chart=CHART | {"kind": "column"})
    assert charts(workbook) == [old]
    assert "declared otherwise when it was made" in caplog.text
    change(workbook, "deleteEmbeddedObject", objectId=old["chartId"])
    for _ in range(2):
        workbook.publish(summary(3), chart=CHART | {"kind": "column"})
        [new] = charts(workbook)
        assert new["spec"]["basicChart"]["chartType"] == "COLUMN"


def test_a_tab_that_is_made_anew_gets_its_chart(workbook: Workbook):
    workbook.publish(summary(3), chart=CHART)
    workbook.judge.del_worksheet(workbook.judge.worksheet("nps_summary"))
    workbook.publish(summary(3), chart=CHART)
    assert len(charts(workbook)) == 1


def test_a_chart_that_outlives_its_note_is_not_made_twice(workbook: Workbook):
    workbook.publish(summary(3), chart=CHART)
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.batch_clear(["A1:C4"])
    sheet.update_note("A1", "")
    workbook.publish(summary(3), chart=CHART)
    assert len(charts(workbook)) == 1


def test_a_chart_covers_neither_what_people_wrote_nor_their_chart(
    google_sheets: GoogleSheetsServer,
):
    workbook = Workbook(
        google_sheets,
        TabSpec("nps_summary", [[], ["", "", "", "", "", "mine"], [{"value": None, "note": "n"}]]),
    )
    workbook.publish(summary(3), chart=CHART, at="A4")
    [first] = charts(workbook)
    assert first["position"]["overlayPosition"]["anchorCell"]["columnIndex"] == 7
    change(workbook, "deleteEmbeddedObject", objectId=first["chartId"])
    theirs = {"spec": first["spec"], "position": first["position"]}
    change(workbook, "addChart", chart=theirs)
    workbook.publish(summary(3), chart=CHART | {"kind": "area"}, at="A4")
    _, second = charts(workbook)
    assert second["position"]["overlayPosition"]["anchorCell"]["columnIndex"] == 14


@pytest.mark.parametrize("fault", sorted(AFTER))
def test_a_request_that_is_repeated_makes_one_chart(workbook: Workbook, fault: str):
    workbook.admin.add_fault(FAULTS[fault].model_copy(update={"requests": "write", "times": 1}))
    workbook.publish(summary(3), chart=CHART)
    assert len(charts(workbook)) == 1
    assert workbook.read()[1:] == shown(summary(3))[1:]


@pytest.mark.parametrize(
    ("chart", "says"),
    [
        ({"x": "day"}, "`chart` names the column 'day', which is not published"),
        ({"y": ["nps", "npss"]}, "`chart` names the column 'npss', which is not published"),
        ({"y": ["date"]}, "`chart` draws the column 'date', which is a date, no number"),
    ],
)
def test_a_column_that_cannot_be_drawn_is_refused_first(
    workbook: Workbook, chart: dict[str, Any], says: str
):
    refused(workbook, summary(3), says, chart=CHART | chart)
    with pytest.raises(PublicationRefused):
        workbook.publish(summary(3), chart=CHART | chart)
    assert workbook.titles() == ["Sheet1"]
