"""The chart deploy/helm/millrace: what it renders, for all ways to run it. No cluster is needed."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from kubernetes_validate import utils as validation

from millrace.airflow.settings import CELERY, ENVIRONMENT, PRELOADED
from millrace.catalog import load_catalog
from tests import charts
from tests.charts import CHART, NAME, ROOT, Manifest, Pod, of_kind, pods, refusal, render, selects
from tests.network_policies import may_connect

# What Chart.yaml allows, and what kubernetes-validate knows.
OLDEST, NEWEST = "1.29", kubernetes_validate.latest_version()
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
DATABASE_URL = "postgresql+psycopg2://airflow:s3cr3t@postgres/airflow"
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|SALT|FERNET|ACCESS_KEY|_CONN(_(?!ID)|$)|BROKER_URL")
CONNECTIONS = {"secretRef": {"name": "millrace-connections"}}
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()

EXECUTORS: dict[str, dict[str, Any]] = {
    "local": {},
    "celery": {"executor": "CeleryExecutor", "secrets": {"broker": "millrace-broker"}},
    "kubernetes": {"executor": "KubernetesExecutor"},
}
SOURCES: dict[str, dict[str, Any]] = {
    "image": {},
    "git over https": {"git_sync": {"repository": "https://git.example/nps", "secret": "git"}},
    "git over ssh": {"git_sync": {"repository": "ssh://git@git.example/nps", "folder": "a/b"}},
    "nfs": {"nfs": {"dags_server": "nfs.example", "dags_path": "/project"}},
    "host": {"local_test": {"enabled": True, "project_path": "/mnt/project"}},
}
DATABASES: dict[str, dict[str, Any]] = {
    "postgresql": {},
    "mysql": {"database": {"port": 3306}},
    "inline": {"local_test": {"enabled": True}, "database_url": DATABASE_URL},
}
LOGS: dict[str, dict[str, Any]] = {
    "logs in pods": {},
    "logs on S3": {"remote_logs": {"url": "s3://logs/airflow"}},
    "logs on NFS": {"nfs": {"logs_server": "nfs.example", "logs_path": "/logs"}},
    "logs on the host": {"local_test": {"enabled": True, "logs_path": "/mnt/logs"}},
}
# Whatever else can be switched on.
MORE: dict[str, Any] = {
    "api_server": {"replicas": 2},
    "scheduler": {"replicas": 2},
    "dag_processor": {"replicas": 2},
    "triggerer": {"replicas": 3},
    "watcher": {"enabled": True},
    "image": {"pull_secrets": ["registry"]},
    "secrets": {"login": "oauth"},
    "environment": {"LANDING_URL": "s3://landing", "REDSHIFT_PORT": 5439},
    "ingress": {"enabled": True, "class": "nginx", "host": "nps.example", "tls_secret": "tls"},
    "webserver_config": "AUTH_TYPE = 4\n",
    "network_policies": {
        "clients": [{"namespaceSelector": {"matchLabels": {"name": "ingress"}}}],
        "task_egress": [{"ports": [{"port": 443}, {"port": 3306}]}],
    },
    "service_accounts": {
        account: {"annotations": {"eks.amazonaws.com/role-arn": f"arn:aws:iam::1:role/{account}"}}
        for account in ("api_server", "scheduler", "tasks")
    },
    "pods": {
        "annotations": {"team": "data"},
        "labels": {"team": "data"},
        "node_selector": {"pool": "data"},
        "tolerations": [{"key": "data", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
    },
}
WORKERS = [
    {**DEFAULTS["celery"]["workers"][0], "name": name, "queues": queues, "replicas": replicas}
    for name, queues, replicas in (("default", ["default"], 1), ("large", ["large", "dbt"], 2))
]
MORE_CELERY: dict[str, Any] = {"celery": {"flower": {"enabled": True}, "workers": WORKERS}}
DUCKDB: dict[str, Any] = {
    "target": "dev",
    "local_test": {"enabled": True, "warehouse_path": "/mnt/warehouse"},
    "scheduler": {"replicas": 1},
}


def merged(*values: dict[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = {}
    for one in values:
        for key, value in one.items():
            both = isinstance(value, dict) and isinstance(whole.get(key), dict)
            whole[key] = merged(whole[key], value) if both else value
    return whole


def matrix() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each combination of values that is allowed, with its name."""
    # Over ssh a project comes as over https, with another secret.
    sources = SOURCES.keys() - {"git over ssh"}
    choices = itertools.product(EXECUTORS, sorted(sources), DATABASES, LOGS)
    for number, (executor, source, database, logs) in enumerate(choices):
        values = merged(EXECUTORS[executor], SOURCES[source], DATABASES[database], LOGS[logs])
        # There are 12 for each source, so each choice is met with all the rest on, and without.
        if more := number % 3 == 1:
            values = merged(values, MORE, MORE_CELERY if executor == "celery" else {})
        if executor == "local" and database == "inline":
            values = merged(values, DUCKDB)
        yield ", ".join([executor, source, database, logs, "more" if more else ""]), values


