"""The server: a PostgreSQL of its own as a child, and the proxy before it in this process."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from redshift_standin import postgres
from redshift_standin.certificates import CA_FILE, SERVER_FILE, make_certificates
from redshift_standin.children import Child
from redshift_standin.endpoint import ENDPOINT_FILE, RedshiftEndpoint
from redshift_standin.errors import StandinError
from redshift_standin.files import lock, make_folder, write_private
from redshift_standin.ports import LOOPBACK, free_ports
from redshift_standin.proxy import Proxy, ProxyConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from redshift_standin.s3_endpoint import S3Endpoint

PREFERRED_PORT = 15439
START_TIMEOUT = 60
STOP_TIMEOUT = 60
CHECK_SECONDS = 0.5
# The bucket in the stand-in's own S3 server.
BUCKET = "redshift"
DATABASE = "dev"
ADMIN = "awsuser"
# Redshift's own internal superuser.
SUPERUSER = "rdsdb"
IAM_ROLE = "arn:aws:iam::123456789012:role/redshift-standin"
# Installed in this order when the data folder is made.
SQL_FILES = ("bootstrap.sql", "catalog.sql")
# As in Redshift: passwords are kept as md5, texts compare as bytes.
INITDB_OPTIONS = ("--auth=md5", "--encoding=UTF8", "--lc-collate=C", "--lc-ctype=C.UTF-8")
SETTINGS = {
    "password_encryption": "md5",
    "shared_buffers": "128MB",
    # For making the index behind a sort key.
    "maintenance_work_mem": "256MB",
    "max_wal_size": "4GB",
    "log_min_error_statement": "panic",
    "log_statement": "none",
}


@dataclass(frozen=True)
class Options:
    """What a server is started with.

    Attributes:
        folder: Where it keeps everything; made if it is missing.
        port: Where it listens, 0 means any free port; None means 15439, or another where that
            is taken.
        s3: The S3 server that COPY reads and UNLOAD writes; None for SQL alone, or with
            `own_s3`.
        iam_roles: The roles attached to the cluster; the first is its default.
        tls: Offer TLS, with a certificate made for this start; clients need not use it.
        parent: The process with which the server ends; default: none.
        own_s3: Run an S3 server too; needs the extra ``s3``.
    """

    folder: Path
    port: int | None = None
    s3: S3Endpoint | None = None
    iam_roles: tuple[str, ...] = (IAM_ROLE,)
    tls: bool = False
    parent: int | None = None
    own_s3: bool = False


def serve(options: Options, announce: Callable[[RedshiftEndpoint], None]) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent ends.

    Args:
        options: What is served.
        announce: Called once clients can connect.

    Raises:
        StandinError: It does not come up, or PostgreSQL ends by itself.
    """
    make_folder(options.folder)
    with lock(options.folder) as held, _own_s3(options) as own_s3:
        # A server that was killed may have left it behind.
        (options.folder / ENDPOINT_FILE).unlink(missing_ok=True)
        server = _Server(options, own_s3, keeps=held.fileno())
        try:
            server.start()
            asyncio.run(server.serve(announce))
        finally:
            server.stop()


@contextmanager
def _own_s3(options: Options) -> Iterator[S3Endpoint | None]:
    if not options.own_s3:
        yield None
        return
    # Imported here: it needs the extra.
    from redshift_standin.s3 import S3Server

    with S3Server(options.folder / "s3") as server:
        server.create_bucket(BUCKET)
        yield server.endpoint


