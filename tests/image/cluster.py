"""Podman in the place of a Kubernetes cluster: it runs the pods that the manifests describe.

A pod is played as helm has rendered it, but for what podman 4.3 lacks:

- Deployments, Jobs and Services: the pod of their template is played, under the Service's name.
- Restarts: podman would also start an init container again that has done its work. So nothing is.
- Ports: podman would publish them on this machine, at the same numbers.
- Annotations of more than 63 characters. It gets one of its own instead, by which it lets an init
  container end before the next container starts.
- Probes: podman would ask for curl, and for systemd; ``Cluster.wait`` asks as the manifest says.
- What a kubelet gives to a pod with a service account: a token, and where Kubernetes's API is.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from millrace_sandbox.processes import poll
from tests.charts import NAME, NAMESPACE, Manifest, of_kind
from tests.image.kubernetes_api import KubernetesApi, Pod
from tests.image.podman import Podman

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

    Attributes:
        api: Kubernetes's API, for the pods that talk to it.
        ran: The pods that it was asked for.
    """

    def __init__(self, podman: Podman, network: str, folder: Path, release: list[Manifest]) -> None:
        self._podman = podman
        self._network = network
        self._folder = folder
        self._release = release
        self._played: dict[str, Path] = {}
        self._configs: set[str] = set()
        self.api: KubernetesApi | None = None
        self.ran: list[Pod] = []

    def migrate(self) -> None:
        """Run the job that comes before all else."""
        [job] = of_kind(self._release, "Job")
        name = job["metadata"]["name"]
        self._play(name, job["spec"]["template"])
        assert self._result(name, "migration") == 0, self.log(name, "migration")

    def start(self, *components: str) -> None:
        """Start a pod of each of these Deployments, all at once."""
        with ThreadPoolExecutor() as threads:
            list(threads.map(self._start, components))

    def wait(self, *components: str) -> None:
        """Wait until the probes of these components have passed."""
        for component in components:
            [container] = self._deployment(component)["spec"]["template"]["spec"]["containers"]
            probes: dict[str, Mapping[str, Any]] = {}
            for kind in ("startup", "readiness", "liveness"):
                if probe := container.get(f"{kind}Probe"):
                    # What asks the same is asked once.
                    probes.setdefault(json.dumps(_check(probe)), probe)
            for probe in probes.values():
                if not poll(
                    partial(self._passes, component, container, probe), _patience(probe), 1
                ):
                    said = self.log(f"{NAME}-{component}", container["name"])
                    pytest.fail(f"{component} does not pass {_check(probe)}:\n{said}")

    def run(self, pod: Pod) -> None:
        """Run a pod that Kubernetes's API was asked for, to its end, and tell how it ended."""
        assert self.api
        self.ran.append(pod)
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
        # A task's pod may still be coming.
        for file in reversed(list(self._played.values())):
            self._podman.tried("kube", "down", file)
        for config in self._configs:
            self._podman.tried("volume", "rm", config)

    def _deployment(self, component: str) -> Manifest:
        [found] = (
            manifest
            for manifest in of_kind(self._release, "Deployment")
            if manifest["metadata"]["name"] == f"{NAME}-{component}"
        )
        return found

    def _start(self, component: str) -> None:
        self._play(f"{NAME}-{component}", self._deployment(component)["spec"]["template"])

    def _play(self, name: str, template: Mapping[str, Any]) -> None:
        pod = copy.deepcopy({"apiVersion": "v1", "kind": "Pod", **template})
        metadata, spec = pod["metadata"], pod["spec"]
        metadata |= {"name": name, "annotations": _INIT}
        spec["restartPolicy"] = "Never"
        configs = of_kind(self._release, "ConfigMap")
        if spec["automountServiceAccountToken"]:
            configs = [*configs, self._give_account(spec)]
        for container in spec["containers"]:
            for unknown in ("ports", "startupProbe", "readinessProbe", "livenessProbe"):
                container.pop(unknown, None)
        self._configs |= {config["metadata"]["name"] for config in configs}
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

    def _passes(
        self, component: str, container: Mapping[str, Any], probe: Mapping[str, Any]
    ) -> bool:
        timeout = probe["timeoutSeconds"]
        if "exec" in probe:
            # As in a cluster, what takes too long is ended.
            command = ("timeout", str(timeout), *probe["exec"]["command"])
            name = f"{NAME}-{component}-{container['name']}"
            return self._podman.tried("exec", name, *command, timeout=2 * timeout).returncode == 0
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


def _check(probe: Mapping[str, Any]) -> Any:
    """What a probe asks."""
    return probe.get("exec") or probe["httpGet"]


def _patience(probe: Mapping[str, Any]) -> int:
    """For how many seconds a probe may fail; Kubernetes's own default is three times."""
    return int(probe["periodSeconds"] * probe.get("failureThreshold", 3))


def _config(name: str, files: Mapping[str, str]) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": dict(files),
    }
