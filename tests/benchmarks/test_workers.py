"""What is read of logs and tasks is what they say."""

from __future__ import annotations

import pytest

from benchmarks import page, workers
from benchmarks.results import Result, Run

SCHEDULER = "2026-11-27T01:10:00Z [debug    ] Ran scheduling loop in 1250.00 ms [airflow.jobs]"
PROCESSOR = "dags-folder  ingest.py   4711  0.10s    200    0  8.59s  2026-11-27T01:10:00"


def test_the_lines_of_airflows_logs_are_understood() -> None:
    assert workers._LOOP.findall(SCHEDULER) == ["1250.00"]
    assert workers._PARSED.findall(PROCESSOR) == [("200", "8.59")]


def test_a_spread_has_the_median_the_tail_and_the_most() -> None:
    assert workers._spread(float(number) for number in range(101)) == [50, 95, 100]
    assert workers._spread([]) is None


@pytest.mark.parametrize(("retried", "verdict"), [(0, "met"), (1, "missed")])
def test_the_page_says_what_was_tried_again_and_what_was_not_measured(
    retried: int, verdict: str
) -> None:
    values = {
        "tables": 20,
        "tasks": 60,
        "retried": retried,
        "mysql": 3,
        "postgres": 24,
        "ran": [1.0, 2.0, 3.0],
        "for_a_slot": None,
        "for_a_worker": None,
        "loop": [0.1, 0.2, 0.3],
        "parse": None,
        "database": 16_000_000,
        "components": {
            "worker-1": {"processes": 10, "memory": 990e6, "connections": 5, "cpu": 126.4}
        },
    }
    run = Run(workers.CASE, workers.METHOD, 1, 60, values)
    result = Result(workers.SECTION, rows=500_000, rounds=1, runs=[run])

    text = page.render({workers.SECTION: (result, workers.report(result))})

    assert "| a task ran | 1.00 s | 2.00 s | 3.00 s |" in text
    assert "| the DAG processor parsed the file of 20 DAGs | – | – | – |" in text
    assert "| worker-1 | 10 | 990 MB | 126 s | 5 |" in text
    tried_again = [line for line in text.splitlines() if "tasks tried again" in line]
    assert tried_again
    assert all(verdict in line for line in tried_again)
