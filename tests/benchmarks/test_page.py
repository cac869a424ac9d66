"""The page says what was measured, and nothing else."""

from __future__ import annotations

from pathlib import Path

from benchmarks import extraction, page
from benchmarks.peers import FLOOR, MILLRACE
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import Workspace


def measured(millrace: tuple[float, ...], megabytes: int = 150) -> Result:
    """Extraction, with a floor of 2 s."""
    result = Result("extraction", rows=1000, rounds=len(millrace), facts={"versions": "MariaDB 10"})
    for method, walls in ((FLOOR, [2.0] * len(millrace)), (MILLRACE, millrace)):
        for round_, wall in enumerate(walls, 1):
            values: dict[str, object] = {
                "cpu": 1.0,
                "peak": megabytes * 10**6,
                "services_cpu": 0.5,
                "working": wall,
                "size": 0 if method == FLOOR else 1000,
                "rows": 1000,
                "changed": [],
                "examples": [],
                "retyped": [],
            }
            result.runs.append(Run("extract", method, round_, wall, values))
    return result


def rendered(result: Result) -> str:
    return page.render({"extraction": (result, extraction.report(result))})


def test_the_table_has_medians_and_their_ratio_to_the_floor() -> None:
    text = rendered(measured((2.4, 9.0, 2.6)))

    assert f"| **{MILLRACE}** | **2.60 s** | **1.30 ×** |" in text


def test_a_target_that_is_met_says_so() -> None:
    text = rendered(measured((2.4, 2.6, 9.0)))

    assert "start-up included | ≤ 1.5 × | 1.3 × | met |" in text


def test_a_target_that_is_missed_says_by_how_much() -> None:
    text = rendered(measured((6.0, 6.0, 6.0), megabytes=250))

    assert "**3 ×** | **missed by 100 %** |" in text
    assert "**250 MB** | **missed by 25 %** |" in text


def test_a_target_that_was_not_measured_is_not_met() -> None:
    result = measured((2.4,))
    result.runs = [run for run in result.runs if run.method == FLOOR]

    assert "not measured" in rendered(result)
    assert "| met |" not in rendered(result)


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    file = ResultFile(workspace, "extraction")
    result = measured((2.4, 2.6, 9.0))

    file.save(result)

    assert file.load() == result


def test_only_a_result_of_the_same_size_is_resumed(tmp_path: Path) -> None:
    file = ResultFile(Workspace(tmp_path), "extraction")
    file.save(measured((2.4,)))

    assert file.begin(1000, 3, resume=True).has("extract", MILLRACE, 1)
    assert not file.begin(2000, 3, resume=True).runs
    assert not file.begin(1000, 3, resume=False).runs