@pytest.fixture(scope="module")
def matrix_of_manifests() -> dict[str, list[Manifest]]:
    """What helm makes of every combination; two processes at a time."""
    names, values = zip(*matrix(), strict=True)
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(render, values), strict=True))


@pytest.fixture(scope="module")
def every_pod(matrix_of_manifests: dict[str, list[Manifest]]) -> list[Pod]:
    """All pods that differ."""
    seen = {
        json.dumps([pod.component, pod.replicas, pod.spec, pod.labels]): pod
        for manifests in matrix_of_manifests.values()
        for pod in pods(manifests)
    }
    return list(seen.values())


@pytest.mark.parametrize("executor", EXECUTORS)
def test_helm_finds_nothing_to_complain_of(executor: str) -> None:
    done = charts.run("lint", "--strict", str(CHART), values=merged(EXECUTORS[executor], MORE))
    assert done.returncode == 0, done.stdout


@cache
def schema(name: str, version: str) -> Any:
    return _read_schema(name, version)


_read_schema: Callable[[str, str], Any] = validation.schema_contents


@pytest.mark.parametrize(("version", "cases"), [(OLDEST, "more"), (NEWEST, "")])
def test_kubernetes_would_take_every_manifest(
    matrix_of_manifests: dict[str, list[Manifest]],
    version: str,
    cases: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It would read the schemas from their files for each manifest.
    monkeypatch.setattr(validation, "schema_contents", schema)
    distinct = {
        json.dumps(manifest, sort_keys=True): manifest
        for case, manifests in matrix_of_manifests.items()
        for manifest in manifests
        if case.endswith(cases)
    }
    assert len(distinct) > 200
    for manifest in distinct.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_names_are_there_once(matrix_of_manifests: dict[str, list[Manifest]]) -> None:
    for case, manifests in matrix_of_manifests.items():
        names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
        assert len(names) == len(set(names)), case


# Secrets


def test_no_secret_is_in_the_open(
    matrix_of_manifests: dict[str, list[Manifest]], every_pod: list[Pod]
) -> None:
    for case, manifests in matrix_of_manifests.items():
        assert not [name for name in charts.settings(manifests) if SECRET.search(name)], case
        made = of_kind(manifests, "Secret")
        assert bool(made) == ("inline" in case), case
        others = [manifest for manifest in manifests if manifest["kind"] != "Secret"]
        assert "s3cr3t" not in json.dumps(others), case
    for pod in every_pod:
        for container in pod.containers:
            for variable in container.get("env", []):
                if SECRET.search(variable["name"]):
                    assert set(variable) == {"name", "valueFrom"}, variable
                    assert set(variable["valueFrom"]) == {"secretKeyRef"}, variable


def known_secrets(pod: Pod) -> set[str]:
    """The keys of Airflow's and the broker's secrets that a pod's main container has."""
    variables = pod.main.get("env", [])
    return {
        found["valueFrom"]["secretKeyRef"]["key"] for found in variables if "valueFrom" in found
    }


@pytest.mark.parametrize(
    ("executor", "component", "keys"),
    [
        ("kubernetes", "task", set()),
        ("celery", "worker-default", {"database_url", "api_secret_key", "broker_url"}),
        ("celery", "flower", {"broker_url", "flower_basic_auth"}),
        ("local", "dag-processor", {"database_url", "fernet_key"}),
        ("local", "triggerer", {"database_url", "fernet_key", "api_secret_key"}),
        ("local", "watcher", set()),
        ("local", "api-server", {"database_url", "fernet_key", "api_secret_key", "jwt_secret"}),
        ("local", "scheduler", {"database_url", "fernet_key", "api_secret_key", "jwt_secret"}),
    ],
)
def test_a_component_has_the_secrets_that_it_needs_and_no_others(
    executor: str, component: str, keys: set[str]
) -> None:
    found = pods(
        render(merged(EXECUTORS[executor], MORE, MORE_CELERY if executor == "celery" else {}))
    )
    assert {frozenset(known_secrets(pod)) for pod in found if pod.component == component} == {
        frozenset(keys)
    }


def test_the_migration_has_what_deploy_init_makes_users_of() -> None:
    [migration] = (pod for pod in pods(render({})) if pod.component == "migration")
    assert {"database_url", "admin_password", "monitor_password"} <= known_secrets(migration)
    variables = {found["name"]: found for found in migration.main["env"]}
    assert {"AIRFLOW_ADMIN_PASSWORD", "AIRFLOW_MONITOR_PASSWORD"} <= variables.keys()
    monitor = variables["AIRFLOW_MONITOR_PASSWORD"]["valueFrom"]["secretKeyRef"]
    assert monitor["optional"] is True


@pytest.mark.parametrize("executor", EXECUTORS)
def test_connections_are_where_code_of_the_project_runs(executor: str) -> None:
    values = merged(EXECUTORS[executor], MORE_CELERY if executor == "celery" else {})
    found = {pod.component: pod for pod in pods(render(values))}
    having = {name for name, pod in found.items() if CONNECTIONS in pod.main.get("envFrom", [])}
    without = {"api-server", "flower"} | ({"scheduler"} if executor != "local" else set())
    assert having == found.keys() - without


# What pods may do


def test_nothing_has_a_privilege(every_pod: list[Pod]) -> None:
    """Each pod meets the "restricted" Pod Security Standard, and more."""
    for pod in every_pod:
        of_pod = pod.spec["securityContext"]
        assert of_pod["runAsNonRoot"] is True
        assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & pod.spec.keys()
        for container in pod.containers:
            own = container["securityContext"]
            user = own.get("runAsUser", of_pod["runAsUser"])
            assert user == (65533 if container["name"] == "git-sync" else 10001)
            assert own["allowPrivilegeEscalation"] is False
            assert own["readOnlyRootFilesystem"] is True
            assert own["capabilities"] == {"drop": ["ALL"]}


def test_the_user_is_the_image_s() -> None:
    assert "useradd --uid 10001" in DOCKERFILE


def test_what_the_image_writes_to_is_writable(every_pod: list[Pod]) -> None:
    [folders] = re.findall(r"install --directory .*\\\n +(.*)", DOCKERFILE)
    # The chart lets dbt write its manifest elsewhere, because an image's root is read-only.
    writable = {*folders.split(), "/tmp"} - {"/opt/millrace/dbt_project/target"}  # noqa: S108
    for pod in every_pod:
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in pod.main["volumeMounts"]}
        assert writable <= mounts.keys()
        assert all("emptyDir" in volumes[mounts[path]["name"]] for path in writable)
        allowed = writable | {"/opt/airflow/logs", "/var/lib/millrace/warehouse"}
        assert {path for path, mount in mounts.items() if not mount.get("readOnly")} <= allowed


