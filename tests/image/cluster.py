"""Podman in the place of a Kubernetes cluster: it runs the pods that the chart's manifests describe.

A pod is played as helm has rendered it, but for what podman 4.3 lacks:

- Deployments, Jobs and Services: the pod of their template is played, under the Service's name.
- Ports: podman would publish them on this machine, at the same numbers.
- Init containers that a later container waits for: an annotation of podman's own makes them so.
- Probes: podman would ask for curl, and for systemd; ``Cluster.wait`` asks as the manifest says.
- What a kubelet gives to a pod with a service account: a token, and where Kubernetes's API is.
"""

from __future__ import annotations

import base64
import copy
import json
import logging
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from millrace_sandbox.processes import poll
from tests.charts import NAME, NAMESPACE, Manifest, of_kind, settings
from tests.image.kubernetes_api import KubernetesApi, Pod
from tests.image.podman import Podman

log = logging.getLogger(__name__)

_INIT = {"io.podman.annotations.init.container.type": "always"}
_ACCOUNT = "service-account"
_ACCOUNT_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"


class Cluster:
    """The pods of a release.

    Args:
        podman: The podman that has the images.
        network: The podman network of the pods.
        folder: For the files that podman is given.
        release: What helm has rendered.
    """

    def __init__(
        self, podman: Podman, network: str, folder: Path, release: list[Manifest]
    ) -> None:
        self._podman = podman
        self._network = network
        self._folder = folder
        self._release = release
        self._played: dict[str, Path] = {}
        self.api: KubernetesApi | None = None

    def migrate(self) -> None:
        """Run the job that comes before all else."""
        [job] = of_kind(self._release, "Job")
        name = job["metadata"]["name"]
        self._play(name, job["spec"]["template"])
        assert self._result(name, "migration") == 0, self.log(name, "migration")

    def start(self, *components: str) -> None:
        """Start a pod of each of these Deployments."""
        for component in components:
            self._play(f"{NAME}-{component}", self._deployment(component)["spec"]["template"])

    def wait(self, *components: str) -> None:
        """Wait until the probes of these components have passed."""
        for component in components:
            [container] = self._deployment(component)["spec"]["template"]["spec"]["containers"]
            startup = container["startupProbe"]
            patience = startup["periodSeconds"] * startup["failureThreshold"]
            if not poll(partial(self._passes, component, container, "startup"), patience, 1):
                pytest.fail(f"{component} does not start:\n{self.log(f'{NAME}-{component}', component)}")
            for kind in ("readiness", "liveness"):
                if f"{kind}Probe" in container:
                    assert self._passes(component, container, kind), (component, kind)

    def run(self, pod: Pod) -> None:
        """Run a pod that Kubernetes's API was asked for, to its end, and tell how it ended."""
        assert self.api
        name = pod["metadata"]["name"]
        result = -1
        try:
            self._play(name, pod)
            self.api.set_phase(name, "Running")
            result = self._result(name, "base")
        finally:
            self.api.set_phase(name, "Failed" if result else "Succeeded")

    def address(self, component: str) -> str:
        """The address of a component's pod."""
        pod = ("pod", "inspect", f"{NAME}-{component}", "--format", "{{.InfraContainerID}}")
        query = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self._podman("inspect", "--format", query, self._podman(*pod).strip()).strip()

    def log(self, pod: str, container: str) -> str:
        """The end of a container's output."""
        done = self._podman.tried("logs", "--tail", "80", f"{pod}-{container}")
        return done.stdout + done.stderr

    def stop(self) -> None:
        """Remove all pods, and what podman keeps of their ConfigMaps."""
        for file in reversed(self._played.values()):
            self._podman.tried("kube", "down", file)
        for config in [*of_kind(self._release, "ConfigMap"), _config(_ACCOUNT, {})]:
            self._podman.tried("volume", "rm", config["metadata"]["name"])

    def _deployment(self, component: str) -> Manifest:
        [found] = (
            manifest
            for manifest in of_kind(self._release, "Deployment")
            if manifest["metadata"]["name"] == f"{NAME}-{component}"
        )
        return found

    def _play(self, name: str, template: Mapping[str, Any]) -> None:
        pod = copy.deepcopy({"apiVersion": "v1", "kind": "Pod", **template})
        metadata, spec = pod["metadata"], pod["spec"]
        metadata |= {"name": name, "annotations": {**metadata.get("annotations", {}), **_INIT}}
        configs = of_kind(self._release, "ConfigMap")
        if spec["automountServiceAccountToken"]:
            configs = [*configs, self._give_account(spec)]
        for container in spec["containers"]:
            for unknown in ("ports", "startupProbe", "readinessProbe", "livenessProbe"):
                container.pop(unknown, None)
        file = self._played[name] = self._folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump_all([*configs, pod]))
        network = f"{self._network}:alias={name}"
        self._podman("kube", "play", "--network", network, file, timeout=300)

    def _give_account(self, spec: dict[str, Any]) -> Manifest:
        """Do what a kubelet does; returns the ConfigMap with the files."""
        assert self.api
        account = spec["serviceAccountName"]
        spec["volumes"].append({"name": _ACCOUNT, "configMap": {"name": f"{account}-{_ACCOUNT}"}})
        address = {"HOST": self.api.address, "PORT": str(self.api.port)}
        for container in spec["containers"]:
            mount = {"name": _ACCOUNT, "mountPath": _ACCOUNT_FOLDER, "readOnly": True}
            container["volumeMounts"].append(mount)
            container["env"] += [
                {"name": f"KUBERNETES_SERVICE_{part}", "value": value}
                for part, value in address.items()
            ]
        files = {"token": self.api.token(account), "namespace": NAMESPACE}
        files["ca.crt"] = self.api.certificate.read_text()
        return _config(f"{account}-{_ACCOUNT}", files)

    def _result(self, pod: str, container: str) -> int:
        return int(self._podman("wait", f"{pod}-{container}", timeout=600))

    def _passes(self, component: str, container: Mapping[str, Any], kind: str) -> bool:
        probe = container[f"{kind}Probe"]
        timeout = probe["timeoutSeconds"]
        if "exec" in probe:
            command = probe["exec"]["command"]
            name = f"{NAME}-{component}-{container['name']}"
            try:
                return self._podman.tried("exec", name, *command, timeout=timeout).returncode == 0
            except subprocess.TimeoutExpired:
                return False
        asked = probe["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        url = f"http://{self.address(component)}:{ports[asked['port']]}{asked['path']}"
        try:
            return httpx.get(url, timeout=timeout, trust_env=False).is_success
        except httpx.HTTPError:
            return False


def add_secret(podman: Podman, folder: Path, name: str, values: Mapping[str, str]) -> None:
    """Make a Secret; podman 4.3 cannot read those that it makes of a manifest itself."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    (folder / name).write_text(json.dumps(data))
    podman.tried("secret", "rm", name)
    podman("secret", "create", name, folder / name)


def gateway(podman: Podman, network: str) -> str:
    """The address by which pods reach what runs on this machine."""
    [found] = json.loads(podman("network", "inspect", network))
    return str(found["subnets"][0]["gateway"])


def _config(name: str, files: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": dict(files),
    }
