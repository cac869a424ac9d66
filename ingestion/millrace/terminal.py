"""What a person sees in a terminal: tables, a live line, errors."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.progress import Progress as ProgressLine
from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from millrace.errors import MillraceError
from millrace.progress import Progress, describe

if TYPE_CHECKING:
    import pyarrow as pa

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

_FILE_COLUMNS = 500
# Of a value, when rows stand beside each other.
_CELL_COLUMNS = 28
_GAP = 3
# A line break is written out too, so that a name cannot look like a line of Millrace's own.
_INVISIBLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    r"""A text of somebody else's, in one line: ``\n`` and what else steers a terminal spelt out."""
    return _INVISIBLE.sub(lambda found: repr(found[0])[1:-1], text)


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
        # As texts, because a name may hold what rich takes for markup.
        table.add_row(*(Text(visible(cell)) for cell in row))
    # One line for each row where another program reads it; a person's terminal may wrap the cells.
    console = out if out.is_terminal else Console(highlight=False, width=_FILE_COLUMNS)
    console.print(table)


def print_rows(rows: pa.Table, notes: Mapping[str, str]) -> None:
    """Print some rows beside each other, a line for each of their columns.

    Args:
        rows: The rows.
        notes: What is said of columns beside their type, by name.
    """
    room = out.width if out.is_terminal else _FILE_COLUMNS
    lines = [
        [field.name, ", ".join(filter(None, [str(field.type), notes.get(field.name)]))]
        for field in rows.schema
    ]
    taken = sum(max((len(line[at]) for line in lines), default=0) + _GAP for at in (0, 1))
    headings = ["COLUMN", "TYPE"]
    for number, row in enumerate(rows.to_pylist(), start=1):
        cells = [_shortened(row[name]) for name in rows.column_names]
        taken += max(map(len, cells), default=0) + _GAP
        if taken > room and number > 1:
            break
        headings.append(f"ROW {number}")
        for line, cell in zip(lines, cells, strict=True):
            line.append(cell)
    print_table(headings, lines)
    if not rows.num_rows:
        print_plain("No rows.")


def _shortened(value: Any) -> str:
    if value is None:
        return "NULL"
    text = visible(value.hex() if isinstance(value, bytes) else str(value))
    return text if len(text) <= _CELL_COLUMNS else f"{text[: _CELL_COLUMNS - 1]}…"


def print_diff(text: str) -> None:
    """Print a unified diff, coloured on a terminal."""
    styles = {"+": "green", "-": "red", "@": "cyan"}
    for line in text.splitlines():
        out.print(Text(visible(line), style=styles.get(line[:1], "")), soft_wrap=True)


def print_error(error: MillraceError, console: Console) -> None:
    """Say what happened and what to do."""
    console.print("Error:", style="bold red", end=" ")
    print_plain(error.message, console)
    print_plain(f"  → {error.fix}", console)


def print_plain(text: str, console: Console = out) -> None:
    """Print lines that may hold names and messages of others."""
    for line in text.split("\n"):
        # Markup would swallow square brackets.
        console.print(visible(line), markup=False, soft_wrap=True)


def print_done(text: str) -> None:
    """Say that something went well."""
    out.print("[green]✓[/green]", end=" ")
    print_plain(text)


def print_failed(what: str, console: Console) -> None:
    """Say that something failed; ``print_error`` says why."""
    console.print("[red]✗[/red]", end=" ")
    print_plain(what, console)


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
