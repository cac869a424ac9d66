"""The Helm chart as helm renders it, and the pods that its manifests describe."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "millrace"
RELEASE = "nps"
NAME = "nps-millrace"
NAMESPACE = "data"

Manifest = dict[str, Any]


@cache
def helm() -> str:
    """The program: what scripts/setup has fetched, or the one on the PATH."""
    fetched = ROOT / ".sandbox" / "programs" / "helm" / "helm"
    found = str(fetched) if fetched.exists() else shutil.which("helm")
    if found is None:
        raise FileNotFoundError("helm is missing. Fetch it: scripts/setup helm")
    return found


def run(*arguments: str, values: Mapping[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run helm with some values over the chart's own."""
    return subprocess.run(
        [helm(), *arguments, "--values", "-"],
        input=json.dumps(values),
        capture_output=True,
        text=True,
        check=False,
    )


def render(values: Mapping[str, Any]) -> list[Manifest]:
    """All manifests of a release with these values; they are not to be changed."""
    return _render(json.dumps(values, sort_keys=True))


@cache
def _render(values: str) -> list[Manifest]:
    arguments = ("template", RELEASE, str(CHART), "--namespace", NAMESPACE)
    done = run(*arguments, values=json.loads(values))
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.load_all(done.stdout, yaml.CSafeLoader) if found]


def refusal(values: Mapping[str, Any]) -> str:
    """What helm says of values that it refuses."""
    done = run("template", RELEASE, str(CHART), values=values)
    assert done.returncode != 0
    return done.stderr


@dataclass(frozen=True)
class Pod:
    """A pod, as a Deployment, a Job or a pod template describes it.

    Attributes:
        component: Which one it is: ``scheduler``, ``worker-default``, ``task`` …
        kind: Of the manifest that describes it; ``Pod`` for a pod template.
        replicas: How many there are.
        metadata: Its metadata.
        spec: Its spec.
    """

    component: str
    kind: str
    replicas: int
    metadata: dict[str, Any]
    spec: dict[str, Any]

    @property
    def labels(self) -> dict[str, str]:
        """Its labels."""
        return dict(self.metadata["labels"])

    @property
    def main(self) -> dict[str, Any]:
        """The container that it is there for."""
        [container] = self.spec["containers"]
        return dict(container)

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All containers, those that come first too."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    @property
    def lasting(self) -> list[dict[str, Any]]:
        """The containers that run as long as the pod does, if that is not bounded."""
        if self.kind != "Deployment":
            return []
        beside = self.spec.get("initContainers", [])
        return [*(c for c in beside if c.get("restartPolicy") == "Always"), self.main]


def pods(manifests: list[Manifest]) -> Iterator[Pod]:
    """All pods that these manifests describe, and those that Airflow would start."""
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "Job"):
            template = manifest["spec"]["template"]
            yield _pod(template, manifest["kind"], manifest["spec"].get("replicas", 1))
    for template in pod_templates(manifests).values():
        yield _pod(_parsed(template), "Pod", 1)


def pod_templates(manifests: list[Manifest]) -> dict[str, str]:
    """The files that the KubernetesExecutor reads, by their names."""
    for manifest in of_kind(manifests, "ConfigMap"):
        if manifest["metadata"]["name"] == f"{NAME}-pod-templates":
            return dict(manifest["data"])
    return {}


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    """The manifests of a kind."""
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def settings(manifests: list[Manifest]) -> dict[str, str]:
    """The environment that all components share."""
    [found] = (
        manifest["data"]
        for manifest in of_kind(manifests, "ConfigMap")
        if manifest["metadata"]["name"] == f"{NAME}-environment"
    )
    return dict(found)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector matches; an empty one matches everything."""
    wanted = selector.get("matchLabels", {})
    rules = selector.get("matchExpressions", [])
    assert all(rule["operator"] == "In" for rule in rules)
    return wanted.items() <= labels.items() and all(
        labels.get(rule["key"]) in rule["values"] for rule in rules
    )


@cache
def _parsed(template: str) -> Manifest:
    return dict(yaml.load(template, yaml.CSafeLoader))


def _pod(template: Mapping[str, Any], kind: str, replicas: int) -> Pod:
    metadata = template["metadata"]
    component = metadata["labels"]["app.kubernetes.io/component"]
    return Pod(component, kind, replicas, metadata, template["spec"])
