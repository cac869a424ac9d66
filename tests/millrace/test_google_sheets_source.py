from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from gspread.utils import ValidationConditionType

from millrace.batch import WHOLE_TABLE, Batch
from millrace.errors import (
    DeclarationError,
    MillraceError,
    SheetRefused,
    SheetUnavailable,
    SourceMismatch,
    SpreadsheetNotFound,
    ValueDoesNotFit,
)
from millrace.landing.landing import Landing
from millrace.sources.base import open_source
from millrace.sources.google_sheets.source import GoogleSheetSource
from millrace.sources.mysql.options import MySQLOptions
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse
from sheets_standin import Fault, GoogleSheetsServer, TabSpec
from sheets_standin.accounts import new_key
from sheets_standin.cells import ErrorType
from tests.millrace.sheets import Workbook, targets

pytestmark = pytest.mark.service

COLUMNS = {"month": "date", "segment": "string", "target_nps": "decimal(5,2)"}
OCTOBER, NOVEMBER = date(2026, 10, 1), date(2026, 11, 1)
ROWS = [(OCTOBER, "007", 31.1), (NOVEMBER, "b2c", 12)]
GOOD = [
    {"month": OCTOBER, "segment": "007", "target_nps": Decimal("31.10")},
    {"month": NOVEMBER, "segment": "b2c", "target_nps": Decimal("12.00")},
]


@pytest.fixture
def open_workbook(google_sheets: GoogleSheetsServer) -> Any:
    return lambda *tabs, **options: Workbook(google_sheets, *tabs, **options)


def test_a_tab_becomes_typed_rows_in_one_request(open_workbook: Any):
    workbook = open_workbook(targets(*ROWS))
    table = workbook.extract(columns=COLUMNS)
    assert table.schema == pa.schema(
        [("month", pa.date32()), ("segment", pa.string()), ("target_nps", pa.decimal128(5, 2))]
    )
    assert table.to_pylist() == GOOD
    assert workbook.requests() == [f"GET /v4/spreadsheets/{workbook.key}"]


def test_every_type_comes_exactly(open_workbook: Any):
    types = {
        "text": "string",
        "whole": "integer",
        "ratio": "double",
        "price": "decimal(15,4)",
        "active": "boolean",
        "day": "date",
        "moment": "datetime",
    }
    moment = datetime(2026, 11, 20, 9, 41, 7)
    workbook = open_workbook(
        targets(
            ["00123", 42, 0.1 + 0.2, 0.1 + 0.2, True, NOVEMBER, moment],
            ["=1+1", "42", "0.5", "0.3000", "false", "2026-11-01", "2026-11-20 09:41:07"],
            headings=list(types),
        )
    )
    assert workbook.extract(columns=types).to_pylist() == [
        {
            "text": "00123",
            "whole": 42,
            "ratio": 0.1 + 0.2,
            "price": Decimal("0.3000"),
            "active": True,
            "day": NOVEMBER,
            "moment": moment,
        },
        {
            "text": "=1+1",
            "whole": 42,
            "ratio": 0.5,
            "price": Decimal("0.3000"),
            "active": False,
            "day": NOVEMBER,
            "moment": moment,
        },
    ]


def test_an_empty_cell_is_null_and_blank_rows_are_skipped_unless_told(open_workbook: Any):
    workbook = open_workbook(targets((OCTOBER, "", None), (), (NOVEMBER, "b2c")))
    skipped = workbook.extract(columns=COLUMNS)
    assert skipped.to_pylist() == [
        {"month": OCTOBER, "segment": None, "target_nps": None},
        {"month": NOVEMBER, "segment": "b2c", "target_nps": None},
    ]
    kept = workbook.extract(columns=COLUMNS, skip_blank_rows=False)
    assert kept["month"].to_pylist() == [OCTOBER, None, NOVEMBER]


def test_a_tab_with_headings_only_is_no_rows(open_workbook: Any):
    table = open_workbook(targets()).extract(columns=COLUMNS)
    assert table.num_rows == 0
    assert table.schema.names == list(COLUMNS)


