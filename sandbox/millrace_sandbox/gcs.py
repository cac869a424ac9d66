"""A Google Cloud Storage in the background; see ``gcs_server`` for what it takes."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from millrace_sandbox.processes import LOOPBACK, SandboxError, Service
from redshift_standin.files import write_private
from redshift_standin.ports import free_ports
from sheets_standin.accounts import new_key

if TYPE_CHECKING:
    from millrace_sandbox.paths import SandboxPaths

PREFERRED_PORT = 19070
START_TIMEOUT = 60
_EMAIL = "landing@standin.invalid"


@dataclass(frozen=True)
class GCSEndpoint:
    """Where it listens, and what opens it.

    Attributes:
        url: The XML API.
        keyfile: The key of the service account, as Google's JSON file has it.
    """

    url: str
    keyfile: dict[str, str]

    def airflow_connection(self) -> dict[str, object]:
        """The connection of the service account, as Airflow keeps one; it holds a secret."""
        return {
            "conn_type": "google_cloud_platform",
            "extra": {"keyfile_dict": json.dumps(self.keyfile), "endpoint_url": self.url},
        }


class GCS:
    """The server on a folder of the sandbox.

    Args:
        paths: The sandbox.
        port: The preferred port, used when it is free; 0 means any.
    """

    def __init__(self, paths: SandboxPaths, port: int = PREFERRED_PORT) -> None:
        self._paths = paths
        self._preferred_port = port
        self._service = Service("gcs", paths)
        self.folder = paths.root / "gcs"
        self._endpoint_file = self.folder / "endpoint.json"

    @property
    def endpoint(self) -> GCSEndpoint:
        """Where it listens, as last started.

        Raises:
            SandboxError: It was never started.
        """
        try:
            return GCSEndpoint(**json.loads(self._endpoint_file.read_text()))
        except (FileNotFoundError, TypeError):  # or a file of another version
            raise SandboxError("Google Cloud Storage was never started in this sandbox.") from None

    @property
    def status(self) -> str:
        """Whether and where it runs, in one line for a person."""
        if not self.is_running():
            return "stopped"
        return f"running on {self.endpoint.url}, pid {self._service.pid}"

    def is_running(self) -> bool:
        """Whether its process is alive."""
        return self._service.is_running()

    def start(self) -> GCSEndpoint:
        """Start it and wait until it answers; does nothing when it runs already.

        Raises:
            SandboxError: It does not come up.
        """
        if self.is_running():
            return self.endpoint
        self._paths.create()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        (port,) = free_ports([self._preferred_port])
        url = f"http://{LOOPBACK}:{port}"
        endpoint = GCSEndpoint(url, self._key() | {"token_uri": f"{url}/token"})
        write_private(self._endpoint_file, json.dumps(asdict(endpoint), indent=2) + "\n")
        write_private(self.folder / "key.json", json.dumps(endpoint.keyfile) + "\n")
        command = [sys.executable, "-m", "millrace_sandbox.gcs_server", str(self.folder), str(port)]
        try:
            self._service.start(command, cwd=self.folder)
            self._service.wait_until(
                lambda: _answers(endpoint), START_TIMEOUT, f"answered on port {port}"
            )
        except SandboxError:
            self.stop()
            raise
        return endpoint

    def stop(self) -> None:
        """Stop it and wait until it is gone; does nothing when it does not run."""
        self._service.stop()

    def create_bucket(self, name: str) -> Path:
        """Make a bucket, unless it is there.

        Returns:
            The folder that its objects are files of, which the BigQuery emulator reads, too.
        """
        folder = buckets(self._paths) / name
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def _key(self) -> dict[str, str]:
        """The key that was made the first time."""
        with suppress(SandboxError):
            return self.endpoint.keyfile
        return new_key(_EMAIL, "")


def buckets(paths: SandboxPaths) -> Path:
    """The folder of the buckets."""
    return paths.root / "gcs" / "buckets"


def _answers(endpoint: GCSEndpoint) -> bool:
    with suppress(httpx.TransportError):
        # Without a token it refuses.
        return httpx.get(f"{endpoint.url}/any", timeout=5).status_code == 401
    return False
