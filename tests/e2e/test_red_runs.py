"""A run that dbt refuses is red and publishes nothing, whatever is retried or cleared."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from millrace_sandbox.airflow import Airflow
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import poll
from sheets_standin import GoogleSheetsServer
from tests.e2e.small_project import GOOD, make_shop

pytestmark = [pytest.mark.service, pytest.mark.airflow]

TIMEOUT = 300
PUBLISHED = [["customer_id", "name", "amount"], [1, "Mina", 12], [2, "Jonas", 9]]

BREAKS = {
    "a test of a source": (
        "insert into raw_shop.orders values (10, 2, '100')",
        "shop.orders.test",
        ["test orders_have_one_row_an_id", "10           | 2", "models/_shop.yml"],
    ),
    "a test that reads no model": (
        "update raw_shop.flags set is_closed = true",
        "the_books_are_open_test",
        ["test the_books_are_open", "books | True", "tests/the_books_are_open.sql"],
    ),
    "a test of two models": (
        "insert into raw_shop.orders values (13, 7, '100')",
        "orders_have_a_customer_test",
        ["test orders_have_a_customer", "from_field\n    ----------\n    7", "models/_shop.yml"],
    ),
    "a model": (
        "insert into raw_shop.orders values (13, 1, 'a lot')",
        "orders_summary.run",
        ["Could not convert string 'a lot'", "models/orders_summary.sql", "sum(orders.amount)"],
    ),
    "a test of the mart": (
        "insert into raw_shop.customers values (3, 'Ada')",
        "orders_summary.test",
        ["test a_customer_has_an_amount", "amount\n    ------\n    null", "models/_shop.yml"],
    ),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return SandboxPaths(tmp_path_factory.mktemp("red") / "sandbox")


@pytest.fixture(scope="module")
def shop(paths, tmp_path_factory):
    sheets = GoogleSheetsServer(paths.root / "google_sheets")
    paths.create()
    try:
        sheets.start()
        yield make_shop(tmp_path_factory.mktemp("shop"), sheets)
    finally:
        sheets.stop()


@pytest.fixture(scope="module")
def airflow(paths, shop):
    airflow = Airflow(paths, shop.dags, shop.environment(), port=0)
    try:
        airflow.start()
        client = airflow.client()
        client.ensure_pool("warehouse", slots=1)
        client.wait_for_dags({"transform"})
        client.unpause("transform")
        yield airflow
    finally:
        airflow.stop()


@pytest.fixture
def client(airflow, shop):
    """Airflow, with data that are as they should be."""
    shop.execute(GOOD)
    return airflow.client()


def ended(client, run_id):
    def state():
        (found,) = [run for run in client.runs("transform") if run.run_id == run_id]
        return found.state

    assert poll(lambda: state() in ("success", "failed"), TIMEOUT, interval=0.5)
    return state()


def tasks(client, run_id):
    return {task.task_id: task for task in client.task_instances("transform", run_id)}


@pytest.fixture(scope="module")
def good(airflow):
    """A successful run; no test clears a task of it."""
    run = airflow.client().trigger("transform")
    assert ended(airflow.client(), run.run_id) == "success"
    return run.run_id


def test_a_good_run_publishes(client, shop, good):
    assert shop.published() == PUBLISHED
    states = {task_id: task.state for task_id, task in tasks(client, good).items()}
    assert states.pop("visits_summary_run") == "skipped"
    assert set(states.values()) == {"success"}


def test_a_mart_waits_for_a_table_that_was_never_loaded_and_holds_nobody(client, good):
    found = tasks(client, good)
    log = "\n".join(client.log_tail(found["visits_summary_run"]))
    assert "It waits for shop.visits, which was never loaded." in log
    said = "\n".join(client.log_tail(found["wait_for_ingestion"]))
    assert "shop.visits: never loaded here; ingest__shop__visits is paused" in said


@pytest.mark.parametrize("what", BREAKS)
def test_what_dbt_refuses_is_red_at_once_says_why_and_publishes_nothing(client, shop, good, what):
    breakage, failing, told = BREAKS[what]
    shop.execute(breakage)
    run_id = client.trigger("transform").run_id

    assert ended(client, run_id) == "failed"

    assert shop.published() == PUBLISHED
    found = tasks(client, run_id)
    assert found[failing].state == "failed"
    assert found["publish__orders_sheet"].state == "upstream_failed"
    # No failed task was retried.
    assert {task.try_number for task in found.values() if task.state == "failed"} == {1}
    for task_id in (failing, "dbt_build"):
        log = client.log_tail(found[task_id], lines=200)
        assert not [line for line in told if line not in "\n".join(log)]
        assert not [line for line in log if re.match(r"\s*(Traceback|File \"|at /)", line)]


def test_to_clear_a_mirror_repeats_what_dbt_said_and_to_clear_dbt_builds_again(client, shop, good):
    shop.execute(BREAKS["a test of the mart"][0])
    run_id = client.trigger("transform").run_id
    assert ended(client, run_id) == "failed"
    built = tasks(client, run_id)["dbt_build"]

    # The data are good now, but dbt has not tested them again.
    shop.execute(GOOD)
    client.clear(tasks(client, run_id)["orders_summary.test"], downstream=True)
    assert ended(client, run_id) == "failed"
    again = tasks(client, run_id)
    assert again["orders_summary.test"].try_number == 2
    assert again["dbt_build"] == built
    assert shop.published() == PUBLISHED

    shop.execute("update raw_shop.customers set name = 'Nina' where id = 1")
    client.clear(again["dbt_build"], downstream=True)
    assert ended(client, run_id) == "success"
    assert shop.published()[1] == [1, "Nina", 12]


@pytest.fixture
def tested_by_itself(airflow, client):
    """Run `airflow dags test transform`, with the DAG paused: else the scheduler starts, deadlocks
    with and ends tasks of the same run, for it takes any run that is running."""
    client.pause("transform")
    yield lambda: subprocess.run(
        [str(Path(sys.executable).with_name("airflow")), "dags", "test", "transform"],
        env={**os.environ, **airflow.environment()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    client.unpause("transform")


def test_a_dag_that_is_tested_by_itself_is_as_red_as_dbt_has_it(client, shop, tested_by_itself):
    """How a green one is tested by itself, the demo's test shows."""
    shop.execute(BREAKS["a test of two models"][0])
    done = tested_by_itself()
    (run,) = client.runs("transform")[-1:]
    assert run.state == "failed", done.stdout[-3000:]
    assert done.returncode
    found = tasks(client, run.run_id)
    assert found["orders_have_a_customer_test"].state == "failed"
    assert found["publish__orders_sheet"].state == "upstream_failed"
