"""What a section shows, in the terminal and on the page alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich import box
from rich.table import Table as RichTable

from benchmarks.results import Result

MEGABYTE = 10**6


@dataclass(frozen=True)
class Target:
    """A promise, and what was measured.

    Attributes:
        what: What is promised.
        limit: At most this.
        measured: What it is; None where it was not measured.
        unit: Of both.
    """

    what: str
    limit: float
    measured: float | None
    unit: str

    @property
    def verdict(self) -> str:
        """Whether it is kept."""
        if self.measured is None:
            return "not measured"
        if self.measured <= self.limit:
            return "met"
        if not self.limit:
            return "missed"
        return f"missed by {(self.measured / self.limit - 1) * 100:.0f} %"

    def cells(self) -> tuple[str, str, str, str]:
        """It as a row of a table."""
        measured = "–" if self.measured is None else f"{_number(self.measured)} {self.unit}".strip()
        return self.what, f"≤ {_number(self.limit)} {self.unit}".strip(), measured, self.verdict


@dataclass(frozen=True)
class Table:
    """Figures.

    Attributes:
        headings: Of the columns; the first column is text, those from the second are figures.
        rows: As many cells each.
        ours: The rows that are Millrace's.
        texts: The columns, beside the first, that are text.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    ours: frozenset[int] = frozenset()
    texts: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Chart:
    """What ``charts.py`` draws.

    Attributes:
        file: Its name beside the page.
        caption: What it shows.
        spec: Its kind, labels and values.
    """

    file: str
    caption: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """One section.

    Attributes:
        title: Its heading.
        method: What was done, a paragraph.
        table: The figures.
        remark: What the page says below them.
        targets: What was promised.
        charts: Pictures.
    """

    title: str
    method: str
    table: Table
    remark: str = ""
    targets: tuple[Target, ...] = ()
    charts: tuple[Chart, ...] = field(default=())


TARGET_HEADINGS = ("target", "at most", "measured", "")


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]], bold: frozenset[int]) -> str:
    """A Markdown table; some rows in bold."""
    lines = [f"| {' | '.join(headings)} |", f"|{'---|' * len(headings)}"]
    for number, row in enumerate(rows):
        cells = [f"**{cell}**" if number in bold and cell else cell for cell in row]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def terminal(table: Table) -> RichTable:
    """The table for the terminal."""
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(table.headings):
        is_text = number == 0 or number in table.texts
        shown.add_column(heading, justify="left" if is_text else "right", no_wrap=number == 0)
    for number, row in enumerate(table.rows):
        shown.add_row(*row, style="bold" if number in table.ours else None)
    return shown


def terminal_targets(targets: Sequence[Target]) -> RichTable:
    """The targets for the terminal."""
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(TARGET_HEADINGS):
        shown.add_column(heading, justify="right" if number in (1, 2) else "left")
    for target in targets:
        colour = "green" if target.verdict == "met" else "red"
        shown.add_row(*target.cells()[:3], f"[{colour}]{target.verdict}[/{colour}]")
    return shown


def ratio(one: float | None, other: float | None) -> float | None:
    """How many times the other; None where one of them was not measured."""
    return None if one is None or not other else one / other


def seconds(value: float | None) -> str:
    """For a cell."""
    return "–" if value is None else f"{value:.2f} s"


def times(value: float | None) -> str:
    """For a cell."""
    return "–" if value is None else f"{value:.2f} ×"


def megabytes(value: float | None) -> str:
    """For a cell, from bytes."""
    return "–" if value is None else f"{value / MEGABYTE:,.0f} MB"


def size_of(result: Result) -> str:
    """How much was measured, for a heading."""
    return f"{result.rows:,} rows"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}".rstrip("0").rstrip(".")