def test_every_mount_has_a_volume_and_every_volume_is_mounted(every_pod: list[Pod]) -> None:
    for pod in every_pod:
        mounted = {
            mount["name"] for container in pod.containers for mount in container["volumeMounts"]
        }
        assert mounted == {volume["name"] for volume in pod.spec["volumes"]}


def test_folders_of_a_node_are_only_for_a_local_test(
    matrix_of_manifests: dict[str, list[Manifest]],
) -> None:
    for case, manifests in matrix_of_manifests.items():
        hosts = [v for pod in pods(manifests) for v in pod.spec["volumes"] if "hostPath" in v]
        local = "host" in case or ("local," in case and "inline" in case)
        assert bool(hosts) == local, case


def test_every_container_has_requests_and_limits(every_pod: list[Pod]) -> None:
    for pod in every_pod:
        for container in pod.containers:
            for kind in ("requests", "limits"):
                assert container["resources"][kind].keys() >= {"cpu", "memory"}


def test_only_who_starts_pods_or_reads_their_logs_may_talk_to_kubernetes(
    matrix_of_manifests: dict[str, list[Manifest]],
) -> None:
    for case, manifests in matrix_of_manifests.items():
        kubernetes = case.startswith("kubernetes")
        with_token = {
            pod.component for pod in pods(manifests) if pod.spec["automountServiceAccountToken"]
        }
        assert with_token == ({"scheduler", "api-server"} if kubernetes else set()), case
        bound = {
            (binding["roleRef"]["name"], binding["subjects"][0]["name"])
            for binding in of_kind(manifests, "RoleBinding")
        }
        accounts = {f"{NAME}-scheduler", f"{NAME}-api-server"} if kubernetes else set()
        assert bound == {(account, account) for account in accounts}, case
        assert {role["metadata"]["name"] for role in of_kind(manifests, "Role")} == accounts, case
        assert not of_kind(manifests, "ClusterRole")


