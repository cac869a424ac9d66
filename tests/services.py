"""The services that tests run on: their own, or those that somebody keeps running for many runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from millrace_sandbox.bigquery import BigQuery
from millrace_sandbox.gcs import GCS
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.postgres import Postgres
from redshift_standin import RedshiftServer
from redshift_standin.certificates import CA_FILE, SERVER_FILE, make_certificates
from redshift_standin.s3 import S3Server
from sheets_standin import GoogleSheetsServer

SHARED = "MILLRACE_TEST_SERVICES"
"""The environment variable that names the folder of services which run already."""


class Server(Protocol):
    """What starts and stops."""

    def start(self) -> object: ...

    def stop(self) -> None: ...


ServerT = TypeVar("ServerT", bound=Server)


def shared_folder() -> Path | None:
    """The folder of the services that run already; None: each run starts its own."""
    named = os.environ.get(SHARED)
    return Path(named) if named else None


@contextmanager
def running(server: ServerT) -> Iterator[ServerT]:
    """Run a server for a block, unless it runs already, for others too."""
    if shared_folder():
        yield server
        return
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def shared_services(folder: Path) -> Iterator[dict[str, str]]:
    """Run all services in a folder for a block.

    Yields:
        The environment variable by which test runs find them.
    """
    paths = SandboxPaths(folder)
    with ExitStack() as stack:
        for make in (mariadb, postgres, s3, gcs, redshift, bigquery, google_sheets):
            server: Server = make(paths)
            stack.callback(server.stop)
            server.start()
        yield {SHARED: str(folder)}


def mariadb(paths: SandboxPaths) -> MariaDB:
    """MariaDB, on any free port."""
    return MariaDB(paths, port=0)


def postgres(paths: SandboxPaths) -> Postgres:
    """PostgreSQL with TLS, on any free port."""
    authority = postgres_authority(paths)
    if not (authority / CA_FILE).exists():
        authority.mkdir(mode=0o700, parents=True)
        make_certificates(authority)
    both = str(authority / SERVER_FILE)
    settings = {"ssl": "on", "ssl_cert_file": both, "ssl_key_file": both}
    settings |= {"max_prepared_transactions": "4"}
    return Postgres("postgres", paths, paths.root / "postgres", settings)


def postgres_authority(paths: SandboxPaths) -> Path:
    """The folder with the authority of PostgreSQL's certificate."""
    return paths.root / "postgres_authority"


def s3(paths: SandboxPaths) -> S3Server:
    """The S3 server, on any free ports."""
    return S3Server(paths.s3, port=0)


def gcs(paths: SandboxPaths) -> GCS:
    """Google Cloud Storage's stand-in, on any free port."""
    return GCS(paths, port=0)


def redshift(paths: SandboxPaths) -> RedshiftServer:
    """The Redshift stand-in beside the S3 server, which was started before."""
    return RedshiftServer(paths.root / "redshift", s3(paths).endpoint)


def bigquery(paths: SandboxPaths) -> BigQuery:
    """The BigQuery emulator, on any free ports."""
    return BigQuery(paths, port=0)


def google_sheets(paths: SandboxPaths) -> GoogleSheetsServer:
    """The stand-in for the Google Sheets API."""
    return GoogleSheetsServer(paths.root / "google_sheets")
