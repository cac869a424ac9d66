"""A Google Cloud Storage in the background; see ``gcs_server`` for what it takes."""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from millrace_sandbox.emulators import Emulator
from millrace_sandbox.processes import LOOPBACK, SandboxError
from redshift_standin.files import write_private
from redshift_standin.ports import free_ports
from sheets_standin.accounts import new_key

if TYPE_CHECKING:
    from millrace_sandbox.paths import SandboxPaths

PREFERRED_PORT = 19070
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


class GCS(Emulator[GCSEndpoint]):
    """The server on a folder of the sandbox; see ``Emulator``."""

    title = "Google Cloud Storage"
    name = "gcs"

    def __init__(self, paths: SandboxPaths, port: int = PREFERRED_PORT) -> None:
        super().__init__(paths, port)

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
        self._keep(endpoint)
        write_private(self.folder / "key.json", json.dumps(endpoint.keyfile) + "\n")
        command = [sys.executable, "-m", "millrace_sandbox.gcs_server", str(self.folder), str(port)]
        return self._start(command, endpoint)

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

    def _kind(self) -> type[GCSEndpoint]:
        return GCSEndpoint

    def _answers(self, endpoint: GCSEndpoint) -> bool:
        with suppress(httpx.TransportError):
            # Without a token it refuses.
            return httpx.get(f"{endpoint.url}/any", timeout=5).status_code == 401
        return False


def buckets(paths: SandboxPaths) -> Path:
    """The folder of the buckets."""
    return paths.root / "gcs" / "buckets"
