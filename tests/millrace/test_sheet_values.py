from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.errors import SheetUnavailable, SourceMismatch
from millrace.google_sheets.client import EPOCH, Cell, SheetCell
from millrace.google_sheets.to_columns import (
    Corner,
    FoundColumn,
    convert,
    find_columns,
    heading_row,
    shown_as,
    to_record_batch,
)

CORNER = Corner("targets", 1, 1)
DATE = {"type": "DATE", "pattern": "yyyy-mm-dd"}
DATE_TIME = {"type": "DATE_TIME", "pattern": "yyyy-mm-dd hh:mm:ss"}
DURATION = {"type": "TIME", "pattern": "[h]:mm:ss"}
PERCENT = {"type": "PERCENT", "pattern": "0%"}


def as_declared(value: Cell, type_: str) -> SheetCell:
    """A cell in the format that its column's type asks for."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    formats = {"date": DATE, "datetime": DATE_TIME, "percent": PERCENT}
    return SheetCell(value, number_format=formats.get(type_, {}) if is_number else {})


def rows_of(*rows: Sequence[Cell | SheetCell]) -> list[list[SheetCell]]:
    return [
        [cell if isinstance(cell, SheetCell) else SheetCell(cell) for cell in row] for row in rows
    ]


def day(serial: float) -> SheetCell:
    return SheetCell(serial, number_format=DATE)


@pytest.mark.parametrize(
    ("cell", "type_", "value"),
    [
        ("007", "string", "007"),
        (" a ", "string", " a "),
        (7, "string", "7"),
        (7.0, "string", "7"),
        (1.5, "string", "1.5"),
        (True, "string", "TRUE"),
        (7, "integer", 7),
        (7.0, "integer", 7),
        ("-12", "integer", -12),
        ("9223372036854775807", "integer", 2**63 - 1),
        ("-9223372036854775808", "integer", -(2**63)),
        (0.1 + 0.2, "string", "0.3"),
        (1 / 3, "string", "0.3333333333333333"),
        (999_999_999_999_999.0, "string", "999999999999999"),
        (-999_999_999_999_999, "integer", -999_999_999_999_999),
        ("1e3", "integer", 1000),
        (0.45, "percent", 0.45),
        (0.1 + 0.2, "double", 0.1 + 0.2),
        (0.1 + 0.2, "decimal(5,2)", Decimal("0.30")),
        (12, "decimal(5, 2)", Decimal("12.00")),
        (1.005, "decimal(5,3)", Decimal("1.005")),
        ("12.34", "decimal(5,2)", Decimal("12.34")),
        (999.99, "decimal(5,2)", Decimal("999.99")),
        (-999.99, "decimal(5,2)", Decimal("-999.99")),
        (True, "boolean", True),
        ("false", "boolean", False),
        (46000, "date", date(2025, 12, 9)),
        (46000.0, "date", date(2025, 12, 9)),
        ("2025-12-09", "date", date(2025, 12, 9)),
        (-1, "date", date(1899, 12, 29)),
        (46000.5, "datetime", datetime(2025, 12, 9, 12)),
        (46000, "datetime", datetime(2025, 12, 9)),
        ("2025-12-09 08:30:01", "datetime", datetime(2025, 12, 9, 8, 30, 1)),
        ("", "decimal(5,2)", None),
        (None, "string", None),
        (None, "date", None),
    ],
)
def test_a_cell_becomes_a_value_of_its_declared_type(cell: Cell, type_: str, value: Any):
    converted = convert(as_declared(cell, type_), type_)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("cell", "type_", "says"),
    [
        ("n/a", "decimal(5,2)", '"n/a" is not a decimal'),
        (True, "integer", "TRUE is not an integer"),
        (1.5, "integer", "1.5 is not an integer"),
        (2.0**60, "integer", "1152921504606847000 has more than the 15 digits"),
        (12345678901234567.0, "string", "format the column as plain text"),
        (1e15, "string", "1000000000000000 has more than the 15 digits"),
        (12345678901234567.0, "decimal(38,0)", "has more than the 15 digits"),
        (123456789012345.67, "decimal(38,2)", "has more than the 15 digits"),
        ("9223372036854775808", "integer", "64 bits"),
        ("-9223372036854775809", "integer", "64 bits"),
        ("1e999999", "integer", "64 bits"),
        ("NaN", "double", "is not a number"),
        ("Infinity", "decimal(5,2)", "is not a decimal"),
        ("inf", "double", "is not a number"),
        ("-inf", "double", "is not a number"),
        ("1e400", "double", '"1e400" is beyond what a double holds'),
        ("1e-400", "double", "beyond what a double holds"),
        ("2024_01", "integer", '"2024_01" is not an integer'),
        ("1_0", "double", "is not a number"),
        ("1_0", "decimal(5,2)", "is not a decimal"),
        ("１２", "integer", '"１２" is not an integer'),
        ("٣", "double", "is not a number"),
        ("१", "decimal(5,2)", "is not a decimal"),
        ("0x10", "integer", "is not an integer"),
        ("1,234", "integer", "is not an integer"),
        ("45%", "percent", "is not a percentage"),
        (1000, "decimal(5,2)", "more digits than decimal(5,2) holds"),
        (-1000, "decimal(5,2)", "more digits than decimal(5,2) holds"),
        (-1e15, "string", "has more than the 15 digits"),
        ("-1e400", "double", "beyond what a double holds"),
        ("1000.001", "decimal(5,2)", "more digits"),
        (1.005, "decimal(5,2)", "more than 2 decimals"),
        ("yes", "boolean", '"yes" is not a boolean'),
        (1, "boolean", "1 is not a boolean"),
        ("9.12.2025", "date", "is not a date"),
        (46000.5, "date", "it has a time of day"),
        ("2026-W47-5", "date", "is not a date"),
        ("20261120", "date", "is not a date"),
        ("２０２６-11-20", "date", "is not a date"),
        ("2026-11-20T09:41:07.1234567", "datetime", "is not a date and time"),
        (True, "date", "is not a date"),
        (1e12, "date", "is not a date"),
        (-1e6, "date", "is not a date"),
        ("2025-12-09T08:30:01+01:00", "datetime", "has a time zone"),
        ("x" * 100, "integer", f'"{"x" * 40}…" is not an integer'),
    ],
)
def test_a_cell_that_does_not_fit_is_refused_in_words(cell: Cell, type_: str, says: str):
    with pytest.raises(ValueError, match=re.escape(says)):
        convert(as_declared(cell, type_), type_)


@pytest.mark.parametrize(
    ("number", "number_format", "type_", "says"),
    [
        (46143, DATE, "integer", "2026-05-01 is a date, not an integer"),
        (46143.5, DATE_TIME, "double", "2026-05-01 12:00:00 is a date, not a number"),
        (46143, DATE, "decimal(9,2)", "2026-05-01 is a date, not a decimal"),
        (46143, DATE, "string", "2026-05-01 is a date, not a text: format the column as plain"),
        (46143, DATE, "percent", "2026-05-01 is a date, not a percentage"),
        (2026, {}, "date", "2026 is a number, not a date"),
        (2026, {"type": "NUMBER", "pattern": "0"}, "datetime", "2026 is a number, not a date and"),
        (1.5, DURATION, "double", "1 day, 12:00:00 is a time or a duration, not a number"),
        (0.5, {"type": "TIME", "pattern": "h:mm am/pm"}, "datetime", "12:00:00 is a time or a"),
        (1, DURATION, "date", "is a time or a duration, not a date"),
        (0.5, DURATION, "string", "is a time or a duration, not a text"),
        (0.45, PERCENT, "decimal(5,2)", "45% is a percentage, not a decimal"),
        (0.45, PERCENT, "double", "45% is a percentage, not a number"),
        (1, PERCENT, "integer", "100% is a percentage, not an integer"),
        (0.45, PERCENT, "string", "45% is a percentage, not a text"),
        (0.45, {"type": "NUMBER", "pattern": "0.0%"}, "double", "45% is a percentage"),
        (45, {}, "percent", "45 is a number, not a percentage"),
        (7, {"type": "NUMBER", "pattern": "00000"}, "string", "7 is shown by the format 00000"),
        (5, {"type": "CURRENCY", "pattern": '"$"#,##0.00'}, "string", "is shown by the format"),
        (1e10, {"type": "SCIENTIFIC", "pattern": "0.00E+00"}, "string", "is shown by the format"),
    ],
)
def test_a_number_is_what_its_format_shows(
    number: float, number_format: dict[str, str], type_: str, says: str
):
    with pytest.raises(ValueError, match=re.escape(says)):
        convert(SheetCell(number, number_format=number_format), type_)


@pytest.mark.parametrize(
    ("number_format", "type_", "value"),
    [
        ({"type": "CURRENCY", "pattern": '"$"#,##0.00'}, "double", 5.0),
        ({"type": "SCIENTIFIC", "pattern": "0.00E+00"}, "integer", 5),
        ({"type": "NUMBER", "pattern": '0"%"'}, "integer", 5),
        ({"type": "TEXT", "pattern": "@"}, "string", "5"),
        ({"type": "NUMBER", "pattern": "#,##0.00"}, "string", "5"),
        (DATE_TIME, "date", date(1900, 1, 4)),
    ],
)
def test_a_format_that_leaves_a_number_what_it_is_does_not_matter(
    number_format: dict[str, str], type_: str, value: Any
):
    assert convert(SheetCell(5, number_format=number_format), type_) == value


@pytest.mark.parametrize(
    ("number_format", "shown"),
    [
        ({}, "number"),
        ({"type": "NUMBER", "pattern": "[Red]0"}, "number"),
        ({"type": "CURRENCY", "pattern": "[$%-409]0"}, "number"),
        ({"type": "DATE", "pattern": '"%"yyyy'}, "date"),
        ({"type": "DATE_TIME", "pattern": "[hh]:mm"}, "duration"),
    ],
)
def test_a_pattern_is_read_without_what_shows_no_value(number_format: dict[str, str], shown: str):
    assert shown_as(number_format) == shown


@pytest.mark.parametrize("type_", ["string", "integer", "decimal(5,2)", "boolean", "date"])
@pytest.mark.parametrize("error", ["#REF!", "#N/A", "#DIV/0!", "#ERROR!"])
def test_an_error_is_no_value_of_any_type(error: str, type_: str):
    with pytest.raises(ValueError, match=f"the formula ends in {error}"):
        convert(SheetCell(error=error), type_)


def test_an_error_that_somebody_typed_as_a_text_is_a_text():
    assert convert(SheetCell("#N/A"), "string") == "#N/A"


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_a_serial_number_gives_its_moment_to_the_millisecond(moment: datetime):
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    serial = (moment - EPOCH).total_seconds() / 86_400
    assert convert(as_declared(serial, "datetime"), "datetime") == moment


@given(st.decimals(-(10**10), 10**10, places=4, allow_nan=False))
def test_a_decimal_that_went_through_a_double_is_exact_again(value: Decimal):
    assert convert(SheetCell(float(value)), "decimal(15,4)") == value


def test_columns_come_in_declared_order_then_the_others_as_text():
    headings, *rows = rows_of(["Note", "Owner", "", "Month"], ["x", "ann", "", 46000])
    declared = {"month": "date", "owner": "string"}
    found = find_columns(headings, rows, declared, CORNER, labels={}, undeclared=True)
    assert found == [
        FoundColumn("month", "date", at=3),
        FoundColumn("owner", "string", at=1),
        FoundColumn("note", "string", at=0),
    ]


def test_every_problem_of_the_headings_is_named_at_once():
    headings, *rows = rows_of(["Month", "", "month ", "Owner"], [1, "stray", 2, 3, "beyond"])
    declared = {"month": "date", "segment": "string", "target": "double"}
    with pytest.raises(SourceMismatch) as refused:
        find_columns(headings, rows, declared, Corner("targets", 3, 2), labels={}, undeclared=True)
    for problem in (
        "targets!C3: the heading is blank",
        "targets!D3: 'month' is there twice, in targets!B3 too",
        "targets!F3: the heading is blank",
        "no column 'segment' (headings: month, owner)",
        "no column 'target'",
    ):
        assert problem in str(refused.value)


def test_a_heading_that_is_not_declared_blocks_nothing():
    headings, *rows = rows_of(
        ["Month", "%", "%", "", SheetCell(error="#REF!"), "Note", "note"], [1, 2, 3, "stray"]
    )
    found = find_columns(headings, rows, {"month": "date"}, CORNER, labels={}, undeclared=False)
    assert found == [FoundColumn("month", "date", at=0)]


def test_a_label_is_the_heading_of_its_column():
    headings, *rows = rows_of(["NPS score (%)", "nps", "№"])
    found = find_columns(
        headings,
        rows,
        {"nps": "double", "number": "integer"},
        CORNER,
        labels={"nps": "nps  SCORE %", "number": "№"},
        undeclared=False,
    )
    assert found == [FoundColumn("nps", "double", at=0), FoundColumn("number", "integer", at=2)]


def test_a_column_that_would_come_under_a_declared_name_is_refused():
    headings, *rows = rows_of(["NPS score", "nps"])
    with pytest.raises(SourceMismatch, match="'nps' is declared with another heading"):
        find_columns(
            headings, rows, {"nps": "double"}, CORNER, labels={"nps": "NPS score"}, undeclared=True
        )


def test_the_headings_are_the_first_row_or_the_one_under_a_title():
    declared = {"month": "date", "target": "double"}
    title, headings, row = rows_of(["Targets 2026"], ["Target", "x", "Month"], ["a", 1, "b"])
    assert heading_row([headings, row, headings], declared, {}) == 0
    assert heading_row([title, [], headings, row, headings], declared, {}) == 2
    assert heading_row([title, row], declared, {}) == 0
    assert heading_row([], declared, {}) == 0


@pytest.mark.parametrize("first", [["Month", "Tarrget"], ["2026-10-01", 31]], ids=str)
def test_another_table_further_down_is_not_taken_for_the_one_that_is_broken(first: list[Any]):
    rows = rows_of(first, ["2026-11-01", 12], [], ["Month", "Target"], ["2025-11-01", 7])
    assert heading_row(rows, {"month": "date", "target": "double"}, {}) == 0


def test_an_empty_tab_has_no_columns():
    with pytest.raises(SourceMismatch, match=r"no column 'month' \(headings: none\)"):
        find_columns([], [], {"month": "date"}, CORNER, labels={}, undeclared=True)


COLUMNS = [FoundColumn("month", "date", at=0), FoundColumn("target", "decimal(5,2)", at=2)]


def test_rows_become_a_record_batch():
    rows = rows_of([day(46000), "ignored", 12.5], ["", "only a note"], [day(46001)])
    batch, _ = to_record_batch(rows, COLUMNS, CORNER, skip_blank_rows=True)
    assert batch.schema == pa.schema([("month", pa.date32()), ("target", pa.decimal128(5, 2))])
    assert batch.to_pydict() == {
        "month": [date(2025, 12, 9), date(2025, 12, 10)],
        "target": [Decimal("12.50"), None],
    }


def test_blank_rows_are_kept_as_nulls_when_told():
    rows = rows_of([day(46000)], [], [day(46001)])
    batch, _ = to_record_batch(rows, COLUMNS, CORNER, skip_blank_rows=False)
    assert batch["month"].to_pylist() == [date(2025, 12, 9), None, date(2025, 12, 10)]


def test_a_row_of_nothing_but_unticked_check_boxes_is_blank():
    columns = [FoundColumn("task", "string", at=0), FoundColumn("done", "boolean", at=1)]
    unticked = SheetCell(False, is_unticked=True)
    rows = rows_of(["write", unticked], ["", unticked], ["", SheetCell(True)], ["", False])
    batch, _ = to_record_batch(rows, columns, CORNER, skip_blank_rows=True)
    assert batch["task"].to_pylist() == ["write", None, None]
    assert batch["done"].to_pylist() == [False, True, False]
    kept, _ = to_record_batch(rows, columns, CORNER, skip_blank_rows=False)
    assert kept["done"].to_pylist() == [False, False, True, False]


def test_every_misfit_is_named_with_its_cell():
    rows = rows_of(["soon", None, "n/a"], [day(46000), None, 1.234], [SheetCell(error="#REF!")])
    batch, misfits = to_record_batch(rows, COLUMNS, Corner("targets", 2, 1), skip_blank_rows=True)
    assert [str(misfit) for misfit in misfits] == [
        'targets!A2: "soon" is not a date',
        'targets!C2: "n/a" is not a decimal',
        "targets!C3: 1.234 has more than 2 decimals",
        "targets!A4: the formula ends in #REF!",
    ]
    assert [(misfit.row, misfit.column, misfit.value) for misfit in misfits] == [
        (0, "month", "soon"),
        (0, "target", "n/a"),
        (1, "target", "1.234"),
        (2, "month", "#REF!"),
    ]
    assert batch["month"].to_pylist() == [None, date(2025, 12, 9), None]


def test_a_cell_that_is_still_computed_may_pass():
    rows = rows_of([day(46000), None, SheetCell(error="Loading…")])
    with pytest.raises(SheetUnavailable, match="still computing targets!C1") as refused:
        to_record_batch(rows, COLUMNS, CORNER, skip_blank_rows=True)
    assert refused.value.may_pass


@pytest.mark.parametrize("other", ["[$€-407]0.00", "0.00 [$EUR]", "£0"])
def test_two_currencies_in_a_column_are_refused(other: str):
    dollars = SheetCell(5, number_format={"type": "CURRENCY", "pattern": '"$"0.00'})
    others = SheetCell(5, number_format={"type": "CURRENCY", "pattern": other})
    columns = [FoundColumn("price", "double", at=0)]
    alone, _ = to_record_batch(
        rows_of([dollars], [5], [dollars]), columns, CORNER, skip_blank_rows=True
    )
    assert alone["price"].to_pylist() == [5, 5, 5]
    _, (misfit,) = to_record_batch(
        rows_of([dollars], [others], [dollars]), columns, CORNER, skip_blank_rows=True
    )
    assert misfit.row == 1
    assert re.fullmatch(r"targets!A2: is in \S+, and others of its column in \$", str(misfit))
