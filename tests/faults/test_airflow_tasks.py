"""Tasks and the scheduler killed in the middle of their work: Airflow brings the run to its end."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from random import Random
from typing import TYPE_CHECKING

import duckdb
import pytest

from millrace_sandbox.airflow import SERVICES, Airflow, _command
from millrace_sandbox.airflow_api import AirflowClient, TaskInstance
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import poll
from sheets_standin.faults import Fault as SheetFault
from tests.faults.child import BUILD, PUBLISH
from tests.faults.world import INGESTED, ORDERS, World

if TYPE_CHECKING:
    from tests.faults.servers import Servers

pytestmark = [pytest.mark.service, pytest.mark.airflow]

TIMEOUT = 180
INGEST_ORDERS, TRANSFORM = "ingest__shop__orders", "transform"
# Bytes of S3's answers: more than what landing a batch is answered, less than a part to be loaded.
INSIDE_A_PART = 60_000

# Airflow's own patience is five minutes, which nothing here needs.
IMPATIENT = {
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "15",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
}
DAGS = """
from datetime import timedelta
from pathlib import Path
from millrace.airflow import AirflowProject, ingest_dags, transform_dag

project = AirflowProject(
    Path(__file__).parents[1] / "dbt_project",
    default_args={"retry_delay": timedelta(seconds=1), "retry_exponential_backoff": 0},
)
ingest_dags(project)
transform_dag(project)
"""


@pytest.fixture(scope="module")
def shop(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The shop, with DAGs that try again at once."""
    with ExitStack() as open_:
        world = World.make("duckdb", tmp_path_factory.mktemp("shop"), servers, open_)
        for file in (world.folder / "dags").iterdir():
            file.unlink()
        (world.folder / "dags" / "shop.py").write_text(DAGS)
        yield world


