"""The chart's pods as podman runs them, until tasks have run: in the scheduler's and in their own.

Beside them are the services of docker-compose.yaml and the stand-in for Redshift. Nothing here is a
cluster: nobody schedules pods or moves them, and no network policy holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace_sandbox.airflow_api import AirflowClient, Login, TaskInstance
from millrace_sandbox.processes import SandboxError, poll
from redshift_standin import RedshiftServer
from redshift_standin.s3_endpoint import REGION, S3Endpoint
from tests import charts
from tests.charts import NAME
from tests.image.cluster import Cluster, add_secret, gateway
from tests.image.compose import Compose
from tests.image.kubernetes_api import Caller, KubernetesApi
from tests.image.podman import IMAGE, ROOT, Podman, build
from tests.proxy import FaultProxy

pytestmark = pytest.mark.image

NETWORK = "millrace_default"
DATABASE = "kubernetes"
PASSWORD = "DBT_ENV_SECRET_REDSHIFT_PASSWORD"
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
def image(podman: Podman, redshift: dict[str, str], folder: Path) -> Iterator[str]:
    """The example's image, made for this warehouse as the docs say: no pod parses the project."""
    context = folder / "image"
    context.mkdir()
    environment = {"TARGET": "redshift", **plain(redshift)}
    lines = [f"ENV {name}={value}" for name, value in environment.items()]
    (context / "Dockerfile").write_text(
        "\n".join([f"FROM {IMAGE}", *lines, "RUN millrace parse\n"])
    )
    name = "localhost/nps-on-redshift"
    build(podman, context, name)
    yield name
    podman("rmi", name)


def plain(redshift: dict[str, str]) -> dict[str, str]:
    """What is no secret."""
    return {name: value for name, value in redshift.items() if name != PASSWORD}


@pytest.fixture(scope="module")
def values(
    compose: Compose, podman: Podman, redshift: dict[str, str], image: str, folder: Path
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
        name: re.sub(
            r"\$\{(\w+)[^}]*\}", lambda found: own[str(found[1])], declared["environment"][name]
        )
        for name in KEPT
    }
    add_secret(podman, folder, "millrace-airflow", airflow)
    connections[PASSWORD] = redshift[PASSWORD]
    add_secret(podman, folder, "millrace-connections", connections)
    return {
        "image": {"repository": image, "tag": "latest", "pull_policy": "Never"},
        "environment": {"LANDING_URL": "s3://millrace-landing", **plain(redshift)},
        "remote_logs": {"url": "s3://millrace-landing/logs"},
        # A probe takes four seconds of processor time, and a busy machine a long while for that.
        "probes": {"startup": {"timeoutSeconds": 120}},
    }


@pytest.fixture(scope="module")
def migrated(
    compose: Compose, podman: Podman, folder: Path, values: dict[str, Any]
) -> dict[str, Any]:
    """The chart's values, when its job has migrated a database of the chart's own."""
    ask_database(compose, f"create database {DATABASE}")
    cluster = Cluster(podman, NETWORK, folder, charts.render(values))
    try:
        cluster.migrate()
    finally:
        cluster.stop()
    return values


def ask_database(compose: Compose, sql: str) -> None:
    """Run a statement as Airflow's user, who is the superuser."""
    password = f"PGPASSWORD={compose.settings['POSTGRES_PASSWORD']}"
    psql = ("psql", "--host=127.0.0.1", "--username=airflow", "--command", sql, "postgres")
    compose.podman("exec", "--env", password, *compose.containers("postgres"), *psql)


def end_sessions(compose: Compose) -> None:
    """End what a killed pod has left: its locks would last until TCP finds that nobody answers."""
    ask_database(
        compose,
        f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{DATABASE}'",
    )


def ran(compose: Compose, cluster: Cluster, dag_id: str) -> dict[str, TaskInstance]:
    """Let Airflow run a DAG by its schedule; the tasks, which have all succeeded and have logs."""
    login = Login("admin", compose.settings["AIRFLOW_ADMIN_PASSWORD"])
    client = AirflowClient(f"http://{cluster.address('api-server')}:8080", login)
    client.wait_for_dags({dag_id}, timeout=120)
    client.unpause(dag_id)

    def has_ended() -> bool:
        # On a busy machine an API server that has just started does not answer for a minute.
        with suppress(SandboxError):
            return any(run.state in ("success", "failed") for run in client.runs(dag_id))
        return False

    assert poll(has_ended, timeout=600, interval=1), client.task_instances(dag_id)
    tasks = {task.task_id: task for task in client.task_instances(dag_id)}
    assert {task_id: task.state for task_id, task in tasks.items()} == dict.fromkeys(
        ("plan", "extract", "load"), "success"
    )
    # From S3: a pod that is gone has left it there.
    for task in tasks.values():
        assert poll(partial(has_log, client, task), timeout=120, interval=1), task
    return tasks


def has_log(client: AirflowClient, task: TaskInstance) -> bool:
    """Whether the API shows a task's log."""
    with suppress(SandboxError):
        return bool(client.log_tail(task))
    return False


def test_every_component_starts_and_the_scheduler_runs_a_dag(
    compose: Compose, podman: Podman, folder: Path, migrated: dict[str, Any]
) -> None:
    cluster = Cluster(podman, NETWORK, folder, charts.render(migrated))
    try:
        cluster.start("api-server", "scheduler", "dag-processor", "triggerer")
        cluster.wait("api-server", "scheduler", "dag-processor", "triggerer")
        tasks = ran(compose, cluster, "ingest__mysql__users")
        assert {task.hostname for task in tasks.values()} == {cluster.address("scheduler")}
    finally:
        cluster.stop()


def test_a_task_succeeds_in_the_pod_that_the_kubernetes_executor_asks_for(
    compose: Compose, podman: Podman, folder: Path, migrated: dict[str, Any]
) -> None:
    end_sessions(compose)
    release = charts.render({**migrated, "executor": "KubernetesExecutor"})
    rights = {
        role["metadata"]["name"]: Caller(role["rules"]) for role in charts.of_kind(release, "Role")
    }
    cluster = Cluster(podman, NETWORK, folder, release)
    address = gateway(podman, NETWORK)
    with KubernetesApi(address, folder, rights, cluster.run) as cluster.api:
        try:
            cluster.start("api-server", "scheduler", "dag-processor")
            cluster.wait("api-server", "scheduler", "dag-processor")
            tasks = ran(compose, cluster, "ingest__mysql__nps")
        finally:
            cluster.stop()
    # Each in a pod of its own, and nobody wanted more than the chart's Roles allow.
    pods = {pod["metadata"]["annotations"]["task_id"]: pod for pod in cluster.ran}
    assert pods.keys() == tasks.keys()
    assert len({task.hostname for task in tasks.values()}) == len(tasks)
    scheduler = rights[f"{NAME}-scheduler"]
    assert {"create pods", "watch pods", "delete pods"} <= scheduler.done
    assert not any(caller.refused for caller in rights.values())
