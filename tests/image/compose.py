"""docker-compose.yaml in the hands of podman-compose.

The images of others cannot be pulled here, so ``services/`` stands in for them. Podman 4.3 knows
neither ``start_interval`` nor conditions on another container's health, so those are left to the
tests, which start the services in that order.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import pytest
import yaml
from dotenv import dotenv_values

from millrace_sandbox.airflow_api import AirflowClient, Login
from millrace_sandbox.processes import poll
from redshift_standin.ports import free_ports
from sheets_standin.admin import SheetsAdmin, TabState
from tests.image.podman import ROOT, Podman, build

SERVICES = Path(__file__).parent / "services"
# Stages of services/Dockerfile, and the images that they stand in for.
STOOD_IN = ("mysql", "nginx", "postgres", "redis", "s3")
FIRST = ("postgres", "mysql", "s3", "google-sheets")
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")


@dataclass(frozen=True)
class Compose:
    """A project of podman-compose.

    Attributes:
        folder: A copy of what docker-compose.yaml reads, with secrets of its own.
        podman: The podman that has the images.
    """

    folder: Path
    podman: Podman

    @cached_property
    def settings(self) -> dict[str, str]:
        """The variables of ``.env``."""
        return {name: value or "" for name, value in dotenv_values(self.folder / ".env").items()}

    def __call__(self, *arguments: str, profile: str | None = None, **variables: str) -> str:
        """Run podman-compose, perhaps with a profile more and other values of variables."""
        profiles = ("--profile", profile) if profile else ()
        done = subprocess.run(
            [Path(sys.executable).with_name("podman-compose"), *profiles, *arguments],
            cwd=self.folder,
            env={**self.podman.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, (arguments, done.stdout[-3000:], done.stderr[-5000:])
        return done.stdout

    def up(self, *services: str, profile: str | None = None, **variables: str) -> None:
        """Start services and nothing that they depend on.

        Otherwise podman-compose would start what runs already once more.
        """
        self("up", "--no-build", "--detach", "--no-deps", *services, profile=profile, **variables)

    def ran(self, service: str) -> None:
        """Run a job to its end."""
        self.up(service)
        [name] = self.containers(service)
        assert self.podman("wait", name, timeout=300).strip() == "0", self.log(service)

    def remove(self) -> None:
        """Remove everything: podman-compose itself would leave all but the first of several."""
        ours = "label=com.docker.compose.project=millrace"
        names = self.podman("ps", "--all", "--quiet", "--filter", ours).split()
        if names:
            self.podman("rm", "--force", "--depend", "--time", "0", *names)
        self("down", "--volumes")

    def keep(self, *services: str) -> None:
        """Remove all containers but those of some services."""
        kept = {name for service in services for name in self.containers(service)}
        ours = ("--filter", "label=com.docker.compose.project=millrace", "--format", "{{.Names}}")
        if others := set(self.podman("ps", "--all", *ours).split()) - kept:
            self.podman("rm", "--force", "--depend", "--time", "0", *others)

    def containers(self, service: str) -> list[str]:
        """The names of a service's containers."""
        found = f"label=com.docker.compose.service={service}"
        return self.podman("ps", "--all", "--filter", found, "--format", "{{.Names}}").split()

    def address(self, service: str) -> str:
        """The address of a service's container, for programs on this machine."""
        [name] = self.containers(service)
        query = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        return self.podman("inspect", "--format", query, name).strip()

    def is_well(self, service: str) -> bool:
        """Whether the health check of each container of a service passes."""
        names = self.containers(service)
        checks = [self.podman.tried("healthcheck", "run", name) for name in names]
        return bool(checks) and all(check.returncode == 0 for check in checks)

    def wait(self, *services: str) -> None:
        """Wait until services are well."""
        for service in services:
            if not poll(partial(self.is_well, service), timeout=240, interval=2):
                pytest.fail(f"{service} did not become well:\n{self.log(service)}")

    def log(self, service: str) -> str:
        """The end of a service's output."""
        [name, *_] = self.containers(service)
        done = self.podman.tried("logs", "--tail", "60", name)
        return done.stdout + done.stderr

    def airflow(self) -> AirflowClient:
        """A client of the running Airflow."""
        login = Login("admin", self.settings["AIRFLOW_ADMIN_PASSWORD"])
        return AirflowClient(f"http://127.0.0.1:{self.settings['AIRFLOW_PORT']}", login)

    def tab(self, spreadsheet: str, title: str) -> TabState:
        """A tab of the stand-in's."""
        [name] = self.containers("google-sheets")
        endpoint = json.loads(
            self.podman("exec", name, "cat", "/var/lib/google-sheets/endpoint.json")
        )
        url = f"http://127.0.0.1:{self.settings['SHEETS_PORT']}"
        return SheetsAdmin(url, endpoint["admin_token"]).tab(spreadsheet, title)


def stand_in_for_others(podman: Podman, context: Path) -> None:
    """Make images under the names of those that docker-compose.yaml pulls."""
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"].values()
    pulled = {found["image"].split("/")[-1].split(":")[0]: found["image"] for found in services}
    pulled["s3"] = pulled.pop("seaweedfs")
    shutil.copytree(SERVICES, context, dirs_exist_ok=True)
    shutil.copy(Path(sys.executable).with_name("weed"), context)
    for stage in STOOD_IN:
        image = pulled[stage]
        name = image if "/" in image else f"library/{image}"
        build(podman, context, f"docker.io/{name}", "--target", stage)


def make_project(podman: Podman, folder: Path) -> Compose:
    """A copy of what docker-compose.yaml reads, with secrets and ports of its own."""
    ports = dict(zip(("AIRFLOW", "SHEETS", "HTTP", "HTTPS"), free_ports([0] * 4), strict=True))
    text = (ROOT / "docker-compose.yaml").read_text()
    published = '["127.0.0.1:{HTTP}:80", "127.0.0.1:{HTTPS}:443"]'.format(**ports)
    for replaced, by in {
        "  start_interval: 5s\n": "",
        '["80:80", "443:443"]': published,
    }.items():
        assert replaced in text
        text = text.replace(replaced, by)
    (folder / "docker-compose.yaml").write_text(text)
    shutil.copytree(ROOT / "deploy", folder / "deploy")
    shutil.copy(ROOT / ".env.example", folder)
    subprocess.run([folder / "deploy" / "make-env"], check=True)
    with (folder / ".env").open("a") as env:
        # The last one of several counts.
        env.writelines(f"{name}_PORT={port}\n" for name, port in ports.items())
    return Compose(folder, podman)
