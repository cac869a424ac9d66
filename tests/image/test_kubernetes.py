"""The chart's pods as podman runs them, until tasks have run: in the scheduler's pod, and in their own.

Beside them are the services of docker-compose.yaml and the stand-in for Redshift. Nothing here is a
cluster: nobody schedules pods or moves them, and no network policy holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace_sandbox.airflow_api import AirflowClient, Login, TaskInstance
from redshift_standin import RedshiftServer
from redshift_standin.s3_endpoint import REGION, S3Endpoint
from tests import charts
from tests.charts import NAME
from tests.image.cluster import Cluster, add_secret, gateway
from tests.image.compose import Compose
from tests.image.kubernetes_api import Caller, KubernetesApi
from tests.image.podman import ROOT, Podman
from tests.proxy import FaultProxy

pytestmark = pytest.mark.image

NETWORK = "millrace_default"
DAG = "ingest__mysql__users"
DATABASE = "kubernetes"
KEPT = ("AIRFLOW_CONN_MYSQL_PROD", "AIRFLOW_CONN_AWS_LANDING", "MILLRACE_PII_SALT")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def redshift(compose: Compose, podman: Podman, folder: Path) -> Iterator[dict[str, str]]:
    """The stand-in for Redshift where pods reach it: the variables by which they find it."""
    s3 = S3Endpoint(
        f"http://{compose.address('s3')}:8333",
        compose.settings["S3_ACCESS_KEY_ID"],
        compose.settings["S3_SECRET_ACCESS_KEY"],
        REGION,
    )
    with RedshiftServer(folder / "redshift", s3) as server:
        listen = (gateway(podman, NETWORK), 0)
        with FaultProxy(server.endpoint.host, server.endpoint.port, listen=listen) as proxy:
            place = {"REDSHIFT_HOST": proxy.host, "REDSHIFT_PORT": str(proxy.port)}
            yield {**server.endpoint.environment(), **place}


@pytest.fixture(scope="module")
def values(
    compose: Compose, podman: Podman, redshift: dict[str, str], folder: Path
) -> dict[str, Any]:
    """The chart's values; its secrets are made as its page says."""
    own = compose.settings
    database = f"postgresql+psycopg2://airflow:{own['POSTGRES_PASSWORD']}@postgres/{DATABASE}"
    airflow = {
        "database_url": database,
        "fernet_key": own["AIRFLOW_FERNET_KEY"],
        "api_secret_key": own["AIRFLOW_API_SECRET_KEY"],
        "jwt_secret": own["AIRFLOW_JWT_SECRET"],
        "admin_password": own["AIRFLOW_ADMIN_PASSWORD"],
    }
    declared = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["x-airflow"]
    connections = {
        name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: own[found[1]], declared["environment"][name])
        for name in KEPT
    }
    password = "DBT_ENV_SECRET_REDSHIFT_PASSWORD"  # noqa: S105 the name of a variable
    add_secret(podman, folder, "millrace-airflow", airflow)
    add_secret(
        podman, folder, "millrace-connections", {**connections, password: redshift[password]}
    )
    return {
        "image": {"repository": "localhost/nps", "tag": "latest", "pull_policy": "Never"},
        "environment": {
            "LANDING_URL": "s3://millrace-landing",
            **{name: value for name, value in redshift.items() if name != password},
        },
        "remote_logs": {"url": "s3://millrace-landing/logs"},
    }


def client_of(compose: Compose, cluster: Cluster) -> AirflowClient:
    """A client of the API server in its pod."""
    login = Login("admin", compose.settings["AIRFLOW_ADMIN_PASSWORD"])
    return AirflowClient(f"http://{cluster.address('api-server')}:8080", login)


def run_of(client: AirflowClient) -> dict[str, TaskInstance]:
    """Run the DAG; its tasks, of which every one has succeeded."""
    client.wait_for_dags({DAG}, timeout=120)
    client.unpause(DAG)
    run = client.trigger(DAG)
    client.wait_for_run(DAG, lambda found: found.run_id == run.run_id, timeout=300)
    tasks = {task.task_id: task for task in client.task_instances(DAG, run.run_id)}
    said = {name: (task.state, client.log_tail(task)) for name, task in tasks.items()}
    assert {name: state for name, (state, _) in said.items()} == dict.fromkeys(tasks, "success"), said
    return tasks


def test_the_scheduler_runs_a_dag(
    compose: Compose, podman: Podman, folder: Path, values: dict[str, Any]
) -> None:
    create = ("createdb", "--host=127.0.0.1", "--username=airflow", DATABASE)
    password = f"PGPASSWORD={compose.settings['POSTGRES_PASSWORD']}"
    podman("exec", "--env", password, compose.containers("postgres")[0], *create)
    cluster = Cluster(podman, NETWORK, folder, charts.render(values))
    components = ("api-server", "scheduler", "dag-processor", "triggerer")
    try:
        cluster.migrate()
        cluster.start(*components)
        cluster.wait(*components)
        tasks = run_of(client_of(compose, cluster))
        assert {task.hostname for task in tasks.values()} == {cluster.address("scheduler")}
    finally:
        cluster.stop()
