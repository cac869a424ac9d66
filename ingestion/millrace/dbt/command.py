"""``millrace-dbt``: dbt's own command line, as Airflow starts it.

dbt keeps its whole manifest as Python objects. With Python's default threshold, the garbage
collector scans them again and again, which takes a third of a build's CPU time.

``millrace-dbt report …`` runs the same command and writes what happens as lines of JSON, for a
program that reads them (``report.py``).
"""

from __future__ import annotations

import gc
import sys

THRESHOLD = 50_000
"""How many objects are created before the collector runs; Python's default is 700."""


def main() -> None:
    """Run dbt with this process's arguments."""
    gc.set_threshold(THRESHOLD)
    if sys.argv[1:2] == ["report"]:
        from millrace.dbt.report import report

        sys.exit(report(sys.argv[2:]))
    from dbt.cli.main import cli

    cli()
