import os
import socket
import stat
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from millrace_sandbox.airflow import MARK, Airflow
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import LOOPBACK, SandboxError, poll

pytestmark = pytest.mark.airflow

TIMEOUT = 60
DAGS = '''
"""DAGs for the test of the Airflow launcher."""
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger
from airflow.sdk import DAG, Asset, BaseOperator, task
from airflow.timetables.interval import CronDataIntervalTimetable

START = datetime(2026, 1, 1, tzinfo=timezone.utc)
RAW = Asset("raw_nps", uri="x-test://raw/nps")


class Deferring(BaseOperator):
    def execute(self, context):
        self.defer(trigger=TimeDeltaTrigger(timedelta(seconds=0.1)), method_name="resume")

    def resume(self, context, event=None):
        return "resumed"


with DAG("ingest", schedule=CronDataIntervalTimetable("@daily", "UTC"), start_date=START):
    @task
    def extract(data_interval_start=None, data_interval_end=None):
        print(f"from {data_interval_start:%F} to {data_interval_end:%F}")

    @task(outlets=[RAW])
    def load():
        pass

    extract() >> load()

with DAG("transform", schedule=[RAW], start_date=START):
    Deferring(task_id="build")

with DAG("failing", schedule=None, start_date=START):
    @task
    def explode():
        raise ValueError("the orders table is gone")

    @task
    def wait_for_ever():
        import time
        time.sleep(600)

    explode()
    wait_for_ever()

with DAG("straying", schedule=None, start_date=START):
    @task
    def stray():
        import subprocess
        subprocess.Popen(["sleep", "600"], start_new_session=True).wait()

    stray()
'''
ALL = {"ingest", "transform", "failing", "straying"}


