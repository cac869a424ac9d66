"""What time Airflow adds: to a ``dbt build``, and before a task can start."""

from __future__ import annotations

import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import REPOSITORY
from benchmarks import measure as measuring
from benchmarks.declared import SOURCE, copy_dags, declaration, write_project
from benchmarks.incremental import dbt_build
from benchmarks.peers import METHODS
from benchmarks.progress import Progress
from benchmarks.report import Report, Table, Target, megabytes, ratio, seconds, times
from benchmarks.results import Result, ResultFile, Run
from benchmarks.workspace import Workspace, clean_environment, leaving_on_sigterm
from millrace_sandbox import sample_data, sample_sheets
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.stack import Stack

SECTION = "orchestration"
TRANSFORM, PARSE = "transform", "parse"
BUILD, TRIGGERED = "dbt build", "transform, triggered in Airflow"
FILES = ("ingest.py", "transform.py")

_TABLES, _MODELS = 200, 300
_RUN_TIMEOUT = 600


def measure(
    workspace: Workspace, rows: int, rounds: int, progress: Progress, *, resume: bool = False
) -> Result:
    """Compare ``transform`` with ``dbt build``, and time the DAG files of a large project.

    Args:
        workspace: The folders of the benchmarks.
        rows: Only recorded: the demo's data are small, because Airflow's cost is fixed.
        rounds: How often each is run.
        progress: Where progress is reported.
        resume: Whether to go on where the last measurement stopped.

    Raises:
        SandboxError: a service or a run failed.
        BenchmarkError: dbt failed, or a DAG file cannot be parsed.
    """
    file = ResultFile(workspace, SECTION)
    result = file.begin(rows, rounds, resume=resume)
    _measure_parsing(workspace, result, file, progress)
    if not all(result.has(TRANSFORM, TRIGGERED, round_ + 1) for round_ in range(rounds)):
        _measure_transform(workspace, result, file, progress)
    return result