def test_the_scheduler_may_start_watch_adopt_and_end_pods_and_the_api_server_reads_their_logs() -> (
    None
):
    rights = {
        role["metadata"]["name"].removeprefix(f"{NAME}-"): {
            (resource, verb)
            for rule in role["rules"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
        }
        for role in of_kind(render(EXECUTORS["kubernetes"]), "Role")
    }
    starts = {("pods", verb) for verb in ("create", "delete", "get", "list", "patch", "watch")}
    reads = {("pods", "get"), ("pods", "list"), ("pods/log", "get")}
    assert rights["scheduler"] == starts | {("pods/log", "get"), ("events", "list")}
    assert rights["api-server"] == reads


def test_what_is_to_end_is_not_started_again(every_pod: list[Pod]) -> None:
    """Its failure is counted by who started it: the job, or Airflow."""
    for pod in every_pod:
        assert pod.spec.get("restartPolicy") == (None if pod.kind == "Deployment" else "Never")


def test_whoever_touches_the_cloud_has_the_role_of_its_service_account() -> None:
    manifests = render(MORE)
    accounts = {
        account["metadata"]["name"]: account["metadata"].get("annotations")
        for account in of_kind(manifests, "ServiceAccount")
    }
    assert all("eks.amazonaws.com/role-arn" in found for found in accounts.values())
    used = {pod.component: pod.spec.get("serviceAccountName") for pod in pods(manifests)}
    assert used.pop("migration") is None
    assert set(used.values()) == accounts.keys()


# How they are watched, found and restarted


def test_what_lasts_is_probed(every_pod: list[Pod]) -> None:
    lasting = [container for pod in every_pod for container in pod.lasting]
    assert {"api-server", "worker-large", "flower", "git-sync", "parse"} <= {
        container["name"] for container in lasting
    }
    for container in lasting:
        for probe in ("startupProbe", "livenessProbe"):
            assert container[probe]["periodSeconds"] >= 5
            asks = container[probe].get("httpGet") or container[probe].get("tcpSocket")
            if asks:
                assert asks["port"] in {port["name"] for port in container["ports"]}
    assert all("readinessProbe" in c for c in lasting if c["name"] == "api-server")


def test_what_comes_first_and_stays_says_when_it_is_ready(every_pod: list[Pod]) -> None:
    """Nothing waits for a sidecar without a startup probe: the project might be missing."""
    for pod in every_pod:
        names = [container["name"] for container in pod.spec.get("initContainers", [])]
        assert names in ([], ["parse"], ["git-sync"], ["git-sync", "parse"])
        if pod.kind != "Deployment":
            assert not any("restartPolicy" in c for c in pod.spec.get("initContainers", []))


def test_every_selector_selects_pods(matrix_of_manifests: dict[str, list[Manifest]]) -> None:
    for case, manifests in matrix_of_manifests.items():
        found = list(pods(manifests))
        for deployment in of_kind(manifests, "Deployment"):
            selector = deployment["spec"]["selector"]
            chosen = [pod.component for pod in found if selects(selector, pod.labels)]
            assert [f"{NAME}-{name}" for name in chosen] == [deployment["metadata"]["name"]], case
        for service in of_kind(manifests, "Service"):
            [pod] = (
                p for p in found if selects({"matchLabels": service["spec"]["selector"]}, p.labels)
            )
            [port] = service["spec"]["ports"]
            assert (port["targetPort"], port["port"]) in {
                (exposed["name"], exposed["containerPort"]) for exposed in pod.main["ports"]
            }, case
        for policy in of_kind(manifests, "NetworkPolicy"):
            selector = policy["spec"]["podSelector"]
            assert any(selects(selector, pod.labels) for pod in found), case


def test_what_is_referred_to_exists(matrix_of_manifests: dict[str, list[Manifest]]) -> None:
    for case, manifests in matrix_of_manifests.items():
        text = json.dumps([vars(pod) for pod in pods(manifests)])
        made = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
        for name in re.findall(r'"configMap(?:Ref)?": \{"name": "([^"]+)"', text):
            assert ("ConfigMap", name) in made, case
        for name in re.findall(r'"serviceAccountName": "([^"]+)"', text):
            assert ("ServiceAccount", name) in made, case
        secrets = {*re.findall(r'"(?:secretRef|secretKeyRef)": \{[^}]*"name": "([^"]+)"', text)}
        assert {name for name in secrets if ("Secret", name) not in made} <= {
            "millrace-airflow", "millrace-connections", "millrace-broker", "git", "oauth",
        }, case  # fmt: skip


def test_a_component_with_several_pods_keeps_all_but_one(
    matrix_of_manifests: dict[str, list[Manifest]],
) -> None:
    for case, manifests in matrix_of_manifests.items():
        several = {f"{NAME}-{pod.component}" for pod in pods(manifests) if pod.replicas > 1}
        budgets = of_kind(manifests, "PodDisruptionBudget")
        assert {budget["metadata"]["name"] for budget in budgets} == several, case
        for budget in budgets:
            assert budget["spec"]["maxUnavailable"] == 1
            [_] = (p for p in pods(manifests) if selects(budget["spec"]["selector"], p.labels))


def checksums(values: dict[str, Any]) -> set[str]:
    return {
        pod.metadata["annotations"]["checksum/config"]
        for pod in pods(render(values))
        if pod.kind == "Deployment"
    }


def test_pods_start_again_when_their_settings_change_and_only_then() -> None:
    [before] = checksums({})
    assert checksums({"api_server": {"replicas": 2}}) == {before}
    assert checksums({"environment": {"LANDING_URL": "s3://other"}}) != {before}
    assert checksums({"webserver_config": "AUTH_TYPE = 4"}) != {before}


def test_the_migration_comes_first_and_needs_nothing_that_comes_later(
    matrix_of_manifests: dict[str, list[Manifest]],
) -> None:
    for case, manifests in matrix_of_manifests.items():
        [job] = of_kind(manifests, "Job")
        hooks = job["metadata"]["annotations"]
        assert hooks["helm.sh/hook"] == "pre-install,pre-upgrade"
        assert hooks["helm.sh/hook-delete-policy"] == "before-hook-creation"
        for secret in of_kind(manifests, "Secret"):
            earlier = secret["metadata"]["annotations"]
            assert earlier["helm.sh/hook"] == hooks["helm.sh/hook"]
            assert int(earlier["helm.sh/hook-weight"]) < int(hooks["helm.sh/hook-weight"])
        named = json.dumps(job["spec"]["template"]["spec"])
        for kind in ("ConfigMap", "ServiceAccount"):
            for later in of_kind(manifests, kind):
                assert f'"{later["metadata"]["name"]}"' not in named, case
        # So it has its settings in itself: the same that the others have.
        [container] = job["spec"]["template"]["spec"]["containers"]
        own = {v["name"]: v["value"] for v in container["env"] if "value" in v}
        assert own == charts.settings(manifests), case


# The network


Connect = Callable[[str | None, str | None, int], bool]


def network(values: dict[str, Any]) -> Connect:
    manifests = render(values)
    policies = of_kind(manifests, "NetworkPolicy")
    labels = {pod.component: pod.labels for pod in pods(manifests)}

    def connects(source: str | None, target: str | None, port: int) -> bool:
        return may_connect(
            policies, labels[source] if source else None, labels[target] if target else None, port
        )

    return connects


@pytest.mark.parametrize("executor", EXECUTORS)
def test_policies_let_through_what_is_needed_and_nothing_else(executor: str) -> None:
    values = merged(EXECUTORS[executor], {"network_policies": {"task_egress": [{"ports": []}]}})
    values = merged(values, {"watcher": {"enabled": True}})
    values = merged(values, MORE_CELERY if executor == "celery" else {})
    values["network_policies"]["task_egress"] = [{"ports": [{"port": 443}]}]
    connects = network(values)
    components = {pod.component for pod in pods(render(values))}
    workers = {name for name in components if name.startswith("worker-")}
    with_database = {"api-server", "scheduler", "dag-processor", "triggerer", "migration"} | workers
    with_broker = {"scheduler", "flower"} | workers if executor == "celery" else set()
    tasks = {"dag-processor", "triggerer", "migration", "watcher"} | workers
    tasks |= {"local": {"scheduler"}, "kubernetes": {"task"}}.get(executor, set())
    kubernetes = {"scheduler"} if executor == "kubernetes" else set()
    for name in components:
        assert connects(name, "api-server", 8080)
        assert connects(name, None, 53)
        assert connects(name, None, 5432) == (name in with_database)
        assert connects(name, None, 6379) == (name in with_broker)
        assert connects(name, None, 443) == (name in tasks | {"api-server"} | kubernetes)
        assert not connects(name, None, 3306)
        # From outside only the API server is reached.
        assert connects(None, name, 8080) == (name == "api-server")
        assert not connects(None, name, 8793)
    for name in workers or tasks & {"scheduler"}:
        assert connects("api-server", name, 8793)
    assert connects("api-server", "triggerer", 8794)


def test_tasks_reach_everything_unless_it_is_limited() -> None:
    assert network({})("scheduler", None, 3306)
    assert not network(MORE)("scheduler", None, 3307)


def test_named_clients_reach_the_ui_and_no_one_else() -> None:
    clients = [{"podSelector": {"matchLabels": {"app": "proxy"}}}]
    policies = of_kind(render({"network_policies": {"clients": clients}}), "NetworkPolicy")
    target = {**policies[0]["spec"]["podSelector"]["matchLabels"]}
    target["app.kubernetes.io/component"] = "api-server"
    assert may_connect(policies, {"app": "proxy"}, target, 8080)
    assert not may_connect(policies, {"app": "other"}, target, 8080)
    assert not may_connect(policies, None, target, 8080)


def test_policies_can_be_left_out() -> None:
    assert not of_kind(render({"network_policies": {"enabled": False}}), "NetworkPolicy")


def test_the_ui_is_served_over_tls() -> None:
    manifests = render(MORE)
    [ingress] = of_kind(manifests, "Ingress")
    assert ingress["spec"]["tls"] == [{"hosts": ["nps.example"], "secretName": "tls"}]
    [rule] = ingress["spec"]["rules"]
    assert rule["host"] == "nps.example"
    [path] = rule["http"]["paths"]
    assert path["backend"]["service"]["name"] in {
        service["metadata"]["name"] for service in of_kind(manifests, "Service")
    }
    assert charts.settings(manifests)["AIRFLOW__API__BASE_URL"] == "https://nps.example"
    [api_server] = (pod for pod in pods(manifests) if pod.component == "api-server")
    assert "--proxy-headers" in api_server.main["command"]
    assert not of_kind(render({}), "Ingress")


# The project and its settings


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("image", "/opt/millrace"),
        ("git over https", "/project/current"),
        ("git over ssh", "/project/current/a/b"),
        ("nfs", "/project"),
        ("host", "/project"),
    ],
)
@pytest.mark.parametrize("executor", EXECUTORS)
def test_who_runs_code_of_the_project_has_it_and_its_manifest(
    executor: str, source: str, folder: str
) -> None:
    values = merged(EXECUTORS[executor], SOURCES[source], {"watcher": {"enabled": True}})
    manifests = render(values)
    settings = charts.settings(manifests)
    assert settings["AIRFLOW__CORE__DAGS_FOLDER"] == f"{folder}/dags"
    assert settings["DBT_PROJECT_DIR"] == f"{folder}/dbt_project"
    assert settings["DBT_PROFILES_DIR"] == folder
    users = {"dag-processor", "watcher"} | {
        "local": {"scheduler"}, "celery": {"worker-default"}, "kubernetes": {"task"}
    }[executor]  # fmt: skip
    having = set()
    for pod in pods(manifests):
        before = {c["name"]: c for c in pod.spec.get("initContainers", [])}
        if "parse" in before:
            having.add(pod.component)
            follows = pod.component != "task" and source != "image"
            assert ("--follow" in before["parse"]["command"]) == follows
        if source.startswith("git"):
            assert ("git-sync" in before) == (pod.component in users | {"migration"})
    assert having == users


