"""``millrace-dbt``: dbt's own command line, as Airflow starts it.

dbt keeps its whole manifest as Python objects, and at its usual threshold the garbage collector
looks through them again and again: a third of the CPU of a build.

``millrace-dbt report …`` runs the same command and says what dbt says as lines of JSON, for a
program that reads along (``dbt_report.py``).
"""

from __future__ import annotations

import gc
import sys

# Objects that are made before the collector looks; Python's own is 700.
_THRESHOLD = 50_000


def main() -> None:
    """Run dbt with this process's arguments."""
    gc.set_threshold(_THRESHOLD)
    if sys.argv[1:2] == ["report"]:
        from millrace.dbt.report import report

        sys.exit(report(sys.argv[2:]))
    from dbt.cli.main import cli

    cli()
