"""Starts and stops the Redshift stand-in: a private PostgreSQL and the proxy before it."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import redshift_connector

from millrace_sandbox.paths import write_private
from millrace_sandbox.postgres import find_programs, run_as, unprivileged_account
from millrace_sandbox.processes import LOOPBACK, SandboxError, Service, free_ports
from redshift_standin.certificates import CA_FILE, SERVER_FILE, make_certificates
from redshift_standin.proxy import ProxyConfig

if TYPE_CHECKING:
    from millrace_sandbox.paths import SandboxPaths
    from millrace_sandbox.s3 import S3Endpoint

PREFERRED_PORT = 15439
START_TIMEOUT = 60
DATABASE = "dev"
ADMIN = "awsuser"
# Redshift's own internal superuser.
SUPERUSER = "rdsdb"
IAM_ROLE = "arn:aws:iam::123456789012:role/millrace-redshift"
# Installed in this order when the data folder is made.
SQL_FILES = ("bootstrap.sql", "catalog.sql")


@dataclass(frozen=True)
class RedshiftEndpoint:
    """Where the stand-in listens and who may come in.

    Attributes:
        iam_role: The role that COPY and UNLOAD may name.
        postgres_port: PostgreSQL itself, without the proxy: for measuring and for a look inside.
        ca_file: What a client that verifies the server has to trust; None without TLS.
    """

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    iam_role: str
    postgres_port: int
    superuser_password: str = field(repr=False)
    ca_file: str | None = None

    def connect(self, **changes: Any) -> Any:
        """Connect without TLS; the changes are redshift_connector's arguments."""
        arguments = {
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "user": self.user,
            "password": self.password,
            "ssl": False,
        }
        return redshift_connector.connect(**arguments | changes)

    def environment(self) -> dict[str, str]:
        """What dbt and Millrace read to find it; it holds a secret."""
        return {
            "REDSHIFT_HOST": self.host,
            "REDSHIFT_PORT": str(self.port),
            "REDSHIFT_DATABASE": self.database,
            "REDSHIFT_USER": self.user,
            "DBT_ENV_SECRET_REDSHIFT_PASSWORD": self.password,
            # On loopback.
            "REDSHIFT_SSLMODE": "disable",
            "REDSHIFT_IAM_ROLE": self.iam_role,
        }

    def dbt_output(self) -> dict[str, object]:
        """A target of a dbt profile, without its schema; it holds a secret."""
        return {
            "type": "redshift",
            "method": "database",
            "sslmode": "disable",
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
        }


