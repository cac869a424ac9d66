"""The pods of the KubernetesExecutor, made by Airflow's own code of the chart's templates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from airflow.cli import cli_parser
from airflow.providers.cncf.kubernetes.executors.kubernetes_executor_utils import (
    get_base_pod_from_template,
)
from airflow.providers.cncf.kubernetes.kube_config import KubeConfig
from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator
from airflow.serialization.serialized_objects import DagSerialization

from millrace.airflow import AirflowProject, audit_dag, ingest, maintenance_dag, transform_dag
from millrace.airflow.project import KINDS_OF_TASK
from millrace.dbt.project import Project
from millrace.errors import SettingError
from tests import charts

DBT_PROJECT = charts.ROOT / "dbt_project"
TEMPLATE = "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE"
COMMAND = ["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", "{}"]
VALUES = {
    "executor": "KubernetesExecutor",
    "git_sync": {"repository": "https://git.example/nps"},
    "nfs": {"logs_server": "nfs.example", "logs_path": "/logs"},
}


@pytest.fixture(scope="module")
def manifests() -> list[charts.Manifest]:
    return charts.render(VALUES)


@pytest.fixture
def templates(
    manifests: list[charts.Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The folder of pod templates, as the scheduler and the DAG processor have it."""
    for name, text in charts.pod_templates(manifests).items():
        (tmp_path / name).write_text(text)
    monkeypatch.setenv(TEMPLATE, str(tmp_path / "default.yaml"))
    return tmp_path


@pytest.fixture(scope="module", autouse=True)
def manifest_of_dbt() -> None:
    Project.find(DBT_PROJECT).ensure_manifest()


def pod_of(task: Any) -> dict[str, Any]:
    """The pod that the executor would create for a task, as it would send it."""
    template = task.executor_config.get("pod_template_file")
    pod = PodGenerator.construct_pod(
        dag_id=task.dag.dag_id,
        task_id=task.task_id,
        pod_id="ingest-mysql-nps-extract-0123abcd",
        try_number=1,
        kube_image=KubeConfig().kube_image,
        date=None,
        args=COMMAND,
        pod_override_object=PodGenerator.from_obj(task.executor_config),
        base_worker_pod=get_base_pod_from_template(template, KubeConfig()),
        namespace=charts.NAMESPACE,
        scheduler_job_id="7",
        run_id="scheduled__2026-11-26",
        with_mutation_hook=True,
    )
    return dict(PodGenerator.serialize_pod(pod))


def ingest_of(queues: dict[str, str]) -> Any:
    """An ingest DAG as the scheduler has it: written to the database and read back."""
    project = AirflowProject(DBT_PROJECT, queues=queues)
    table = project.catalog.table("mysql.nps")
    made = ingest.ingest_dag(project, table)
    return DagSerialization.from_dict(DagSerialization.to_dict(made))


@pytest.mark.parametrize("task_id", ["plan", "extract", "load"])
def test_kubernetes_would_take_the_pod_of_a_task(templates: Path, task_id: str) -> None:
    pod = pod_of(ingest_of({"extract": "large"}).get_task(task_id))
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    [container] = pod["spec"]["containers"]
    assert container["args"] == COMMAND
    assert "command" not in container
    assert container["image"] == "millrace:0.1.0"


def test_a_pod_keeps_all_that_the_chart_says_of_it(
    manifests: list[charts.Manifest], templates: Path
) -> None:
    pod = pod_of(ingest_of({}).get_task("plan"))
    [template] = (
        found
        for found in charts.pods(manifests)
        if found.component == "task" and found.labels["millrace/queue"] == "default"
    )
    assert template.labels.items() <= pod["metadata"]["labels"].items()
    [container] = pod["spec"]["containers"]
    assert {**container, **template.main} == container
    for name, value in template.spec.items():
        assert name == "containers" or pod["spec"][name] == value


def test_a_kind_of_task_gets_the_pod_of_its_queue(templates: Path) -> None:
    dag = ingest_of({"extract": "large"})
    memory = {
        task_id: pod_of(dag.get_task(task_id))["spec"]["containers"][0]["resources"]["limits"][
            "memory"
        ]
        for task_id in ("plan", "extract", "load")
    }
    assert memory == {"plan": "1Gi", "extract": "4Gi", "load": "1Gi"}


def test_a_queue_without_a_pod_template_is_told_when_the_dags_are_made(templates: Path) -> None:
    with pytest.raises(SettingError) as told:
        ingest_of({"extract": "huge"})
    assert "The queue huge has no pod template" in str(told.value)
    assert "Add huge to kubernetes.queues in the values of the Helm chart" in str(told.value)


def test_with_other_executors_a_queue_is_only_a_name() -> None:
    task = ingest_of({"extract": "large"}).get_task("extract")
    assert (task.queue, task.executor_config) == ("large", {})


def test_every_kind_of_task_has_its_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    project = AirflowProject(DBT_PROJECT, queues={kind: f"q-{kind}" for kind in KINDS_OF_TASK})
    table = project.catalog.table("mysql.nps")
    keyed = replace(table, options=table.options.model_copy(update={"deletes": "keys"}))
    others = (transform_dag, audit_dag, maintenance_dag)
    made = [ingest.ingest_dag(project, keyed), *(make(project) for make in others)]
    queues = {task.task_id: task.queue for dag in made for task in dag.tasks}
    for task_id in ("plan", "extract", "load", "mark_deletes", "dbt_build"):
        assert queues[task_id] == f"q-{task_id}"
    assert queues["publish__nps_summary_sheet"] == "q-publish"
    assert queues["mysql__nps"] == "q-audit"
    assert queues["back_up_metadata"] == queues["sweep_landing"] == "q-maintenance"
    # What only waits or reports stays where every worker is.
    assert queues["wait_for_ingestion"] == queues["nps_summary.run"] == "default"


def test_a_queue_for_no_kind_of_task_is_refused() -> None:
    with pytest.raises(SettingError) as told:
        AirflowProject(DBT_PROJECT, queues={"exctract": "large"})
    assert "a queue for exctract, which is no kind of task" in str(told.value)
    assert "plan, extract, load" in str(told.value)


def test_airflow_understands_every_command() -> None:
    values: list[dict[str, Any]] = [
        {"ingress": {"enabled": True, "host": "nps.example", "tls_secret": "tls"}},
        {"executor": "KubernetesExecutor"},
        {
            "executor": "CeleryExecutor",
            "secrets": {"broker": "redis"},
            "celery": {"flower": {"enabled": True}},
        },
    ]
    asked = {
        tuple(command)
        for manifests in map(charts.render, values)
        for pod in charts.pods(manifests)
        for command in commands(pod)
        if command[0] == "airflow"
    }
    programs = {"api-server", "celery", "dag-processor", "jobs", "scheduler", "triggerer"}
    assert {command[1] for command in asked} == programs
    parser = cli_parser.get_parser()
    for _, *arguments in asked:
        parser.parse_args(arguments)


def commands(pod: charts.Pod) -> list[list[str]]:
    """What a pod's main container runs, and what its probes run."""
    probes = [value for name, value in pod.main.items() if name.endswith("Probe")]
    return [
        pod.main.get("command", COMMAND),
        *(p["exec"]["command"] for p in probes if "exec" in p),
    ]