def test_git_has_its_secret_and_nobody_else_has() -> None:
    for source in ("git over https", "git over ssh"):
        for pod in pods(render(merged(SOURCES[source], {"git_sync": {"secret": "git"}}))):
            for container in pod.containers:
                text = json.dumps(container)
                knows = '"name": "git"' in text or "git-secret" in text
                assert knows == (container["name"] == "git-sync")


def test_tasks_start_as_they_do_in_the_sandbox() -> None:
    settings = charts.settings(render({}))
    shared = ("AIRFLOW__SCHEDULER__", "AIRFLOW__WORKERS__")
    expected = {name: value for name, value in ENVIRONMENT.items() if name.startswith(shared)}
    preloaded = "AIRFLOW__SCHEDULER__MP_FORKSERVER_PRELOAD"
    redshift = [name.replace("adapters.duckdb", "adapters.redshift") for name in PRELOADED]
    assert {name: settings[name] for name in expected} == {
        **expected,
        preloaded: ",".join(redshift),
    }
    for executor in ("celery", "kubernetes"):
        assert preloaded not in charts.settings(render(EXECUTORS[executor]))


def test_celery_is_set_as_where_its_workers_were_killed() -> None:
    settings = charts.settings(render(EXECUTORS["celery"]))
    extra = "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"
    redshift = CELERY[extra].replace("adapters.duckdb", "adapters.redshift")
    assert json.loads(settings[extra]) == json.loads(redshift)
    assert {**CELERY, extra: settings[extra]}.items() <= settings.items()


