"""What a watcher asks Airflow's REST API; it changes nothing there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from millrace.catalog.kinds import needing
from millrace.connections import Connection
from millrace.errors import AirflowRefused, AirflowUnavailable, ConnectionNotFound

if TYPE_CHECKING:
    from httpx import Response

SCHEMA_CHANGES = "schema_changes"
"""In an asset's event, under this key, a load says how its columns differed."""

_ANSWER_SECONDS = 20
_PAGE = 100
# A log may be long, and what went wrong is at its end.
_LOG_LINES = 12
_ENDED = ("success", "failed")
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404


@dataclass(frozen=True)
class Run:
    """A run of a DAG.

    Attributes:
        dag_id: The DAG.
        run_id: The run.
        state: Airflow's word for its state.
        ended_at: When it ended; None: it has not.
        began_at: When it began, or else when it was to begin.
    """

    dag_id: str
    run_id: str
    state: str
    ended_at: datetime | None
    began_at: datetime


@dataclass(frozen=True)
class Task:
    """A task of a run.

    Attributes:
        dag_id: The DAG.
        run_id: The run.
        task_id: The task.
        map_index: Which one of a mapped task; else -1.
        try_number: How often it was tried.
        state: Airflow's word for its state; None: it waits for others.
        pool: The pool that it takes a slot of.
        since: When it came into this state, as far as Airflow says.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    try_number: int
    state: str | None
    pool: str
    since: datetime | None


@dataclass(frozen=True)
class Pool:
    """A pool.

    Attributes:
        slots: How many tasks may run in it at a time.
        open_slots: How many more may begin now.
    """

    slots: int
    open_slots: int


@dataclass(frozen=True)
class Load:
    """A run that has updated an asset: it loaded a table, or built.

    Attributes:
        dag_id: The DAG; empty: something else updated it.
        at: When, in UTC.
        schema_changes: How its columns differed from the raw table's, a line for each; None: it
            does not say, for it loaded no batch.
        url: The run's page, for a person.
    """

    dag_id: str
    at: datetime
    schema_changes: str | None
    url: str


class AirflowApi:
    """Airflow's REST API, as an account that may read.

    Args:
        connection: Where the API server is, and an account: ``host`` is its URL.

    Raises:
        ConnectionNotFound: the connection has no URL.
        AirflowUnavailable: from every method: it does not answer, or not in time.
        AirflowRefused: from every method: it refuses our account.
    """

    def __init__(self, connection: Connection) -> None:
        with needing("millrace[alerts]", "alerts"):
            import httpx

        self.url = _url(connection)
        self._connection = connection
        self._errors = (httpx.HTTPError,)
        self._http = httpx.Client(base_url=self.url, timeout=_ANSWER_SECONDS)

    def health(self) -> Mapping[str, Mapping[str, Any]]:
        """The health of each component, by its name; without one where Airflow has none.

        Airflow's status is 200 whatever the health is.
        """
        found = self._get("/api/v2/monitor/health", {})
        return {name: health for name, health in found.items() if health and health["status"]}

    def is_paused(self, dag_id: str) -> bool | None:
        """Whether a DAG is paused; None: Airflow does not have it, or no longer."""
        found = self._get_if_there(f"/api/v2/dags/{quote(dag_id)}")
        if found is None or found.get("is_stale"):
            return None
        return bool(found["is_paused"])

    def owners(self, dag_id: str) -> str:
        """The owners of a DAG's tasks, by commas; empty where Airflow does not have the DAG."""
        found = self._get_if_there(f"/api/v2/dags/{quote(dag_id)}") or {}
        return ", ".join(found.get("owners", ()))

    def import_errors(self) -> Mapping[str, str]:
        """The last line of the error of each DAG file that cannot be imported, by its name."""
        errors = self._get("/api/v2/importErrors", {"limit": _PAGE})["import_errors"]
        return {error["filename"]: _last_line(error["stack_trace"]) for error in errors}

    def pools(self) -> Mapping[str, Pool]:
        """The pools by their names."""
        pools = self._get("/api/v2/pools", {"limit": _PAGE})["pools"]
        return {pool["name"]: Pool(pool["slots"], pool["open_slots"]) for pool in pools}

    def last_run(self, dag_id: str) -> Run | None:
        """The run of a DAG that was to begin last."""
        runs = self._runs(dag_id, {"order_by": "-run_after", "limit": 1})
        return runs[0] if runs else None

    def last_ended_run(self, dag_id: str) -> Run | None:
        """The run of a DAG that ended last."""
        runs = self._runs(dag_id, {"state": _ENDED, "order_by": "-end_date", "limit": 1})
        return runs[0] if runs else None

    def failed_runs(self, since: datetime) -> Sequence[Run]:
        """The runs of all DAGs that have failed since a moment, oldest first."""
        return self._runs(
            "~",
            {
                "state": "failed",
                "end_date_gte": since.isoformat(),
                "order_by": "end_date",
                "limit": _PAGE,
            },
        )

    def loads(self, since: datetime) -> Sequence[Load]:
        """What has updated an asset after a moment, oldest first; so many as fit on a page."""
        query = {"timestamp_gt": since.isoformat(), "order_by": "timestamp", "limit": _PAGE}
        events = self._get("/api/v2/assets/events", query)["asset_events"]
        return [self._load(event) for event in events]

    def tasks(self, run: Run, state: str | None = None) -> Sequence[Task]:
        """The tasks of a run; with a state, those that are in it."""
        path = f"/api/v2/dags/{quote(run.dag_id)}/dagRuns/{quote(run.run_id)}/taskInstances"
        query = {"limit": _PAGE, **({"state": state} if state else {})}
        found = self._get(path, query)["task_instances"]
        return [_task(task) for task in found]

    def error_of(self, task: Task) -> str:
        """What the last try of a task said was wrong; empty without its log, or the right to it."""
        path = (
            f"/api/v2/dags/{quote(task.dag_id)}/dagRuns/{quote(task.run_id)}"
            f"/taskInstances/{quote(task.task_id)}/logs/{max(task.try_number, 1)}"
        )
        try:
            found = self._get_if_there(path, {"map_index": task.map_index, "full_content": True})
        except AirflowRefused:
            # The role Monitor may read the task, but not its log, which can hold rows.
            return ""
        return "\n".join(_errors_in((found or {}).get("content", ())))

    def page(self, dag_id: str, run_id: str = "") -> str:
        """The address of a DAG's page, or of its run's, for a person."""
        of_run = f"/runs/{quote(run_id)}" if run_id else ""
        return f"{self.url}/dags/{quote(dag_id)}{of_run}"

    def _load(self, event: Mapping[str, Any]) -> Load:
        dag_id, run_id = event["source_dag_id"] or "", event["source_run_id"] or ""
        return Load(
            dag_id=dag_id,
            at=datetime.fromisoformat(event["timestamp"]),
            schema_changes=(event["extra"] or {}).get(SCHEMA_CHANGES),
            url=self.page(dag_id, run_id),
        )

    def _runs(self, dag_id: str, query: Mapping[str, Any]) -> list[Run]:
        found = self._get_if_there(f"/api/v2/dags/{quote(dag_id)}/dagRuns", query)
        return [_run(run) for run in (found or {}).get("dag_runs", ())]

    def _get(self, path: str, query: Mapping[str, Any]) -> Mapping[str, Any]:
        found = self._get_if_there(path, query)
        if found is None:
            raise AirflowRefused(
                f"Airflow at {self.url} has no {path}.",
                fix="Check the URL in the connection: it is the API server's, of Airflow 3.",
            )
        return found

    def _get_if_there(
        self, path: str, query: Mapping[str, Any] | None = None
    ) -> Mapping[str, Any] | None:
        answer = self._request("GET", path, params=query)
        if answer.status_code == _UNAUTHORIZED:
            # The first request, or a token that has expired.
            self._log_in()
            answer = self._request("GET", path, params=query)
        if answer.status_code == _NOT_FOUND:
            return None
        return self._content(answer, path)

    def _log_in(self) -> None:
        account = {"username": self._connection.login, "password": self._connection.password}
        answer = self._request("POST", "/auth/token", json=account)
        if answer.status_code == _UNAUTHORIZED:
            raise self._refused("it refuses the user or the password")
        token = self._content(answer, "/auth/token")["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def _request(self, method: str, path: str, **more: Any) -> Response:
        try:
            return self._http.request(method, path, **more)
        except self._errors as error:
            raise AirflowUnavailable(
                f"Airflow does not answer at {self.url}: {error or type(error).__name__}.",
                fix="Start its API server, or correct the URL in the connection.",
            ) from None

    def _content(self, answer: Response, path: str) -> Mapping[str, Any]:
        if answer.status_code in (_UNAUTHORIZED, _FORBIDDEN):
            raise self._refused(f"the account may not read {path}")
        if not answer.is_success:
            raise AirflowUnavailable(
                f"Airflow at {self.url} answers {answer.status_code} to {path}.",
                fix="Look at the log of its API server.",
            )
        return dict(answer.json())

    def _refused(self, why: str) -> AirflowRefused:
        return AirflowRefused(
            f"Airflow at {self.url} cannot be asked: {why}.",
            fix=f"Correct the connection '{self._connection.conn_id}': it needs a user whose role "
            "may read DAGs, runs, tasks and pools.",
        )


def _url(connection: Connection) -> str:
    host = connection.host or ""
    if not host:
        raise ConnectionNotFound(
            f"The connection '{connection.conn_id}' has no host.",
            fix='Write e.g. {"conn_type": "http", "host": "https://airflow.example.com", '
            '"login": "monitor", "password": "…"}.',
        )
    url = host if "://" in host else f"{connection.schema or 'http'}://{host}"
    port = f":{connection.port}" if connection.port else ""
    return f"{url.rstrip('/')}{port}"


def _run(run: Mapping[str, Any]) -> Run:
    return Run(
        dag_id=run["dag_id"],
        run_id=run["dag_run_id"],
        state=run["state"],
        ended_at=_moment(run["end_date"]),
        began_at=datetime.fromisoformat(run["start_date"] or run["run_after"]),
    )


def _task(task: Mapping[str, Any]) -> Task:
    reached = {
        "queued": task["queued_when"],
        "scheduled": task["scheduled_when"],
        "failed": task["end_date"],
        "up_for_retry": task["end_date"],
    }
    return Task(
        dag_id=task["dag_id"],
        run_id=task["dag_run_id"],
        task_id=task["task_id"],
        map_index=task["map_index"],
        try_number=task["try_number"],
        state=task["state"],
        pool=task["pool"],
        since=_moment(reached.get(task["state"], task["start_date"])),
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _errors_in(content: Sequence[Any]) -> list[str]:
    """The last lines that a log has as errors; none where it has no errors."""
    entries = [entry for entry in content if isinstance(entry, Mapping)]
    errors = [entry for entry in entries if entry.get("level") in ("error", "critical")]
    lines = [line for entry in errors for line in str(entry["event"]).splitlines()]
    return lines[-_LOG_LINES:]


def _last_line(trace: str) -> str:
    lines = trace.strip().splitlines()
    return lines[-1].strip() if lines else ""
