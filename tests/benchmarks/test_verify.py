"""The comparison can fail: every way in which a method may spoil a table is noticed."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from benchmarks.verify import compare

ROWS = pa.table(
    {
        "id": pa.array([1, 2, 3, 4], pa.int64()),
        "plan": pa.array(["free", "", None, "응답"]),
        "rate": pa.array(
            [Decimal("1.000015485863"), None, *2 * [Decimal(7)]], pa.decimal128(18, 12)
        ),
        "at": pa.array([1, 2, None, 4], pa.timestamp("us")),
    }
)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    file = tmp_path / "reference.parquet"
    pq.write_table(ROWS, file)
    return file


def written(folder: Path, table: pa.Table) -> list[Path]:
    """The table in two files."""
    files = [folder / "part-0.parquet", folder / "part-1.parquet"]
    for file, part in zip(files, (table.slice(0, 1), table.slice(1)), strict=True):
        pq.write_table(part, file)
    return files


def changed(column: str, values: list[object]) -> pa.Table:
    position = ROWS.column_names.index(column)
    return ROWS.set_column(position, column, pa.array(values, ROWS.schema.field(column).type))


def test_the_same_rows_in_another_order_are_equal(reference: Path, tmp_path: Path) -> None:
    verdict = compare(reference, written(tmp_path, ROWS.take([3, 1, 0, 2])))

    assert verdict.rows == 4
    assert not verdict.changed
    assert not verdict.retyped


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (ROWS.slice(1), "3 rows instead of 4"),
        (pa.concat_tables([ROWS, ROWS.slice(0, 1)]), "5 rows instead of 4"),
        (ROWS.drop_columns("at"), "at is missing"),
        (changed("plan", ["free", None, None, "응답"]), "plan in 1 rows"),
        (changed("plan", ["free", "", "", "응답"]), "plan in 1 rows"),
        (changed("plan", ["", "free", None, "응답"]), "plan in 2 rows"),
        (changed("rate", [Decimal("1.0000154858"), None, 7, 7]), "rate in 1 rows"),
        (changed("at", [1, 2, 0, 4]), "at in 1 rows"),
    ],
    ids=[
        *("a lost row", "a row twice", "a lost column", "'' became NULL", "NULL became ''"),
        *("values changed places", "a decimal was cut", "NULL became a time"),
    ],
)
def test_what_a_method_spoils_is_named(
    reference: Path, tmp_path: Path, table: pa.Table, says: str
) -> None:
    assert says in compare(reference, written(tmp_path, table)).changed


def test_an_example_shows_what_a_value_became(reference: Path, tmp_path: Path) -> None:
    table = changed("plan", ["free", "", None, "?"])

    verdict = compare(reference, written(tmp_path, table))

    assert verdict.examples == ("plan of row 4: 응답 became ?",)


def test_another_type_with_the_same_values_is_told(reference: Path, tmp_path: Path) -> None:
    as_double = ROWS.set_column(2, "rate", pc.cast(ROWS["rate"], pa.float64()))

    verdict = compare(reference, written(tmp_path, as_double))

    assert not verdict.changed
    assert verdict.retyped == ("rate as double",)


def test_nothing_written_is_not_equal(reference: Path) -> None:
    assert compare(reference, []).changed