def test_settings_of_one_s_own_win() -> None:
    own = {"AIRFLOW__CORE__PARALLELISM": 3, "REDSHIFT_PORT": 5439, "A_SWITCH": True}
    settings = charts.settings(render({"environment": own}))
    assert settings["AIRFLOW__CORE__PARALLELISM"] == "3"
    assert (settings["REDSHIFT_PORT"], settings["A_SWITCH"]) == ("5439", "true")


def test_logs_go_to_s3_by_a_connection_that_their_reader_has_too() -> None:
    manifests = render(LOGS["logs on S3"])
    settings = charts.settings(manifests)
    assert settings["AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER"] == "s3://logs/airflow"
    assert settings["AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID"] == "aws_landing"
    [api_server] = (pod for pod in pods(manifests) if pod.component == "api-server")
    assert CONNECTIONS in api_server.main["envFrom"]


def test_each_group_of_workers_serves_its_queues() -> None:
    found = {
        pod.component: " ".join(pod.main["command"])
        for pod in pods(render(merged(EXECUTORS["celery"], MORE_CELERY)))
    }
    assert "--queues default --concurrency 8" in found["worker-default"]
    assert "--queues large,dbt --concurrency 8" in found["worker-large"]


def test_commands_exist(every_pod: list[Pod]) -> None:
    programs = Path(sys.executable).parent
    for pod in every_pod:
        asked = [c["command"] for c in pod.containers if "command" in c]
        asked += [c[p]["exec"]["command"] for c in pod.lasting for p in c if "exec" in c[p]]
        for program, *_ in asked:
            name = program.removeprefix("/opt/millrace/")
            found = [programs / name, ROOT / name, Path("/usr/bin") / name]
            assert any(os.access(path, os.X_OK) for path in found), program


