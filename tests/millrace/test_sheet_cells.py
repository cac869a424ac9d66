from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from millrace.errors import PublicationRefused
from millrace.google_sheets.client import Cell
from millrace.google_sheets.column import SheetColumn
from millrace.google_sheets.to_cells import (
    canonical,
    cell_data,
    checksum,
    to_sheet_table,
)


@pytest.mark.parametrize(
    ("type_", "value", "name", "cell"),
    [
        (pa.string(), "=1+1", "string", "=1+1"),
        (pa.large_string(), "007", "string", "007"),
        (pa.string(), "x" * 50_000, "string", "x" * 50_000),
        (pa.int64(), -12, "integer", -12),
        (pa.int64(), 999_999_999_999_999, "integer", 999_999_999_999_999),
        (pa.int64(), 10**18, "integer", 10**18),
        (pa.float64(), 0.1, "double", 0.1),
        (pa.decimal128(38, 0), Decimal(12), "decimal(38,0)", 12.0),
        (pa.decimal128(15, 3), Decimal("999999999999.999"), "decimal(15,3)", 999999999999.999),
        (pa.bool_(), True, "boolean", True),
        (pa.date32(), date(2025, 12, 9), "date", 46000),
        (pa.date32(), date(1899, 12, 29), "date", -1),
        (pa.timestamp("us"), datetime(2025, 12, 9, 12), "datetime", 46000.5),
        (pa.timestamp("ns"), datetime(2025, 12, 9, 12), "datetime", 46000.5),
        (pa.timestamp("s"), datetime(2025, 12, 9, 6), "datetime", 46000.25),
        (pa.timestamp("us", "UTC"), datetime(2025, 12, 9, 12, tzinfo=UTC), "datetime", 46000.5),
        (
            pa.timestamp("us", "Asia/Seoul"),
            datetime(2025, 12, 9, 21, tzinfo=timezone(timedelta(hours=9))),
            "datetime",
            46000.5,
        ),
        (pa.int64(), None, "integer", None),
        (pa.null(), None, "string", None),
    ],
)
def test_a_value_becomes_a_cell(type_: pa.DataType, value: Any, name: str, cell: Cell):
    table = to_sheet_table(pa.table({"c": pa.array([value], type_)}), {})
    assert table.columns == (SheetColumn("c", name),)
    [[found]] = table.rows
    assert found == cell
    assert type(found) is type(cell)


@pytest.mark.parametrize(
    ("type_", "value", "says"),
    [
        (pa.string(), "x" * 50_001, "a text of 50,001 characters; a cell holds 50,000"),
        (pa.int64(), 1_234_567_890_123_456, "1234567890123456 has more digits"),
        (pa.decimal128(38, 4), Decimal("123456789012.3456"), "123456789012.3456 has more"),
        (pa.float64(), float("nan"), "nan is not a number"),
        (pa.float64(), float("-inf"), "-inf is not a number"),
    ],
)
def test_a_value_that_a_cell_cannot_hold_is_refused_with_the_way_out(
    type_: pa.DataType, value: Any, says: str
):
    good = None if type_ != pa.string() else ""
    rows = pa.table({"amount": pa.array([good, value], type_)})
    with pytest.raises(PublicationRefused) as refused:
        to_sheet_table(rows, {})
    assert f"column 'amount', row 2: {says}" in str(refused.value)
    assert "Cast the column to varchar" in str(refused.value)


def test_every_misfit_is_named_at_once():
    rows = pa.table(
        {
            "a": pa.array([float("nan")] * 30),
            "b": pa.array([b"x"] * 30),
            "c": pa.array([[1]] * 30),
        }
    )
    with pytest.raises(PublicationRefused) as refused:
        to_sheet_table(rows, {})
    text = str(refused.value)
    assert "column 'a', row 20: nan is not a number" in text
    assert "and 12 more" in text


def test_types_that_a_sheet_knows_nothing_like_are_refused():
    with pytest.raises(PublicationRefused, match="column 'tags': a sheet knows nothing like list"):
        to_sheet_table(pa.table({"tags": pa.array([["a"]])}), {})


@pytest.mark.parametrize(
    ("type_", "pattern"),
    [
        ("date", "yyyy-mm-dd"),
        ("datetime", "yyyy-mm-dd hh:mm:ss"),
        ("decimal(5,2)", "0.00"),
        ("decimal(38,0)", "0"),
        ("string", None),
        ("integer", None),
        ("double", None),
        ("boolean", None),
    ],
)
def test_a_format_shows_what_the_value_is(type_: str, pattern: str | None):
    found = SheetColumn("c", type_).number_format
    assert (found and found["pattern"]) == pattern


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        (True, {"boolValue": True}),
        (0, {"numberValue": 0}),
        ("=1", {"stringValue": "=1"}),
        ("", None),
        (None, None),
    ],
)
def test_a_cell_is_written_typed_so_that_no_text_is_a_formula(cell: Cell, value: Any):
    assert cell_data(cell) == ({"userEnteredValue": value} if value else {})


def test_written_and_read_rows_are_compared_in_one_form():
    found = canonical([1, "", -0.0, 0.1 + 0.2, True, "1"], 7)
    assert found == (1.0, None, 0.0, 0.3, True, "1", None)
    assert checksum([[1, None]], 2) == checksum([[1.0]], 2)
    assert checksum([[1]], 1) != checksum([["1"]], 1)
    assert checksum([[1]], 1) != checksum([[True]], 1)
    assert checksum([[1], [2]], 1) != checksum([[2], [1]], 1)
