"""The demo of any project: its tables go through Airflow to its marts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from millrace_sandbox.paths import command_line
from millrace_sandbox.processes import SandboxError
from millrace_sandbox.stack import WAREHOUSES

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from millrace_sandbox.airflow_api import AirflowClient, DagRun
    from millrace_sandbox.stack import Stack

INGEST = "ingest__"
TRANSFORM_DAG = "transform"
RUN_TIMEOUT = 600


class Demo:
    """One run of the demo.

    Args:
        stack: The stack to show it on; what was loaded there before stays.
        console: Where to show it.
    """

    def __init__(self, stack: Stack, console: Console) -> None:
        self._stack = stack
        self._console = console
        self._stages: list[tuple[str, float]] = []

    def run(self) -> None:
        """Run it; the stack stays up afterwards.

        Raises:
            SandboxError: something did not work; says what.
        """
        with self._stage(f"Start {self._services}"):
            self._stack.start_services()
        with self._stage("Start Airflow; fill MySQL with the project's sample"):
            self._prepare()
        client = self._stack.airflow.client()
        client.wait_for_dags({TRANSFORM_DAG})
        ingest = sorted(dag_id for dag_id in client.dag_ids() if dag_id.startswith(INGEST))
        if not ingest:
            raise SandboxError(
                "The project declares no table to ingest: there is nothing to show. Declare one: "
                f"{command_line('millrace')} scaffold mysql"
            )
        name = WAREHOUSES[self._stack.target]
        with self._stage(f"Sources → S3 → {name} → dbt, by Airflow"):
            since = datetime.now(UTC)
            client.unpause(TRANSFORM_DAG)
            for dag_id in ingest:
                # The schedule starts the first run of a DAG that was paused.
                was_run = bool(client.runs(dag_id))
                client.unpause(dag_id)
                if was_run:
                    client.trigger(dag_id)
            self._follow(client, since, ingest)
        with self._stage("Write the dbt docs"):
            self._stack.write_docs()
        self._console.print()
        self._console.print(self._stack.millrace("list").rstrip(), markup=False, soft_wrap=True)
        self._show_stages()
        self._show_doors()

    @property
    def _services(self) -> str:
        return f"{self._stack.mysql.title}, an S3 server and a Google Sheets stand-in"

    def _prepare(self) -> None:
        """Start Airflow, and fill the sources while it starts."""
        # Airflow reads the declarations from dbt's manifest, and must not parse the project itself.
        self._stack.dbt("parse")
        with ThreadPoolExecutor(1) as pool:
            filled = pool.submit(self._fill)
            self._stack.start_airflow()
            filled.result()

    def _fill(self) -> None:
        self._stack.ensure_sample()

    def _follow(self, client: AirflowClient, since: datetime, ingest: Collection[str]) -> None:
        """Show each task as it ends, until a run of transform has run dbt and succeeded."""
        # A run of transform also succeeds, without dbt, if an earlier one has read its data.
        built: set[str] = set()

        def is_done(runs: Any) -> bool:
            return any(run.run_id in built and run.state == "success" for run in runs)

        def is_wanted(run: DagRun) -> bool:
            return run.started_at is None or run.started_at >= since

        dags = (*ingest, TRANSFORM_DAG)
        running: dict[tuple[str, str], None] = {}
        with self._console.status("waiting for Airflow") as status:
            for task in client.watch(dags, is_done, RUN_TIMEOUT, since=since, is_wanted=is_wanted):
                key = (task.dag_id, task.task_id)
                if task.task_id == "dbt_build" and task.state == "success":
                    built.add(task.run_id)
                if task.state in ("success", "skipped"):
                    running.pop(key, None)
                if task.state == "success":
                    took = f"{task.seconds:.1f} s" if task.seconds is not None else ""
                    self._console.print(f"  {took:>7}  {task.dag_id}  {task.task_id}")
                elif task.state in ("running", "deferred", "up_for_retry"):
                    running[key] = None
                names = ", ".join(f"{dag}.{name}" for dag, name in running)
                status.update(names or "waiting for Airflow")

    def _show_table(self, title: str, headings: Sequence[str], rows: Sequence[list[str]]) -> None:
        # Without padding it fits a terminal of 80 columns.
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, title=title)
        for heading in headings:
            # Spaces let a heading wrap where the terminal is narrow.
            table.add_column(heading.replace("_", " "), justify="right")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def _show_stages(self) -> None:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title="What took the time")
        table.add_column("stage")
        table.add_column("seconds", justify="right")
        for name, seconds in self._stages:
            table.add_row(name, f"{seconds:.1f}")
        table.add_row("together", f"{sum(seconds for _, seconds in self._stages):.1f}")
        self._console.print(table)

    def _show_doors(self) -> None:
        airflow = self._stack.airflow
        millrace, sandbox = command_line("millrace"), command_line("millrace-sandbox")
        for door in (
            f"Airflow     {airflow.url}",
            f"            user {airflow.login.user}, password {airflow.login.password}",
            f"dbt docs    {airflow.url}/cosmos/millrace/dbt_docs_index.html",
            f"sheets      {self._stack.sheets.endpoint.url}",
            f"warehouse   {self._stack.warehouse}",
            f"shell       set -a; . {self._stack.env_file}; set +a; {millrace} list",
            f"stop        {sandbox} down",
        ):
            self._console.print(door, soft_wrap=True, markup=False)

    @contextmanager
    def _stage(self, name: str) -> Iterator[None]:
        self._console.print(f"[bold]{name}[/bold]", highlight=False)
        began = time.monotonic()
        yield
        self._stages.append((name, time.monotonic() - began))