def test_every_value_is_in_the_readme() -> None:
    table = (CHART / "README.md").read_text().partition("## Values\n")[2].partition("\n### ")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert {name for cell in first for name in re.findall("`([^`]+)`", cell)} == DEFAULTS.keys()


def test_versions_are_those_of_the_framework() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={OLDEST}.0-0"
    framework = tomllib.loads((ROOT / "ingestion" / "pyproject.toml").read_text())["project"]
    assert chart["appVersion"] == framework["version"]


# Wrong values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"executor": "SequentialExecutor"}, "'/executor': value must be one of 'LocalExecutor'"),
        ({"exekutor": "LocalExecutor"}, "additional properties 'exekutor' not allowed"),
        ({"scheduler": {"replicas": "two"}}, "'/scheduler/replicas': got string, want integer"),
        ({"scheduler": {"resources": {"limits": None}}}, "missing property 'limits'"),
        ({"database_url": "sqlite:////tmp/x.db"}, "'/database_url'"),
        ({"database_url": DATABASE_URL}, "Put it into the secret millrace-airflow under the key"),
        (
            merged(SOURCES["git over https"], SOURCES["nfs"]),
            "git_sync.repository and nfs.dags_server are all set, but the project comes from one",
        ),
        ({"nfs": {"dags_server": "nfs.example"}}, "nfs.dags_server and nfs.dags_path belong"),
        ({"nfs": {"logs_path": "/logs"}}, "nfs.logs_server and nfs.logs_path belong together"),
        (merged(LOGS["logs on NFS"], LOGS["logs on the host"]), "logs are in one place"),
        ({"local_test": {"project_path": "/mnt"}}, "local_test.enabled is false"),
        ({"target": "dev"}, "target dev is DuckDB: one file on one disk"),
        (merged(DUCKDB, EXECUTORS["kubernetes"]), "target dev is DuckDB"),
        (merged(DUCKDB, {"scheduler": {"replicas": 2}}), "target dev is DuckDB"),
        (merged(DUCKDB, {"target": "redshift"}), "warehouse_path is for DuckDB, and the target is"),
        ({"executor": "CeleryExecutor"}, "needs a broker, and secrets.broker is not set"),
        (
            merged(EXECUTORS["celery"], {"celery": {"workers": [WORKERS[1]]}}),
            "No group of celery.workers serves the queue `default`",
        ),
        ({"celery": {"flower": {"enabled": True}}}, "shows the workers of the CeleryExecutor"),
        (
            merged(EXECUTORS["kubernetes"], {"kubernetes": {"queues": {"default": None}}}),
            "kubernetes.queues has no `default`",
        ),
        ({"ingress": {"enabled": True}}, "ingress.host is not set: logins go over TLS only"),
        ({"ingress": {"enabled": True, "host": "a.example"}}, "ingress.tls_secret is not set"),
        ({"environment": {"AIRFLOW_CONN_MYSQL_PROD": "mysql://"}}, "looks like a secret"),
        ({"environment": {"MILLRACE_PII_SALT": "x"}}, "secret millrace-connections"),
        ({"environment": {"a b": "x"}}, "'a b' does not match pattern"),
        ({"remote_logs": {"url": "file:///logs"}}, "'/remote_logs/url'"),
        ({"git_sync": {"repository": "git@git.example:nps"}}, "'/git_sync/repository'"),
    ],
)
def test_wrong_values_are_refused_with_what_to_do(values: dict[str, Any], said: str) -> None:
    message = refusal(values)
    assert said in message
    if "→" in message:
        assert len(message) < 500, "more than the message itself"