@pytest.mark.parametrize(
    "options",
    [
        {"range": "B3:D"},
        {"range": "B3:D5"},
        {"range": "B1:D", "header_row": 3},
        {"range": "B:D", "header_row": 3},
    ],
    ids=str,
)
def test_a_table_may_lie_anywhere_in_a_tab(open_workbook: Any, options: dict[str, Any]):
    workbook = open_workbook(
        TabSpec(
            "targets",
            [
                ["Targets of 2026", "ask Ann"],
                [],
                ["", "Month", "Segment", "Target NPS", "Note"],
                ["", *ROWS[0], "x"],
                ["", *ROWS[1], "y"],
            ],
        )
    )
    assert workbook.extract(columns=COLUMNS, **options).to_pylist() == GOOD


def test_a_misfit_in_a_range_is_named_by_its_place_in_the_tab(open_workbook: Any):
    workbook = open_workbook(
        TabSpec("targets", [["", ""], ["", "Month"], ["", OCTOBER], ["", "soon"]])
    )
    with pytest.raises(ValueDoesNotFit, match=r'targets!B4: "soon" is not a date'):
        workbook.extract(columns={"month": "date"}, range="B1:B", header_row=2)


def test_a_header_row_above_the_range_is_refused(open_workbook: Any):
    with pytest.raises(DeclarationError, match="header_row 1 is above the range B3:D"):
        open_workbook(targets()).extract(columns=COLUMNS, range="B3:D", header_row=1)


def test_a_tabs_title_may_have_apostrophes_and_exclamation_marks(open_workbook: Any):
    title = "Bob's targets! A1:B2"
    workbook = open_workbook(TabSpec(title, [["Month"], [OCTOBER]]))
    table = workbook.extract(tab=title, columns={"month": "date"})
    assert table.to_pylist() == [{"month": OCTOBER}]


def test_all_cells_that_do_not_fit_are_listed_at_once(open_workbook: Any):
    workbook = open_workbook(targets(("soon", "b2b", "n/a"), (OCTOBER, "b2b", 1.234)))
    with pytest.raises(ValueDoesNotFit) as refused:
        workbook.extract(columns=COLUMNS)
    for problem in (
        "3 cells of targets",
        'targets!A2: "soon" is not a date',
        'targets!C2: "n/a" is not a decimal',
        "targets!C3: 1.234 has more than 2 decimals",
    ):
        assert problem in str(refused.value)


def test_duplicate_and_missing_headings_are_listed_at_once(open_workbook: Any):
    workbook = open_workbook(
        targets((OCTOBER, "b2b", "stray", 1), headings=["Month", "Segment", "", "segment "])
    )
    with pytest.raises(SourceMismatch) as refused:
        workbook.extract(columns=COLUMNS)
    for problem in (
        "targets!D1: 'segment' is there twice, in targets!B1 too",
        "no column 'target_nps' (headings: month, segment)",
    ):
        assert problem in str(refused.value)


def test_a_missing_tab_names_those_there_are(open_workbook: Any):
    workbook = open_workbook(TabSpec("Targets 2026"), TabSpec("Notes"))
    with pytest.raises(SourceMismatch, match="no tab 'targets'") as refused:
        workbook.extract(columns=COLUMNS)
    assert "Its tabs: Targets 2026, Notes." in str(refused.value)


def test_a_range_beyond_the_tab_is_refused(open_workbook: Any):
    workbook = open_workbook(targets())
    with pytest.raises(SourceMismatch, match="The range ZZ1:ZZ9 of targets cannot be read"):
        workbook.extract(columns=COLUMNS, range="ZZ1:ZZ9")


def test_a_spreadsheet_that_is_not_shared_names_the_account(open_workbook: Any):
    workbook = open_workbook(targets(*ROWS), role=None)
    with pytest.raises(SpreadsheetNotFound, match=f"Share it with {workbook.email}"):
        workbook.extract(columns=COLUMNS)


def test_a_viewer_is_enough_to_read(open_workbook: Any):
    workbook = open_workbook(targets(*ROWS), role="reader")
    assert workbook.extract(columns=COLUMNS).to_pylist() == GOOD


