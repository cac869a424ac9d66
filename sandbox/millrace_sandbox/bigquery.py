"""A BigQuery emulator in the background.

It is somebody else's, bqemulator, in an environment of its own (``scripts/fetch_bqemulator``), and
asks nobody who they are: it listens on loopback alone.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from millrace_sandbox.emulators import Emulator
from millrace_sandbox.gcs import buckets
from millrace_sandbox.processes import LOOPBACK, SandboxError
from millrace_sandbox.project import project_root
from redshift_standin.ports import free_ports

if TYPE_CHECKING:
    from millrace_sandbox.paths import SandboxPaths

PREFERRED_PORT = 19050
START = Path(__file__).with_name("bqemulator_start.py")


@dataclass(frozen=True)
class BigQueryEndpoint:
    """Where the emulator listens.

    Attributes:
        port: The REST API.
        grpc_port: The Storage API, in clear text.
        project: The project of all that is in it; a client may name any other.
        location: Where its datasets are said to be.
    """

    port: int
    grpc_port: int
    project: str = "millrace"
    location: str = "US"

    @property
    def url(self) -> str:
        """The REST API, as a client's ``api_endpoint``."""
        return f"http://{LOOPBACK}:{self.port}"

    def environment(self) -> dict[str, str]:
        """The variables by which Google's own library and ``profiles.yml`` find it."""
        return {
            "BIGQUERY_EMULATOR_HOST": self.url,
            "BIGQUERY_PROJECT": self.project,
            "BIGQUERY_LOCATION": self.location,
        }

    def connect(self) -> Any:
        """A ``google.cloud.bigquery`` client of the project, from what dbt-bigquery installs."""
        # Imported here: it takes a second, and only who uses this warehouse needs it.
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import bigquery

        return bigquery.Client(
            self.project,
            AnonymousCredentials(),
            location=self.location,
            client_options={"api_endpoint": self.url},
        )


class BigQuery(Emulator[BigQueryEndpoint]):
    """The emulator on a folder of the sandbox, which keeps what it holds; see ``Emulator``."""

    title = "The BigQuery emulator"
    name = "bigquery"
    start_timeout = 120

    def __init__(self, paths: SandboxPaths, port: int = PREFERRED_PORT) -> None:
        super().__init__(paths, port)

    def start(self) -> BigQueryEndpoint:
        """Start it and wait until it answers; does nothing when it runs already.

        Raises:
            SandboxError: It is not installed, or does not come up.
        """
        if self.is_running():
            return self.endpoint
        python = _environment() / "bin" / "python"
        if not python.exists():
            raise SandboxError(
                f"The BigQuery emulator is not in {_environment()}. Run Millrace's "
                f"scripts/fetch_bqemulator {_environment()}"
            )
        self._paths.create()
        for folder in (self.folder, self._uploads):
            folder.mkdir(mode=0o700, exist_ok=True)
        port, grpc_port = free_ports([self._preferred_port, 0])
        endpoint = BigQueryEndpoint(port, grpc_port)
        self._keep(endpoint)
        return self._start([str(python), str(START)], endpoint, self._settings(endpoint))

    def reset(self) -> None:
        """Drop the datasets that ingestion and dbt have made. It must run."""
        with closing(self.endpoint.connect()) as client:
            for dataset in list(client.list_datasets()):
                client.delete_dataset(dataset.reference, delete_contents=True, not_found_ok=True)

    @property
    def _uploads(self) -> Path:
        return self.folder / "uploads"

    def _settings(self, endpoint: BigQueryEndpoint) -> dict[str, str]:
        return {
            **os.environ,
            # DuckDB's extensions are there.
            "HOME": str(_environment() / "home"),
            "BQEMU_REST_HOST": LOOPBACK,
            "BQEMU_REST_PORT": str(endpoint.port),
            "BQEMU_GRPC_HOST": LOOPBACK,
            "BQEMU_GRPC_PORT": str(endpoint.grpc_port),
            "BQEMU_DEFAULT_PROJECT_ID": endpoint.project,
            # In memory, its REST API would not know what SQL has made.
            "BQEMU_PERSISTENCE_MODE": "persistent",
            "BQEMU_DATA_DIR": str(self.folder / "data"),
            "BQEMU_UPLOAD_STAGING_DIR": str(self._uploads),
            # gs:// is what the server of Cloud Storage in this sandbox has.
            "BQEMU_GCS_LOCAL_ROOT": str(buckets(self._paths)),
            # It would download DuckDB's extension for Avro.
            "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false",
        }

    def _kind(self) -> type[BigQueryEndpoint]:
        return BigQueryEndpoint

    def _answers(self, endpoint: BigQueryEndpoint) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{endpoint.url}/readyz", timeout=5).is_success
        return False


def _environment() -> Path:
    """Where ``scripts/fetch_bqemulator`` installed it, for all the project's sandboxes."""
    return project_root() / ".sandbox" / "programs" / "bqemulator"
