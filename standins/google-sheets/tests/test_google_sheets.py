"""The Google Sheets stand-in, with gspread itself as the judge."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import google.auth.exceptions
import gspread
import jwt
import pytest
import requests
from google.oauth2.service_account import Credentials
from gspread.auth import DEFAULT_SCOPES, READONLY_SCOPES
from gspread.exceptions import APIError
from gspread.utils import (
    DateTimeOption,
    Dimension,
    InsertDataOption,
    PasteType,
    ValidationConditionType,
    ValueRenderOption,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sheets_standin import (
    Fault,
    GoogleSheetsServer,
    SheetsAdmin,
    SheetsEndpoint,
    StandinError,
    TabSpec,
    a1,
    fields,
    formats,
    gspread_client,
)
from sheets_standin.a1 import Area
from sheets_standin.accounts import GOOGLE_AUDIENCE, GRANT_TYPE, new_key
from sheets_standin.cells import ErrorType
from sheets_standin.errors import ApiError
from sheets_standin.server import ACCOUNT_EMAIL
from sheets_standin.workbook import Spreadsheet

pytestmark = [pytest.mark.service, pytest.mark.usefixtures("no_internet")]

GOOGLE = "https://sheets.googleapis.com"
UNFORMATTED = ValueRenderOption.unformatted


def connect(server: GoogleSheetsServer, scopes: list[str] = DEFAULT_SCOPES) -> gspread.Client:
    return gspread_client.connect(server.endpoint, scopes)


@pytest.fixture(scope="module")
def client(server: GoogleSheetsServer) -> gspread.Client:
    return connect(server)


@pytest.fixture
def admin(server: GoogleSheetsServer) -> Iterator[SheetsAdmin]:
    admin = server.admin()
    yield admin
    admin.clear_faults()


Make = Callable[..., gspread.Spreadsheet]


@pytest.fixture
def make(client: gspread.Client, admin: SheetsAdmin) -> Make:
    """Makes a spreadsheet from its tabs, shares it for writing, and opens it."""

    def make(*tabs: TabSpec) -> gspread.Spreadsheet:
        key = admin.create("A book", tabs or [TabSpec("Sheet1")], {ACCOUNT_EMAIL: "writer"})
        return client.open_by_key(key)

    return make


def cells_request(rows: list[list[dict[str, Any]]], **options: Any) -> dict[str, Any]:
    request = {
        "rows": [{"values": row} for row in rows],
        "start": {"sheetId": 0, "rowIndex": 0, "columnIndex": 0},
        "fields": "userEnteredValue",
    }
    return {"updateCells": request | options}


# Accounts and sharing


def test_a_spreadsheet_is_seen_once_it_is_shared_and_no_longer_afterwards(
    client: gspread.Client, admin: SheetsAdmin
):
    key = admin.create("Targets", [TabSpec("a"), TabSpec("b")])
    with pytest.raises(PermissionError) as refused:
        client.open_by_key(key)
    error = refused.value.__cause__
    assert isinstance(error, APIError)
    assert error.response.json() == {
        "error": {
            "code": 403,
            "message": "The caller does not have permission",
            "status": "PERMISSION_DENIED",
        }
    }
    admin.share(key, ACCOUNT_EMAIL, "reader")
    book = client.open_by_url(admin.url(key))
    assert book.title == "Targets"
    assert [sheet.title for sheet in book.worksheets()] == ["a", "b"]
    with pytest.raises(APIError, match=r"\[403\]: The caller does not have permission"):
        book.sheet1.update([[1]])
    admin.share(key, ACCOUNT_EMAIL, None)
    with pytest.raises(PermissionError):
        client.open_by_key(key)


def test_a_deleted_spreadsheet_is_not_found(client: gspread.Client, admin: SheetsAdmin, make: Make):
    book = make()
    admin.delete(book.id)
    with pytest.raises(gspread.SpreadsheetNotFound):
        client.open_by_key(book.id)
    with pytest.raises(APIError, match=r"\[404\]: Requested entity was not found"):
        book.sheet1.update([[1]])


def test_a_read_only_scope_reads_and_does_not_write(server: GoogleSheetsServer, make: Make):
    book = connect(server, READONLY_SCOPES).open_by_key(make().id)
    assert book.sheet1.get_all_values() == [[]]
    with pytest.raises(APIError, match=r"\[403\]: Request had insufficient authentication scopes"):
        book.sheet1.update([[1]])


def test_a_missing_or_unknown_token_is_unauthenticated(server: GoogleSheetsServer, make: Make):
    url = f"{server.url}/v4/spreadsheets/{make().id}"
    for headers in ({}, {"Authorization": "Bearer made-up"}):
        response = requests.get(url, headers=headers, timeout=10)
        assert response.status_code == 401
        assert response.json()["error"]["status"] == "UNAUTHENTICATED"


def test_an_expired_token_is_replaced_by_google_auth(make: Make, admin: SheetsAdmin):
    book = make()
    admin.expire_tokens()
    admin.clear_requests()
    assert book.sheet1.get_all_values() == [[]]
    statuses = [(entry.path == "/token", entry.status) for entry in admin.requests()]
    assert statuses[:3] == [(False, 401), (True, 200), (False, 200)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iss": "stranger@example.com"}, "account not found"),
        ({"aud": "https://example.com/token"}, "Audience"),
        ({"exp": 1_000_000_000}, "short-lived token"),
        ({"exp": 4_000_000_000}, "more than an hour"),
        ({"scope": ""}, "Invalid OAuth scope"),
        ({"scope": "https://www.googleapis.com/auth/bigquery"}, "Invalid OAuth scope"),
    ],
)
def test_a_token_needs_a_right_assertion(
    server: GoogleSheetsServer, change: dict[str, Any], message: str
):
    key = server.service_account_key()
    now = int(time.time())
    claims = {
        "iss": key["client_email"],
        "aud": GOOGLE_AUDIENCE,
        "iat": now,
        "exp": now + 3600,
        "scope": DEFAULT_SCOPES[0],
    }

    def ask(claims: dict[str, Any]) -> requests.Response:
        assertion = jwt.encode(claims, key["private_key"], algorithm="RS256")
        form = {"grant_type": GRANT_TYPE, "assertion": assertion}
        return requests.post(f"{server.url}/token", data=form, timeout=10)

    assert ask(claims).json()["token_type"] == "Bearer"
    refused = ask(claims | change)
    assert refused.status_code == 400
    assert message in refused.json()["error_description"]


def test_an_assertion_signed_by_another_key_is_refused(server: GoogleSheetsServer):
    forged = server.service_account_key() | {
        "private_key": new_key(ACCOUNT_EMAIL, "")["private_key"]
    }
    credentials = Credentials.from_service_account_info(forged, scopes=DEFAULT_SCOPES)
    with pytest.raises(google.auth.exceptions.RefreshError, match="Invalid JWT Signature"):
        gspread_client.client(credentials, server.url).open_by_key("0123456789")


def test_the_admin_needs_its_token_and_what_is_secret_is_private(
    server: GoogleSheetsServer, make: Make
):
    make()
    assert requests.get(f"{server.url}/admin/requests", timeout=10).status_code == 401
    folder = server.folder
    nothing_in_it = (".gitignore", "lock")
    files = [
        file for file in folder.rglob("*") if file.is_file() and file.name not in nothing_in_it
    ]
    assert len(files) >= 3
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    folders = [folder, folder / "spreadsheets"]
    assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    assert server.endpoint.admin_token not in repr(server.endpoint)


# Reading


TABLE = TabSpec(
    "Sheet1",
    [
        ["day", "moment", "n", "text", "yes"],
        [date(2026, 1, 31), datetime(2026, 1, 31, 18, 30), Decimal("1234.5"), "007", True],
        [],
        [None, None, 0.1 + 0.2, "", False, None],
        [None, None, None, None, None, None, ""],
    ],
)


def test_values_come_formatted_unformatted_and_trimmed(make: Make):
    sheet = make(TABLE).sheet1
    header = ["day", "moment", "n", "text", "yes"]
    assert sheet.get() == [
        header,
        ["2026-01-31", "2026-01-31 18:30:00", "1234.5", "007", "TRUE"],
        [],
        ["", "", "0.3", "", "FALSE"],
    ]
    assert sheet.get(value_render_option=UNFORMATTED) == [
        header,
        [46053, 46053 + 18.5 / 24, 1234.5, "007", True],
        [],
        ["", "", 0.1 + 0.2, "", False],
    ]
    assert sheet.get(
        "A2:C2",
        value_render_option=UNFORMATTED,
        date_time_render_option=DateTimeOption.formatted_string,
    ) == [["2026-01-31", "2026-01-31 18:30:00", 1234.5]]
    assert sheet.get("C1:D4", major_dimension=Dimension.cols) == [
        ["n", "1234.5", "", "0.3"],
        ["text", "007"],
    ]


def test_a_formula_is_shown_where_formulas_are_asked_for(make: Make):
    sheet = make(TabSpec("Sheet1", [[2, {"formula": "=A1*21", "value": 42}]])).sheet1
    assert sheet.get(value_render_option=ValueRenderOption.formula) == [[2, "=A1*21"]]
    assert sheet.get(value_render_option=UNFORMATTED) == [[2, 42]]
    with pytest.raises(APIError, match="does not evaluate formulas"):
        sheet.update([["=1+1"]], raw=False)


@pytest.mark.parametrize(
    ("text", "echoed", "values"),
    [
        ("'It''s A1!'!B2", "'It''s A1!'!B2", [["22"]]),
        ("'It''s A1!'!A2:B", "'It''s A1!'!A2:B4", [["21", "22"], ["31", "32"]]),
        ("'It''s A1!'!B:A", "'It''s A1!'!A1:B4", [["11", "12"], ["21", "22"], ["31", "32"]]),
        ("'It''s A1!'!2:3", "'It''s A1!'!A2:C3", [["21", "22", "23"], ["31", "32", "33"]]),
        ("'It''s A1!'!B3:99", "'It''s A1!'!B3:C4", [["32", "33"]]),
        ("'It''s A1!'!$C$1:$C$2", "'It''s A1!'!C1:C2", [["13"], ["23"]]),
        ("'It''s A1!'!A4:C4", "'It''s A1!'!A4:C4", None),
        ("'it''s a1!'", "'It''s A1!'!A1:C4", [[f"{r}{c}" for c in (1, 2, 3)] for r in (1, 2, 3)]),
        ("A1", "first!A1", [["x"]]),
        ("A1:B2", "first!A1:B2", [["x"]]),
        ("FIRST", "first!A1:B2", [["x"]]),
        ("'A1'", "'A1'!A1:Z1000", [["in A1"]]),
        ("a/b:clear!A1", "'a/b:clear'!A1", [["odd"]]),
    ],
)
def test_ranges_in_a1_notation(make: Make, text: str, echoed: str, values: Any):
    table = [[f"{row}{column}" for column in (1, 2, 3)] for row in (1, 2, 3)]
    book = make(
        TabSpec("first", [["x"]], rows=2, columns=2),
        TabSpec("It's A1!", table, rows=4, columns=3),
        TabSpec("A1", [["in A1"]]),
        TabSpec("a/b:clear", [["odd"]]),
    )
    answer = book.values_get(text)
    assert answer["range"] == echoed
    assert answer.get("values") == values
    [batch] = book.values_batch_get([text])["valueRanges"]
    assert batch == answer


@pytest.mark.parametrize(
    "text", ["nope", "nope!A1", "Sheet1!", "Sheet1!A0", "Sheet1!A1:B2:C3", "A"]
)
def test_what_is_no_range_is_refused(make: Make, text: str):
    with pytest.raises(APIError, match=r"\[400\]: Unable to parse range"):
        make().values_get(text)


areas = st.builds(
    lambda row, rows, column, columns: Area(
        row, rows and row + rows, column, columns and column + columns
    ),
    st.integers(0, 2000),
    st.none() | st.integers(1, 2000),
    st.integers(0, 800),
    st.none() | st.integers(1, 800),
)
titles = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(titles, areas)
def test_a_range_is_read_as_it_was_written(title: str, area: Area):
    # A1 notation cannot name an area that is open in both directions.
    if area.end_row is None and area.end_column is None:
        area = Area()
    assert a1.parse(a1.format_range(title, area)) == a1.Range(title, area)


@given(st.integers(0, 18_277))
def test_a_column_has_one_name(index: int):
    assert a1.column_index(a1.column_name(index)) == index


def test_notes_formats_and_fields_are_read_as_gspread_asks(make: Make, admin: SheetsAdmin):
    book = make(TABLE)
    sheet = book.sheet1
    sheet.update_notes({"B1": "in UTC", "C3": "nothing"})
    sheet.format("A1:B1", {"textFormat": {"bold": True}})
    assert sheet.get_notes() == [["", "in UTC"], [], ["", "", "nothing"]]
    assert sheet.get_notes(grid_range="B1:B2") == [["in UTC"]]
    assert sheet.get_note("C3") == "nothing"
    sheet.clear_note("C3")
    assert admin.tab(book.id, "Sheet1").notes == {"B1": "in UTC"}
    grid = book.fetch_sheet_metadata({"includeGridData": "true", "ranges": "Sheet1!A1:A2"})
    assert grid["sheets"][0]["data"] == [
        {
            "rowData": [
                {
                    "values": [
                        {
                            "userEnteredValue": {"stringValue": "day"},
                            "effectiveValue": {"stringValue": "day"},
                            "formattedValue": "day",
                            "userEnteredFormat": {"textFormat": {"bold": True}},
                            "effectiveFormat": {"textFormat": {"bold": True}},
                        }
                    ]
                },
                {
                    "values": [
                        {
                            "userEnteredValue": {"numberValue": 46053},
                            "effectiveValue": {"numberValue": 46053},
                            "formattedValue": "2026-01-31",
                            "userEnteredFormat": {
                                "numberFormat": {"type": "DATE", "pattern": "yyyy-mm-dd"}
                            },
                            "effectiveFormat": {
                                "numberFormat": {"type": "DATE", "pattern": "yyyy-mm-dd"}
                            },
                        }
                    ]
                },
            ]
        }
    ]
    assert book.fetch_sheet_metadata({"fields": "sheets(properties(title,index))"}) == {
        "sheets": [{"properties": {"title": "Sheet1", "index": 0}}]
    }


# Writing values


def test_raw_keeps_and_user_entered_understands(make: Make):
    sheet = make().sheet1
    typed = ["1,234.50", "12.5%", "2026-01-31", "1/31/2026 18:30:00", "true", "'007", "$5", "abc"]
    sheet.update([typed, typed], "A1")
    assert sheet.get(value_render_option=UNFORMATTED) == [typed, typed]
    sheet.update([typed], "A2", raw=False)
    assert sheet.get("A2:H2", value_render_option=UNFORMATTED) == [
        [1234.5, 0.125, 46053, 46053 + 18.5 / 24, True, "007", 5, "abc"]
    ]
    assert sheet.get("A2:H2") == [
        ["1,234.50", "12.50%", "2026-01-31", "1/31/2026 18:30:00", "TRUE", "007", "$5", "abc"]
    ]


def test_null_leaves_a_cell_and_an_empty_text_empties_it(make: Make):
    sheet = make(TabSpec("Sheet1", [[1, 2, 3]])).sheet1
    answer = sheet.update([[None, "", "=not a formula"]], "A1:C1")
    assert (answer["updatedRange"], answer["updatedCells"]) == ("Sheet1!A1:C1", 3)
    assert sheet.get(value_render_option=UNFORMATTED) == [[1, "", "=not a formula"]]


@pytest.mark.parametrize(
    ("range_", "values", "message"),
    [
        (
            "A1:Z9",
            [[1]],
            r"Range \(Sheet1!A1:Z9\) exceeds grid limits. Max rows: 5, max columns: 3",
        ),
        ("A6", [[1]], r"Range \(Sheet1!A6\) exceeds grid limits"),
        ("A5", [[1], [2]], r"range \[Sheet1!A5\], but tried writing to row \[6\]"),
        ("C1", [[1, 2]], r"range \[Sheet1!C1\], but tried writing to column \[D\]"),
        ("A1:B2", [[1, 2, 3]], r"range \[Sheet1!A1:B2\], but tried writing to column \[C\]"),
        ("A1", [[[1]]], "list_value"),
        ("A1", [["x" * 50_001]], "50000 characters"),
    ],
)
def test_what_does_not_fit_is_refused_and_nothing_is_written(
    make: Make, range_: str, values: Any, message: str
):
    sheet = make(TabSpec("Sheet1", rows=5, columns=3)).sheet1
    with pytest.raises(APIError, match=message):
        sheet.update(values, range_)
    assert sheet.get() == [[]]


def test_an_unknown_option_or_field_is_refused(make: Make):
    book = make()
    with pytest.raises(APIError, match='Unknown name "valueRender"'):
        book.values_get("A1", {"valueRender": "FORMULA"})
    with pytest.raises(APIError, match='Unknown name "rows"'):
        book.values_update("A1", {"valueInputOption": "RAW"}, {"rows": [[1]]})
    with pytest.raises(APIError, match="'valueInputOption' is required but not specified"):
        book.values_update("A1", {}, {"values": [[1]]})


def test_a_batch_of_values_is_written_whole_or_not_at_all(make: Make):
    book = make(TabSpec("Sheet1", [["old"]], rows=3, columns=3))
    sheet = book.sheet1
    with pytest.raises(APIError, match="exceeds grid limits"):
        sheet.batch_update(
            [{"range": "A1", "values": [["new"]]}, {"range": "A9", "values": [["x"]]}]
        )
    assert sheet.get() == [["old"]]
    answer = sheet.batch_update(
        [
            {"range": "A1", "values": [["new"]]},
            {"range": "B1:B2", "values": [[1, 2]], "majorDimension": "COLUMNS"},
        ]
    )
    assert (answer["totalUpdatedCells"], answer["totalUpdatedSheets"]) == (3, 1)
    assert sheet.get() == [["new", "1"], ["", "2"]]


def test_clearing_leaves_notes_and_formats(make: Make, admin: SheetsAdmin):
    book = make(TABLE)
    book.sheet1.update_note("A1", "kept")
    book.sheet1.batch_clear(["A1:A2", "C:E"])
    assert book.sheet1.get() == [["", "moment"], ["", "2026-01-31 18:30:00"]]
    book.sheet1.clear()
    state = admin.tab(book.id, "Sheet1")
    assert (state.values, state.notes) == ([], {"A1": "kept"})
    assert set(state.formats) == {"A2", "B2"}


def test_rows_are_appended_below_the_last_table_and_the_grid_grows(make: Make, admin: SheetsAdmin):
    book = make(TabSpec("Sheet1", [["a", "b"], [1, 2], [], [None, "c"], [None, 3]], rows=5))
    answer = book.sheet1.append_rows([[4, 5], [6]])
    assert answer["tableRange"] == "Sheet1!B4:B5"
    assert answer["updates"]["updatedRange"] == "Sheet1!B6:C7"
    book.sheet1.append_row(
        [7, 8], table_range="A1:B1", insert_data_option=InsertDataOption.insert_rows
    )
    book.sheet1.insert_row(["top"], 1)
    state = admin.tab(book.id, "Sheet1")
    assert state.values == [
        ["top"], ["a", "b"], [1, 2], [7, 8], [], ["", "c"], ["", 3], ["", 4, 5], ["", 6],
    ]  # fmt: skip
    assert state.rows == 9


# batchUpdate


def test_tabs_are_added_copied_moved_renamed_hidden_and_deleted(make: Make, admin: SheetsAdmin):
    book = make(TabSpec("one", [[1]], frozen_rows=1))
    two = book.add_worksheet("two", rows=10, cols=4, index=0)
    copy = book.worksheet("one").duplicate(new_sheet_name="one again", insert_sheet_index=2)
    assert [sheet.title for sheet in book.worksheets()] == ["two", "one", "one again"]
    assert copy.get() == [["1"]]
    two.update_title("2")
    two.update_index(3)
    assert [sheet.title for sheet in book.worksheets()] == ["one", "one again", "2"]
    two.freeze(rows=2)
    two.resize(rows=20, cols=5)
    two.hide()
    state = admin.tab(book.id, "2")
    assert (state.rows, state.columns, state.frozen_rows, state.hidden) == (20, 5, 2, True)
    book.del_worksheet(copy)
    with pytest.raises(APIError, match="You can't remove all the visible sheets in a document"):
        book.del_worksheet(book.worksheet("one"))
    with pytest.raises(APIError, match='A sheet with the name "ONE" already exists'):
        book.add_worksheet("ONE", 1, 1)


def test_values_are_pasted_and_formats_and_notes_stay(make: Make, admin: SheetsAdmin):
    bold = {"textFormat": {"bold": True}}
    book = make(
        TabSpec(
            "Sheet1",
            [
                [{"value": "=1", "format": bold}, 2, {"value": "old", "note": "n"}, "old"],
                [None, "007", {"value": "old", "format": bold}, "old", "other"],
            ],
        )
    )
    book.sheet1.copy_range("A1:B2", "C1:D2", paste_type=PasteType.values)
    state = admin.tab(book.id, "Sheet1")
    assert state.values == [["=1", 2, "=1", 2], ["", "007", "", "007", "other"]]
    assert state.formats == {"A1": bold, "C2": bold}
    assert state.notes == {"C1": "n"}
    with pytest.raises(APIError, match="as large as the source, or some times as large"):
        book.sheet1.copy_range("A1:B2", "C1:E2", paste_type=PasteType.values)
    with pytest.raises(APIError, match="pasteType"):
        book.sheet1.copy_range("A1:B2", "C1:D2", paste_type=PasteType.normal)


def test_a_format_is_pasted_down_a_column_and_values_stay(make: Make, admin: SheetsAdmin):
    date_format = {"numberFormat": {"type": "DATE", "pattern": "d mmm"}}
    book = make(TabSpec("Sheet1", [[{"value": 46053, "format": date_format}], [46054], [46055]]))
    book.sheet1.add_validation("A1", ValidationConditionType.boolean, ["46053"])
    book.sheet1.copy_range("A1", "A2:A3", paste_type=PasteType.format)
    assert admin.tab(book.id, "Sheet1").formatted == [["31 Jan"], ["1 Feb"], ["2 Feb"]]
    assert "dataValidation" in read_cells(book, "A3")[0]


def test_rows_move_before_another_as_they_stand_before_the_move(make: Make, admin: SheetsAdmin):
    book = make(TabSpec("Sheet1", [[{"value": n, "note": str(n)}] for n in range(5)], rows=5))

    def move(start: int, end: int, to: int) -> list[Any]:
        source = {"sheetId": 0, "dimension": "ROWS", "startIndex": start, "endIndex": end}
        request = {"moveDimension": {"source": source, "destinationIndex": to}}
        book.batch_update({"requests": [request]})
        return [row[0] for row in admin.tab(book.id, "Sheet1").values]

    # Google's own example: "1" and "2" go between "3" and "4" with the destination 4.
    assert move(1, 3, 4) == [0, 3, 1, 2, 4]
    assert move(2, 4, 0) == [1, 2, 0, 3, 4]
    assert admin.tab(book.id, "Sheet1").notes == {
        f"A{n + 1}": str(v) for n, v in enumerate([1, 2, 0, 3, 4])
    }
    with pytest.raises(APIError, match="into themselves"):
        move(0, 3, 1)
    with pytest.raises(APIError, match="to index 6 of 5"):
        move(0, 1, 6)


def read_cells(book: gspread.Spreadsheet, cells: str) -> list[dict[str, Any]]:
    """The ``CellData`` of the first row of a range."""
    grid = book.fetch_sheet_metadata({"includeGridData": "true", "ranges": f"Sheet1!{cells}"})
    found: list[dict[str, Any]] = grid["sheets"][0]["data"][0]["rowData"][0]["values"]
    return found


@pytest.mark.parametrize("error", list(ErrorType))
def test_an_error_is_a_text_among_values_and_a_typed_error_in_a_cell(make: Make, error: ErrorType):
    book = make(TabSpec("Sheet1", [[{"error": error.name, "formula": "=A0"}, str(error)]]))
    for option in (UNFORMATTED, ValueRenderOption.formatted):
        assert book.sheet1.get(value_render_option=option) == [[error, error]]
    computed, typed = read_cells(book, "A1:B1")
    assert computed["userEnteredValue"] == {"formulaValue": "=A0"}
    assert computed["effectiveValue"]["errorValue"]["type"] == error.name
    assert computed["formattedValue"] == error
    assert typed["effectiveValue"] == {"stringValue": error}


def test_a_check_box_is_a_rule_of_its_cell(make: Make):
    book = make(TabSpec("Sheet1", [["task", False]]))
    book.sheet1.add_validation("B1:B2", ValidationConditionType.boolean, [])
    task, box = read_cells(book, "A1:B1")
    assert "dataValidation" not in task
    assert box["dataValidation"]["condition"]["type"] == "BOOLEAN"
    with pytest.raises(APIError, match="no data validation but BOOLEAN"):
        book.sheet1.add_validation("B1", ValidationConditionType.number_greater, [1])
    with pytest.raises(APIError, match="two values at most"):
        book.sheet1.add_validation("B1", ValidationConditionType.boolean, ["a", "b", "c"])


def test_rows_and_columns_are_inserted_deleted_and_appended(make: Make, admin: SheetsAdmin):
    book = make(TabSpec("Sheet1", [[1, 2], [3, 4], [5, 6]], rows=3, columns=2, frozen_rows=1))
    sheet = book.sheet1
    sheet.update_note("B3", "six")
    sheet.delete_rows(2)
    sheet.insert_cols([["x"]], 1)
    sheet.add_rows(4)
    state = admin.tab(book.id, "Sheet1")
    assert (state.values, state.notes) == ([["x", 1, 2], ["", 5, 6]], {"C2": "six"})
    assert (state.rows, state.columns, state.frozen_rows) == (6, 3, 1)
    with pytest.raises(APIError, match="not possible to delete all non-frozen rows"):
        sheet.delete_rows(2, 6)
    with pytest.raises(APIError, match="there are only 6 rows"):
        sheet.delete_rows(7)
    sheet.resize(rows=2, cols=2)
    assert admin.tab(book.id, "Sheet1").values == [["x", 1], ["", 5]]


def test_update_cells_writes_what_the_mask_names_and_clears_the_rest_of_a_range(
    make: Make, admin: SheetsAdmin
):
    book = make(
        TabSpec("Sheet1", [["head", {"value": 1, "note": "n"}], ["old", "mine"], ["old", "x"]])
    )
    whole = {"sheetId": 0, "startRowIndex": 0, "endRowIndex": 3, "endColumnIndex": 1}
    date_format = {"numberFormat": {"type": "DATE", "pattern": "d mmm yyyy"}}
    book.batch_update(
        {
            "requests": [
                cells_request(
                    [
                        [{"userEnteredValue": {"stringValue": "month"}, "note": "refreshed"}],
                        [
                            {
                                "userEnteredValue": {"numberValue": 46053},
                                "userEnteredFormat": date_format,
                            }
                        ],
                    ],
                    start=None,
                    range=whole,
                    fields="userEnteredValue,userEnteredFormat.numberFormat,note",
                ),
                cells_request([[{}, {"userEnteredValue": {"boolValue": True}}]], fields="note"),
            ]
        }
    )
    state = admin.tab(book.id, "Sheet1")
    assert state.formatted == [["month", "1"], ["31 Jan 2026", "mine"], ["", "x"]]
    assert state.notes == {}
    assert state.formats == {"A2": date_format}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"findReplace": {}}, r"Unknown name \"findReplace\" at 'requests\[1\]'"),
        ({"addSheet": {"properties": {"color": 1}}}, r"requests\[1\].addSheet: properties.color"),
        ({"deleteSheet": {"sheetId": 77}}, r"requests\[1\].deleteSheet: No sheet with id: 77"),
        (cells_request([[{}]], fields=""), "At least one field must be listed in 'fields'"),
        (cells_request([[{}]], fields="colour"), "does not know the cell field 'colour'"),
        (cells_request([[{"userEnteredFormat": 5}]], fields="*"), "'userEnteredFormat' is an"),
        (
            cells_request([[{"userEnteredFormat": {"numberFormat": "x"}}]], fields="*"),
            "'numberFormat' is an object",
        ),
        (cells_request([[{"note": 5}]], fields="note"), "a note is a text"),
        (cells_request([[{}], [{}], [{}]]), "beyond the last requested row of: 1"),
        (cells_request([[{"userEnteredValue": {"numberValue": "1"}}]]), "numberValue"),
        (cells_request([[{"userEnteredValue": {"formulaValue": "=1"}}]]), "evaluate formulas"),
        (
            {"repeatCell": {"range": {"startRowIndex": 2}, "cell": {}, "fields": "note"}},
            r"Range \(Sheet1!A3:B\) exceeds grid limits. Max rows: 2, max columns: 2",
        ),
        (
            {"appendDimension": {"dimension": "ROWS", "length": 10_000_000}},
            "above the limit of 10000000 cells",
        ),
        ({"updateSheetProperties": {"properties": {"gridProperties": {"frozenRowCount": 2}},
                                    "fields": "gridProperties.frozenRowCount"}},
         "You can't freeze all visible rows"),
    ],
)  # fmt: skip
def test_one_bad_request_undoes_the_batch(
    make: Make, admin: SheetsAdmin, request_: dict[str, Any], message: str
):
    book = make(TabSpec("Sheet1", [["old"]], rows=2, columns=2))
    before = admin.tab(book.id, "Sheet1")
    good = cells_request([[{"userEnteredValue": {"stringValue": "new"}}]])
    add = {"addSheet": {"properties": {"title": "staging"}}}
    with pytest.raises(APIError, match=message):
        book.batch_update({"requests": [good, request_, add]})
    assert admin.tab(book.id, "Sheet1") == before
    assert [sheet.title for sheet in book.worksheets()] == ["Sheet1"]


def test_a_staged_tab_takes_the_place_of_another_in_one_request(make: Make):
    book = make(TabSpec("live", [["old"]]), TabSpec("other"))
    staged = book.add_worksheet("live (new)", rows=10, cols=2)
    staged.update([["new"]])
    live = book.worksheet("live")
    properties = {"sheetId": staged.id, "title": "live", "index": 0}
    book.batch_update(
        {
            "requests": [
                {"deleteSheet": {"sheetId": live.id}},
                {"updateSheetProperties": {"properties": properties, "fields": "title,index"}},
            ]
        }
    )
    assert [sheet.title for sheet in book.worksheets()] == ["live", "other"]
    assert book.worksheet("live").get() == [["new"]]


def test_a_spreadsheet_is_created_through_the_api(client: gspread.Client):
    body = {"properties": {"title": "Made"}, "sheets": [{"properties": {"title": "tab"}}]}
    made = client.http_client.request("post", f"{GOOGLE}/v4/spreadsheets", json=body).json()
    book = client.open_by_key(made["spreadsheetId"])
    assert (book.title, book.sheet1.title, book.sheet1.id) == ("Made", "tab", 0)
    assert client.open_by_url(made["spreadsheetUrl"]).id == book.id


scalars = (
    st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**53), 2**53)
    | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(scalars, min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_update_cells_writes_comes_back_unchanged(
    client: gspread.Client, property_book: str, rows: list[list[Any]]
):
    kinds = {bool: "boolValue", int: "numberValue", float: "numberValue", str: "stringValue"}
    data = [[{"userEnteredValue": {kinds[type(value)]: value}} for value in row] for row in rows]
    whole = {"sheetId": 0, "endRowIndex": 4, "endColumnIndex": 4}
    http = client.http_client
    http.batch_update(property_book, {"requests": [cells_request(data, start=None, range=whole)]})
    read = http.values_get(property_book, "Sheet1", {"valueRenderOption": "UNFORMATTED_VALUE"})[
        "values"
    ]
    assert read == rows
    assert [[type(v) in (bool, str) for v in row] for row in read] == [
        [type(v) in (bool, str) for v in row] for row in rows
    ]


@pytest.fixture(scope="module")
def property_book(server: GoogleSheetsServer) -> str:
    tab = TabSpec("Sheet1", rows=10, columns=4)
    return server.admin().create("Property", [tab], {ACCOUNT_EMAIL: "writer"})


# Formats and masks


@pytest.mark.parametrize(
    ("value", "kind", "pattern", "text"),
    [
        (1234567.891, "NUMBER", "#,##0.00", "1,234,567.89"),
        (-1234.5, "CURRENCY", "$#,##0.00", "-$1,234.50"),
        (0.125, "PERCENT", "0.0%", "12.5%"),
        (2.5, "NUMBER", "0", "3"),
        (5.0, "NUMBER", "000", "005"),
        (12345.0, "SCIENTIFIC", "0.00E+00", "1.23E+04"),
        (46053.75, "DATE_TIME", "yyyy-mm-dd hh:mm:ss", "2026-01-31 18:00:00"),
        (46053.5, "DATE", "ddd, mmmm d, yyyy", "Sat, January 31, 2026"),
        (0.75, "TIME", "h:mm am/pm", "6:00 PM"),
        (1.52, "TIME", "[h]:mm:ss", "36:28:48"),
        (5.0, "CURRENCY", "[$€-407]#,##0.00", "€5.00"),
        (1e20, "TEXT", "@", "1E+20"),
        (100000000000000.0, "TEXT", "@", "100000000000000"),
        (1 / 3, "TEXT", "@", "0.3333333333"),
    ],
)
def test_numbers_and_dates_are_shown_by_their_pattern(
    value: float, kind: str, pattern: str, text: str
):
    number_format = {"type": kind, "pattern": pattern}
    formats.check(number_format, "here")
    assert formats.format_value(value, number_format) == text


def test_a_pattern_that_cannot_be_shown_is_refused():
    with pytest.raises(ApiError, match="cannot show the pattern"):
        formats.check({"type": "NUMBER", "pattern": "[red]0;[blue](0)"}, "here")


def test_a_mask_may_be_written_in_several_ways():
    tree: dict[str, Any] = {"a": {"b": {}, "c": {"d": {}}}}
    for text in ("a(b,c(d))", "a.b,a.c.d", "a/b, a/c/d"):
        assert fields.parse(text) == tree
    assert fields.parse("*") == {}
    assert fields.parse("a.b,a") == fields.parse("a,a.b") == {"a": {}}
    with pytest.raises(ApiError):
        fields.parse("a(b")


# Faults


def test_errors_are_answered_as_scripted_and_nothing_is_tried_again(make: Make, admin: SheetsAdmin):
    sheet = make().sheet1
    admin.add_fault(Fault(action="status", status=429, retry_after=7))
    admin.add_fault(Fault(action="status", status=503, requests="write", after=1, times=2))
    admin.clear_requests()
    with pytest.raises(APIError, match=r"\[429\]: Quota exceeded") as refused:
        sheet.get()
    assert refused.value.response.headers["Retry-After"] == "7"
    assert refused.value.error["status"] == "RESOURCE_EXHAUSTED"
    sheet.update([["first"]])
    for _ in range(2):
        with pytest.raises(APIError, match=r"\[503\]"):
            sheet.update([["second"]])
    assert sheet.get() == [["first"]]
    assert [(entry.method, entry.status, entry.fault) for entry in admin.requests()] == [
        ("GET", 429, "status"),
        ("PUT", 200, None),
        ("PUT", 503, "status"),
        ("PUT", 503, "status"),
        ("GET", 200, None),
    ]


@pytest.mark.parametrize(
    ("fault", "value"),
    [
        (Fault(action="cut"), "old"),
        (Fault(action="cut", applied=True), "new"),
        (Fault(action="cut_body"), "new"),
        (Fault(action="status", status=500, applied=True), "new"),
    ],
)
def test_a_fault_strikes_before_or_after_the_request_is_applied(
    make: Make, admin: SheetsAdmin, fault: Fault, value: str
):
    book = make(TabSpec("Sheet1", [["old"]]))
    sheet = book.sheet1
    admin.add_fault(fault)
    expected = APIError if fault.action == "status" else requests.exceptions.RequestException
    with pytest.raises(expected):
        sheet.update([["new"]])
    assert admin.tab(book.id, "Sheet1").values == [[value]]
    assert sheet.get() == [[value]]


def test_a_slow_answer_meets_the_clients_timeout(
    server: GoogleSheetsServer, make: Make, admin: SheetsAdmin
):
    client = connect(server)
    book = client.open_by_key(make().id)
    client.set_timeout(0.2)
    admin.add_fault(Fault(action="delay", delay=1.0, path=f"{book.id}/values"))
    with pytest.raises(requests.exceptions.ReadTimeout):
        book.values_get("A1")
    assert book.values_get("A1")["range"] == "Sheet1!A1"


def test_a_fault_that_makes_no_sense_is_refused(admin: SheetsAdmin):
    with pytest.raises(StandinError, match="That is no fault"):
        admin.add_fault(Fault(action="cut", path="("))


# The process


def test_spreadsheets_and_the_key_survive_a_restart(tmp_path: Path):
    with GoogleSheetsServer(tmp_path) as server:
        key = server.admin().create("Kept", [TABLE], {ACCOUNT_EMAIL: "writer"})
        book = connect(server).open_by_key(key)
        book.sheet1.update_note("A1", "kept")
        before = server.admin().tab(key, "Sheet1")
        private_key = server.service_account_key()["private_key"]
        server.stop()
        with pytest.raises(StandinError, match="No Google Sheets stand-in runs on"):
            _ = server.endpoint
        server.start()
        assert server.service_account_key()["private_key"] == private_key
        assert server.admin().tab(key, "Sheet1") == before
        assert connect(server).open_by_key(key).sheet1.get_note("A1") == "kept"


def test_a_folder_has_one_server_at_a_time(server: GoogleSheetsServer):
    with pytest.raises(StandinError, match="in use by another sheets-standin"):
        GoogleSheetsServer(server.folder).start()
    assert server.admin().spreadsheets() is not None


def test_a_port_that_is_taken_is_named(server: GoogleSheetsServer, tmp_path: Path):
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(StandinError, match=f"Nobody can listen on port {port}"):
        GoogleSheetsServer(tmp_path, port).start()


def test_a_client_that_stays_does_not_hold_up_the_stop(tmp_path: Path):
    with GoogleSheetsServer(tmp_path) as server:
        key = server.admin().create("Slow", [TABLE], {ACCOUNT_EMAIL: "writer"})
        book = connect(server).open_by_key(key)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 5
        with pytest.raises(requests.exceptions.ConnectionError):
            book.sheet1.get_all_values()


def test_a_kill_leaves_a_batch_whole_or_undone(tmp_path: Path):
    command = [sys.executable, "-m", "sheets_standin", "serve", "--port", "0"]
    command += ["--folder", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert any("Ready." in line for line in process.stdout)
        endpoint = SheetsEndpoint.read(tmp_path)
        tab = TabSpec("Sheet1", [[0] * 20] * 500, rows=500, columns=20)
        key = endpoint.admin().create("Killed", [tab], {endpoint.email: "writer"})
        book = gspread_client.connect(endpoint).open_by_key(key)
        answered = 0
        enough = threading.Event()

        def write() -> None:
            nonlocal answered
            for number in range(1, 1000):
                cell = {"userEnteredValue": {"numberValue": number}}
                whole = {"sheetId": 0, "endRowIndex": 500, "endColumnIndex": 20}
                repeat = {"range": whole, "cell": cell, "fields": "userEnteredValue"}
                try:
                    book.batch_update({"requests": [{"repeatCell": repeat}]})
                except requests.exceptions.RequestException:
                    return
                answered = number
                if number >= 3:
                    enough.set()

        writer = threading.Thread(target=write)
        writer.start()
        assert enough.wait(timeout=20)
        process.kill()
        writer.join(timeout=20)
    with GoogleSheetsServer(tmp_path) as server:
        values = server.admin().tab(key, "Sheet1").values
        [number] = {value for row in values for value in row}
        assert number in (answered, answered + 1)
        assert [len(row) for row in values] == [20] * 500


def test_a_state_file_holds_everything(make: Make, server: GoogleSheetsServer):
    error = {"error": "REF", "formula": "=A0"}
    box = {"value": False, "validation": {"condition": {"type": "BOOLEAN"}}}
    book = make(TABLE, TabSpec("two", [[{"formula": "=1", "value": 1, "note": "n"}, error, box]]))
    file = server.folder / "spreadsheets" / f"{book.id}.json"
    data = json.loads(file.read_text())
    assert Spreadsheet.from_json(data).to_json() == data


# The pages


def test_the_pages_show_the_grids_and_no_markup_of_the_cells(
    server: GoogleSheetsServer, make: Make
):
    evil = "<script>alert('x')</script>"
    book = make(TabSpec(evil, [["a", {"value": evil, "note": '" onmouseover="x'}]], frozen_rows=1))
    for path in (f"/spreadsheets/{book.id}", f"/spreadsheets/d/{book.id}/edit"):
        page = requests.get(server.url + path, timeout=10)
        assert page.status_code == 200
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "<script" not in page.text
        assert "&lt;script&gt;" in page.text
        assert 'title="&#34; onmouseover=&#34;x"' in page.text
        assert '<tr class="frozen last"><th>1</th>' in page.text
        assert "<th>A</th>" in page.text
    index = requests.get(server.url, timeout=10).text
    assert f"/spreadsheets/{book.id}" in index
    for secret in (server.endpoint.admin_token, server.service_account_key()["private_key"]):
        assert secret not in index + page.text
    assert requests.get(f"{server.url}/spreadsheets/nothing", timeout=10).status_code == 404


def test_a_foreign_host_name_is_refused(server: GoogleSheetsServer):
    page = requests.get(server.url, headers={"Host": "evil.example"}, timeout=10)
    assert page.status_code == 400


def test_reset_forgets_everything(tmp_path: Path):
    with GoogleSheetsServer(tmp_path) as server:
        admin = server.admin()
        key = admin.create("Gone", [TABLE], spreadsheet_id="a-chosen-key")
        assert key == "a-chosen-key"
        assert [(each.spreadsheet_id, each.title) for each in admin.spreadsheets()] == [
            ("a-chosen-key", "Gone")
        ]
        admin.reset()
        with pytest.raises(StandinError, match="not found"):
            admin.tab(key, "Sheet1")
        assert list((server.folder / "spreadsheets").iterdir()) == []