@pytest.fixture(scope="module")
def taken_port():
    with socket.create_server((LOOPBACK, 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def airflow(tmp_path_factory, taken_port):
    root = tmp_path_factory.mktemp("airflow")
    dags = root / "dags"
    dags.mkdir()
    (dags / "tiny.py").write_text(DAGS)
    airflow = Airflow(SandboxPaths(root / "sandbox"), dags, port=taken_port)
    try:
        airflow.start()
        yield airflow
    finally:
        airflow.stop()


@pytest.fixture(scope="module")
def client(airflow):
    client = airflow.client()
    client.wait_for_dags(ALL, TIMEOUT)
    for dag_id in ALL - {"ingest"}:
        client.unpause(dag_id)
    return client


def processes(airflow, sessions):
    """The processes in the services' sessions, and those that tasks started in other sessions."""
    mark = f"{MARK}={airflow.paths.airflow}".encode()
    found = []
    for process in psutil.process_iter():
        with suppress(OSError, psutil.Error):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            is_ours = os.getsid(process.pid) in sessions or mark in environment.split(b"\0")
            if is_ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def sessions_of(airflow):
    return {service.pid for service in airflow.services.values()}


def test_taken_port_is_left_alone(airflow, taken_port):
    assert not airflow.url.endswith(f":{taken_port}")


def test_listens_on_loopback_only(airflow):
    addresses = {
        connection.laddr.ip
        for process in processes(airflow, sessions_of(airflow))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }

    assert addresses == {LOOPBACK}


def test_secrets_are_private_and_stay_out_of_the_logs(airflow):
    home = airflow.paths.airflow
    for name in ("keys.json", "passwords.json"):
        assert stat.S_IMODE((home / name).stat().st_mode) == 0o600
    logs = "".join(log.read_text() for log in airflow.paths.logs.iterdir())
    assert airflow.login.password not in logs
    assert airflow.login.password not in repr(airflow.login)


def test_asset_starts_the_next_dag_and_deferred_task_resumes(client):
    since = datetime.now(UTC)
    client.unpause("ingest")

    changes = list(
        client.watch(
            ["ingest", "transform"],
            lambda runs: {("transform", "success")} <= {(run.dag_id, run.state) for run in runs},
            TIMEOUT,
            since=since,
        )
    )

    done = [change for change in changes if change.state == "success"]
    assert [task.task_id for task in done] == ["extract", "load", "build"]
    assert all(task.seconds is not None and task.seconds < TIMEOUT for task in done)
    (event,) = client.asset_events(since)
    assert (event.name, event.source_dag_id, event.source_task_id) == ("raw_nps", "ingest", "load")
    (run,) = client.runs("ingest")
    assert run.run_type == "scheduled"
    assert run.interval_end - run.interval_start == timedelta(days=1)
    assert run.interval_end <= since < run.interval_end + timedelta(days=2)


def test_run_takes_the_given_interval(client):
    start, end = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)

    client.trigger("ingest", run_id="february", interval=(start, end))
    run = client.wait_for_run("ingest", lambda run: run.run_id == "february", TIMEOUT)

    assert (run.interval_start, run.interval_end) == (start, end)
    (task,) = [
        task for task in client.task_instances("ingest", "february") if task.task_id == "extract"
    ]
    assert "from 2026-02-01 to 2026-03-01" in client.log_tail(task)


def test_backfill_runs_each_day_of_the_inclusive_range(client):
    first, last = datetime(2026, 4, 1, tzinfo=UTC), datetime(2026, 4, 2, tzinfo=UTC)

    client.backfill("ingest", first, last)
    for day in (first, last):
        run = client.wait_for_run(
            "ingest",
            lambda run, day=day: run.run_type == "backfill" and run.logical_date == day,
            TIMEOUT,
        )
        assert (run.interval_start, run.interval_end) == (day, day + timedelta(days=1))


def test_backfills_made_while_tasks_run_meet_no_locked_database(airflow, client):
    """On SQLite they would: while one transaction writes, a second one is refused."""
    command = str(Path(sys.executable).with_name("airflow"))
    for number in range(5):
        client.trigger("transform", run_id=f"busy-{number}")
    made = []

    def create() -> bool:
        done = subprocess.run(
            [
                *(command, "backfill", "create", "--dag-id", "ingest"),
                *("--from-date", "2026-05-01", "--to-date", "2026-05-20"),
            ],
            env={**os.environ, **airflow.environment()},
            capture_output=True,
            text=True,
            check=False,
        )
        made.append(done)
        # The scheduler looks now and then whether the backfill of an earlier test is done.
        return "AlreadyRunningBackfill" not in done.stderr

    assert poll(create, TIMEOUT)
    assert made[-1].returncode == 0, made[-1].stderr
    assert airflow.environment()["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"].startswith("postgresql")


def test_run_before_the_start_date_is_no_success(client):
    client.trigger("ingest", run_id="early", logical_date=datetime(2025, 1, 1, tzinfo=UTC))

    with pytest.raises(SandboxError, match=r"early.*no task to run.*2025-01-01.*start_date"):
        client.wait_for_run("ingest", lambda run: run.run_id == "early", TIMEOUT)


def test_failed_task_ends_the_wait_with_its_log(client):
    client.trigger("failing", run_id="broken")
    started = time.monotonic()

    with pytest.raises(SandboxError, match="ValueError: the orders table is gone") as caught:
        client.wait_for_run("failing", lambda run: run.run_id == "broken", TIMEOUT)

    assert "Task explode of DAG failing failed (run broken" in str(caught.value)
    assert time.monotonic() - started < TIMEOUT


def test_pool_is_made_once(client):
    client.ensure_pool("duckdb", slots=2)
    client.ensure_pool("duckdb", slots=1)


def test_refusal_says_what_was_refused(client):
    with pytest.raises(SandboxError, match=r"refused POST .*/dags/absent/dagRuns \(404\)"):
        client.trigger("absent")


def test_broken_dag_file_is_named(airflow, client):
    broken = airflow.dags_folder / "broken.py"
    broken.write_text("from airflow.sdk import no_such_dag")
    try:
        with pytest.raises(SandboxError, match=r"cannot import broken\.py(.|\n)*no_such_dag"):
            client.wait_for_dags({"absent"}, TIMEOUT)
    finally:
        broken.unlink()


def test_stop_ends_everything_and_the_next_start_needs_no_migration(airflow, client, monkeypatch):
    sessions = sessions_of(airflow)
    client.trigger("straying")

    def has_stray():
        return any(process.name() == "sleep" for process in processes(airflow, sessions))

    assert poll(has_stray, TIMEOUT)
    with pytest.raises(SandboxError, match="Stop it first"):
        airflow.reset()

    airflow.stop()

    assert not airflow.is_running()
    assert processes(airflow, sessions) == []
    airflow.stop()

    airflow.reset()
    login = airflow.login
    again = Airflow(airflow.paths, airflow.dags_folder, port=0)
    # The start copies the database of the first one, and runs no command to make it.
    monkeypatch.setattr(subprocess, "run", None)
    again.start()

    assert list(again.client().runs()) == []
    assert again.login == login
    assert airflow.is_running()
    again_client = again.client()
    again_client.wait_for_dags(ALL, TIMEOUT)
    assert again_client.runs() == []


def test_address_is_unknown_before_the_first_start(tmp_path):
    with pytest.raises(SandboxError, match="has not been started"):
        _ = Airflow(SandboxPaths(tmp_path), tmp_path).url
