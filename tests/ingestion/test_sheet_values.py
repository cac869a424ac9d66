from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestion.errors import SourceMismatch, ValueDoesNotFit
from ingestion.google_sheets import EPOCH, Cell
from ingestion.sources.sheet_values import (
    Corner,
    SheetColumn,
    column_name,
    convert,
    find_columns,
    to_record_batch,
)

CORNER = Corner("targets", 1, 1)


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
        (0.1 + 0.2, "double", 0.1 + 0.2),
        (0.1 + 0.2, "decimal(5,2)", Decimal("0.30")),
        (12, "decimal(5, 2)", Decimal("12.00")),
        (1.005, "decimal(5,3)", Decimal("1.005")),
        ("12.34", "decimal(5,2)", Decimal("12.34")),
        (999.99, "decimal(5,2)", Decimal("999.99")),
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
    converted = convert(cell, type_)
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("cell", "type_", "says"),
    [
        ("n/a", "decimal(5,2)", '"n/a" is not a decimal'),
        (True, "integer", "TRUE is not an integer"),
        (1.5, "integer", "1.5 is not an integer"),
        (2.0**60, "integer", "larger than a sheet's number holds exactly"),
        ("9223372036854775808", "integer", "64 bits"),
        ("1e999999", "integer", "64 bits"),
        ("NaN", "double", "is not a number"),
        ("Infinity", "decimal(5,2)", "is not a decimal"),
        (1000, "decimal(5,2)", "more digits than decimal(5,2) holds"),
        ("1000.001", "decimal(5,2)", "more digits"),
        (1.005, "decimal(5,2)", "more than 2 decimals"),
        ("yes", "boolean", '"yes" is not a boolean'),
        (1, "boolean", "1 is not a boolean"),
        ("9.12.2025", "date", "is not a date"),
        (46000.5, "date", "it has a time of day"),
        (True, "date", "is not a date"),
        (1e12, "date", "is not a date"),
        (-1e6, "date", "is not a date"),
        ("2025-12-09T08:30:01+01:00", "datetime", "has a time zone"),
        ("x" * 100, "integer", f'"{"x" * 40}…" is not an integer'),
    ],
)
def test_a_cell_that_does_not_fit_is_refused_in_words(cell: Cell, type_: str, says: str):
    with pytest.raises(ValueError, match=re.escape(says)):
        convert(cell, type_)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)))
def test_a_serial_number_gives_its_moment_to_the_millisecond(moment: datetime):
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    serial = (moment - EPOCH).total_seconds() / 86_400
    assert convert(serial, "datetime") == moment


@given(st.decimals(-(10**10), 10**10, places=4, allow_nan=False))
def test_a_decimal_that_went_through_a_double_is_exact_again(value: Decimal):
    assert convert(float(value), "decimal(15,4)") == value


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("Target NPS (%)", "target_nps"),
        ("  owner\n", "owner"),
        (2026, "2026"),
        ("목표", "목표"),
        ("--", ""),
        (None, ""),
    ],
)
def test_a_heading_becomes_a_columns_name(heading: Cell, name: str):
    assert column_name(heading) == name


def test_columns_come_in_declared_order_then_the_others_as_text():
    found = find_columns(
        ["Note", "Owner", "", "Month"],
        [["x", "ann", "", 46000]],
        {"month": "date", "owner": "string"},
        CORNER,
        undeclared=True,
    )
    assert found == [
        SheetColumn("month", "date", 3),
        SheetColumn("owner", "string", 1),
        SheetColumn("note", "string", 0),
    ]


def test_every_problem_of_the_headings_is_named_at_once():
    with pytest.raises(SourceMismatch) as refused:
        find_columns(
            ["Month", "", "month ", "Owner"],
            [[1, "stray", 2, 3, "beyond"]],
            {"month": "date", "segment": "string", "target": "double"},
            Corner("targets", 3, 2),
            undeclared=False,
        )
    for problem in (
        "targets!C3: the heading is blank",
        "targets!D3: 'month ' is there twice, in targets!B3 too",
        "targets!F3: the heading is blank",
        "no column 'segment' (headings: month, owner)",
        "no column 'target'",
    ):
        assert problem in str(refused.value)


def test_an_empty_tab_has_no_columns():
    with pytest.raises(SourceMismatch, match=r"no column 'month' \(headings: none\)"):
        find_columns([], [], {"month": "date"}, CORNER, undeclared=True)


COLUMNS = [SheetColumn("month", "date", 0), SheetColumn("target", "decimal(5,2)", 2)]


def test_rows_become_a_record_batch():
    rows: list[list[Cell]] = [[46000, "ignored", 12.5], ["", "only a note"], [46001]]
    batch = to_record_batch(rows, COLUMNS, CORNER, skip_blank_rows=True)
    assert batch.schema == pa.schema([("month", pa.date32()), ("target", pa.decimal128(5, 2))])
    assert batch.to_pydict() == {
        "month": [date(2025, 12, 9), date(2025, 12, 10)],
        "target": [Decimal("12.50"), None],
    }


def test_blank_rows_are_kept_as_nulls_when_told():
    rows: list[list[Cell]] = [[46000], [], [46001]]
    batch = to_record_batch(rows, COLUMNS, CORNER, skip_blank_rows=False)
    assert batch["month"].to_pylist() == [date(2025, 12, 9), None, date(2025, 12, 10)]


def test_every_misfit_is_named_with_its_cell():
    rows: list[list[Cell]] = [["soon", None, "n/a"], [46000, None, 1.234]]
    with pytest.raises(ValueDoesNotFit) as refused:
        to_record_batch(rows, COLUMNS, Corner("targets", 2, 1), skip_blank_rows=True)
    for problem in (
        "3 cells of targets",
        'targets!A2: "soon" is not a date',
        'targets!C2: "n/a" is not a decimal',
        "targets!C3: 1.234 has more than 2 decimals",
    ):
        assert problem in str(refused.value)


def test_a_long_list_of_misfits_is_cut_and_counted():
    with pytest.raises(ValueDoesNotFit, match=r"1,000 cells[\s\S]*and 980 more"):
        to_record_batch([["x"]] * 1000, COLUMNS[:1], CORNER, skip_blank_rows=True)
