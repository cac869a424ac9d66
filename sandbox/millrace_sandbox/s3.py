"""A private S3 server (SeaweedFS), standing in for the landing bucket's S3."""

from __future__ import annotations

import json
import os
import secrets
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from millrace_sandbox.paths import write_private
from millrace_sandbox.processes import LOOPBACK, SandboxError, Service, free_ports

if TYPE_CHECKING:
    from millrace_sandbox.paths import SandboxPaths

PREFERRED_PORT = 18333
START_TIMEOUT = 60
REGION = "us-east-1"

# S3 first. A gRPC port left out would be its HTTP port plus 10,000, which may not exist.
PORT_OPTIONS = [
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
]


@dataclass(frozen=True)
class S3Endpoint:
    """Where an S3 server listens and the keys to it."""

    endpoint_url: str
    access_key_id: str
    secret_access_key: str = field(repr=False)
    region: str

    def airflow_connection(self) -> dict[str, Any]:
        """The keys as an Airflow connection, but for its id."""
        return {
            "conn_type": "aws",
            "login": self.access_key_id,
            "password": self.secret_access_key,
            "extra": {"region_name": self.region, "endpoint_url": self.endpoint_url},
        }

    def client(self) -> Any:
        """A boto3 client that reports a failure at once instead of trying again."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            region_name=self.region,
            config=Config(
                retries={"total_max_attempts": 1},
                connect_timeout=5,
                read_timeout=30,
                s3={"addressing_style": "path"},
            ),
        )


class S3Server:
    """Starts and stops SeaweedFS on a data folder of the sandbox.

    Every port is on loopback. S3 itself takes signed requests only; the ports by which
    SeaweedFS's parts talk to each other know no accounts, so on a machine shared with people you
    do not trust keep nothing in it that they must not read.

    Args:
        paths: The sandbox.
        port: The S3 port wished for, the nine internal ones follow it; others are taken where
            these are not free, 0 means any.
    """

    def __init__(self, paths: SandboxPaths, port: int = PREFERRED_PORT) -> None:
        self._paths = paths
        self._preferred_port = port
        self._service = Service("s3", paths)
        self._data = paths.s3 / "data"
        self._endpoint_file = paths.s3 / "endpoint.json"
        self._identities_file = paths.s3 / "identities.json"
        self._options_file = self._data / "mini.options"

    @property
    def endpoint(self) -> S3Endpoint:
        """The address and the keys of the server as last started.

        Raises:
            SandboxError: It was never started.
        """
        try:
            return S3Endpoint(**json.loads(self._endpoint_file.read_text()))
        except FileNotFoundError:
            raise SandboxError("S3 was never started in this sandbox. Start it.") from None

    @property
    def status(self) -> str:
        """One line for a person."""
        if not self.is_running():
            return "stopped"
        return f"running on {self.endpoint.endpoint_url}, pid {self._service.pid}"

    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._service.is_running()

    def start(self) -> S3Endpoint:
        """Start the server and wait until it answers a signed request.

        Does nothing when it runs already.

        Raises:
            SandboxError: The `weed` program is missing, or the server does not come up.
        """
        if self.is_running():
            return self.endpoint
        weed = Path(sys.executable).with_name("weed")
        if not weed.exists():
            raise SandboxError(f"{weed} is missing. Run: uv sync")
        self._paths.create()
        self._data.mkdir(mode=0o700, exist_ok=True)
        endpoint = self._prepare()
        self._service.start(
            [str(weed), "mini", f"-dir={self._data}", f"-options={self._options_file}"],
            env=_environment(),
            cwd=self._data,
        )
        client = endpoint.client()
        try:
            self._service.wait_until(
                lambda: _answers(client), START_TIMEOUT, f"answered on {endpoint.endpoint_url}"
            )
        except SandboxError:
            self.stop()
            raise
        return endpoint

    def stop(self) -> None:
        """Stop the server and wait until it is gone; does nothing when it does not run."""
        # It may wait long for a client's open connection. What it has acknowledged is with the
        # operating system already, so ending it at once loses nothing.
        self._service.stop(timeout=5)
        self._remove_sockets()

    def create_bucket(self, name: str) -> None:
        """Create a bucket; one that exists is left as it is."""
        client = self.endpoint.client()
        try:
            client.create_bucket(Bucket=name)
        except client.exceptions.BucketAlreadyOwnedByYou:
            return
        except (BotoCoreError, ClientError) as error:
            raise SandboxError(f"Bucket {name!r} cannot be created: {error}") from error

    def _prepare(self) -> S3Endpoint:
        """Choose the ports, and keep the keys made the first time."""
        first = self._preferred_port
        wished = [first + offset if first else 0 for offset in range(len(PORT_OPTIONS))]
        ports = dict(zip(PORT_OPTIONS, free_ports(wished), strict=True))
        try:
            endpoint = self.endpoint
        except SandboxError:
            endpoint = S3Endpoint(
                endpoint_url="",
                access_key_id=secrets.token_hex(10).upper(),
                secret_access_key=secrets.token_urlsafe(30),
                region=REGION,
            )
        endpoint = replace(endpoint, endpoint_url=f"http://{LOOPBACK}:{ports['s3.port']}")
        write_private(self._endpoint_file, json.dumps(asdict(endpoint), indent=2) + "\n")
        identity = {
            "name": "millrace",
            "credentials": [
                {"accessKey": endpoint.access_key_id, "secretKey": endpoint.secret_access_key}
            ],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(self._identities_file, json.dumps({"identities": [identity]}, indent=2))
        options = {
            "ip": LOOPBACK,
            "ip.bind": LOOPBACK,
            **ports,
            "s3.config": self._identities_file,
            "s3.autoCreateBucket": "false",
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "webdav": "false",
            "admin.ui": "false",
            # Some of the admin server comes up without its pages too.
            "admin.password": secrets.token_urlsafe(24),
            "master.telemetry": "false",
            # Files grow as they are filled; together they may hold 100 GB.
            "master.volumeSizeLimitMB": 256,
            "volume.max": 400,
            "volume.preStopSeconds": 0,
        }
        write_private(
            self._options_file, "".join(f"{name}={value}\n" for name, value in options.items())
        )
        return endpoint

    def _remove_sockets(self) -> None:
        """Remove the sockets that SeaweedFS leaves in /tmp, named by port."""
        try:
            lines = self._options_file.read_text().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            option, _, port = line.partition("=")
            if option in PORT_OPTIONS:
                for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):  # noqa: S108
                    socket.unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    # SeaweedFS would take keys and buckets of the user's own from these.
    foreign = ("AWS_", "S3_", "WEED_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # One file for a new bucket instead of seven.
    return kept | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


def _answers(client: Any) -> bool:
    try:
        client.list_buckets()
    except (BotoCoreError, ClientError):
        return False
    return True
