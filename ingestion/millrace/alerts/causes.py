"""Why something is late, and what failed: what Airflow says when it is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from millrace.alerts.airflow_api import AirflowApi, Run, Task
from millrace.alerts.finding import Cause
from millrace.errors import MillraceError

COMPONENTS: Mapping[str, str] = {
    "metadatabase": "metadata database",
    "scheduler": "scheduler",
    "dag_processor": "DAG processor",
    "triggerer": "triggerer",
}
"""The parts of Airflow that tell their health, and what people call them."""

NOBODY_KNOWS = Cause(
    "Nobody asked Airflow: no connection to it is set.",
    "Look at the table's DAG in Airflow, or load it: millrace ingest.",
    short="nobody knows why",
)


def why_late(api: AirflowApi | None, dag_id: str) -> Cause:
    """Why a DAG has not done what was promised of it.

    Args:
        api: Airflow; None: it is not known.
        dag_id: The DAG.
    """
    if api is None:
        return NOBODY_KNOWS
    try:
        return _why_late(api, dag_id)
    except MillraceError as error:
        return Cause(error.message, error.fix, short="Airflow does not answer")


def sick(health: Mapping[str, Mapping[str, Any]]) -> dict[str, Cause]:
    """The components that are not healthy, by their names."""
    return {
        name: _component(name, found)
        for name, found in health.items()
        if name in COMPONENTS and found["status"] != "healthy"
    }


def what_failed(api: AirflowApi, run: Run, failed: Sequence[Task]) -> Cause:
    """Why a run failed: the tasks that did, with what each said."""
    if not failed:
        return Cause(
            "No task of it failed: it was marked as failed, or its time was over.",
            f"Look at the run, then start it again: airflow dags trigger {run.dag_id}",
            api.page(run.dag_id, run.run_id),
            "its run was marked as failed",
        )
    said = [f"{_named(task)}: {_first_line(api.error_of(task))}" for task in failed[1:]]
    first = api.error_of(failed[0])
    return Cause(
        "\n".join([f"{_named(failed[0])}: {first or 'its log is not there'}", *said]),
        _way_out(first) or "When it is put right, clear the failed task with what comes after it.",
        api.page(run.dag_id, run.run_id),
        f"{_named(failed[0])} failed" + (f", and {len(said)} more" if said else ""),
    )


def _why_late(api: AirflowApi, dag_id: str) -> Cause:
    ill = sick(api.health())
    for name in ("metadatabase", "scheduler"):
        if name in ill:
            return ill[name]
    is_paused = api.is_paused(dag_id)
    if is_paused is None:
        return _no_such_dag(api, dag_id, ill)
    if is_paused:
        return Cause(
            f"The DAG {dag_id} is paused.",
            f"Switch it on: airflow dags unpause {dag_id}",
            api.page(dag_id),
            "its DAG is paused",
        )
    run = api.last_run(dag_id)
    if run is None:
        return Cause(
            f"The DAG {dag_id} has never run.",
            f"Start it: airflow dags trigger {dag_id}",
            api.page(dag_id),
            "its DAG has never run",
        )
    if run.state == "failed":
        return what_failed(api, run, api.tasks(run, "failed"))
    if run.state == "success":
        return Cause(
            f"The last run of {dag_id} ended well at {_time(run.ended_at)}: before this was due, "
            "or without anything to load.",
            f"Start a run: airflow dags trigger {dag_id}",
            api.page(dag_id, run.run_id),
            "its DAG has not run since",
        )
    return _why_not_done(api, run, ill)


def _why_not_done(api: AirflowApi, run: Run, ill: Mapping[str, Cause]) -> Cause:
    """Why a run that has begun, or is to begin, has not ended."""
    tasks = api.tasks(run)
    pools = api.pools()
    for task in tasks:
        if task.state in _NOT_BEGUN and task.pool not in pools:
            return Cause(
                f"The task {_named(task)} waits for a slot of the pool {task.pool}, which does not "
                "exist: it would wait for ever.",
                f'Make the pool: airflow pools set {task.pool} 1 "…"',
                api.page(run.dag_id, run.run_id),
                f"the pool {task.pool} does not exist",
            )
    for state, explain in _EXPLAINED.items():
        for task in tasks:
            if task.state == state:
                return explain(api, run, task, ill)
    return Cause(
        f"The run {run.run_id} is {run.state} since {_time(run.began_at)}, and none of its tasks "
        "has begun.",
        "Look whether another run of the DAG is still active, and at the scheduler's log.",
        api.page(run.dag_id, run.run_id),
        f"its run is {run.state}",
    )


def _retried(api: AirflowApi, run: Run, task: Task, ill: Mapping[str, Cause]) -> Cause:
    said = api.error_of(task)
    return Cause(
        f"The task {_named(task)} has failed {task.try_number} times, and is tried again: {said}",
        _way_out(said) or "Put right what it says, or wait.",
        api.page(run.dag_id, run.run_id),
        f"{_named(task)} fails and is tried again",
    )


def _running(api: AirflowApi, run: Run, task: Task, ill: Mapping[str, Cause]) -> Cause:
    return Cause(
        f"The task {_named(task)} still runs, since {_time(task.since)}.",
        "Wait, or look at its log.",
        api.page(run.dag_id, run.run_id),
        f"{_named(task)} still runs",
    )


def _deferred(api: AirflowApi, run: Run, task: Task, ill: Mapping[str, Cause]) -> Cause:
    if "triggerer" in ill:
        return ill["triggerer"]
    return Cause(
        f"The task {_named(task)} waits since {_time(task.since)}; its log says for what.",
        "Look at its log: an open transaction at the source, or a table that is still loaded.",
        api.page(run.dag_id, run.run_id),
        f"{_named(task)} waits",
    )


def _queued(api: AirflowApi, run: Run, task: Task, ill: Mapping[str, Cause]) -> Cause:
    return Cause(
        f"The task {_named(task)} waits since {_time(task.since)} for a worker: none is free, or "
        "none runs.",
        "Start a worker, or wait until one is free; AIRFLOW__CORE__PARALLELISM is how many tasks "
        "run at a time.",
        api.page(run.dag_id, run.run_id),
        "no worker is free",
    )


def _scheduled(api: AirflowApi, run: Run, task: Task, ill: Mapping[str, Cause]) -> Cause:
    pool = api.pools()[task.pool]
    if pool.open_slots > 0:
        return _queued(api, run, task, ill)
    return Cause(
        f"The task {_named(task)} waits since {_time(task.since)} for a slot of the pool "
        f"{task.pool}, whose {pool.slots} are taken.",
        "Look what holds them, or give the pool more slots (1 on DuckDB, which has one writer).",
        api.page(run.dag_id, run.run_id),
        f"the pool {task.pool} is full",
    )


_NOT_BEGUN = (None, "scheduled", "queued", "up_for_retry")
_EXPLAINED = {
    "up_for_retry": _retried,
    "running": _running,
    "deferred": _deferred,
    "queued": _queued,
    "scheduled": _scheduled,
}
"""What holds a run up, by the state of a task; the first that is found counts."""


def _no_such_dag(api: AirflowApi, dag_id: str, ill: Mapping[str, Cause]) -> Cause:
    errors = api.import_errors()
    if errors:
        file, error = next(iter(errors.items()))
        return Cause(
            f"Airflow has no DAG {dag_id}: {file} cannot be imported: {error}",
            "Correct the file: airflow dags list-import-errors shows all of it.",
            api.url,
            "its DAG file cannot be imported",
        )
    if "dag_processor" in ill:
        return ill["dag_processor"]
    return Cause(
        f"Airflow has no DAG {dag_id}.",
        "Put the DAG files where Airflow looks for them, and run dbt parse.",
        api.url,
        "Airflow has no DAG of it",
    )


def _component(name: str, found: Mapping[str, Any]) -> Cause:
    heartbeat = found.get(f"latest_{name}_heartbeat")
    seen = heartbeat[:16].replace("T", " ") + " UTC" if heartbeat else "never"
    called = COMPONENTS[name]
    way_out = "Start the database, and see that Airflow reaches it."
    if name != "metadatabase":
        way_out = f"Start it again: airflow {name.replace('_', '-')}"
    return Cause(
        f"Airflow's {called} is dead. It was seen last: {seen}.",
        way_out,
        short=f"Airflow's {called} is dead",
    )


def _named(task: Task) -> str:
    return task.task_id if task.map_index < 0 else f"{task.task_id}[{task.map_index}]"


def _first_line(text: str) -> str:
    return text.partition("\n")[0] or "its log is not there"


def _way_out(said: str) -> str:
    """What Millrace's own errors say after an arrow."""
    arrows = [line for line in said.splitlines() if line.strip().startswith("→")]
    return arrows[-1].strip().removeprefix("→").strip() if arrows else ""


def _time(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC" if moment else "an unknown time"
