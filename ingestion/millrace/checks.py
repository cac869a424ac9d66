"""Does everything answer that a project declares?"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from millrace.errors import MillraceError
from millrace.pipeline import Pipeline
from millrace.terminal import out, print_done, print_error, print_failed
from millrace.warehouses.base import Passed, ignored


def check_all(pipeline: Pipeline) -> bool:
    """Try each connection, the landing and the warehouse; print what answers, what fails and why.

    Returns:
        Whether all answer.
    """
    failed = False

    def passed(step: str) -> None:
        print_done(f"warehouse: {step}")

    for name, check in checks_of(pipeline, passed).items():
        try:
            reached = check()
        except MillraceError as error:
            failed = True
            print_failed(name, out)
            print_error(error, out)
        else:
            print_done(f"{name}: {reached}")
    return not failed


def checks_of(pipeline: Pipeline, passed: Passed = ignored) -> dict[str, Callable[[], str]]:
    """What to try, by its name: a connection once, however many tables or publications use it.

    Args:
        pipeline: The project.
        passed: Called with each step of the warehouse that works.

    Each returns what it has reached, for a person, and raises a ``MillraceError`` if it fails.
    """
    checks: dict[str, Callable[[], str]] = {}
    for table in pipeline.catalog.tables:
        checks.setdefault(
            f"connection {table.options.connection}, to read",
            partial(_check_source, pipeline, table.options.connection),
        )
    for found in pipeline.catalog.publications:
        checks.setdefault(
            f"connection {found.options.connection}, to publish",
            lambda found=found: pipeline.destination(found).check(),  # type: ignore[misc]
        )
    checks["landing"] = lambda: pipeline.landing.check()
    checks["warehouse"] = lambda: pipeline.warehouse.check(passed)
    return checks


def _check_source(pipeline: Pipeline, connection: str) -> str:
    tables = [table for table in pipeline.catalog.tables if table.options.connection == connection]
    return pipeline.source(tables[0]).check(tables)
