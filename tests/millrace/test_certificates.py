from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from millrace.certificates import told_loads, verified
from millrace.warehouses.base import LedgerRow

DAY, NEXT, LATER = (datetime(2026, 10, day, tzinfo=UTC) for day in (1, 2, 3))
BATCH = LedgerRow("mysql.nps", "b", None, DAY, "s3://m", 5, 9, DAY, DAY, "values")
FULL = replace(BATCH, end=None, extracted_at=NEXT)


def test_a_table_is_told_until_its_first_gap() -> None:
    after_a_gap = replace(BATCH, start=NEXT, end=LATER, extracted_at=LATER)
    assert told_loads({"mysql.nps": [BATCH, after_a_gap]}) == (
        "mysql.nps until 2026-10-01 00:00, verified by values"
    )


def test_a_whole_table_is_told_by_when_it_was_read() -> None:
    assert told_loads({"mysql.users": [BATCH, FULL], "mysql.nps": []}) == (
        "mysql.users until 2026-10-01 00:00, verified by values; mysql.nps, never loaded"
    )
    assert told_loads({"mysql.users": [FULL]}) == (
        "mysql.users of 2026-10-02 00:00, verified by values"
    )


def test_of_many_tables_three_are_told() -> None:
    told = told_loads({str(number): [] for number in range(5)})
    assert told == "0, never loaded; 1, never loaded; 2, never loaded; 2 more tables"


@pytest.mark.parametrize(
    ("ways", "least"),
    [
        (["values", "values"], "values"),
        (["values", "counts"], "counts"),
        (["values", None], None),
        (["values", "in a later way"], None),
    ],
)
def test_batches_are_verified_as_the_least_of_them(
    ways: list[str | None], least: str | None
) -> None:
    assert verified([replace(BATCH, verified=way) for way in ways]) == least