class RedshiftServer:
    """Starts and stops PostgreSQL on a data folder of the sandbox, and its proxy.

    Args:
        paths: The sandbox.
        s3: The S3 server that COPY reads and UNLOAD writes; None for SQL alone.
        port: The port wished for; another is taken when it is not free, 0 means any.
        iam_roles: The roles attached to the cluster; the first is its default.
        tls: Offer TLS, with a certificate made for this start; nobody has to use it.
    """

    def __init__(
        self,
        paths: SandboxPaths,
        s3: S3Endpoint | None = None,
        port: int = PREFERRED_PORT,
        iam_roles: tuple[str, ...] = (IAM_ROLE,),
        *,
        tls: bool = False,
    ) -> None:
        self._paths = paths
        self._s3 = s3
        self._preferred_port = port
        self._iam_roles = iam_roles
        self._tls = tls
        self._folder = paths.root / "redshift"
        self._data = self._folder / "data"
        self._endpoint_file = self._folder / "endpoint.json"
        self._proxy_file = self._folder / "proxy.json"
        self._version_file = self._folder / "version"
        self._postgres = Service("redshift-postgres", paths)
        self._proxy = Service("redshift", paths)

    @property
    def endpoint(self) -> RedshiftEndpoint:
        """The address and the account of the server as last started.

        Raises:
            SandboxError: It was never started.
        """
        try:
            return RedshiftEndpoint(**json.loads(self._endpoint_file.read_text()))
        except FileNotFoundError:
            raise SandboxError("Redshift was never started in this sandbox. Start it.") from None

    def reset(self) -> None:
        """Drop the schemas that ingestion and dbt have made. The server must run."""
        with closing(self.endpoint.connect()) as connection, closing(connection.cursor()) as cursor:
            connection.autocommit = True
            cursor.execute(
                "select distinct table_schema from information_schema.tables "
                "where table_schema like 'raw%' or table_schema like 'analytics%'"
            )
            for (schema,) in cursor.fetchall():
                cursor.execute(f'drop schema "{schema}" cascade')

    @property
    def status(self) -> str:
        """One line for a person."""
        if not self.is_running():
            return "stopped"
        return f"running on {self.endpoint.host}:{self.endpoint.port}, pid {self._proxy.pid}"

    def is_running(self) -> bool:
        """Whether both processes are alive."""
        return self._proxy.is_running() and self._postgres.is_running()

    def start(self) -> RedshiftEndpoint:
        """Start the server, making its data folder first if need be, and wait until it answers.

        Does nothing when it runs already.

        Raises:
            SandboxError: The Debian package is missing, or the server does not come up.
        """
        if self.is_running():
            return self.endpoint
        # One of the two may have died.
        self.stop()
        programs = find_programs()
        self._paths.create()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        endpoint = self._prepare_endpoint()
        try:
            if not self._data.exists():
                self._install(programs, endpoint)
            elif not self._version_file.exists() or self._version_file.read_text() != _version():
                raise SandboxError(
                    f"The tables in {self._folder} were made by another version of the Redshift "
                    "stand-in. Remove that folder to start anew, without them."
                )
            self._start_postgres(programs, self._data, endpoint)
            self._start_proxy(endpoint)
        except BaseException:
            self.stop()
            raise
        return endpoint

    def stop(self) -> None:
        """Stop the server and wait until it is gone; does nothing when it does not run."""
        self._proxy.stop()
        self._stop_postgres()

    def _prepare_endpoint(self) -> RedshiftEndpoint:
        """Choose the ports, and keep the passwords made the first time."""
        port, postgres_port = free_ports([self._preferred_port, 0])
        try:
            endpoint = self.endpoint
        except SandboxError:
            endpoint = RedshiftEndpoint(
                host=LOOPBACK,
                port=port,
                database=DATABASE,
                user=ADMIN,
                # Redshift wants capitals, small letters and digits.
                password=f"Aa1{secrets.token_urlsafe(24)}",
                iam_role=self._iam_roles[0],
                postgres_port=postgres_port,
                superuser_password=secrets.token_urlsafe(24),
            )
        if self._tls:
            make_certificates(self._folder)
        endpoint = replace(
            endpoint,
            port=port,
            postgres_port=postgres_port,
            iam_role=self._iam_roles[0],
            ca_file=str(self._folder / CA_FILE) if self._tls else None,
        )
        write_private(self._endpoint_file, json.dumps(asdict(endpoint), indent=2) + "\n")
        return endpoint

    def _install(self, programs: Path, endpoint: RedshiftEndpoint) -> None:
        # Renamed when it is whole, so an interrupted installation is not taken for one.
        draft = self._data.with_name("data.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password_file = draft.with_name("superuser_password")
        write_private(password_file, endpoint.superuser_password)
        if os.geteuid() == 0:
            account = unprivileged_account()
            os.chown(draft, account.pw_uid, account.pw_gid)
        command = [
            *run_as(),
            str(programs / "initdb"),
            f"--pgdata={draft}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            # Redshift's: passwords are kept as md5, texts compare as bytes.
            "--auth=md5",
            "--encoding=UTF8",
            "--lc-collate=C",
            "--lc-ctype=C.UTF-8",
            "--no-sync",
        ]
        made = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        password_file.unlink()
        if made.returncode:
            raise SandboxError(f"initdb failed in {draft}:\n{made.stdout}{made.stderr}")
        self._start_postgres(programs, draft, endpoint)
        self._install_sql(endpoint)
        self._stop_postgres()
        self._version_file.write_text(_version())
        draft.rename(self._data)

    def _install_sql(self, endpoint: RedshiftEndpoint) -> None:
        with _connect_superuser(endpoint, "postgres") as connection:
            connection.execute(
                f"create role {ADMIN} superuser createdb createrole login "
                f"password '{endpoint.password}'"
            )
            connection.execute(f"create database {DATABASE} owner {ADMIN}")
        with _connect_superuser(endpoint, DATABASE) as connection:
            for name in SQL_FILES:
                text = Path(__file__).with_name(name).read_text(encoding="utf-8")
                try:
                    connection.execute(text.encode())
                except psycopg.Error as error:
                    raise SandboxError(f"{name} cannot be installed: {error}") from error

    def _start_postgres(self, programs: Path, data: Path, endpoint: RedshiftEndpoint) -> None:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": endpoint.postgres_port,
            "unix_socket_directories": "",
            "password_encryption": "md5",
            "timezone": "UTC",
            "max_connections": 200,
            "shared_buffers": "128MB",
            # For the index behind a sort key.
            "maintenance_work_mem": "256MB",
            # The data can be made again, so a power cut may cost it; a killed server may not.
            "synchronous_commit": "off",
            "fsync": "off",
            "full_page_writes": "off",
            "max_wal_size": "4GB",
            # Redshift has neither, and their set-up costs more than they bring here.
            "jit": "off",
            "log_min_error_statement": "panic",
            "log_statement": "none",
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        self._postgres.start([*run_as(), str(programs / "postgres"), "-D", str(data), *options])
        self._postgres.wait_until(
            lambda: _postgres_answers(endpoint),
            START_TIMEOUT,
            f"answered on port {endpoint.postgres_port}",
        )

    def _stop_postgres(self) -> None:
        # On SIGTERM it would wait for its clients to leave.
        if pid := self._postgres.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        self._postgres.stop(timeout=60)

    def _start_proxy(self, endpoint: RedshiftEndpoint) -> None:
        config = ProxyConfig(
            port=endpoint.port,
            postgres_port=endpoint.postgres_port,
            database=DATABASE,
            superuser=SUPERUSER,
            superuser_password=endpoint.superuser_password,
            s3=self._s3,
            iam_roles=self._iam_roles,
            certificate=str(self._folder / SERVER_FILE) if self._tls else None,
        )
        write_private(self._proxy_file, config.to_json())
        self._proxy.start([sys.executable, "-m", "redshift_standin.proxy", str(self._proxy_file)])
        self._proxy.wait_until(
            lambda: _listens(endpoint.port), START_TIMEOUT, f"answered on port {endpoint.port}"
        )


def _version() -> str:
    """What tells one catalog from another: what is installed into a new database."""
    texts = (Path(__file__).with_name(name).read_bytes() for name in SQL_FILES)
    return hashlib.sha256(b"".join(texts)).hexdigest()


def _connect_superuser(
    endpoint: RedshiftEndpoint, database: str
) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=LOOPBACK,
        port=endpoint.postgres_port,
        user=SUPERUSER,
        password=endpoint.superuser_password,
        dbname=database,
        autocommit=True,
        connect_timeout=5,
    )


def _postgres_answers(endpoint: RedshiftEndpoint) -> bool:
    try:
        _connect_superuser(endpoint, "postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOOPBACK, port), timeout=5).close()
    except OSError:
        return False
    return True