def _measure_parsing(
    workspace: Workspace, result: Result, file: ResultFile, progress: Progress
) -> None:
    with progress.step(f"a dbt project of {_TABLES} tables and {_MODELS} models"):
        dags = copy_dags(_large_project(workspace))
    environment = {
        **clean_environment(),
        "DBT_PROFILES_DIR": str(REPOSITORY),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_HOME": str(workspace.scratch / "airflow_home"),
        "AIRFLOW__COSMOS__CACHE_DIR": str(workspace.scratch / "airflow_home" / "cosmos"),
        "AIRFLOW__COSMOS__ENABLE_TELEMETRY": "False",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    for round_ in range(1, result.rounds + 1):
        for name in FILES:
            if result.has(PARSE, name, round_):
                continue
            with (
                progress.step(f"round {round_} of {result.rounds}: parse {name}"),
                tempfile.TemporaryDirectory(dir=workspace.scratch) as folder,
            ):
                usage = measuring.run(
                    [sys.executable, METHODS / "parse_dag.py", dags / name],
                    environment=environment,
                    folder=Path(folder),
                )
            values = {**usage.output, "process": usage.wall, "peak": usage.peak}
            result.runs.append(Run(PARSE, name, round_, usage.output["file"], values))
            file.save(result)


def _measure_transform(
    workspace: Workspace, result: Result, file: ResultFile, progress: Progress
) -> None:
    stack = Stack(SandboxPaths(workspace.root / "stack"))
    with leaving_on_sigterm():
        try:
            with progress.step("start the services, load the demo's data, start Airflow"):
                _start(stack)
            # The first run of each warms caches and is not counted.
            for round_ in range(result.rounds + 1):
                for method, run in ((BUILD, _build), (TRIGGERED, _trigger)):
                    if round_ and result.has(TRANSFORM, method, round_):
                        continue
                    with progress.step(f"round {round_} of {result.rounds}: {method}"):
                        wall = run(workspace, stack)
                    progress.say(f"{wall:8.2f} s  {method}")
                    if round_:
                        result.runs.append(Run(TRANSFORM, method, round_, wall))
                        file.save(result)
        finally:
            stack.stop()


def _start(stack: Stack) -> None:
    stack.airflow.stop()
    stack.start_services()
    stack.reset()
    server = stack.mysql.server
    sample_data.create_schema(server)
    sample_data.fill_history(server, responses=40_000, users=3_000)
    sample_sheets.create_sheets(stack.sheets.endpoint)
    stack.dbt("parse")
    with tempfile.TemporaryDirectory() as folder:
        measuring.run(
            [sys.executable, "-m", "millrace.cli", "ingest"],
            environment={
                **clean_environment(),
                **stack.environment(),
                "DBT_PROJECT_DIR": str(REPOSITORY / "dbt_project"),
            },
            folder=Path(folder),
        )
    stack.start_airflow()
    client = stack.airflow.client()
    client.wait_for_dags({"transform"})
    client.unpause("transform")


def _build(workspace: Workspace, stack: Stack) -> float:
    """Seconds of the whole command, without unit tests, as the DAG runs it."""
    with tempfile.TemporaryDirectory(dir=workspace.scratch) as folder:
        usage = measuring.run(
            dbt_build(folder),
            environment={**clean_environment(), **stack.environment()},
            folder=Path(folder),
        )
    return usage.wall


def _trigger(workspace: Workspace, stack: Stack) -> float:
    """Seconds from the request that triggers ``transform`` to the end of its last task."""
    client = stack.airflow.client()
    run_id = f"bench-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    began = datetime.now(UTC)
    client.trigger("transform", run_id=run_id)
    client.wait_for_run("transform", lambda run: run.run_id == run_id, _RUN_TIMEOUT)
    ended = [task.ended_at for task in client.task_instances("transform", run_id)]
    return (max(end for end in ended if end is not None) - began).total_seconds()


def _large_project(workspace: Workspace) -> Path:
    """A parsed project: one staging model per table, and marts of two staging models each."""
    folder = workspace.scratch / "large_project" / "dbt_project"
    tables = [declaration(f"table_{number}", f"t{number}") for number in range(_TABLES)]
    models = {
        f"stg_{number}": f"select * from {{{{ source('{SOURCE}', 'table_{number}') }}}}"
        for number in range(_TABLES)
    } | {
        f"mart_{number}": f"select * from {{{{ ref('stg_{number}') }}}} "
        f"union all select * from {{{{ ref('stg_{number + 1}') }}}}"
        for number in range(_MODELS - _TABLES)
    }
    tested = [{"name": "id", "data_tests": ["unique", "not_null"]}]
    tests = [{"name": name, "columns": tested} for name in models]
    write_project(folder, tables, models, tests)
    return folder


def report(result: Result) -> Report:
    """The table and the targets of this section."""
    built, triggered = result.median(TRANSFORM, BUILD), result.median(TRANSFORM, TRIGGERED)
    rows = [
        (BUILD, seconds(built), times(ratio(built, built)), ""),
        (TRIGGERED, seconds(triggered), times(ratio(triggered, built)), ""),
    ]
    targets = [
        Target(
            "transform in Airflow compared with the same dbt build",
            2,
            ratio(triggered, built),
            "×",
        )
    ]
    for name in FILES:
        wall = result.median(PARSE, name)
        found = result.select(PARSE, name)
        if not found:
            continue
        values = found[-1].values
        heavy = ", ".join(values["heavy"]) or "neither pandas, dbt nor pyarrow"
        rows.append(
            (
                f"parse dags/{name}: {values['tasks']:,} tasks",
                seconds(wall),
                "",
                f"imports {heavy}; {megabytes(values['peak'])}; before it, importing Airflow: "
                + seconds(result.median(PARSE, name, lambda run: float(run.values["airflow"]))),
            )
        )
        targets.append(
            Target(f"parse dags/{name} of {_TABLES} tables and {_MODELS} models", 1, wall, "s")
        )
    return Report(
        title="Orchestration: what Airflow adds",
        method=_METHOD,
        table=Table(
            ("what", "wall", "÷ dbt build", ""), tuple(rows), frozenset({1}), frozenset({3})
        ),
        targets=tuple(targets),
    )


_METHOD = f"""\
The demo's project on DuckDB, with 40,000 responses, in a running Airflow (scheduler, API server,
DAG processor and triggerer on this machine). `transform` counts from the request that triggers it
to the end of its last task, publishing to the sheet included; `dbt build` is the whole command with
the same models, snapshot and data tests. Both run in turns, after one run of each that is not
counted. The DAG files are parsed in fresh processes by Airflow's own `DagBag` for a generated
project of {_TABLES} declared tables and {_MODELS} models with two tests each. The time includes
everything that the file imports except Airflow, which the DAG processor has imported before."""
