"""What a server's log says of a read."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from benchmarks import harm
from benchmarks.harm import Beside
from benchmarks.results import Result, Run

NOON = datetime(2026, 11, 26, 12)


def log(*statements: tuple[int, float, float, str]) -> list[tuple[Any, ...]]:
    return [
        (thread, NOON + timedelta(seconds=at), timedelta(seconds=took), text)
        for thread, at, took, text in statements
    ]


def test_a_snapshot_lasts_from_its_start_to_its_commit_or_to_its_last_statement() -> None:
    found = harm._snapshots(
        log(
            (1, 0, 0, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"),
            (1, 1, 2, "SELECT 1"),
            (1, 3, 0.5, "COMMIT"),
            (1, 9, 0, "SELECT 2"),
            (2, 0, 0, "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY"),
            (2, 4, 3, "SELECT 1"),
        )
    )
    assert [moment.total_seconds() for moment in found] == [3, 3.5, 7]


def test_only_the_queries_of_the_read_count() -> None:
    beside = Beside([(0.5, 100.0), *((1 + number / 100, 1.0) for number in range(100))])
    assert beside.p99(1, 2) == 1


def test_the_targets_are_of_the_longest_statement_and_of_the_median_window() -> None:
    result = Result("harm", rows=1_000, rounds=3)
    for how in harm.HOW:
        for round_, slower in enumerate((1.1, 9.0, 1.2), 1):
            values = {"statement": float(round_), "snapshot": 1.0, "alone": 0.001}
            values |= {"beside": slower / 1000, "slower": slower}
            result.runs.append(Run("MariaDB", how, round_, 5.0, values))
    report = harm.report(result)
    assert [target.measured for target in report.targets] == [3, 1.2, pytest.approx(1)]
    assert len(report.table.rows) == len(harm.HOW)