class _Server:
    """The PostgreSQL and the proxy of one start.

    Args:
        options: What is served.
        own_s3: The stand-in's own S3 server.
        keeps: The open file that locks the folder: it stays locked while PostgreSQL runs.
    """

    def __init__(self, options: Options, own_s3: S3Endpoint | None, keeps: int) -> None:
        self._options = options
        self._own_s3 = own_s3
        self._folder = options.folder
        self._data = self._folder / "data"
        self._version_file = self._folder / "version"
        self._postgres = Child(
            "PostgreSQL",
            self._folder / "postgres.log",
            through=postgres.run_as(),
            # On SIGTERM PostgreSQL would wait for its clients to leave.
            stop_signal=signal.SIGINT,
            keeps=[keeps],
        )
        self._endpoint = self._prepare_endpoint()

    def start(self) -> None:
        """Start PostgreSQL, making its data folder first if need be."""
        if not self._data.exists():
            self._install()
        elif not self._version_file.exists() or self._version_file.read_text() != _version():
            raise StandinError(
                f"The tables in {self._folder} were made by another version of the Redshift "
                "stand-in. Remove that folder to start anew, without them."
            )
        self._start_postgres(self._data)

    async def serve(self, announce: Callable[[RedshiftEndpoint], None]) -> None:
        """Let clients in until a signal comes."""
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        try:
            listening = await Proxy(self._proxy_config()).listen()
        except OSError as error:
            raise StandinError(f"Port {self._endpoint.port} cannot be used: {error}") from None
        self._endpoint.write(self._folder)
        announce(self._endpoint)
        await self._wait_for_the_end(stop)
        # The sessions are cut off when the loop ends.
        listening.close()

    def stop(self) -> None:
        """End PostgreSQL, in good order."""
        (self._folder / ENDPOINT_FILE).unlink(missing_ok=True)
        self._postgres.stop(STOP_TIMEOUT)

    async def _wait_for_the_end(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            if not self._postgres.is_running():
                raise StandinError(f"PostgreSQL ended.{self._postgres.log_tail()}")
            if self._options.parent not in (None, os.getppid()):
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), CHECK_SECONDS)

    def _prepare_endpoint(self) -> RedshiftEndpoint:
        """Choose the ports, and keep the passwords made the first time."""
        port, postgres_port = self._choose_ports()
        passwords = self._passwords()
        if self._options.tls:
            make_certificates(self._folder)
        return RedshiftEndpoint(
            pid=os.getpid(),
            host=LOOPBACK,
            port=port,
            database=DATABASE,
            user=ADMIN,
            password=passwords[ADMIN],
            iam_role=self._options.iam_roles[0],
            postgres_port=postgres_port,
            superuser_password=passwords[SUPERUSER],
            ca_file=str(self._folder / CA_FILE) if self._options.tls else None,
            # Somebody else's keys are not ours to write down.
            s3=self._own_s3,
        )

    def _choose_ports(self) -> tuple[int, int]:
        wished = self._options.port
        port, postgres_port = free_ports([PREFERRED_PORT if wished is None else wished, 0])
        if wished and port != wished:
            raise StandinError(
                f"Port {wished} is taken. Choose another one, or 0 for any that is free: --port 0"
            )
        return port, postgres_port

    def _passwords(self) -> dict[str, str]:
        file = self._folder / "passwords.json"
        if not file.exists():
            # Redshift's passwords need capitals, small letters and digits.
            made = {name: f"Aa1{secrets.token_urlsafe(24)}" for name in (ADMIN, SUPERUSER)}
            write_private(file, json.dumps(made))
        return dict(json.loads(file.read_text(encoding="utf-8")))

    def _proxy_config(self) -> ProxyConfig:
        return ProxyConfig(
            port=self._endpoint.port,
            postgres_port=self._endpoint.postgres_port,
            database=DATABASE,
            superuser=SUPERUSER,
            superuser_password=self._endpoint.superuser_password,
            s3=self._own_s3 or self._options.s3,
            iam_roles=self._options.iam_roles,
            certificate=str(self._folder / SERVER_FILE) if self._options.tls else None,
        )

    def _install(self) -> None:
        # Renamed once it is complete, so that an interrupted installation is not taken for one.
        draft = self._data.with_name("data.new")
        postgres.make_data(draft, SUPERUSER, self._endpoint.superuser_password, *INITDB_OPTIONS)
        self._start_postgres(draft)
        self._install_sql()
        self._postgres.stop(STOP_TIMEOUT)
        self._version_file.write_text(_version())
        draft.rename(self._data)

    def _install_sql(self) -> None:
        with connect_superuser(self._endpoint, "postgres") as connection:
            connection.execute(
                f"create role {ADMIN} superuser createdb createrole login "
                f"password '{self._endpoint.password}'"
            )
            connection.execute(f"create database {DATABASE} owner {ADMIN}")
        with connect_superuser(self._endpoint, DATABASE) as connection:
            for name in SQL_FILES:
                text = Path(__file__).with_name(name).read_text(encoding="utf-8")
                try:
                    connection.execute(text.encode())
                except psycopg.Error as error:
                    raise StandinError(f"{name} cannot be installed: {error}") from error

    def _start_postgres(self, data: Path) -> None:
        port = self._endpoint.postgres_port
        self._postgres.start(postgres.command(data, port, SETTINGS))
        self._postgres.wait_until(self._answers, START_TIMEOUT, f"answered on port {port}")

    def _answers(self) -> bool:
        try:
            connect_superuser(self._endpoint, "postgres").close()
        except psycopg.OperationalError:
            return False
        return True


def connect_superuser(
    endpoint: RedshiftEndpoint, database: str = DATABASE
) -> psycopg.Connection[tuple[object, ...]]:
    """Connect to PostgreSQL itself, without the proxy."""
    return psycopg.connect(
        host=endpoint.host,
        port=endpoint.postgres_port,
        user=SUPERUSER,
        password=endpoint.superuser_password,
        dbname=database,
        autocommit=True,
        connect_timeout=5,
    )


def _version() -> str:
    """A hash of the SQL that is installed into a new database."""
    texts = (Path(__file__).with_name(name).read_bytes() for name in SQL_FILES)
    return hashlib.sha256(b"".join(texts)).hexdigest()