def test_what_makes_the_manifest_writes_nothing_into_the_project(tmp_path: Path) -> None:
    """In a pod it is read-only."""
    shutil.copytree(
        ROOT / "dbt_project",
        tmp_path / "project" / "dbt_project",
        ignore=shutil.ignore_patterns("target", "logs"),
    )
    shutil.copy(ROOT / "profiles.yml", tmp_path / "project")
    before = sorted(tmp_path.rglob("*"))
    manifests = render(EXECUTORS["kubernetes"])
    [command] = {
        tuple(c["command"]) for p in pods(manifests) for c in p.containers if c["name"] == "parse"
    }
    settings = charts.settings(manifests)
    environment = {name: settings[name] for name in ("DBT_LOG_PATH", "TARGET")} | {
        "DBT_PROJECT_DIR": str(tmp_path / "project" / "dbt_project"),
        "DBT_PROFILES_DIR": str(tmp_path / "project"),
        "DBT_TARGET_PATH": str(tmp_path / "target"),
        # The image's own.
        "DBT_LOG_LEVEL_FILE": "none",
        "DO_NOT_TRACK": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    subprocess.run(command, env={**os.environ, **environment}, cwd=tmp_path, check=True)
    target = tmp_path / "target"
    assert load_catalog(target / "manifest.json").tables
    after = [found for found in tmp_path.rglob("*") if target not in (found, *found.parents)]
    assert sorted(after) == before
