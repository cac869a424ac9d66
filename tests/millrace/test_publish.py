"""Publishing to a tab; gspread reads what was published."""

from __future__ import annotations

import json
import tempfile
import time
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.util import Retry

import millrace.google_sheets.client as client
from millrace.batch import WHOLE_TABLE, Batch
from millrace.destinations.base import open_destination
from millrace.errors import (
    DeclarationError,
    PublicationRefused,
    SheetChanged,
    SheetError,
    SheetUnavailable,
    SpreadsheetNotFound,
)
from millrace.google_sheets import tab as sheet_tab
from millrace.google_sheets.client import EPOCH, GoogleSheets
from millrace.google_sheets.to_cells import checksum
from millrace.landing.landing import Landing
from millrace.sources.google_sheets.source import GoogleSheetSource
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse
from sheets_standin import Fault, GoogleSheetsServer, TabSpec
from tests.millrace.sheets import Workbook

pytestmark = pytest.mark.service

# So small that a few rows are too large for one request.
TINY = 200
HEADINGS = ["date", "responses", "nps"]
SCHEMA = pa.schema([("date", pa.date32()), ("responses", pa.int64()), ("nps", pa.decimal128(5, 2))])


def summary(days: int, *, responses: int = 10) -> pa.Table:
    """A mart with this many days."""
    first = date(2026, 11, 1).toordinal()
    rows = [
        {
            "date": date.fromordinal(first + day),
            "responses": responses + day,
            "nps": Decimal(day % 900 * 100 + 25) / 100,
        }
        for day in range(days)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def shown(rows: pa.Table) -> list[list[Any]]:
    """The mart as gspread should read it."""
    return [
        rows.column_names,
        *(
            [(row["date"] - EPOCH.date()).days, row["responses"], float(row["nps"])]
            for row in rows.to_pylist()
        ),
    ]


@pytest.fixture(params=[None, TINY], ids=["one request", "staged"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Both ways of publishing."""
    return {"request_bytes": request.param} if request.param else {}


def test_a_mart_becomes_a_tab(workbook: Workbook, way: dict[str, Any]):
    rows = summary(5)
    published = workbook.publish(rows, **way)
    assert workbook.read() == shown(rows)
    assert workbook.titles() == ["Sheet1", "nps_summary"]
    assert published.rows == 5
    assert published.columns == ("date", "responses", "nps")
    assert published.checksum == checksum(shown(rows), 3)
    tab = workbook.judge.worksheet("nps_summary")
    assert published.url == f"{workbook.admin.url(workbook.key)}#gid={tab.id}"


def test_dates_and_decimals_look_like_what_they_are(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(summary(2), **way)
    tab = workbook.state()
    assert tab.formatted == [
        HEADINGS,
        ["2026-11-01", "10", "0.25"],
        ["2026-11-02", "11", "1.25"],
    ]
    assert set(tab.formats) == {"A2", "A3", "C2", "C3"}


def test_every_type_arrives_as_what_it_is(workbook: Workbook, way: dict[str, Any]):
    rows = pa.table(
        {
            "date": pa.array([date(2026, 11, 20), None]),
            "text": pa.array(["=1+1", "007"]),
            "other": pa.array(["", '\'a\n"b" 한국 🎉 +1']),
            "whole": pa.array([10**15 - 1, None], pa.int64()),
            "ratio": pa.array([0.1 + 0.2, -1e-9]),
            "active": pa.array([True, False]),
            "moment": pa.array(
                [datetime(2026, 11, 20, 12, tzinfo=UTC), None], pa.timestamp("us", "UTC")
            ),
        }
    )
    workbook.publish(rows, **way)
    assert workbook.read() == [
        rows.column_names,
        [46346, "=1+1", "", 10**15 - 1, 0.1 + 0.2, True, 46346.5],
        ["", "007", '\'a\n"b" 한국 🎉 +1', "", -1e-9, False],
    ]
    assert workbook.state().formatted[1][6] == "2026-11-20 12:00:00"


def test_the_note_says_when_how_many_from_where_and_which_columns(
    workbook: Workbook, way: dict[str, Any]
):
    workbook.publish(summary(3), refreshed="2026-11-20 09:41 UTC, run manual__1", **way)
    note = workbook.judge.worksheet("nps_summary").get_note("A1")
    lines = note.splitlines()
    assert lines[0] == "Refreshed 2026-11-20 09:41 UTC, run manual__1"
    assert lines[1] == "3 rows, equal to the mart."
    assert "From nps_summary by nps_summary_sheet" in lines[2]
    assert lines[-1] == ('Columns: {"date": "date", "responses": "integer", "nps": "decimal(5,2)"}')


def test_a_small_publication_is_one_write_and_a_few_reads(workbook: Workbook):
    workbook.publish(summary(5))
    workbook.requests()
    workbook.publish(summary(6))
    requests = workbook.requests()
    assert [request.split()[0] for request in requests] == [
        "GET",
        "GET",
        "GET",
        "POST",
        "GET",
        "GET",
    ]


def test_a_shorter_table_leaves_no_rows_of_the_longer_one(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(summary(9), **way)
    workbook.publish(summary(5), **way)
    assert workbook.read() == shown(summary(5))


def test_a_longer_table_grows_the_grid(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(summary(3), **way)
    assert (workbook.state().rows, workbook.state().columns) == (4, 3)
    rows = summary(9).append_column("extra", pa.array(["x"] * 9))
    workbook.publish(rows, **way)
    assert workbook.read() == [
        [*line, "x"] if at else [*line, "extra"] for at, line in enumerate(shown(summary(9)))
    ]


def test_the_grid_never_shrinks(google_sheets: GoogleSheetsServer, way: dict[str, Any]):
    workbook = Workbook(google_sheets, TabSpec("nps_summary", rows=50, columns=9))
    workbook.publish(summary(3), **way)
    assert (workbook.state().rows, workbook.state().columns) == (50, 9)


def test_what_is_the_users_stays(google_sheets: GoogleSheetsServer, way: dict[str, Any]):
    bold = {"format": {"textFormat": {"bold": True}}}
    workbook = Workbook(
        google_sheets,
        TabSpec("Plan", [["keep", 1]]),
        TabSpec(
            "nps_summary",
            [
                [{"value": "date", **bold}, "responses", "nps", "", "Comment"],
                ["", {"value": None, "note": "look"}, "", "", "mine"],
                ["", {"value": None, **bold}, "", "", "=1"],
            ],
            frozen_rows=1,
        ),
    )
    for rows in (summary(5), summary(3)):
        workbook.publish(rows, **way)
        tab = workbook.state()
        assert [row[:3] for row in tab.values[: rows.num_rows + 1]] == shown(rows)
        assert [row[4] for row in tab.values[:3]] == ["Comment", "mine", "=1"]
        assert tab.formats["A1"] == {"textFormat": {"bold": True}}
        assert tab.formats["B3"] == {"textFormat": {"bold": True}}
        assert tab.notes["B2"] == "look"
        assert tab.frozen_rows == 1
    assert workbook.read("Plan") == [["keep", 1]]


def test_columns_that_are_no_longer_published_are_blanked(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(summary(4), **way)
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.resize(cols=5)
    workbook.change("nps_summary", "E2", "mine")
    workbook.publish(summary(4).select(["date"]), **way)
    found = workbook.read()
    assert [row[:3] for row in found] == [
        *([line[0]] if at != 1 else [line[0], "", ""] for at, line in enumerate(shown(summary(4))))
    ]
    assert found[1][4] == "mine"


def test_a_column_that_changes_its_type_loses_the_old_ones_format(
    workbook: Workbook, way: dict[str, Any]
):
    workbook.publish(summary(3), **way)
    workbook.publish(summary(3).select(["responses", "date", "nps"]), **way)
    assert workbook.state().formatted[1] == ["10", "2026-11-01", "0.25"]


def test_publishing_the_same_again_changes_nothing_but_the_note(
    workbook: Workbook, way: dict[str, Any]
):
    first = workbook.publish(summary(4), **way)
    before = workbook.state()
    assert workbook.publish(summary(4), refreshed="later", **way) == first
    after = workbook.state()
    assert after.notes["A1"].startswith("Refreshed later\n")
    assert (after.values, after.formats, after.rows) == (
        before.values,
        before.formats,
        before.rows,
    )


def test_an_empty_mart_is_published_as_headings_where_nothing_was(workbook: Workbook):
    assert workbook.publish(summary(0)).rows == 0
    assert workbook.read() == [HEADINGS]
    workbook.publish(summary(2))
    assert workbook.read() == shown(summary(2))


def refused(workbook: Workbook, rows: pa.Table, says: str, **options: Any) -> str:
    """Publish, and expect a refusal that changes no cell and no tab."""
    before = everything(workbook)
    with pytest.raises(PublicationRefused, match=says) as error:
        workbook.publish(rows, **options)
    assert everything(workbook) == before
    return str(error.value)


def everything(workbook: Workbook) -> dict[str, Any]:
    """All that people see in the tabs, except the notes."""
    states = [workbook.state(title) for title in workbook.titles()]
    return {
        state.title: (state.sheet_id, state.values, state.formats, state.rows, state.columns)
        for state in states
    }


def test_an_empty_mart_does_not_empty_the_tab(workbook: Workbook):
    workbook.publish(summary(4))
    refused(workbook, summary(0), "empty, and nps_summary shows 4 rows", min_row_ratio=0)
    assert workbook.read() == shown(summary(4))


def test_a_table_does_not_shrink_below_the_declared_share(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(summary(10), **way)
    refused(workbook, summary(4), "has 4 rows, and nps_summary shows 10: less than 50%", **way)
    refused(workbook, summary(9), "less than 95%", min_row_ratio=0.95, **way)
    assert workbook.read() == shown(summary(10))
    workbook.publish(summary(4), min_row_ratio=0.4, **way)
    assert workbook.read() == shown(summary(4))


def test_a_users_heading_is_not_overwritten(google_sheets: GoogleSheetsServer):
    workbook = Workbook(google_sheets, TabSpec("nps_summary", [["date", "Owner", "", "Notes"]]))
    text = refused(workbook, summary(3), "would overwrite cells")
    assert "nps_summary!B1 holds 'Owner', not 'responses'" in text
    assert "Notes" not in text


def test_a_users_values_under_the_headings_are_not_overwritten(google_sheets: GoogleSheetsServer):
    workbook = Workbook(
        google_sheets, TabSpec("nps_summary", [["date"], [], ["", "", 7], ["", "", 8]])
    )
    text = refused(workbook, summary(3), "would overwrite cells")
    assert "nps_summary!C3 holds 7" in text
    assert "C4" not in text


def test_a_column_that_a_user_put_between_ours_is_not_overwritten(workbook: Workbook):
    workbook.publish(summary(3))
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.insert_cols([["Mine", "a"]], col=2)
    refused(workbook, summary(3), r"nps_summary!B1 holds 'Mine', not 'responses'")
    assert workbook.read()[1][1] == "a"


def test_a_column_that_is_added_does_not_overwrite_a_users(workbook: Workbook):
    workbook.publish(summary(2))
    workbook.judge.worksheet("nps_summary").resize(cols=4)
    workbook.change("nps_summary", "D1", "Mine")
    wider = summary(2).append_column("rolling", pa.array([1.0, 2.0]))
    refused(workbook, wider, "nps_summary!D1 holds 'Mine', not 'rolling'")


def test_a_note_that_was_changed_makes_the_columns_the_users(workbook: Workbook):
    workbook.publish(summary(2))
    workbook.judge.worksheet("nps_summary").update_note("A1", "Columns: [broken")
    refused(workbook, summary(2), "nps_summary!A2 holds 46327")


def test_a_value_that_a_sheet_cannot_hold_is_refused_first(workbook: Workbook):
    rows = summary(2).append_column("id", pa.array([1, 2**60]))
    refused(workbook, rows, r"column 'id', row 2: 1152921504606846976 has more digits")
    assert workbook.titles() == ["Sheet1"]


def test_more_cells_than_google_allows_are_refused_with_numbers(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch
):
    # The blank tab has 26,000 cells.
    monkeypatch.setattr(sheet_tab, "MAX_CELLS", 26_030)
    workbook.publish(summary(9))
    text = refused(workbook, summary(10), "would have 26,033 cells, 0 of them in a hidden tab")
    assert "Google allows 26,030, and its other tabs have 26,000" in text
    refused(workbook, summary(9), "26,057 cells, 27 of them", request_bytes=TINY)


def test_a_chart_is_no_tab_to_publish_to(workbook: Workbook, monkeypatch: pytest.MonkeyPatch):
    chart = {"sheetId": 7, "title": "nps_summary", "sheetType": "OBJECT"}
    found = {"spreadsheetUrl": "", "sheets": [{"properties": chart}]}
    monkeypatch.setattr(GoogleSheets, "metadata", lambda *_args, **_options: found)
    with pytest.raises(PublicationRefused, match="is a chart, not a grid"):
        workbook.publish(summary(2))


def test_a_viewer_is_told_to_become_an_editor(google_sheets: GoogleSheetsServer):
    seen = Workbook(google_sheets, TabSpec("Sheet1"), role="reader")
    with pytest.raises(SpreadsheetNotFound, match="as editor to publish"):
        seen.publish(summary(2))
    private = Workbook(google_sheets, role=None)
    with pytest.raises(SpreadsheetNotFound, match=f"Share it with {private.email}"):
        private.publish(summary(2))


def test_what_google_refuses_is_one_clear_error(workbook: Workbook):
    workbook.publish(summary(2))
    workbook.admin.add_fault(Fault(action="status", requests="write", status=400))
    with pytest.raises(SheetError, match="Google does not publish to nps_summary"):
        workbook.publish(summary(3))
    assert workbook.read() == shown(summary(2))


def test_a_title_that_google_refuses_is_one_clear_error(workbook: Workbook):
    with pytest.raises(SheetError, match="Google does not publish to"):
        workbook.publish(summary(2), tab="x" * 200)


def test_what_somebody_changed_meanwhile_is_found_by_reading_back(
    workbook: Workbook, way: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    update = GoogleSheets.batch_update

    def update_and_meddle(self: GoogleSheets, spreadsheet: str, changes: Any) -> Any:
        answer = update(self, spreadsheet, changes)
        if "nps_summary" in workbook.titles():
            workbook.change("nps_summary", "B3", "oops")
        return answer

    monkeypatch.setattr(GoogleSheets, "batch_update", update_and_meddle)
    with pytest.raises(SheetError, match=r"nps_summary!B3 holds 'oops', not 11\.0"):
        workbook.publish(summary(3), **way)


def meddling(monkeypatch: pytest.MonkeyPatch, workbook: Workbook, cell: str, *, times: int) -> None:
    """Let somebody type into the table after each of the first `times` writes."""
    update = GoogleSheets.batch_update
    typed = 0

    def update_and_meddle(self: GoogleSheets, spreadsheet: str, changes: Any) -> Any:
        nonlocal typed
        answer = update(self, spreadsheet, changes)
        if typed < times and "nps_summary" in workbook.titles():
            typed += 1
            workbook.change("nps_summary", cell, "oops")
        return answer

    monkeypatch.setattr(GoogleSheets, "batch_update", update_and_meddle)


@pytest.mark.parametrize("times", [1, 2])
def test_somebody_who_types_into_the_table_meanwhile_is_outlasted(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch, times: int
):
    meddling(monkeypatch, workbook, "B3", times=times)
    workbook.publish(summary(3))
    assert workbook.read() == shown(summary(3))


def test_somebody_who_keeps_typing_is_named_and_it_may_pass(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch
):
    meddling(monkeypatch, workbook, "B3", times=1000)
    with pytest.raises(SheetChanged, match=r"nps_summary!B3 holds 'oops', not 11\.0") as error:
        workbook.publish(summary(3))
    assert error.value.may_pass
    assert workbook.state().notes["A1"].startswith("Stale since 2026-11-20 09:41 UTC, run manual: ")


def test_what_appears_where_rows_were_meanwhile_is_left_there(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch
):
    workbook.publish(summary(9))
    meddling(monkeypatch, workbook, "B9", times=1)
    workbook.publish(summary(6))
    assert workbook.read() == [*shown(summary(6)), [], ["", "oops"]]


def test_quota_is_waited_for_as_google_says(workbook: Workbook, way: dict[str, Any]):
    workbook.admin.add_fault(
        Fault(action="status", status=429, retry_after=1, requests="write", times=1)
    )
    started = time.monotonic()
    workbook.publish(summary(3), **way)
    assert time.monotonic() - started >= 1
    assert workbook.read() == shown(summary(3))


FAULTS = {
    "cut before": Fault(action="cut"),
    "cut after": Fault(action="cut", applied=True),
    "cut in the answer": Fault(action="cut_body"),
    "error": Fault(action="status", status=503),
    "error after": Fault(action="status", status=503, applied=True),
}
# A publication of three chunks: three reads, the staging tab, the chunks, the swap, and two reads.
REQUESTS = {"one request": 6, "staged": 10}
WAYS: dict[str, dict[str, Any]] = {"one request": {}, "staged": {"request_bytes": 600}}
OLD, NEW = summary(8), summary(10, responses=500)


def test_the_number_of_requests_is_known(workbook: Workbook):
    for name, options in WAYS.items():
        workbook.publish(OLD, **options)
        workbook.requests()
        workbook.publish(NEW, **options)
        assert len(workbook.requests()) == REQUESTS[name]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name, last in REQUESTS.items() for number in range(last)],
)
def test_a_passing_fault_at_any_request_is_mended_at_once(
    workbook: Workbook, name: str, number: int, fault: str
):
    workbook.publish(OLD, **WAYS[name])
    workbook.admin.add_fault(FAULTS[fault].model_copy(update={"after": number}))
    workbook.publish(NEW, **WAYS[name])
    assert workbook.read() == shown(NEW)
    assert workbook.titles() == ["Sheet1", "nps_summary"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name, last in REQUESTS.items() for number in range(last)],
)
def test_a_lasting_fault_at_any_request_leaves_the_old_table_or_the_new_one(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch, name: str, number: int, fault: str
):
    workbook.publish(OLD, **WAYS[name])
    workbook.admin.add_fault(FAULTS[fault].model_copy(update={"after": number, "times": 1000}))
    with monkeypatch.context() as impatient:
        impatient.setattr(client, "_RETRY", Retry(total=0, raise_on_status=False))
        with pytest.raises(SheetUnavailable) as error:
            workbook.publish(NEW, **WAYS[name])
    assert error.value.may_pass
    workbook.admin.clear_faults()
    final = REQUESTS[name] - 3
    was_applied = number > final or (number == final and fault in AFTER)
    assert workbook.read() == shown(NEW if was_applied else OLD)
    assert workbook.state().notes.keys() == {"A1"}
    workbook.publish(NEW, **WAYS[name])
    assert workbook.read() == shown(NEW)
    assert workbook.titles() == ["Sheet1", "nps_summary"]


AFTER = {"cut after", "cut in the answer", "error after"}


@pytest.mark.parametrize("fault", sorted(AFTER))
@pytest.mark.parametrize("name", list(WAYS))
def test_a_first_publication_that_is_repeated_finds_its_own_tab(
    workbook: Workbook, name: str, fault: str
):
    workbook.admin.add_fault(FAULTS[fault].model_copy(update={"requests": "write", "times": 1}))
    workbook.publish(NEW, **WAYS[name])
    assert workbook.read() == shown(NEW)
    assert workbook.titles() == ["Sheet1", "nps_summary"]


def test_what_a_killed_attempt_left_is_hidden_and_removed_by_the_next(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch
):
    workbook.publish(OLD)
    workbook.admin.add_fault(Fault(action="cut", requests="write", after=2, times=1000))
    with monkeypatch.context() as impatient:
        impatient.setattr(client, "_RETRY", Retry(total=0, raise_on_status=False))
        with pytest.raises(SheetUnavailable):
            workbook.publish(NEW, **WAYS["staged"])
    workbook.admin.clear_faults()
    [staging] = set(workbook.titles()) - {"Sheet1", "nps_summary"}
    assert workbook.state(staging).hidden
    workbook.publish(NEW)
    assert workbook.titles() == ["Sheet1", "nps_summary"]


def test_publications_to_two_tabs_leave_each_others_staging_tab(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch
):
    update = GoogleSheets.batch_update
    nested: list[str] = []

    def update_with_another_between(self: GoogleSheets, spreadsheet: str, changes: Any) -> Any:
        answer = update(self, spreadsheet, changes)
        if not nested:
            nested.append("other")
            workbook.publish(OLD, tab="other", **WAYS["staged"])
        return answer

    monkeypatch.setattr(GoogleSheets, "batch_update", update_with_another_between)
    workbook.publish(NEW, **WAYS["staged"])
    assert workbook.read() == shown(NEW)
    assert workbook.read("other") == shown(OLD)
    assert len(workbook.titles()) == 3


def test_a_table_of_real_size_goes_in_requests_of_two_megabytes(workbook: Workbook):
    rows = summary(20_000)
    workbook.publish(rows)
    writes = [request for request in workbook.requests() if request.startswith("POST")]
    assert len(writes) > 3
    assert workbook.read() == shown(rows)


def test_an_unknown_kind_of_destination_is_refused(workbook: Workbook):
    with pytest.raises(DeclarationError, match="no destination kind 'fax'"):
        open_destination("fax", workbook.connection())


def test_the_sign_in_is_checked(workbook: Workbook):
    destination = open_destination("google_sheet", workbook.connection())
    assert destination.check() == f"as {workbook.email}"


TYPES = {
    "text": "string",
    "whole": "integer",
    "ratio": "double",
    "price": "decimal(15,4)",
    "active": "boolean",
    "day": "date",
    "moment": "datetime",
}
VALUES = st.tuples(
    st.none() | st.text(max_size=20) | st.sampled_from(["=1+1", "007", "TRUE", "1e3", "'x"]),
    st.none() | st.integers(-(10**15) + 1, 10**15 - 1),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.decimals(-(10**10), 10**10, places=4),
    st.none() | st.booleans(),
    st.none() | st.dates(),
    st.none()
    | st.builds(
        lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000),
        st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),
    ),
)


@pytest.mark.usefixtures("workbook")
@settings(max_examples=25, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=8), st.sampled_from([TINY, 2_000_000]))
def test_typed_values_come_through_the_whole_pipeline_unchanged(
    google_sheets: GoogleSheetsServer, values: list[tuple[Any, ...]], request_bytes: int
):
    numbered = [[number, *row] for number, row in enumerate(values)]
    workbook = Workbook(google_sheets, TabSpec("targets", [["id", *TYPES], *numbered]))
    table = workbook.table(columns={"id": "integer", **TYPES}, primary_key=["id"])
    with tempfile.TemporaryDirectory() as folder:
        landing = Landing((Path(folder) / "landing").as_uri())
        source = GoogleSheetSource(workbook.connection())
        with source.extract(table, WHOLE_TABLE) as extraction:
            manifest = landing.write(
                Batch(table.key, WHOLE_TABLE), extraction.schema, extraction.batches
            )
        warehouse = DuckDBWarehouse(Path(folder) / "w.duckdb")
        warehouse.load(table, manifest, landing)
        rows = warehouse.read(table.schema, table.identifier, ["id", *TYPES], ["id"])
    assert [tuple(row.values())[1:] for row in rows.to_pylist()] == [
        (row[0] or None, *row[1:]) for row in values
    ]
    workbook.publish(rows, request_bytes=request_bytes)
    assert json.dumps(workbook.read()) == json.dumps(workbook.read("targets"))