def test_a_key_is_unique_and_filled(open_workbook: Any):
    workbook = open_workbook(targets((OCTOBER, "b2b", 1), (OCTOBER, "b2b", 2), (NOVEMBER, None, 3)))
    with pytest.raises(SourceMismatch, match="primary_key does not tell apart") as refused:
        workbook.extract(columns=COLUMNS, primary_key=["month", "segment"])
    assert "month 2026-10-01, segment b2b" in str(refused.value)
    assert "month 2026-11-01, segment None" in str(refused.value)
    with pytest.raises(SourceMismatch, match="no column 'owner', which is declared"):
        workbook.extract(columns=COLUMNS, primary_key=["owner"])


def test_a_column_that_is_not_declared_stays_unless_it_is_asked_for(open_workbook: Any):
    workbook = open_workbook(targets((OCTOBER, 7), headings=["Month", "Salary (€)"]))
    assert workbook.extract(columns={"month": "date"}).schema.names == ["month"]
    asked = workbook.extract(columns={"month": "date"}, other_columns="load")
    assert asked.to_pylist() == [{"month": OCTOBER, "salary": "7"}]


def test_headings_that_are_signs_or_decomposed_count(open_workbook: Any):
    decomposed = unicodedata.normalize("NFD", "Prénom")
    workbook = open_workbook(
        targets(("Zoé", 0.5, 1, "x"), headings=[decomposed, "%", "№", "🎉"]),
    )
    columns = {unicodedata.normalize("NFD", "prénom"): "string", "percent_sign": "double"}
    found = workbook.extract(columns=columns, primary_key=[unicodedata.normalize("NFD", "prénom")])
    assert found.to_pylist() == [{"prénom": "Zoé", "percent_sign": 0.5}]
    everything = workbook.extract(columns=columns, other_columns="load")
    assert everything.schema.names == ["prénom", "percent_sign", "numero_sign", "party_popper"]


def test_a_personal_column_is_left_out_however_its_accents_are_written(open_workbook: Any):
    workbook = open_workbook(targets(("Zoé", 1), headings=["Prénom", "n"]))
    source = GoogleSheetSource(workbook.connection())
    table = workbook.table(columns={"prénom": "string", "n": "integer"})
    decomposed = unicodedata.normalize("NFD", "prénom")
    with source.extract(table, WHOLE_TABLE, without=frozenset({decomposed})) as extraction:
        assert extraction.schema.names == ["n"]


def test_a_heading_may_be_a_label(open_workbook: Any):
    workbook = open_workbook(targets((OCTOBER, 7), headings=["Monat", "Ziel (NPS)"]))
    columns = {"month": "date", "target_nps": "double"}
    labels = {"month": "monat", "target_nps": "Ziel (NPS)"}
    found = workbook.extract(columns=columns, labels=labels)
    assert found.to_pylist() == [{"month": OCTOBER, "target_nps": 7}]
    with pytest.raises(SourceMismatch, match=r"no column 'monat' \(headings: month"):
        open_workbook(targets(*ROWS)).extract(columns=columns, labels=labels)


def test_a_title_above_the_table_is_passed_over(open_workbook: Any):
    workbook = open_workbook(targets(*ROWS))
    workbook.judge.worksheet("targets").insert_rows([["Targets, please keep tidy"], []], row=1)
    assert workbook.extract(columns=COLUMNS).to_pylist() == GOOD
    with pytest.raises(SourceMismatch, match="no column 'month'"):
        workbook.extract(columns=COLUMNS, header_row=1)


ERRORS = ["ERROR", "NULL_VALUE", "DIVIDE_BY_ZERO", "VALUE", "REF", "NAME", "NUM", "N_A"]


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("at", ["month", "segment", "target_nps"])
def test_an_error_in_any_column_or_key_is_refused_with_its_cell(
    open_workbook: Any, error: str, at: str
):
    bad: list[Any] = [*ROWS[1]]
    place = list(COLUMNS).index(at)
    bad[place] = {"error": error, "formula": "=A0"}
    workbook = open_workbook(targets(ROWS[0], bad))
    where = f"targets!{'ABC'[place]}3: the formula ends in {re.escape(ErrorType[error])}"
    with pytest.raises(ValueDoesNotFit, match=where):
        workbook.extract(columns=COLUMNS, primary_key=["month", "segment"])


def test_an_error_beside_what_is_declared_is_nobodys_matter(open_workbook: Any):
    error = {"error": "REF", "formula": "=A0"}
    workbook = open_workbook(targets((*ROWS[0], error), (*ROWS[1], error)))
    assert workbook.extract(columns=COLUMNS).to_pylist() == GOOD


