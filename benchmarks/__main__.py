"""The benchmarks from the command line: ``python -m benchmarks``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import click
from rich.console import Console

from benchmarks import (
    REPOSITORY,
    closing,
    commands,
    comparing,
    extraction,
    fifty,
    harm,
    incremental,
    loading,
    memory,
    orchestration,
    page,
    postgres,
    profiles,
    workers,
)
from benchmarks.progress import Progress
from benchmarks.report import Report, terminal, terminal_targets
from benchmarks.results import Result, ResultFile
from benchmarks.workspace import BenchmarkError, Workspace
from millrace.errors import MillraceError
from millrace_sandbox.cli import FAILURES

_FILE_COLUMNS = 180

# The tables are wide; in a file they are not wrapped.
out = Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_COLUMNS)
err = Console(stderr=True, highlight=False)

SECTIONS: Mapping[str, ModuleType] = {
    module.SECTION: module
    for module in (
        extraction,
        postgres,
        closing,
        memory,
        loading,
        comparing,
        harm,
        incremental,
        orchestration,
        fifty,
        workers,
        commands,
        profiles,
    )
}

ROWS = click.option("--rows", default=page.DEFAULT_ROWS, show_default=True, help="Rows to measure.")
ROUNDS = click.option("--rounds", default=3, show_default=True, help="Runs of each method.")
RESUME = click.option("--resume", is_flag=True, help="Go on where the last run stopped.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Measure Millrace side by side with what users would pick instead.

    Everything is under .sandbox/bench; the services are private ones, stopped at the end.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    ctx.obj = Workspace.default()
    ctx.obj.create()


@cli.command("extraction")
@ROWS
@ROUNDS
@RESUME
@click.option("--only", multiple=True, metavar="METHOD", help="Run only this; may be repeated.")
@click.pass_obj
def measure_extraction(
    workspace: Workspace, rows: int, rounds: int, resume: bool, only: tuple[str, ...]
) -> None:
    """MySQL to Parquet on S3, compared with the other ways."""
    result = extraction.measure(workspace, rows, rounds, Progress(err), only=only, resume=resume)
    _show(extraction.report(result))


@cli.command("postgres")
@ROWS
@ROUNDS
@RESUME
@click.pass_obj
def measure_postgres(workspace: Workspace, rows: int, rounds: int, resume: bool) -> None:
    """PostgreSQL to Arrow and Parquet, beside a COPY that is discarded."""
    _show(postgres.report(postgres.measure(workspace, rows, rounds, Progress(err), resume=resume)))


@cli.command("closing")
@ROWS
@ROUNDS
@RESUME
@click.pass_obj
def measure_closing(workspace: Workspace, rows: int, rounds: int, resume: bool) -> None:
    """What it costs to lose no late commit, compared with the read."""
    _show(closing.report(closing.measure(workspace, rows, rounds, Progress(err), resume=resume)))


@cli.command("memory")
@ROWS
@ROUNDS
@RESUME
@click.pass_obj
def measure_memory(workspace: Workspace, rows: int, rounds: int, resume: bool) -> None:
    """Millrace's memory over the size of the table."""
    _show(memory.report(memory.measure(workspace, rows, rounds, Progress(err), resume=resume)))


@cli.command("loading")
@ROWS
@ROUNDS
@RESUME
@click.pass_obj
def measure_loading(workspace: Workspace, rows: int, rounds: int, resume: bool) -> None:
    """Parquet into DuckDB and the Redshift stand-in, compared with their own bulk loads."""
    _show(loading.report(loading.measure(workspace, rows, rounds, Progress(err), resume=resume)))


@cli.command("comparing")
@ROWS
@ROUNDS
@RESUME
@click.pass_obj
def measure_comparing(workspace: Workspace, rows: int, rounds: int, resume: bool) -> None:
    """What it costs to compare: each batch by value, a loaded table with its source by key."""
    progress = Progress(err)
    _show(comparing.report(comparing.measure(workspace, rows, rounds, progress, resume=resume)))


@cli.command("harm")
@ROWS
@ROUNDS
@RESUME
@click.pass_obj
def measure_harm(workspace: Workspace, rows: int, rounds: int, resume: bool) -> None:
    """What a read does to its server, and to the queries of others."""
    _show(harm.report(harm.measure(workspace, rows, rounds, Progress(err), resume=resume)))


