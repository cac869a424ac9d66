"""A client of Airflow's REST API, with the calls that the demo and the tests need."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from millrace_sandbox.processes import SandboxError, poll

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

logger = logging.getLogger(__name__)

PAGE = 100
LOG_LINES = 25
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 15


@dataclass(frozen=True)
class Login:
    """Airflow's one user."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class DagRun:
    """One run of a DAG; the interval and the logical date are None when an asset started it."""

    dag_id: str
    run_id: str
    run_type: str
    state: str
    logical_date: datetime | None
    interval_start: datetime | None
    interval_end: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True)
class TaskInstance:
    """One task of one run, as it is now; `map_index` is -1 for a task that is not mapped.

    Its host name is empty until it has started.
    """

    dag_id: str
    run_id: str
    task_id: str
    display_name: str
    map_index: int
    try_number: int
    state: str | None
    queue: str | None
    hostname: str
    scheduled_at: datetime | None
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None

    @property
    def seconds(self) -> float | None:
        """How long its last try took, None while it has not ended."""
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


@dataclass(frozen=True)
class AssetEvent:
    """One update of an asset."""

    name: str
    uri: str
    source_dag_id: str | None
    source_run_id: str | None
    source_task_id: str | None
    at: datetime


class AirflowClient:
    """The few calls of Airflow's REST API that the demo and the tests need.

    Args:
        url: Where the API server is.
        login: Whom to log in as.

    Raises:
        SandboxError: From every method, when Airflow cannot be reached or refuses.
    """

    def __init__(self, url: str, login: Login) -> None:
        self.url = url
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        body = {"username": login.user, "password": login.password}
        token = self._call("POST", "/auth/token", body)["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def dag_ids(self) -> set[str]:
        """The DAGs that Airflow has parsed."""
        return {dag["dag_id"] for dag in self._all("/api/v2/dags", "dags")}

    def import_errors(self) -> dict[str, str]:
        """The DAG files that cannot be imported, with their stack traces."""
        errors = self._all("/api/v2/importErrors", "import_errors")
        return {error["filename"]: error["stack_trace"] for error in errors}

    def wait_for_dags(self, dag_ids: Collection[str], timeout: float = 60) -> None:
        """Wait until the DAGs are parsed.

        Raises:
            SandboxError: A DAG file cannot be imported, or time ran out.
        """

        def is_settled() -> bool:
            return bool(self.import_errors()) or set(dag_ids) <= self.dag_ids()

        settled = poll(is_settled, timeout, interval=0.2)
        for file, trace in self.import_errors().items():
            raise SandboxError(f"Airflow cannot import {file}:\n{trace}")
        if not settled:
            missing = ", ".join(sorted(set(dag_ids) - self.dag_ids()))
            raise SandboxError(f"Airflow did not find these DAGs within {timeout:g} s: {missing}")

    def unpause(self, dag_id: str) -> None:
        """Let the DAG's schedule start runs, and its queued runs go on."""
        self._call("PATCH", f"/api/v2/dags/{quote(dag_id)}", {"is_paused": False})

    def pause(self, dag_id: str) -> None:
        """Keep the DAG's schedule from starting runs."""
        self._call("PATCH", f"/api/v2/dags/{quote(dag_id)}", {"is_paused": True})

    def trigger(
        self,
        dag_id: str,
        *,
        run_id: str | None = None,
        logical_date: datetime | None = None,
        interval: tuple[datetime, datetime] | None = None,
    ) -> DagRun:
        """Start a run now; while the DAG is paused, the run stays queued.

        Args:
            dag_id: The DAG.
            run_id: The run's id; default: Airflow makes one up.
            logical_date: Unique within the DAG; default: the interval's start.
            interval: The run's data interval; default: what the timetable derives from the
                logical date. Without a logical date either, the run has no interval.
        """
        start, end = interval or (None, None)
        logical_date = logical_date or start
        body = {
            "logical_date": logical_date and logical_date.isoformat(),
            "data_interval_start": start and start.isoformat(),
            "data_interval_end": end and end.isoformat(),
        }
        if run_id is not None:
            body["dag_run_id"] = run_id
        return _dag_run(self._call("POST", f"/api/v2/dags/{quote(dag_id)}/dagRuns", body))

    def clear(self, task: TaskInstance, *, downstream: bool = False) -> None:
        """Clear a task, so that it runs again; with `downstream` also every task after it."""
        body = {
            "dry_run": False,
            "dag_run_id": task.run_id,
            "task_ids": [task.task_id],
            "include_downstream": downstream,
            "only_failed": False,
        }
        self._call("POST", f"/api/v2/dags/{quote(task.dag_id)}/clearTaskInstances", body)

    def backfill(
        self,
        dag_id: str,
        from_date: datetime,
        to_date: datetime,
        *,
        reprocess: str = "none",
        max_active_runs: int = 1,
    ) -> int:
        """Start the runs of all intervals whose logical date is in `[from_date, to_date]`.

        Args:
            dag_id: The DAG.
            from_date: The first logical date.
            to_date: The last logical date, inclusive.
            reprocess: Which existing runs to run again: none, failed or completed.
            max_active_runs: How many run at a time.

        Returns:
            The backfill's id.
        """
        body = {
            "dag_id": dag_id,
            "from_date": from_date.isoformat(),
            "to_date": to_date.isoformat(),
            "reprocess_behavior": reprocess,
            "max_active_runs": max_active_runs,
        }
        answer = self._call("POST", "/api/v2/backfills", body)
        return int(answer["id"])

    def runs(self, dag_id: str = "~", since: datetime | None = None) -> list[DagRun]:
        """The runs of a DAG, or of all, oldest first; with `since`, those that changed after it."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns"
        return [_dag_run(run) for run in self._all(path, "dag_runs", _changed_after(since))]

    def task_instances(
        self, dag_id: str = "~", run_id: str = "~", since: datetime | None = None
    ) -> list[TaskInstance]:
        """The tasks of a run, or of all; with `since`, those that changed after it."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id)}/taskInstances"
        found = self._all(path, "task_instances", _changed_after(since))
        return [_task_instance(task) for task in found]

    def asset_events(self, since: datetime | None = None) -> list[AssetEvent]:
        """The updates of all assets, oldest first."""
        parameters = {"timestamp_gte": since.isoformat()} if since else {}
        events = self._all("/api/v2/assets/events", "asset_events", parameters)
        return [
            AssetEvent(
                name=event["name"],
                uri=event["uri"],
                source_dag_id=event["source_dag_id"],
                source_run_id=event["source_run_id"],
                source_task_id=event["source_task_id"],
                at=datetime.fromisoformat(event["timestamp"]),
            )
            for event in events
        ]

    def log_tail(self, task: TaskInstance, lines: int = LOG_LINES) -> list[str]:
        """The last lines of the log of a task's last try."""
        path = (
            f"/api/v2/dags/{quote(task.dag_id)}/dagRuns/{quote(task.run_id)}"
            f"/taskInstances/{quote(task.task_id)}/logs/{task.try_number}"
        )
        parameters = {"map_index": str(task.map_index), "full_content": "true"}
        content = self._get(path, parameters)["content"]
        return [line for entry in content for line in _log_lines(entry)][-lines:]

    def pools(self) -> dict[str, int]:
        """The pools' names, and their slots."""
        return {pool["name"]: pool["slots"] for pool in self._all("/api/v2/pools", "pools")}

    def ensure_pool(self, name: str, slots: int) -> None:
        """Make the pool; one that exists gets this many slots."""
        pool = {"name": name, "slots": slots}
        action = {"action": "create", "action_on_existence": "overwrite", "entities": [pool]}
        result = self._call("PATCH", "/api/v2/pools", {"actions": [action]})
        if result["create"]["errors"]:
            raise SandboxError(f"Airflow refused pool {name}: {result['create']['errors']}")

    def watch(
        self,
        dag_ids: Collection[str],
        until: Callable[[Sequence[DagRun]], bool],
        timeout: float,
        *,
        since: datetime | None = None,
        is_wanted: Callable[[DagRun], bool] = lambda run: True,
    ) -> Iterator[TaskInstance]:
        """Follow the tasks of some runs: yield a task whenever its state has changed.

        Args:
            dag_ids: The DAGs whose runs to follow.
            until: Called with the followed runs; returns whether to stop.
            timeout: Seconds to follow at most.
            since: Follow only the runs and the tasks that changed after this time.
            is_wanted: Whether to follow a run.

        Raises:
            SandboxError: A followed task or run failed, a run had no tasks, or time ran out.
        """
        seen: dict[tuple[str, str, str, int], tuple[str | None, int]] = {}
        deadline = time.monotonic() + timeout
        while True:
            # Runs first: the tasks of a run that has ended are then in their final states.
            runs = {
                (run.dag_id, run.run_id): run
                for run in self.runs(since=since)
                if run.dag_id in dag_ids and is_wanted(run)
            }
            tasks = [
                task
                for task in self.task_instances(since=since)
                if (task.dag_id, task.run_id) in runs
            ]
            for task in sorted(tasks, key=_moment):
                key = (task.dag_id, task.run_id, task.task_id, task.map_index)
                if task.state is not None and seen.get(key) != (task.state, task.try_number):
                    seen[key] = (task.state, task.try_number)
                    yield task
            self._refuse_failures(list(runs.values()), tasks)
            if until(list(runs.values())):
                return
            if time.monotonic() > deadline:
                found = "; ".join(
                    f"{run.dag_id} {run.run_id}: {run.state}" for run in runs.values()
                )
                raise SandboxError(
                    f"Airflow was not done within {timeout:g} s. Runs of {', '.join(dag_ids)}: "
                    f"{found or 'none'}. See {self.url}"
                )
            time.sleep(POLL_SECONDS)

    def wait_for_run(
        self,
        dag_id: str,
        is_wanted: Callable[[DagRun], bool],
        timeout: float,
        since: datetime | None = None,
    ) -> DagRun:
        """Wait until one of a DAG's runs has succeeded; the run need not exist yet.

        Args:
            dag_id: The DAG.
            is_wanted: Whether to wait for a run: `lambda run: run.run_id == "history"`.
            timeout: Seconds to wait at most.
            since: Consider only runs that changed after this time.

        Raises:
            SandboxError: One of these runs failed or had no tasks, or time ran out.
        """
        done: list[DagRun] = []

        def until(runs: Sequence[DagRun]) -> bool:
            done.extend(run for run in runs if run.state == "success")
            return bool(done)

        for task in self.watch([dag_id], until, timeout, since=since, is_wanted=is_wanted):
            logger.debug("%s.%s is %s", task.dag_id, task.task_id, task.state)
        return done[0]

    def _refuse_failures(self, runs: Sequence[DagRun], tasks: Sequence[TaskInstance]) -> None:
        for task in tasks:
            if task.state == "failed":
                log = "\n  ".join(self.log_tail(task))
                raise SandboxError(
                    f"Task {task.task_id} of DAG {task.dag_id} failed (run {task.run_id}, "
                    f"try {task.try_number}). The end of its log:\n  {log}\nAll of it: {self.url}"
                    f"/dags/{task.dag_id}/runs/{quote(task.run_id)}/tasks/{quote(task.task_id)}"
                )
        with_tasks = {(task.dag_id, task.run_id) for task in tasks}
        for run in runs:
            where = f"{self.url}/dags/{run.dag_id}/runs/{quote(run.run_id)}"
            if run.state == "failed":
                raise SandboxError(f"Run {run.run_id} of DAG {run.dag_id} failed. See {where}")
            # Airflow calls a run that had nothing to do a success.
            is_empty = run.state == "success" and (run.dag_id, run.run_id) not in with_tasks
            if is_empty and not self.task_instances(run.dag_id, run.run_id):
                raise SandboxError(
                    f"Run {run.run_id} of DAG {run.dag_id} had no task to run: its logical date "
                    f"{run.logical_date} is before the DAG's start_date. See {where}"
                )

    def _all(
        self, path: str, key: str, parameters: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = {**(parameters or {}), "limit": str(PAGE), "offset": str(len(found))}
            answer = self._get(path, page)
            found += answer[key]
            if not answer[key] or len(found) >= answer["total_entries"]:
                return found

    def _get(self, path: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        # Some failures pass: Airflow cannot list asset events while a run they start is queued.
        return self._call("GET", path, parameters=parameters, patience=PATIENCE_SECONDS)

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        parameters: Mapping[str, str] | None = None,
        patience: float = 0,
    ) -> dict[str, Any]:
        """Make a request; failures other than client errors are retried for `patience` seconds."""
        deadline = time.monotonic() + patience
        while True:
            try:
                answer = self._http.request(method, path, json=body, params=parameters)
            except httpx.HTTPError as error:
                failure = SandboxError(f"Airflow does not answer on {self.url}: {error}")
            else:
                if answer.is_success:
                    return dict(answer.json())
                failure = SandboxError(
                    f"Airflow refused {method} {path} ({answer.status_code}): {answer.text[:500]}"
                )
                if answer.is_client_error:
                    raise failure
            if time.monotonic() >= deadline:
                raise failure
            time.sleep(POLL_SECONDS)


def _changed_after(since: datetime | None) -> dict[str, str]:
    return {"updated_at_gte": since.isoformat()} if since else {}


def parse_time(text: str | None) -> datetime | None:
    """Parse a time as the API writes it."""
    return datetime.fromisoformat(text) if text else None


def _moment(task: TaskInstance) -> datetime:
    """When a task reached its state, as far as Airflow tells; tasks not yet started come last."""
    return task.ended_at or task.started_at or datetime.max.replace(tzinfo=UTC)


def _dag_run(run: Mapping[str, Any]) -> DagRun:
    return DagRun(
        dag_id=run["dag_id"],
        run_id=run["dag_run_id"],
        run_type=run["run_type"],
        state=run["state"],
        logical_date=parse_time(run["logical_date"]),
        interval_start=parse_time(run["data_interval_start"]),
        interval_end=parse_time(run["data_interval_end"]),
        started_at=parse_time(run["start_date"]),
        ended_at=parse_time(run["end_date"]),
    )


def _task_instance(task: Mapping[str, Any]) -> TaskInstance:
    return TaskInstance(
        dag_id=task["dag_id"],
        run_id=task["dag_run_id"],
        task_id=task["task_id"],
        display_name=task["task_display_name"],
        map_index=task["map_index"],
        try_number=task["try_number"],
        state=task["state"],
        queue=task["queue"],
        hostname=task["hostname"] or "",
        scheduled_at=parse_time(task["scheduled_when"]),
        queued_at=parse_time(task["queued_when"]),
        started_at=parse_time(task["start_date"]),
        ended_at=parse_time(task["end_date"]),
    )


def _log_lines(entry: Mapping[str, Any]) -> Iterator[str]:
    """A log entry as text: its message, then the exceptions it carries."""
    lines = str(entry["event"]).splitlines()
    yield from (line for line in lines if not line.startswith(("::group::", "::endgroup::")))
    for error in entry.get("error_detail") or ():
        yield f"{error['exc_type']}: {error['exc_value']}"
        for frame in error["frames"][-1:]:
            yield f"  at {frame['filename']}:{frame['lineno']} in {frame['name']}"
