"""Each stack of a profile counts for one stage."""

from __future__ import annotations

from benchmarks import profiles
from benchmarks.profiles import DAY, EXTRACTION, OTHER, stages_of
from benchmarks.results import Result, Run

STACKS = """\
main;_find_and_load (<frozen importlib._bootstrap>:1);recv (libc.so.6) 3
main;read (result.pyx:130);mysql_stmt_fetch (libmariadb.so.3);recv (libc.so.6) 5
main;read (result.pyx:130);mysql_stmt_fetch (libmariadb.so.3);result__take (result.pyx:343) 7
main;read (result.pyx:130);mysql_stmt_fetch (libmariadb.so.3) 2
thread;_worker (concurrent/futures/thread.py:90);_queue_SimpleQueue_get (_queuemodule.c) 90
thread;_PartWriter.write (landing.py:410);_HashingSink.write (landing.py:450) 1
thread;_PartWriter.write (landing.py:410);ZSTD_compress (libarrow.so) 4
main;something else 6
""".splitlines()


def test_a_stack_belongs_to_its_first_stage_and_waiting_to_none() -> None:
    found = {stage: samples for stage, samples in stages_of(EXTRACTION, STACKS).items() if samples}
    assert list(found.values()) == [3, 5, 7, 2, 1, 4, 6]
    assert found[OTHER] == 6


def test_the_shares_of_a_path_are_of_that_path() -> None:
    runs = [
        Run(EXTRACTION, "py-spy", 1, 1.0, {"stages": {"imports": 1, OTHER: 3}, "rate": 200}),
        Run(DAY, "py-spy", 1, 1.0, {"stages": {"imports": 8, OTHER: 2}, "rate": 200}),
    ]
    result = Result("profiles", rows=10, rounds=1, runs=runs)
    assert [row[-1] for row in profiles.report(result).table.rows] == ["25%", "75%", "80%", "20%"]