@pytest.fixture(scope="module")
def airflow(shop: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    own = {"PATH", "HOME", "TMPDIR"}
    environ = {key: value for key, value in shop.environ.items() if key not in own}
    paths = SandboxPaths(tmp_path_factory.mktemp("airflow") / "sandbox")
    airflow = Airflow(paths, shop.folder / "dags", environ | IMPATIENT, port=0)
    try:
        airflow.start()
        client = airflow.client()
        client.ensure_pool("warehouse", slots=1)
        client.wait_for_dags({INGEST_ORDERS, TRANSFORM})
        client.unpause(INGEST_ORDERS)
        # The schedule's own, of the last day; the others would wait for it.
        client.wait_for_run(INGEST_ORDERS, lambda run: run.run_type == "scheduled", TIMEOUT)
        yield airflow
    finally:
        shop.heal()
        airflow.stop()


@pytest.fixture
def world(shop: World) -> World:
    """The shop, with work to do: a batch of orders that is larger than ``INSIDE_A_PART``."""
    shop.change(Random(0))
    with shop._admin() as cursor:
        for _ in range(40):
            note = Random().randbytes(8_000).hex()
            cursor.execute("INSERT INTO orders (customer_id, note) VALUES (1, %s)", (note,))
    return shop


@pytest.fixture
def client(airflow: Airflow, world: World) -> Iterator[AirflowClient]:
    yield airflow.client()
    # One test that fails must not fail the next ones.
    world.heal()
    if not airflow.services["scheduler"].is_running():
        start_scheduler(airflow)


def started(client: AirflowClient, dag_id: str) -> str:
    return client.trigger(dag_id).run_id


def running(client: AirflowClient, dag_id: str, run_id: str, task_id: str) -> int:
    """Wait until a task runs; returns its process."""
    found: list[int] = []
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"

    def is_running() -> bool:
        tasks = client._get(path, {})["task_instances"]
        found.extend(
            task["pid"]
            for task in tasks
            if task["task_id"] == task_id and task["state"] == "running" and task["pid"]
        )
        return bool(found)

    assert poll(is_running, TIMEOUT, interval=0.2), f"{task_id} does not run"
    return found[0]


def tries_of_success(client: AirflowClient, dag_id: str, run_id: str, task_id: str) -> int:
    """Wait until a run has succeeded; returns how often a task of it was tried."""

    def state() -> str:
        (run,) = [run for run in client.runs(dag_id) if run.run_id == run_id]
        return run.state

    def tasks() -> list[TaskInstance]:
        return client.task_instances(dag_id, run_id)

    assert poll(lambda: state() in ("success", "failed"), TIMEOUT, interval=0.5)
    logs = [client.log_tail(task) for task in tasks() if task.state == "failed"]
    assert state() == "success", logs
    (task,) = [task for task in tasks() if task.task_id == task_id]
    return task.try_number


def is_loading(world: World) -> Callable[[], bool]:
    """Whether S3 has gone silent in the middle of the part that is being loaded."""
    return lambda: world.proxies["s3"].is_stalling


def is_loaded(world: World) -> bool:
    """Whether the load is done; while it runs, DuckDB lets nobody else read."""
    with suppress(duckdb.IOException):
        return world._raw(ORDERS) == world._source(ORDERS)
    return False


def test_an_extraction_that_is_killed_is_tried_again(client: AirflowClient, world: World) -> None:
    world.proxies["s3"].stall()
    run_id = started(client, INGEST_ORDERS)
    os.kill(running(client, INGEST_ORDERS, run_id, "extract"), signal.SIGKILL)
    world.heal()

    assert tries_of_success(client, INGEST_ORDERS, run_id, "extract") == 2
    world.check(ORDERS)


def test_a_load_that_is_killed_is_tried_again(client: AirflowClient, world: World) -> None:
    world.proxies["s3"].stall(INSIDE_A_PART)
    run_id = started(client, INGEST_ORDERS)
    pid = running(client, INGEST_ORDERS, run_id, "load")
    assert poll(is_loading(world), TIMEOUT)
    os.kill(pid, signal.SIGKILL)
    world.heal()

    assert tries_of_success(client, INGEST_ORDERS, run_id, "load") == 2
    world.check(ORDERS)


@pytest.mark.parametrize("workers", ["go on", "are killed with it"])
def test_a_load_survives_the_scheduler(
    airflow: Airflow, client: AirflowClient, world: World, workers: str
) -> None:
    world.proxies["s3"].stall(INSIDE_A_PART)
    run_id = started(client, INGEST_ORDERS)
    running(client, INGEST_ORDERS, run_id, "load")
    assert poll(is_loading(world), TIMEOUT)
    kill_scheduler(airflow, alone=workers == "go on")
    world.heal()
    if workers == "go on":
        assert poll(lambda: is_loaded(world), TIMEOUT, interval=0.5)
    start_scheduler(airflow)

    assert tries_of_success(client, INGEST_ORDERS, run_id, "load")
    world.check(ORDERS)


def test_a_build_that_is_killed_is_tried_again(client: AirflowClient, world: World) -> None:
    for stage in INGESTED:
        world.carry(stage)
    client.unpause(TRANSFORM)
    run_id = started(client, TRANSFORM)
    os.kill(running(client, TRANSFORM, run_id, "dbt_build"), signal.SIGKILL)

    assert tries_of_success(client, TRANSFORM, run_id, "dbt_build") == 2
    world.check(BUILD)
    world.check(PUBLISH)


def test_a_publication_that_is_killed_is_tried_again(client: AirflowClient, world: World) -> None:
    for stage in INGESTED:
        world.carry(stage)
    world.sheets.admin().add_fault(SheetFault(action="status", status=503, times=99))
    run_id = started(client, TRANSFORM)
    task = "publish__plans_sheet"
    os.kill(running(client, TRANSFORM, run_id, task), signal.SIGKILL)
    world.heal()

    assert tries_of_success(client, TRANSFORM, run_id, task) == 2
    world.check(PUBLISH)


def kill_scheduler(airflow: Airflow, *, alone: bool) -> None:
    scheduler = airflow.services["scheduler"]
    victims = [scheduler.pid] if alone else scheduler._members()
    for pid in victims:
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    assert poll(lambda: not scheduler.is_running(), TIMEOUT)


def start_scheduler(airflow: Airflow) -> None:
    airflow.services["scheduler"].start(
        [str(_command()), *SERVICES["scheduler"]], airflow.process_environment(), airflow._home
    )
