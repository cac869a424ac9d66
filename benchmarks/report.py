"""The report of a section, for the terminal and for the page."""

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
    """A target, and what was measured.

    Attributes:
        what: What the target is for.
        limit: The highest value that meets the target.
        measured: The measured value; None if it was not measured.
        unit: The unit of both.
    """

    what: str
    limit: float
    measured: float | None
    unit: str

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if self.measured is None:
            return "not measured"
        if self.measured <= self.limit:
            return "met"
        if not self.limit:
            return "missed"
        return f"missed by {(self.measured / self.limit - 1) * 100:.0f} %"

    def cells(self) -> tuple[str, str, str, str]:
        """The target as a row of a table."""
        measured = "–" if self.measured is None else f"{_number(self.measured)} {self.unit}".strip()
        return self.what, f"≤ {_number(self.limit)} {self.unit}".strip(), measured, self.verdict


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Attributes:
        headings: The headings of its columns. The first column is text, the others are figures.
        rows: The cells of each row, as many as there are headings.
        ours: The numbers of the rows that are Millrace's.
        texts: The numbers of the columns, besides the first, that are text.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    ours: frozenset[int] = frozenset()
    texts: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Chart:
    """A chart that ``charts.py`` draws.

    Attributes:
        file: The name of its file.
        caption: What it shows.
        spec: Its kind, labels and values.
    """

    file: str
    caption: str
    spec: dict[str, Any]


@dataclass(frozen=True)
class Report:
    """The report of one section.

    Attributes:
        title: Its heading.
        method: How it was measured, in one paragraph.
        table: The figures.
        remark: What the page says below them.
        targets: The targets.
        charts: The charts.
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
    """The first divided by the second; None if one of them was not measured."""
    return None if one is None or not other else one / other


def seconds(value: float | None) -> str:
    """Seconds, for a cell."""
    return "–" if value is None else f"{value:.2f} s"


def times(value: float | None) -> str:
    """A factor, for a cell."""
    return "–" if value is None else f"{value:.2f} ×"


def megabytes(value: float | None) -> str:
    """Bytes as megabytes, for a cell."""
    return "–" if value is None else f"{value / MEGABYTE:,.0f} MB"


def size_of(result: Result) -> str:
    """How much was measured, for a heading."""
    return f"{result.rows:,} rows"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 20 else f"{value:.2f}".rstrip("0").rstrip(".")
