"""The memory and the time of a run are counted over all of its processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.measure import run
from benchmarks.workspace import BenchmarkError

MEGABYTE = 2**20

# Parent and child hold 60 MB each; the child ends after the parent has spent 0.5 s of CPU.
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-c", "held = b'x' * (60 << 20); print('held', flush=True); input()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
)
child.stdout.readline()
held = b"x" * (60 << 20)
until = time.process_time() + 0.5
while time.process_time() < until:
    pass
child.communicate(b"\\n")
print('{"rows": 3}')
"""


def test_memory_and_time_of_a_whole_family(tmp_path: Path) -> None:
    usage = run([sys.executable, "-c", FAMILY], environment=os.environ, folder=tmp_path)

    assert usage.output == {"rows": 3}
    assert usage.cpu >= 0.5
    assert usage.wall >= 0.5
    assert 120 * MEGABYTE < usage.peak < 200 * MEGABYTE


def test_a_failed_run_says_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="no such table"):
        run(
            [sys.executable, "-c", "raise SystemExit('no such table')"],
            environment=os.environ,
            folder=tmp_path,
        )


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="-9"):
        run(
            [sys.executable, "-c", "import time; time.sleep(600)"],
            environment=os.environ,
            folder=tmp_path,
            timeout=0.5,
        )
