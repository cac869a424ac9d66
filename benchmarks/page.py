"""The page ``docs/benchmarks.md``: written from the results, with its pictures."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from benchmarks.environments import python_of
from benchmarks.report import TARGET_HEADINGS, Report, markdown
from benchmarks.results import Result
from benchmarks.workspace import BenchmarkError, Workspace

DEFAULT_ROWS = 5_000_000

_HERE = Path(__file__).parent


def render(reports: Mapping[str, tuple[Result, Report]]) -> str:
    """The page's Markdown.

    Args:
        reports: The result and the report of each section that ran, by its name, in order.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 it is Markdown
    )
    sections = [
        {
            "title": report.title,
            "method": report.method,
            "measured": f"{result.measured_at}, medians of {result.rounds}, {_packages(result)}",
            "table": markdown(report.table.headings, report.table.rows, report.table.ours),
            "remark": report.remark,
            "targets": _targets([report]) if report.targets else "",
            "charts": report.charts,
            "notes": _notes(section),
        }
        for section, (result, report) in reports.items()
    ]
    machine = next(iter(reports.values()))[0].machine
    text = environment.get_template("page.md.j2").render(
        sections=sections,
        targets=_targets([report for _, report in reports.values()]),
        machine=f"{machine['processor']}, {machine['memory']} memory, {machine['system']}, "
        f"Python {machine['python']}. {machine['packages']}.",
        default_rows=DEFAULT_ROWS,
        rows=min(result.rows for result, _ in reports.values()),
    )
    return text.rstrip() + "\n"


def write(workspace: Workspace, reports: Mapping[str, tuple[Result, Report]], docs: Path) -> Path:
    """Write the page and its pictures.

    Args:
        workspace: Has the environment that draws the pictures.
        reports: As for ``render``.
        docs: The folder of the page; the pictures go to ``images/`` in it.

    Returns:
        The page.

    Raises:
        BenchmarkError: nothing was measured, or a picture cannot be drawn.
    """
    if not reports:
        raise BenchmarkError("Nothing was measured yet. Run a section first: make bench.")
    images = docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    charts = [
        {**chart.spec, "file": str(images / chart.file)}
        for _, report in reports.values()
        for chart in report.charts
    ]
    done = subprocess.run(
        [python_of(workspace, "charts"), _HERE / "charts.py"],
        input=json.dumps(charts),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError(f"The pictures cannot be drawn:\n{done.stderr}")
    page = docs / "benchmarks.md"
    page.write_text(render(reports))
    return page


def _targets(reports: list[Report]) -> str:
    rows = [target.cells() for report in reports for target in report.targets]
    missed = frozenset(number for number, row in enumerate(rows) if row[-1] != "met")
    return markdown(TARGET_HEADINGS, rows, missed)


def _packages(result: Result) -> str:
    return str(result.facts.get("versions", ""))


def _notes(section: str) -> str:
    """What a person wrote about a section: profiles, and why a target is missed."""
    file = _HERE / "notes" / f"{section}.md"
    return file.read_text().strip() if file.is_file() else ""
