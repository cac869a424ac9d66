"""Publishing to a tab that people work in: what they move, rename, write and format."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from gspread.utils import ValidationConditionType
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.util import Retry

import millrace.google_sheets.client as client
from millrace.errors import PublicationRefused, SheetError, SheetUnavailable
from millrace.google_sheets.client import GoogleSheets
from sheets_standin import Fault, GoogleSheetsServer, TabSpec
from tests.millrace.sheets import Workbook
from tests.millrace.test_publish import (
    AFTER,
    FAULTS,
    HEADINGS,
    TINY,
    refused,
    shown,
    summary,
)

pytestmark = pytest.mark.service


@pytest.fixture(params=[None, TINY], ids=["one request", "staged"])
def way(request: pytest.FixtureRequest) -> dict[str, int]:
    """Both ways of publishing."""
    return {"request_bytes": request.param} if request.param else {}


def days(*chosen: int) -> pa.Table:
    """A mart of some days of November."""
    return summary(30).take([day - 1 for day in chosen])


def remark(workbook: Workbook, *remarks: tuple[str, Any]) -> None:
    """Let people write beside the table."""
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.resize(rows=max(sheet.row_count, 12), cols=max(sheet.col_count, 6))
    for cell, value in remarks:
        workbook.change("nps_summary", cell, value)


def beside(workbook: Workbook, column: int = 4) -> dict[Any, Any]:
    """What stands in a column beside the table, by the day of its row."""
    return {row[0]: row[column] for row in workbook.read()[1:] if len(row) > column and row[column]}


def november(day: int) -> int:
    """The serial number of a day."""
    return 46326 + day


# Whose tab it is, and where it has gone


def test_a_renamed_tab_is_followed_and_told(
    workbook: Workbook, way: dict[str, Any], caplog: pytest.LogCaptureFixture
):
    workbook.publish(summary(3), **way)
    workbook.judge.worksheet("nps_summary").update_title("NPS by day")
    for rows in (summary(4), summary(5)):
        published = workbook.publish(rows, **way)
        assert published.tab == "NPS by day"
        assert workbook.read("NPS by day") == shown(rows)
        assert workbook.titles() == ["Sheet1", "NPS by day"]
    assert "'nps_summary' is called 'NPS by day' now" in caplog.text
    caplog.clear()
    workbook.publish(summary(6), tab="NPS by day", **way)
    assert workbook.read("NPS by day") == shown(summary(6))
    assert "is called" not in caplog.text


def test_a_tab_that_an_older_version_published_to_is_followed_too(workbook: Workbook):
    workbook.publish(summary(3))
    sheet = workbook.judge.worksheet("nps_summary")
    note = [line for line in sheet.get_note("A1").splitlines() if not line.startswith("Record")]
    sheet.update_note("A1", "\n".join(note).replace("all other cells", "columns to their right"))
    sheet.update_title("NPS by day")
    workbook.publish(summary(4))
    assert workbook.read("NPS by day") == shown(summary(4))
    assert workbook.titles() == ["Sheet1", "NPS by day"]


def test_a_new_tab_with_the_old_title_does_not_take_the_readers_away(workbook: Workbook):
    workbook.publish(summary(3))
    workbook.judge.worksheet("nps_summary").update_title("NPS by day")
    workbook.judge.add_worksheet("nps_summary", 50, 9)
    text = refused(workbook, summary(4), "is called 'NPS by day' now, and 'nps_summary' is another")
    assert "Declare `tab: NPS by day`" in text
    assert workbook.state("NPS by day").notes["A1"].startswith("Stale since")
    assert workbook.state().notes == {}


def test_a_declaration_that_names_another_tab_leaves_no_readers_behind(workbook: Workbook):
    workbook.publish(summary(3))
    text = refused(workbook, summary(4), "`tab` is 'daily' now, and the table is in", tab="daily")
    assert "Rename that tab to 'daily'" in text
    workbook.judge.worksheet("nps_summary").update_title("daily")
    workbook.publish(summary(4), tab="daily")
    assert workbook.read("daily") == shown(summary(4))


def test_a_title_in_other_capitals_is_the_same_tab(workbook: Workbook):
    workbook.publish(summary(3))
    workbook.publish(summary(4), tab="NPS_Summary")
    assert workbook.titles() == ["Sheet1", "nps_summary"]
    assert workbook.read() == shown(summary(4))


def test_a_copy_of_the_tab_is_nobodys(workbook: Workbook):
    workbook.publish(summary(3))
    sheet = workbook.judge.worksheet("nps_summary")
    copy = sheet.duplicate(new_sheet_name="as of Monday")
    sheet.update_title("NPS by day")
    workbook.publish(summary(4))
    assert workbook.read("NPS by day") == shown(summary(4))
    assert workbook.read("as of Monday") == shown(summary(3))
    workbook.judge.del_worksheet(workbook.judge.worksheet("NPS by day"))
    workbook.publish(summary(5))
    assert workbook.read() == shown(summary(5))
    assert copy.get_note("A1")
    assert workbook.read("as of Monday") == shown(summary(3))


@pytest.mark.parametrize(
    ("other", "whose"),
    [
        ({"name": "other_sheet"}, r"belongs to nps_summary_sheet \(duckdb dev"),
        ({"warehouse": "redshift prod, analytics"}, r"this is nps_summary_sheet \(redshift prod"),
        ({"warehouse": "duckdb dev.duckdb, dbt_ann"}, r"this is nps_summary_sheet .*dbt_ann"),
    ],
    ids=["exposure", "warehouse", "schema"],
)
def test_another_publication_is_refused_by_the_note_that_names_the_owner(
    workbook: Workbook, other: dict[str, Any], whose: str
):
    workbook.publish(summary(3))
    note = workbook.state().notes["A1"]
    text = refused(workbook, summary(4), whose, **other)
    assert "says the note on nps_summary!A1" in text
    assert workbook.state().notes["A1"] == note
    workbook.publish(summary(4))
    # The way out that the message offers.
    last = note.splitlines()[-1]
    workbook.judge.worksheet("nps_summary").update_note("A1", last)
    workbook.publish(summary(5), **other)
    assert workbook.read() == shown(summary(5))
    refused(workbook, summary(4), "belongs to")


def test_a_table_moves_with_what_people_put_above_and_before_it(
    workbook: Workbook, way: dict[str, Any]
):
    workbook.publish(summary(5), **way)
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.insert_rows([["NPS by day"], []], row=1)
    sheet.insert_cols([["", "", "x"]], col=1)
    for rows in (summary(7), summary(4)):
        workbook.publish(rows, **way)
        table = [["", *row] for row in shown(rows)]
        table[0][0] = "x"
        assert workbook.read() == [["", "NPS by day"], [], *table]
        assert set(workbook.state().notes) == {"B3"}
        assert workbook.state().formatted[3][1] == "2026-11-01"


@pytest.mark.parametrize("exists", [False, True])
def test_a_table_may_start_at_a_cell(
    google_sheets: GoogleSheetsServer,
    way: dict[str, Any],
    exists: bool,
    caplog: pytest.LogCaptureFixture,
):
    title = TabSpec("nps_summary", [["NPS by day"]], rows=2, columns=1)
    workbook = Workbook(google_sheets, title if exists else TabSpec("Sheet1"))
    for rows in (summary(3), summary(5)):
        workbook.publish(rows, at="B3", **way)
        table = [["", *row] for row in shown(rows)]
        assert workbook.read() == [["NPS by day"] if exists else [], [], *table]
        assert workbook.state().formatted[3][1:] == ["2026-11-01", "10", "0.25"]
    assert "the table is at" not in caplog.text
    workbook.judge.worksheet("nps_summary").insert_rows([["more"]], row=1)
    workbook.publish(summary(5), at="B3", **way)
    assert workbook.read()[3][1:] == HEADINGS
    assert "nps_summary: the table is at B4, not at B3" in caplog.text


def test_a_table_that_is_there_twice_is_refused(workbook: Workbook):
    workbook.publish(summary(2))
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.resize(cols=9)
    sheet.update_note("F1", sheet.get_note("A1"))
    refused(workbook, summary(2), "more than once, say the notes on A1, F1")


# Headings


def test_a_heading_in_other_capitals_is_still_ours(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(summary(3), **way)
    workbook.change("nps_summary", "C1", "NPS")
    workbook.change("nps_summary", "A1", " Date ")
    workbook.publish(summary(4), **way)
    assert workbook.read() == shown(summary(4))


def test_a_heading_may_be_a_label(workbook: Workbook, way: dict[str, Any]):
    labels = {"nps": "NPS (%)", "date": "📅"}
    for rows in (summary(3), summary(5)):
        published = workbook.publish(rows, labels=labels, **way)
        assert published.columns == ("date", "responses", "nps")
        assert workbook.read() == [["📅", "responses", "NPS (%)"], *shown(rows)[1:]]
    workbook.publish(summary(4), labels={"nps": "Score"}, **way)
    assert workbook.read() == [["date", "responses", "Score"], *shown(summary(4))[1:]]
    assert workbook.state().formatted[1] == ["2026-11-01", "10", "0.25"]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"labels": {"npss": "NPS"}}, "`labels` names the column 'npss'"),
        ({"key": "day"}, "`key` names the column 'day'"),
        ({"order_by": ["id"], "follow_rows": True}, "`order_by` names the column 'id'"),
        ({"labels": {"nps": "date"}}, "the same heading: date, responses, date"),
    ],
)
def test_a_column_that_is_not_published_is_named(
    workbook: Workbook, options: dict[str, Any], says: str
):
    workbook.publish(summary(2))
    refused(workbook, summary(3), says, **options)


# What the note says when it could not be refreshed


def test_a_refused_publication_says_in_the_sheet_since_when_it_is_stale(workbook: Workbook):
    workbook.publish(summary(5), refreshed="2026-11-20 06:00 UTC, run 1")
    good = workbook.state().notes["A1"]
    refused(workbook, summary(0), "empty", refreshed="2026-11-21 06:00 UTC, run 2")
    first, rest = workbook.state().notes["A1"].split("\n", 1)
    assert first == (
        "Stale since 2026-11-21 06:00 UTC, run 2: The mart is empty, and nps_summary shows 5 rows "
        "of it."
    )
    assert rest == good
    refused(workbook, summary(1), "has 1 rows", refreshed="2026-11-22 06:00 UTC, run 3")
    first, rest = workbook.state().notes["A1"].split("\n", 1)
    assert first.startswith("Stale since 2026-11-21 06:00 UTC, run 2: The mart has 1 rows")
    assert rest == good
    workbook.publish(summary(6))
    assert "Stale" not in workbook.state().notes["A1"]


@pytest.mark.parametrize("spoil", ["heading", "value", "below", "shift"])
def test_every_refusal_leaves_stale_since(workbook: Workbook, spoil: str):
    workbook.publish(days(2, 3))
    rows = days(2, 3)
    if spoil == "heading":
        workbook.change("nps_summary", "B1", "Answers")
    elif spoil == "value":
        rows = rows.set_column(1, "responses", pa.array([1, 2**60]))
    elif spoil == "below":
        workbook.judge.worksheet("nps_summary").resize(rows=9)
        workbook.change("nps_summary", "A5", "source: Ann")
        rows = days(2, 3, 4, 5)
    else:
        remark(workbook, ("E2", "why?"))
        rows = days(1, 2, 3)
    before = workbook.read()
    with pytest.raises(PublicationRefused):
        workbook.publish(rows)
    assert workbook.state().notes["A1"].startswith("Stale since 2026-11-20")
    assert workbook.read() == before


def test_a_tab_that_is_not_ours_gets_no_note(google_sheets: GoogleSheetsServer):
    workbook = Workbook(google_sheets, TabSpec("nps_summary", [["Mine", "x"], [1, 2]]))
    refused(workbook, summary(2), "would overwrite")
    assert workbook.state().notes == {}


def test_a_note_that_cannot_be_written_hides_no_refusal(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    workbook.publish(summary(3))
    monkeypatch.setattr(client, "_RETRY", Retry(total=0, raise_on_status=False))
    workbook.admin.add_fault(Fault(action="status", status=503, requests="write", times=99))
    refused(workbook, summary(0), "The mart is empty")
    assert "its note does not say that it is stale" in caplog.text


# Beside the table


def test_a_late_row_does_not_put_remarks_beside_another_day(workbook: Workbook):
    workbook.publish(days(2, 3, 5))
    remark(workbook, ("E3", "outage"))
    workbook.publish(days(2, 3, 5, 6))
    assert beside(workbook) == {november(3): "outage"}
    text = refused(workbook, days(1, 2, 3, 5, 6), r"Other rows \(date\) would come to stand beside")
    assert "nps_summary!E3 'outage'" in text
    assert "follow_rows: true" in text


@pytest.mark.parametrize(
    ("cell", "value"),
    [("E3", "outage"), ("E3", True), ("E3", 0), ("E3", '=HYPERLINK("x")'), ("E3", "=$E$9")],
)
def test_whatever_people_wrote_counts(workbook: Workbook, cell: str, value: Any):
    workbook.publish(days(2, 3))
    remark(workbook)
    typed = {"formula": value, "value": 1} if str(value).startswith("=") else value
    if isinstance(typed, dict):
        workbook = rebuilt(workbook, cell, typed)
    else:
        workbook.change("nps_summary", cell, typed)
    refused(workbook, days(1, 2, 3), "stand beside what people wrote: nps_summary!E3")


def rebuilt(workbook: Workbook, cell: str, typed: dict[str, Any]) -> Workbook:
    """The same published tab with a formula beside it.

    The stand-in takes formulas only when a spreadsheet is made.
    """
    state = workbook.state()
    rows = [[*row, *[None] * (6 - len(row))] for row in state.values]
    for at, line in enumerate(rows):
        for column, value in enumerate(line):
            name = f"{'ABCDEF'[column]}{at + 1}"
            line[column] = {
                "value": value,
                "format": state.formats.get(name, {}),
                "note": state.notes.get(name),
            }
    rows[int(cell[1:]) - 1]["ABCDEF".index(cell[0])] = typed
    return Workbook(workbook.server, TabSpec("nps_summary", rows))


def test_a_note_on_a_row_is_a_remark(workbook: Workbook):
    workbook.publish(days(2, 3))
    workbook.judge.worksheet("nps_summary").update_note("B3", "outage")
    refused(workbook, days(1, 2, 3), "stand beside what people wrote: nps_summary!B3")
    workbook.publish(days(1, 2, 3), follow_rows=True)
    assert workbook.state().notes.keys() == {"A1", "B4"}


def test_what_is_computed_from_its_row_or_was_not_ticked_may_stay(workbook: Workbook):
    workbook.publish(days(2, 3))
    remark(workbook)
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.add_validation("F2:F3", ValidationConditionType.boolean, [])
    workbook.change("nps_summary", "F2", False)
    workbook = rebuilt(workbook, "E3", {"formula": "=C3*2", "value": 5})
    workbook.publish(days(1, 2, 3))
    assert [row[:3] for row in workbook.read()] == shown(days(1, 2, 3))


def test_what_stands_beside_no_row_of_the_table_does_not_matter(workbook: Workbook):
    workbook.publish(days(2, 3))
    remark(workbook, ("E1", "Our remarks"), ("E4", "later"), ("E9", "far below"))
    workbook.publish(days(1, 2, 3))
    assert [row[:3] for row in workbook.read()[:4]] == shown(days(1, 2, 3))


@pytest.mark.parametrize(
    "after",
    [
        (1, 2, 3, 5, 6),
        (2, 3, 4, 5, 6),
        (2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14),
        (3, 5, 6),
        (2, 4, 5, 7),
        (2, 3),
        (1, 3, 4, 6, 7),
    ],
    ids=str,
)
def test_remarks_follow_their_rows(workbook: Workbook, way: dict[str, Any], after: tuple[int, ...]):
    before = (2, 3, 5, 6)
    workbook.publish(days(*before), **way)
    remarks = {day: f"about the {day}th" for day in before}
    remark(workbook, *((f"E{at + 2}", text) for at, text in enumerate(remarks.values())))
    workbook.publish(days(*after), follow_rows=True, **way)
    assert [row[:3] for row in workbook.read()[: len(after) + 1]] == shown(days(*after))
    assert beside(workbook) == {
        november(day): text for day, text in remarks.items() if day in after
    }
    assert workbook.titles() == ["Sheet1", "nps_summary"]
    looks = [row[:1] for row in workbook.state().formatted[1 : len(after) + 1]]
    assert looks == [[f"2026-11-{day:02}"] for day in after]


def test_remarks_on_both_sides_follow_a_table_in_the_middle_of_a_tab(
    google_sheets: GoogleSheetsServer, way: dict[str, Any]
):
    workbook = Workbook(google_sheets, TabSpec("nps_summary", [["NPS by day"]], rows=9, columns=6))
    workbook.publish(days(2, 4), at="B3", **way)
    for cell, value in {"A4": "2nd", "F5": "4th", "C7": "total"}.items():
        workbook.change("nps_summary", cell, value)
    workbook.publish(days(1, 2, 3, 4, 5), at="B3", follow_rows=True, **way)
    assert workbook.read() == [
        ["NPS by day"],
        [],
        ["", *HEADINGS],
        ["", *shown(days(1))[1]],
        ["2nd", *shown(days(2))[1]],
        ["", *shown(days(3))[1]],
        ["", *shown(days(4))[1], "", "4th"],
        ["", *shown(days(5))[1]],
        [],
        ["", "", "total"],
    ]


def test_remarks_follow_rows_that_change_their_order(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(days(1, 2, 3, 4), **way)
    remark(workbook, *((f"E{at + 1}", f"about the {at}th") for at in range(1, 5)))
    rows = days(4, 2, 1, 3)
    workbook.publish(rows, follow_rows=True, key="date", order_by=["nps"], **way)
    assert [row[:3] for row in workbook.read()] == shown(rows)
    assert beside(workbook) == {november(day): f"about the {day}th" for day in range(1, 5)}


@pytest.mark.usefixtures("workbook")
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(1, 9), max_size=8, unique=True).map(lambda some: [*some, 10]),
        min_size=2,
        max_size=4,
    )
)
def test_remarks_stay_with_their_rows_whatever_the_mart_becomes(
    google_sheets: GoogleSheetsServer, marts: list[list[int]]
):
    workbook = Workbook(google_sheets, TabSpec("nps_summary", rows=12, columns=6, frozen_rows=1))
    written: set[int] = set()
    for chosen in marts:
        workbook.publish(days(*chosen), follow_rows=True, min_row_ratio=0)
        assert [row[:3] for row in workbook.read()] == shown(days(*chosen))
        written &= set(chosen)
        assert beside(workbook) == {november(day): f"about the {day}th" for day in written}
        for row, day in enumerate(chosen, start=2):
            workbook.change("nps_summary", f"E{row}", f"about the {day}th")
        written = set(chosen)


def test_a_remark_whose_row_is_gone_is_told(workbook: Workbook, caplog: pytest.LogCaptureFixture):
    workbook.publish(days(1, 2, 3))
    remark(workbook, ("E2", "old news"))
    workbook.publish(days(2, 3, 4), follow_rows=True)
    assert "nps_summary!E2 goes with its row" in caplog.text
    assert beside(workbook) == {}


def test_a_remark_beside_a_key_that_somebody_changed_is_not_lost(workbook: Workbook):
    workbook.publish(days(1, 2, 3))
    remark(workbook, ("E3", "outage"))
    workbook.change("nps_summary", "A3", "2nd")
    text = refused(workbook, days(1, 2, 3), "beside which people wrote", follow_rows=True)
    assert "nps_summary!E3 'outage'" in text
    workbook.change("nps_summary", "A3", november(2))
    workbook.publish(days(1, 2, 3, 4), follow_rows=True)
    assert beside(workbook) == {november(2): "outage"}


def test_remarks_are_not_lost_where_no_row_keeps_its_key(workbook: Workbook):
    workbook.publish(days(1, 2))
    remark(workbook, ("E2", "outage"))
    texts = pa.array(["first", "second"])
    rows = days(1, 2).set_column(0, "date", texts)
    text = refused(workbook, rows, "no other row that is there", follow_rows=True)
    assert "nps_summary!E2 'outage'" in text


def test_remarks_stay_where_the_key_is_published_for_the_first_time(workbook: Workbook):
    workbook.publish(days(1, 2).select(["responses", "nps"]), order_by=["responses"])
    remark(workbook, ("E2", "outage"))
    rows = days(1, 2).select(["responses", "nps", "date"])
    workbook.publish(rows, follow_rows=True)
    assert [row[4:] for row in workbook.read()] == [[], ["outage"], []]
    workbook.publish(days(1, 2, 3).select(["responses", "nps", "date"]), follow_rows=True)
    assert workbook.read()[1][4] == "outage"


def test_rows_that_the_key_does_not_tell_apart_cannot_be_followed(workbook: Workbook):
    workbook.publish(days(1, 2))
    rows = pa.concat_tables([days(1), days(1), days(2)])
    text = refused(workbook, rows, "Rows cannot be followed by date", follow_rows=True)
    assert "Declare `key`" in text


def test_rows_are_followed_at_the_end_of_the_grid_and_under_frozen_headings(
    google_sheets: GoogleSheetsServer,
):
    workbook = Workbook(google_sheets, TabSpec("nps_summary", rows=3, columns=5, frozen_rows=1))
    for chosen in ((1, 2), (3, 4), (5,), (4, 5, 6)):
        workbook.publish(days(*chosen), follow_rows=True, min_row_ratio=0)
        assert workbook.read() == shown(days(*chosen))
        assert workbook.state().rows == len(chosen) + 1
        assert workbook.state().formatted[-1][0] == f"2026-11-{chosen[-1]:02}"


FOLLOWING_REQUESTS = 8


def test_the_number_of_requests_with_rows_to_move_is_known(workbook: Workbook):
    workbook.publish(days(2, 3))
    workbook.requests()
    workbook.publish(days(1, 2, 3), follow_rows=True)
    assert len(workbook.requests()) == FOLLOWING_REQUESTS


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(FOLLOWING_REQUESTS))
def test_no_fault_moves_rows_twice(workbook: Workbook, number: int, fault: str):
    workbook.publish(days(2, 3, 5))
    remark(workbook, ("E3", "outage"))
    workbook.admin.add_fault(FAULTS[fault].model_copy(update={"after": number}))
    workbook.publish(days(1, 3, 4, 5), follow_rows=True)
    assert [row[:3] for row in workbook.read()] == shown(days(1, 3, 4, 5))
    assert beside(workbook) == {november(3): "outage"}
    assert workbook.titles() == ["Sheet1", "nps_summary"]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("number", range(FOLLOWING_REQUESTS))
def test_no_lasting_fault_parts_a_remark_from_its_row(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch, number: int, fault: str
):
    workbook.publish(days(2, 3, 5))
    remark(workbook, ("E3", "outage"))
    workbook.admin.add_fault(FAULTS[fault].model_copy(update={"after": number, "times": 1000}))
    with monkeypatch.context() as impatient:
        impatient.setattr(client, "_RETRY", Retry(total=0, raise_on_status=False))
        with pytest.raises(SheetUnavailable):
            workbook.publish(days(1, 3, 4, 5), follow_rows=True)
    workbook.admin.clear_faults()
    assert beside(workbook) == {november(3): "outage"}
    final = FOLLOWING_REQUESTS - 3
    was_applied = number > final or (number == final and fault in AFTER)
    there = days(1, 3, 4, 5) if was_applied else days(2, 3, 5)
    assert [row[:3] for row in workbook.read()] == shown(there)


@pytest.mark.parametrize("follow", [False, True], ids=["stay", "follow"])
@pytest.mark.parametrize(
    "disturb",
    [
        lambda sheet: sheet.insert_row(["title"], 1),
        lambda sheet: sheet.insert_row([], 3),
        lambda sheet: sheet.delete_rows(3),
        lambda sheet: sheet.insert_cols([[]], 1),
        lambda sheet: sheet.insert_cols([[]], 2),
    ],
    ids=["row above", "row inside", "row deleted", "column before", "column inside"],
)
def test_rows_and_columns_that_move_while_it_is_written_do_not_end_green(
    workbook: Workbook, monkeypatch: pytest.MonkeyPatch, disturb: Any, follow: bool
):
    workbook.publish(days(1, 2, 3, 4))
    remark(workbook, ("E3", "outage"))
    update = GoogleSheets.batch_update
    disturbed = False

    def disturb_and_update(self: GoogleSheets, spreadsheet: str, changes: Any) -> Any:
        nonlocal disturbed
        if not disturbed:
            disturbed = True
            disturb(workbook.judge.worksheet("nps_summary"))
        return update(self, spreadsheet, changes)

    monkeypatch.setattr(GoogleSheets, "batch_update", disturb_and_update)
    with pytest.raises(SheetError, match=r"inserted or deleted while|more than once"):
        workbook.publish(days(1, 2, 3, 4, 5), follow_rows=follow)


# Below the table, and how it looks


def test_cells_under_the_table_are_left_alone(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(days(1, 2, 3, 4), **way)
    remark(workbook, ("A8", "Source: the survey"), ("B9", 7))
    for chosen in ((1, 2, 3, 4, 5), (1, 2, 3), (1, 2, 3, 4, 5, 6)):
        workbook.publish(days(*chosen), **way)
        found = workbook.read()
        assert found[: len(chosen) + 1] == shown(days(*chosen))
        assert found[len(chosen) + 1 : 7] == [[]] * (6 - len(chosen))
        assert found[7:] == [["Source: the survey"], ["", 7]]


def test_a_table_does_not_grow_over_what_stands_below_it(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(days(1, 2), **way)
    remark(workbook, ("B4", "total: 21"))
    text = refused(workbook, days(1, 2, 3), "nps_summary!B4 holds 'total: 21'", **way)
    assert "follow_rows: true" in text
    workbook.publish(days(1, 2, 3), follow_rows=True, **way)
    assert workbook.read() == [*shown(days(1, 2, 3)), ["", "total: 21"]]
    workbook.publish(days(1, 3), follow_rows=True, **way)
    assert workbook.read() == [*shown(days(1, 3)), ["", "total: 21"]]


def test_a_row_that_somebody_deleted_costs_nothing_below(workbook: Workbook):
    workbook.publish(days(1, 2, 3, 4))
    remark(workbook, ("B6", "total"))
    workbook.judge.worksheet("nps_summary").delete_rows(3)
    refused(workbook, days(1, 2, 3, 4), "nps_summary!B5 holds 'total'")
    workbook.publish(days(1, 2, 3, 4), follow_rows=True)
    assert workbook.read() == [*shown(days(1, 2, 3, 4)), ["", "total"]]


def test_a_record_of_more_rows_than_there_are_does_no_harm(workbook: Workbook):
    workbook.publish(days(1, 2, 3))
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.update_note("A1", sheet.get_note("A1").replace('"rows": 3', '"rows": 1000000000000'))
    workbook.publish(days(1, 2, 3, 4))
    assert workbook.read() == shown(days(1, 2, 3, 4))


def test_a_row_that_somebody_inserted_or_sorted_is_written_over(workbook: Workbook):
    workbook.publish(days(1, 2, 3, 4))
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.insert_row([], 3)
    workbook.publish(days(1, 2, 3, 4))
    assert workbook.read() == shown(days(1, 2, 3, 4))
    rows = shown(days(4, 2, 1, 3))
    sheet.update(rows[1:], "A2", raw=True)
    workbook.publish(days(1, 2, 3, 4, 5))
    assert workbook.read() == shown(days(1, 2, 3, 4, 5))


def test_how_people_format_a_column_is_theirs(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(days(1, 2), **way)
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.format("A2:A3", {"numberFormat": {"type": "DATE", "pattern": "d mmm"}})
    sheet.format("C2:C3", {"numberFormat": {"type": "NUMBER", "pattern": "0"}})
    sheet.format("B2:B3", {"numberFormat": {"type": "NUMBER", "pattern": "#,##0"}})
    for chosen in ((1, 2), (1, 2, 3, 4), (1,), (1, 2, 3)):
        workbook.publish(days(*chosen), min_row_ratio=0, **way)
        assert workbook.state().formatted[1:] == [
            [f"{day} Nov", str(9 + day), str(day - 1)] for day in chosen
        ]


def test_a_column_that_is_new_or_changes_its_type_is_formatted(
    workbook: Workbook, way: dict[str, Any]
):
    workbook.publish(days(1, 2).select(["date", "responses"]), **way)
    sheet = workbook.judge.worksheet("nps_summary")
    sheet.format("A2:A3", {"numberFormat": {"type": "DATE", "pattern": "d mmm"}})
    rows = days(1, 2, 3)
    workbook.publish(rows, **way)
    assert workbook.state().formatted[1:] == [
        ["1 Nov", "10", "0.25"],
        ["2 Nov", "11", "1.25"],
        ["3 Nov", "12", "2.25"],
    ]
    moments = rows["date"].cast(pa.timestamp("us"))
    workbook.publish(rows.set_column(0, "date", moments), **way)
    assert workbook.state().formatted[1][0] == "2026-11-01 00:00:00"


def test_a_table_that_had_no_rows_is_formatted(workbook: Workbook, way: dict[str, Any]):
    workbook.publish(summary(0), **way)
    workbook.publish(summary(2), **way)
    assert workbook.state().formatted[1] == ["2026-11-01", "10", "0.25"]