def test_a_text_that_looks_like_an_error_is_a_text(open_workbook: Any):
    workbook = open_workbook(targets((OCTOBER, "#N/A", 31.1)))
    assert workbook.extract(columns=COLUMNS)["segment"].to_pylist() == ["#N/A"]


def test_a_cell_that_google_still_computes_is_tried_again_later(open_workbook: Any):
    loading = {"error": "LOADING", "formula": "=IMPORTRANGE()"}
    workbook = open_workbook(targets(ROWS[0], (NOVEMBER, loading, 1)))
    with pytest.raises(SheetUnavailable, match="still computing targets!B3") as refused:
        workbook.extract(columns=COLUMNS)
    assert refused.value.may_pass


def typed(value: float, kind: str, pattern: str) -> dict[str, Any]:
    return {"value": value, "format": {"numberFormat": {"type": kind, "pattern": pattern}}}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ((46143, "b2c", 1), "targets!A3: 46143 is a number, not a date"),
        ((1905, "b2c", 1), "targets!A3: 1905 is a number, not a date"),
        ((NOVEMBER, "b2c", OCTOBER), "targets!C3: 2026-10-01 is a date, not a decimal"),
        ((NOVEMBER, OCTOBER, 1), "targets!B3: 2026-10-01 is a date, not a text"),
        ((NOVEMBER, "b2c", typed(0.45, "PERCENT", "0%")), "targets!C3: 45% is a percentage"),
        ((NOVEMBER, "b2c", typed(1.5, "TIME", "[h]:mm")), "targets!C3: 1 day, 12:00:00 is a time"),
        ((NOVEMBER, typed(7, "NUMBER", "000"), 1), "targets!B3: 7 is shown by the format 000"),
        ((NOVEMBER, 12345678901234567, 1), "targets!B3: 12345678901234568 has more than the 15"),
        ((NOVEMBER, "b2c", "1_0"), 'targets!C3: "1_0" is not a decimal'),
    ],
)
def test_what_a_person_sees_as_something_else_is_refused_with_its_cell(
    open_workbook: Any, row: tuple[Any, ...], says: str
):
    with pytest.raises(ValueDoesNotFit, match=re.escape(says)):
        open_workbook(targets(ROWS[0], row)).extract(columns=COLUMNS)


def test_a_column_of_percentages_is_declared_as_such(open_workbook: Any):
    share = typed(0.45, "PERCENT", "0.0%")
    workbook = open_workbook(targets((share,), headings=["Share"]))
    assert workbook.extract(columns={"share": "percent"}).to_pylist() == [{"share": 0.45}]


def test_two_currencies_beside_each_other_are_refused_with_the_cell(open_workbook: Any):
    euro, dollar = (typed(5, "CURRENCY", pattern) for pattern in ("[$€-407]0.00", '"$"0.00'))
    workbook = open_workbook(targets((euro,), (euro,), (dollar,), headings=["Price"]))
    with pytest.raises(ValueDoesNotFit, match=r"targets!A4: is in \$, and others .* in €"):
        workbook.extract(columns={"price": "double"})


@pytest.mark.parametrize("values", [[], ["yes", "no"], ["yes"], ["1", "0"]], ids=str)
def test_rows_of_nothing_but_unticked_check_boxes_are_blank(open_workbook: Any, values: list[str]):
    workbook = open_workbook(TabSpec("targets", [["Task", "Done"], ["write"], ["read"]], rows=503))
    sheet = workbook.judge.worksheet("targets")
    sheet.add_validation("B2:B503", ValidationConditionType.boolean, values)
    ticked: Any = values[0] if values else True
    unticked: Any = False if not values else values[1] if values[1:] else ""
    if values == ["1", "0"]:
        ticked, unticked = 1, 0
    sheet.update([[ticked], *[[unticked]] * 501], "B2", raw=True)
    columns = {"task": "string", "done": "boolean" if not values else "string"}
    found = workbook.extract(columns=columns)
    assert found["task"].to_pylist() == ["write", "read"]
    kept = workbook.extract(columns=columns, skip_blank_rows=False)
    assert kept.num_rows == (502 if values != ["yes"] else 2)


