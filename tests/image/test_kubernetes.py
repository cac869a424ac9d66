"""The chart's manifests as ``podman kube play`` runs them, until the scheduler has run a DAG.

Podman makes pods of Deployments, with their volumes, ConfigMaps and Secrets. It has no Jobs,
Services and policies: the job is played as the pod that it describes, and a service is another name
of a pod in the network.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from millrace_sandbox.airflow_api import AirflowClient, Login
from millrace_sandbox.processes import poll
from tests import charts
from tests.charts import NAME, Manifest
from tests.image.compose import Compose
from tests.image.podman import ROOT, Podman

pytestmark = pytest.mark.image

NETWORK = "millrace_default"
DAG = "ingest__mysql__users"
COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
USER = 10001


class Cluster:
    """Podman in the place of a cluster, in the network of docker-compose.yaml's services.

    Args:
        podman: The podman that has the images.
        manifests: What helm has rendered.
        folder: For the files that podman is given.
    """

    def __init__(self, podman: Podman, manifests: list[Manifest], folder: Path) -> None:
        self._podman = podman
        self._folder = folder
        self._played: list[Path] = []
        self.configs = charts.of_kind(manifests, "ConfigMap")
        self._manifests = manifests

    def play(self, name: str, *manifests: Manifest) -> None:
        """Start pods that others find by a name."""
        file = self._folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump_all(manifests))
        self._played.append(file)
        self._podman("kube", "play", "--network", f"{NETWORK}:alias={name}", file, timeout=300)

    def migrate(self, *secrets: Manifest) -> None:
        """Run the job that comes before all else."""
        [job] = charts.of_kind(self._manifests, "Job")
        name = job["metadata"]["name"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}}
        self.play(name, *secrets, {**pod, "spec": job["spec"]["template"]["spec"]})
        container = f"{name}-migration"
        assert self._podman("wait", container, timeout=300).strip() == "0", self.log(container)

    def start(self, component: str) -> None:
        """Play a Deployment."""
        [deployment] = (
            found
            for found in charts.of_kind(self._manifests, "Deployment")
            if found["metadata"]["name"] == f"{NAME}-{component}"
        )
        self.play(f"{NAME}-{component}", *self.configs, deployment)

    def address(self, component: str) -> str:
        """The address of a component's pod."""
        pod = f"{NAME}-{component}-pod"
        infra = self._podman("pod", "inspect", pod, "--format", "{{.InfraContainerID}}").strip()
        query = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self._podman("inspect", "--format", query, infra).strip()

    def log(self, container: str) -> str:
        """The end of a container's output."""
        done = self._podman.tried("logs", "--tail", "60", container)
        return done.stdout + done.stderr

    def stop(self) -> None:
        """Remove all pods, and the secrets."""
        for file in reversed(self._played):
            self._podman.tried("kube", "down", file)
        self._podman.tried("secret", "rm", "--all")


def secret(name: str, values: dict[str, str]) -> Manifest:
    """A Secret, as ``kubectl create secret generic`` makes one."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}


def secrets(compose: Compose, database: str) -> list[Manifest]:
    """The secrets that the chart's page says how to make."""
    own = compose.settings
    file = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
    connections = {
        name: re.sub(r"\$\{(\w+)[^}]*\}", lambda found: own[str(found[1])], value)
        for name, value in file["x-airflow"]["environment"].items()
        if value
        and name in ("AIRFLOW_CONN_MYSQL_PROD", "AIRFLOW_CONN_AWS_LANDING", "MILLRACE_PII_SALT")
    }
    airflow = {
        "database_url": f"postgresql+psycopg2://airflow:{own['POSTGRES_PASSWORD']}@postgres/{database}",
        "fernet_key": own["AIRFLOW_FERNET_KEY"],
        "api_secret_key": own["AIRFLOW_API_SECRET_KEY"],
        "jwt_secret": own["AIRFLOW_JWT_SECRET"],
        "admin_password": own["AIRFLOW_ADMIN_PASSWORD"],
        "monitor_password": own["AIRFLOW_MONITOR_PASSWORD"],
    }
    return [secret("millrace-airflow", airflow), secret("millrace-connections", connections)]


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the node's, where the DuckDB file is."""
    folder = tmp_path_factory.mktemp("warehouse")
    os.chown(folder, USER, USER)
    return folder


@pytest.fixture(scope="module")
def cluster(
    podman: Podman, compose: Compose, warehouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """The chart's release, with tasks in the scheduler's pod."""
    values: dict[str, Any] = {
        "image": {"repository": "localhost/nps", "tag": "latest", "pull_policy": "Never"},
        "target": "dev",
        "local_test": {"enabled": True, "warehouse_path": str(warehouse)},
        "environment": {"LANDING_URL": "s3://millrace-landing"},
        "parallelism": 4,
    }
    [postgres] = compose.containers("postgres")
    password = f"PGPASSWORD={compose.settings['POSTGRES_PASSWORD']}"
    create = ("createdb", "--host=127.0.0.1", "--username=airflow", "kubernetes")
    podman("exec", "--env", password, postgres, *create)
    made = Cluster(podman, charts.render(values), tmp_path_factory.mktemp("cluster"))
    try:
        made.migrate(*secrets(compose, "kubernetes"))
        for component in COMPONENTS:
            made.start(component)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def client(compose: Compose, cluster: Cluster) -> AirflowClient:
    """A client of the API server in its pod."""
    login = Login("admin", compose.settings["AIRFLOW_ADMIN_PASSWORD"])
    url = f"http://{cluster.address('api-server')}:8080"
    found: list[AirflowClient] = []

    def answers() -> bool:
        try:
            found.append(AirflowClient(url, login))
        except Exception:
            return False
        return True

    if not poll(answers, timeout=120, interval=0.5):
        pytest.fail(cluster.log(f"{NAME}-api-server-pod-api-server"))
    return found[0]


def test_the_scheduler_runs_a_dag(client: AirflowClient) -> None:
    client.wait_for_dags({DAG}, timeout=120)
    client.unpause(DAG)
    run = client.trigger(DAG)
    client.wait_for_run(DAG, lambda found: found.run_id == run.run_id, timeout=180)
    tasks = {task.task_id: task.state for task in client.task_instances(DAG, run.run_id)}
    assert tasks["load"] == "success"
