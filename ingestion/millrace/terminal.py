"""What a person sees in a terminal: tables, a live line, errors."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress as ProgressLine
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from millrace.errors import MillraceError
from millrace.progress import Progress, describe

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_FILE_COLUMNS = 500


def print_table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Collection[str] = ()
) -> None:
    """Print a table whose first column names its rows.

    Args:
        headings: The headings of its columns.
        rows: The cells.
        numbers: The headings of columns with numbers.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(
            heading,
            justify="right" if heading in numbers else "left",
            no_wrap=heading == headings[0],
        )
    for row in rows:
        # Markup would swallow square brackets of a cell.
        table.add_row(*map(escape, row))
    # One line for each row where another program reads it; a person's terminal may wrap the cells.
    console = out if out.is_terminal else Console(highlight=False, width=_FILE_COLUMNS)
    console.print(table)


def print_error(error: MillraceError, console: Console) -> None:
    """Say what happened and what to do."""
    # Markup would swallow square brackets of a message.
    console.print("Error:", style="bold red", end=" ")
    console.print(error.message, markup=False, soft_wrap=True)
    console.print(f"  → {error.fix}", markup=False, soft_wrap=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show what is going on, until it is done."""
    with err.status(what):
        yield


@contextmanager
def rows_landed(key: str) -> Iterator[Progress]:
    """A live line with what has been landed so far, on a terminal."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with ProgressLine(*columns, console=err, transient=True, disable=not err.is_terminal) as line:
        task = line.add_task(key)
        began = time.monotonic()

        def landed(rows: int, size: int, expected_rows: int | None) -> None:
            said = describe(rows, size, expected_rows, time.monotonic() - began)
            line.update(task, description=f"{key}: {said}")

        yield landed