def test_a_column_may_be_left_out(open_workbook: Any):
    workbook = open_workbook(targets(*ROWS))
    source = GoogleSheetSource(workbook.connection())
    with source.extract(
        workbook.table(columns=COLUMNS), WHOLE_TABLE, without=frozenset({"segment"})
    ) as extraction:
        assert extraction.schema.names == ["month", "target_nps"]


def test_a_table_of_another_kind_is_refused(workbook: Workbook):
    source = open_source("google_sheet", workbook.connection())
    assert isinstance(source, GoogleSheetSource)
    table = workbook.table(columns=COLUMNS)
    mysql = MySQLOptions(kind="mysql", connection="m", table="t", primary_key=("id",))
    other = type(table)(**{**vars(table), "options": mysql})
    with (
        pytest.raises(DeclarationError, match="is not a Google Sheet"),
        source.extract(other, WHOLE_TABLE),
    ):
        pass


def test_the_sign_in_is_checked(workbook: Workbook):
    assert GoogleSheetSource(workbook.connection()).check() == f"as {workbook.email}"


def ingest(workbook: Workbook, folder: Path, **options: Any) -> list[tuple[Any, ...]]:
    """Extract, land and load; returns the raw table."""
    table = workbook.table(columns=COLUMNS, **options)
    landing = Landing((folder / "landing").as_uri())
    source = GoogleSheetSource(workbook.connection())
    with source.extract(table, WHOLE_TABLE) as extraction:
        manifest = landing.write(
            Batch(table.key, WHOLE_TABLE), extraction.schema, extraction.batches
        )
    DuckDBWarehouse(folder / "w.duckdb").load(table, manifest, landing)
    return raw(folder)


def raw(folder: Path) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(folder / "w.duckdb")) as connection:
        return connection.execute(
            "SELECT month, segment, target_nps FROM raw_google_sheets.nps_targets ORDER BY ALL"
        ).fetchall()


def test_the_raw_table_follows_the_sheet(open_workbook: Any, tmp_path: Path):
    workbook = open_workbook(targets(*ROWS))
    assert ingest(workbook, tmp_path) == [tuple(row.values()) for row in GOOD]
    workbook.change("targets", "C2", 45.5)
    assert ingest(workbook, tmp_path)[0] == (OCTOBER, "007", Decimal("45.50"))


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda book: book.change("targets", "C3", "n/a"), ValueDoesNotFit),
        (lambda book: book.change("targets", "B1", "Month"), SourceMismatch),
        (lambda book: book.change("targets", "A1", ""), SourceMismatch),
        (lambda book: book.change("targets", "A1", "When"), SourceMismatch),
        (
            lambda book: book.judge.worksheet("targets").update_title("Old"),
            SourceMismatch,
        ),
        (lambda book: book.admin.share(book.key, book.email, None), SpreadsheetNotFound),
        (lambda book: book.admin.delete(book.key), SpreadsheetNotFound),
        (
            lambda book: book.admin.add_fault(Fault(action="status", status=403)),
            SpreadsheetNotFound,
        ),
    ],
    ids=[
        "a value that does not fit",
        "a heading twice",
        "a blank heading",
        "a missing column",
        "a missing tab",
        "no longer shared",
        "deleted",
        "forbidden",
    ],
)
def test_the_raw_table_keeps_its_last_good_content(
    open_workbook: Any, tmp_path: Path, spoil: Any, error: type[MillraceError]
):
    workbook = open_workbook(targets(*ROWS))
    good = ingest(workbook, tmp_path)
    spoil(workbook)
    with pytest.raises(error):
        ingest(workbook, tmp_path)
    assert raw(tmp_path) == good


def test_a_revoked_key_leaves_the_raw_table_too(
    open_workbook: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    workbook = open_workbook(targets(*ROWS))
    good = ingest(workbook, tmp_path)
    key = workbook.server.service_account_key()
    revoked = new_key(key["client_email"], key["token_uri"])
    monkeypatch.setattr(
        workbook, "connection", lambda: Workbook.connection(workbook, keyfile_dict=revoked)
    )
    with pytest.raises(SheetRefused, match="Make a new key"):
        ingest(workbook, tmp_path)
    assert raw(tmp_path) == good
