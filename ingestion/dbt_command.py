"""``millrace-dbt``: dbt's own command line, as Airflow starts it.

dbt keeps its whole manifest as Python objects, and at its usual threshold the garbage collector
looks through them again and again: a third of the CPU of a build.
"""

from __future__ import annotations

import gc

# Objects that are made before the collector looks; Python's own is 700.
_THRESHOLD = 50_000


def main() -> None:
    """Run dbt with this process's arguments."""
    gc.set_threshold(_THRESHOLD)
    from dbt.cli.main import cli

    cli()