@cli.command("incremental")
@ROWS
@click.option("--rounds", default=3, show_default=True, help="Days.")
@RESUME
@click.pass_obj
def measure_incremental(workspace: Workspace, rows: int, rounds: int, resume: bool) -> None:
    """A day of new rows on a short and on a long history (four times the rows)."""
    progress = Progress(err)
    _show(incremental.report(incremental.measure(workspace, rows, rounds, progress, resume=resume)))


@cli.command("orchestration")
@ROUNDS
@RESUME
@click.pass_obj
def measure_orchestration(workspace: Workspace, rounds: int, resume: bool) -> None:
    """Transform in Airflow, compared with dbt build; parsing many DAGs."""
    result = orchestration.measure(
        workspace, page.DEFAULT_ROWS, rounds, Progress(err), resume=resume
    )
    _show(orchestration.report(result))


@cli.command("fifty")
@click.pass_obj
def measure_fifty(workspace: Workspace) -> None:
    """Fifty tables ingested at once through Airflow."""
    _show(fifty.report(fifty.measure(workspace, page.DEFAULT_ROWS, 1, Progress(err))))


@cli.command("workers")
@ROWS
@click.pass_obj
def measure_workers(workspace: Workspace, rows: int) -> None:
    """Hundreds of tables at once on three Celery workers: what each service has to bear."""
    _show(workers.report(workers.measure(workspace, rows, 1, Progress(err))))


@cli.command("commands")
@ROUNDS
@RESUME
@click.pass_obj
def measure_commands(workspace: Workspace, rounds: int, resume: bool) -> None:
    """How fast millrace answers: its help, and the list of one table and of fifty."""
    progress = Progress(err)
    result = commands.measure(workspace, page.DEFAULT_ROWS, rounds, progress, resume=resume)
    _show(commands.report(result))


@cli.command("profiles")
@ROWS
@RESUME
@click.pass_obj
def measure_profiles(workspace: Workspace, rows: int, resume: bool) -> None:
    """Where an extraction and a day's dbt build spend their time."""
    _show(profiles.report(profiles.measure(workspace, rows, 1, Progress(err), resume=resume)))


@cli.command("all")
@ROWS
@ROUNDS
@RESUME
@click.pass_obj
def measure_all(workspace: Workspace, rows: int, rounds: int, resume: bool) -> None:
    """Every section, one after the other, and all their tables at the end."""
    progress = Progress(err)
    for name, section in SECTIONS.items():
        progress.say(f"-- {name}")
        section.measure(workspace, rows, rounds, progress, resume=resume)
    _show_all(workspace)


@cli.command()
@click.pass_obj
def show(workspace: Workspace) -> None:
    """The tables of what was measured last."""
    _show_all(workspace)


@cli.command("page")
@click.option(
    "--docs",
    type=click.Path(file_okay=False, path_type=Path),
    default=REPOSITORY / "docs",
    help="Where benchmarks.md and images/ go; default: docs/.",
)
@click.pass_obj
def write_page(workspace: Workspace, docs: Path) -> None:
    """Write docs/benchmarks.md with its pictures from what was measured last."""
    out.print(f"wrote {page.write(workspace, _reports(workspace), docs)}", soft_wrap=True)


def _reports(workspace: Workspace) -> dict[str, tuple[Result, Report]]:
    """The results and reports of the sections that have run."""
    reports = {}
    for name, section in SECTIONS.items():
        result = ResultFile(workspace, name).load()
        if result is not None and result.runs:
            reports[name] = (result, section.report(result))
    return reports


def _show_all(workspace: Workspace) -> None:
    reports = [report for _, report in _reports(workspace).values()]
    for report in reports:
        _show(report, targets=False)
    out.print("Targets", style="bold", end="")
    out.print(f", meant for {page.DEFAULT_ROWS:,} rows")
    out.print(terminal_targets([target for report in reports for target in report.targets]))


def _show(report: Report, *, targets: bool = True) -> None:
    out.print(report.title, style="bold")
    out.print(terminal(report.table))
    if targets and report.targets:
        out.print(terminal_targets(report.targets))


def main() -> None:
    """Run the command; a failure ends in a message, not in a stack trace."""
    try:
        cli(standalone_mode=True)
    except (BenchmarkError, *FAILURES, MillraceError) as error:
        err.print("Error:", style="bold red", end=" ")
        err.print(str(error), markup=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
