"""How fast a command answers: processor time of ``--help``, and of ``millrace list``."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks import measure as measuring
from benchmarks import tables
from benchmarks.declared import DeclaredTable, declaration, write_project
from benchmarks.environments import pinned_versions, python_of
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, Target, ratio, seconds
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import Services, Workspace, clean_environment, running_services

SECTION = "commands"
HELP = "--help"
MILLRACE = "millrace"
ONE, MANY = 1, 50

_ROWS_EACH = 100
_PROGRAMS = {MILLRACE: None, "dbt": None, "ingestr": "ingestr", "dlt": "dlt"}
"""The environment of each program; None means the project's own."""


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Ask each program for its help, and Millrace for its list of one loaded table and of fifty.

    Args:
        workspace: The folders of the benchmarks.
        rows: Only recorded: what a command prints does not depend on them.
        rounds: How often each is run.
        progress: Where progress is reported.
        resume: Whether to go on where the last measurement stopped.

    Raises:
        BenchmarkError: a program failed.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    pinned = pinned_versions()
    result.facts["versions"] = ", ".join(f"{name} {pinned[name]}" for name in ("ingestr", "dlt"))
    with running_services(workspace) as services:
        with progress.step(f"load {ONE} table, and {MANY}"):
            projects = {
                f"list, {count} {'table' if count == 1 else 'tables'}": _loaded(
                    workspace, services, count
                )
                for count in (ONE, MANY)
            }
        for round_ in range(1, rounds + 1):
            for program in _PROGRAMS:
                if not result.has(HELP, program, round_):
                    usage = _run(workspace, program, [HELP], clean_environment())
                    result.runs.append(_as_run(HELP, program, round_, usage))
            for case, environment in projects.items():
                if not result.has(case, MILLRACE, round_):
                    usage = _run(workspace, MILLRACE, ["list"], environment)
                    result.runs.append(_as_run(case, MILLRACE, round_, usage))
            file.save(result)
    return result


def _loaded(workspace: Workspace, services: Services, count: int) -> Mapping[str, str]:
    """The environment of a project with this many tables, each of which was loaded once."""
    table = tables.create_rows(workspace, services.mariadb.server, _ROWS_EACH)
    project = DeclaredTable(workspace.scratch / f"project_list_{count}", table)
    write_project(
        project.root / "dbt_project", [declaration(f"t{number}", table) for number in range(count)]
    )
    environment = {
        **clean_environment(),
        **services.environment(),
        **project.environment(),
        "LANDING_URL": (project.root / "landing").as_uri(),
        "MILLRACE_PII_SALT": "no column here is personal",
    }
    _run(workspace, MILLRACE, ["ingest"], environment)
    return environment


def _run(
    workspace: Workspace, program: str, arguments: list[str], environment: Mapping[str, str]
) -> measuring.Usage:
    name = _PROGRAMS[program]
    python = python_of(workspace, name) if name else Path(sys.executable)
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        return measuring.run(
            [python.with_name(program), *arguments], environment=environment, folder=Path(folder)
        )


def _as_run(case: str, method: str, round_: int, usage: measuring.Usage) -> Run:
    return Run(case, method, round_, usage.wall, {"cpu": usage.cpu})


def report(result: Result) -> Report:
    """The table and the targets of this section."""

    def cpu(case: str, method: str = MILLRACE) -> float | None:
        return result.median(case, method, lambda run: float(run.values["cpu"]))

    shown = [(case, method) for case in result.cases() for method in result.methods(case)]
    rows = [
        (
            f"{method} {case}",
            seconds(cpu(case, method)),
            seconds(result.median(case, method)),
        )
        for case, method in shown
    ]
    one, many = cpu(f"list, {ONE} table"), cpu(f"list, {MANY} tables")
    return Report(
        title="Commands: how soon they answer",
        method=_METHOD,
        table=Table(
            ("command", "processor time", "wall"),
            tuple(rows),
            frozenset(number for number, (_, method) in enumerate(shown) if method == MILLRACE),
        ),
        targets=(
            Target("millrace --help, processor time", 0.3, cpu(HELP), "s"),
            Target(
                f"millrace list: {MANY} tables compared with one, processor time",
                1.5,
                ratio(many, one),
                "×",
            ),
        ),
    )


_METHOD = f"""\
Each command runs in a fresh process. `millrace list` shows {ONE} table, or {MANY}, each loaded once
into DuckDB; most of its time goes to dbt, which reads the profile."""
