"""docker-compose.yaml as podman runs it: from sample data until the mart is in the sheet."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from millrace_sandbox.airflow_api import AirflowClient
from millrace_sandbox.demo import TRANSFORM_DAG
from millrace_sandbox.nps_demo import INGEST_DAGS
from tests.image.compose import AIRFLOW, FIRST, Compose

pytestmark = pytest.mark.image

COLUMNS = ["response_date", "responses", "promoters", "passives", "detractors", "nps"]


@pytest.fixture(scope="module")
def running(compose: Compose) -> Iterator[Compose]:
    """All that runs by default: Airflow too."""
    compose.ran("airflow-init")
    compose.up(*AIRFLOW)
    compose.wait(*AIRFLOW)
    yield compose
    # It would take the processor from the tests that follow.
    compose.keep(*FIRST)


def test_every_service_is_well(running: Compose) -> None:
    running.wait(*FIRST, *AIRFLOW)


def test_the_mart_gets_into_the_sheet(running: Compose) -> None:
    client = running.airflow()
    client.wait_for_dags({*INGEST_DAGS, TRANSFORM_DAG})
    for dag_id in (TRANSFORM_DAG, *INGEST_DAGS):
        client.unpause(dag_id)

    def is_published(_: Any) -> bool:
        return bool(running.tab("nps-summary", "nps_summary").formatted[0][0])

    for _ in client.watch((*INGEST_DAGS, TRANSFORM_DAG), is_published, timeout=240):
        pass
    headings, *rows = running.tab("nps-summary", "nps_summary").formatted
    assert headings[: len(COLUMNS)] == COLUMNS
    # The year of the sample has a row for each of its days.
    assert len([row for row in rows if row[0]]) == 365
    # What a person wrote beside it is still there.
    assert "Our remarks" in headings


def test_workers_take_the_tasks_with_celery(running: Compose) -> None:
    celery = {"profile": "celery", "AIRFLOW_EXECUTOR": "CeleryExecutor"}
    running.up("redis", **celery)
    running.wait("redis")
    running.up("--scale", "worker=2", "worker", **celery)
    running.up("--force-recreate", "scheduler", **celery)
    running.wait("scheduler", "worker")
    client = running.airflow()
    client.wait_for_dags({"ingest__mysql__users"})
    client.unpause("ingest__mysql__users")
    run = client.trigger("ingest__mysql__users")
    client.wait_for_run(run.dag_id, lambda found: found.run_id == run.run_id, timeout=120)
    workers = {
        running.podman("inspect", "--format", "{{.Config.Hostname}}", name).strip()
        for name in running.containers("worker")
    }
    assert len(workers) == 2
    assert hosts_of(client, run.dag_id, run.run_id) <= workers


def hosts_of(client: AirflowClient, dag_id: str, run_id: str) -> set[str]:
    """Where the tasks of a run have run."""
    path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances"
    return {task["hostname"] for task in client._all(path, "task_instances") if task["hostname"]}


def test_the_proxy_speaks_tls_and_keeps_guesses_and_tasks_doors_out(running: Compose) -> None:
    folder = running.folder / "tls"
    folder.mkdir()
    request = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost")
    names = ("-addext", "subjectAltName=DNS:localhost")
    files = ("-keyout", folder / "key.pem", "-out", folder / "certificate.pem")
    subprocess.run(["openssl", *request, *names, *files], check=True, capture_output=True)
    running.up("proxy", profile="tls")
    running.wait("proxy")
    trust = ssl.create_default_context(cafile=str(folder / "certificate.pem"))
    http, https = (running.settings[name] for name in ("HTTP_PORT", "HTTPS_PORT"))
    address = f"https://localhost:{https}"
    # Each guess costs the API server a second of hashing.
    with httpx.Client(base_url=address, verify=trust, trust_env=False, timeout=60) as client:
        health = client.get("/api/v2/monitor/health")
        assert health.json()["metadatabase"]["status"] == "healthy"
        assert client.get("/execution/health").status_code == 404

        def guess(_: int) -> int:
            tried = {"username": "admin", "password": "guess"}
            return client.post("/auth/token", json=tried).status_code

        # At once: a slow machine might else need longer than the limit does to forget one.
        with ThreadPoolExecutor(12) as guessing:
            assert {*guessing.map(guess, range(12))} == {401, 429}
    redirected = httpx.get(f"http://localhost:{http}/home", trust_env=False)
    assert redirected.status_code == 301
    assert redirected.headers["location"].startswith("https://localhost/")
