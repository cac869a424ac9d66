"""A private MariaDB server, standing in for the production MySQL."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import MySQLdb

from sandbox.paths import write_private
from sandbox.processes import LOOPBACK, SandboxError, Service, free_port

if TYPE_CHECKING:
    from sandbox.paths import SandboxPaths

PREFERRED_PORT = 13306
START_TIMEOUT = 60


@dataclass(frozen=True)
class MySQLServer:
    """Where a MySQL server listens and who may come in.

    Attributes:
        admin_user: May do everything; fills the sample data.
        reader_user: What the pipeline connects as; may only read `prod`.
    """

    host: str
    port: int
    admin_user: str
    admin_password: str = field(repr=False)
    reader_user: str
    reader_password: str = field(repr=False)

    def admin_uri(self, database: str = "prod") -> str:
        """The admin account as an Airflow connection URI."""
        return self._uri(self.admin_user, self.admin_password, database)

    def reader_uri(self, database: str = "prod") -> str:
        """The reader account as an Airflow connection URI."""
        return self._uri(self.reader_user, self.reader_password, database)

    def connect_as_admin(self, **options: Any) -> Any:
        """Connect with the admin account; the options are mysqlclient's."""
        return self._connect(self.admin_user, self.admin_password, options)

    def connect_as_reader(self, **options: Any) -> Any:
        """Connect with the reader account; the options are mysqlclient's."""
        return self._connect(self.reader_user, self.reader_password, options)

    @contextmanager
    def admin_cursor(self, **options: Any) -> Iterator[Any]:
        """A cursor of the admin account that commits every statement."""
        connection = self.connect_as_admin(autocommit=True, **options)
        with closing(connection), closing(connection.cursor()) as cursor:
            yield cursor

    def _connect(self, user: str, password: str, options: Mapping[str, Any]) -> Any:
        return MySQLdb.connect(
            host=self.host, port=self.port, user=user, passwd=password, **options
        )

    def _uri(self, user: str, password: str, database: str) -> str:
        return f"mysql://{user}:{password}@{self.host}:{self.port}/{database}"


class MariaDB:
    """Starts and stops MariaDB on a data folder of the sandbox.

    Args:
        paths: The sandbox.
        port: The port wished for; another is taken when it is not free, 0 means any.
        buffer_pool_mb: InnoDB's cache, MB.
    """

    def __init__(
        self, paths: SandboxPaths, port: int = PREFERRED_PORT, buffer_pool_mb: int = 128
    ) -> None:
        self._paths = paths
        self._preferred_port = port
        self._buffer_pool_mb = buffer_pool_mb
        self._service = Service("mariadb", paths)
        self._data = paths.mariadb / "data"
        self._server_file = paths.mariadb / "server.json"
        self._accounts_sql = paths.mariadb / "accounts.sql"

    @property
    def server(self) -> MySQLServer:
        """The address and the accounts of the server as last started.

        Raises:
            SandboxError: It was never started.
        """
        try:
            return MySQLServer(**json.loads(self._server_file.read_text()))
        except FileNotFoundError:
            raise SandboxError("MariaDB was never started in this sandbox. Start it.") from None

    @property
    def status(self) -> str:
        """One line for a person."""
        if not self.is_running():
            return "stopped"
        return f"running on {self.server.host}:{self.server.port}, pid {self._service.pid}"

    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._service.is_running()

    def start(self) -> MySQLServer:
        """Start the server, making its data folder first if need be, and wait until it answers.

        Does nothing when it runs already.

        Raises:
            SandboxError: The Debian package is missing, or the server does not come up.
        """
        if self.is_running():
            return self.server
        self._paths.create()
        mariadbd = _find_program("mariadbd")
        if not self._data.exists():
            self._install()
        server = self._prepare_server()
        self._service.start([mariadbd, "--no-defaults", *self._options(server.port)])
        try:
            self._service.wait_until(
                lambda: _answers(server), START_TIMEOUT, f"answered on port {server.port}"
            )
        except SandboxError:
            self.stop()
            raise
        return server

    def stop(self) -> None:
        """Stop the server and wait until it is gone; does nothing when it does not run."""
        self._service.stop(timeout=60)

    def _install(self) -> None:
        # Renamed when it is whole, so an interrupted installation is not taken for one.
        draft = self._data.with_name("data.new")
        shutil.rmtree(draft, ignore_errors=True)
        command = [
            _find_program("mariadb-install-db"),
            "--no-defaults",
            f"--datadir={draft}",
            "--auth-root-authentication-method=socket",
            "--skip-test-db",
            "--skip-name-resolve",
            *_run_as(),
        ]
        installed = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if installed.returncode:
            raise SandboxError(
                f"mariadb-install-db failed in {draft}:\n{installed.stdout}{installed.stderr}"
            )
        draft.rename(self._data)

    def _prepare_server(self) -> MySQLServer:
        """Choose the port, and keep the passwords made the first time."""
        try:
            server = self.server
        except SandboxError:
            server = MySQLServer(
                host=LOOPBACK,
                port=self._preferred_port,
                admin_user="millrace_admin",
                admin_password=secrets.token_urlsafe(24),
                reader_user="millrace_reader",
                reader_password=secrets.token_urlsafe(24),
            )
        server = replace(server, port=free_port(self._preferred_port))
        write_private(self._server_file, json.dumps(asdict(server), indent=2) + "\n")
        admin = f"'{server.admin_user}'@'{LOOPBACK}'"
        reader = f"'{server.reader_user}'@'{LOOPBACK}'"
        write_private(
            self._accounts_sql,
            f"CREATE USER IF NOT EXISTS {admin};\n"
            f"ALTER USER {admin} IDENTIFIED BY '{server.admin_password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO {admin} WITH GRANT OPTION;\n"
            f"CREATE USER IF NOT EXISTS {reader};\n"
            f"ALTER USER {reader} IDENTIFIED BY '{server.reader_password}';\n"
            # LOCK TABLES: several connections that read one table see it as of one moment.
            f"GRANT SELECT, LOCK TABLES ON prod.* TO {reader};\n",
        )
        return server

    def _options(self, port: int) -> list[str]:
        return [
            f"--datadir={self._data}",
            f"--init-file={self._accounts_sql}",
            *_run_as(),
            f"--bind-address={LOOPBACK}",
            f"--port={port}",
            # Relative to the data folder: a socket's path may have 107 bytes at most.
            "--socket=mariadb.sock",
            "--pid-file=mariadb.pid",
            "--skip-name-resolve",
            "--local-infile=1",
            "--secure-file-priv=",
            "--character-set-server=utf8mb4",
            "--default-time-zone=+00:00",
            "--skip-log-bin",
            # The data can be made again, so a power cut may cost it; a killed server may not.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-doublewrite=0",
            f"--innodb-buffer-pool-size={self._buffer_pool_mb}M",
        ]


def _find_program(name: str) -> str:
    # Where Debian puts servers is not on every user's PATH.
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")
    if program is None:
        raise SandboxError(f"{name} is not installed. Run: apt-get install mariadb-server")
    return program


def _run_as() -> list[str]:
    # mariadbd refuses root unless told so; the sandbox's folders are root's then.
    return ["--user=root"] if os.geteuid() == 0 else []


def _answers(server: MySQLServer) -> bool:
    try:
        connection = server.connect_as_admin(connect_timeout=5)
    except MySQLdb.OperationalError:
        return False
    with closing(connection):
        return True
