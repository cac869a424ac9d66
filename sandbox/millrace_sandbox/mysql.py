"""Private MySQL servers, in place of the production one: what MariaDB and MySQL have in common.

MariaDB is Debian's package. The real MySQL is unpacked from Debian's next release by
``scripts/fetch_mysql``, and runs with the libraries that came with it.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import MySQLdb

from millrace_sandbox.processes import LOOPBACK, SandboxError, Service
from millrace_sandbox.project import project_root
from redshift_standin.files import write_private
from redshift_standin.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from millrace_sandbox.paths import SandboxPaths

PREFERRED_PORT = 13306
START_TIMEOUT = 60
SYSTEM_SCHEMAS = ("information_schema", "mysql", "performance_schema", "sys")
# LOCK TABLES lets several connections read one table as of the same moment.
READER_RIGHTS = "SELECT, LOCK TABLES"


@dataclass(frozen=True)
class MySQLServer:
    """Where a MySQL server listens and who may come in.

    Attributes:
        admin_user: May do everything; fills the sample data.
        reader_user: What the pipeline connects as; may only read, and see who is connected.
    """

    host: str
    port: int
    admin_user: str
    admin_password: str = field(repr=False)
    reader_user: str
    reader_password: str = field(repr=False)

    @property
    def reader(self) -> str:
        """The reader's account, as SQL names it."""
        return f"'{self.reader_user}'@'{LOOPBACK}'"

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


class MySQLService(ABC):
    """Starts and stops a server on a data folder of the sandbox.

    Args:
        paths: The sandbox.
        port: The preferred port, used when it is free; 0 means any.
        buffer_pool_mb: InnoDB's cache, MB.
    """

    title: ClassVar[str]
    name: ClassVar[str]

    def __init__(
        self, paths: SandboxPaths, port: int = PREFERRED_PORT, buffer_pool_mb: int = 128
    ) -> None:
        self._paths = paths
        self._preferred_port = port
        self._buffer_pool_mb = buffer_pool_mb
        self._service = Service(self.name, paths)
        self._folder = paths.root / self.name
        self._data = self._folder / "data"
        self._server_file = self._folder / "server.json"
        self._accounts_sql = self._folder / "accounts.sql"

    @property
    def server(self) -> MySQLServer:
        """The address and the accounts of the server as last started.

        Raises:
            SandboxError: It was never started.
        """
        try:
            return MySQLServer(**json.loads(self._server_file.read_text()))
        except (FileNotFoundError, TypeError):  # or a file of another version
            raise SandboxError(
                f"{self.title} was never started in this sandbox. Start it."
            ) from None

    @property
    def status(self) -> str:
        """Whether and where the server runs, in one line for a person."""
        if not self.is_running():
            return "stopped"
        return f"running on {self.server.host}:{self.server.port}, pid {self._service.pid}"

    @property
    def pid(self) -> int | None:
        """The server's process, None when it does not run."""
        return self._service.pid

    def is_running(self) -> bool:
        """Whether the server process is alive."""
        return self._service.is_running()

    def start(self) -> MySQLServer:
        """Start the server, making its data folder first if need be, and wait until it answers.

        Does nothing when it runs already.

        Raises:
            SandboxError: The server is not installed, or does not come up.
        """
        if self.is_running():
            return self.server
        self._paths.create()
        self._folder.mkdir(mode=0o700, exist_ok=True)
        program = self._program()
        if not self._data.exists():
            self._install()
        server = self._prepare_server()
        self._service.start([*program, "--no-defaults", *self._options(server.port)])
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

    def run_client(self, statements: Sequence[str] = ()) -> int:
        """Run the command-line client as the administrator, on this process's terminal and pipes.

        Afterwards the reader account may read every schema.

        Args:
            statements: What to run; default: the client reads statements from its input.

        Returns:
            Its exit status.

        Raises:
            SandboxError: The client is not installed.
        """
        run = ["-e", ";\n".join(statements)] if statements else []
        done = subprocess.run([*self._client(), *run], check=False)
        self.let_reader_in()
        return done.returncode

    def run_file(self, file: Path) -> None:
        """Run a file of SQL as the administrator; afterwards the reader may read every schema.

        Raises:
            SandboxError: The client is not installed, or the server refuses a statement.
        """
        with file.open("rb") as statements:
            done = subprocess.run(
                self._client(), stdin=statements, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise SandboxError(f"{self.title} refuses {file}:\n{done.stderr.strip()}")
        self.let_reader_in()

    def _client(self) -> list[str]:
        client = shutil.which("mariadb") or shutil.which("mysql")
        if client is None:
            raise SandboxError(
                "The client of MariaDB or MySQL is not installed. Run: apt-get install "
                "mariadb-client-core"
            )
        return [client, f"--defaults-file={self._write_client_file()}"]

    def let_reader_in(self) -> None:
        """Let the reader's account read every schema but the server's own."""
        with self.server.admin_cursor() as cursor:
            cursor.execute("SELECT schema_name FROM information_schema.schemata")
            for (schema,) in cursor.fetchall():
                if schema not in SYSTEM_SCHEMAS:
                    cursor.execute(f"GRANT {READER_RIGHTS} ON `{schema}`.* TO {self.server.reader}")

    def _write_client_file(self) -> Path:
        """Write the client's option file: a list of processes would show a password argument."""
        server = self.server
        file = self._folder / "client.cnf"
        write_private(
            file,
            f"[client]\nhost={server.host}\nport={server.port}\nprotocol=tcp\n"
            f"user={server.admin_user}\npassword={server.admin_password}\n",
        )
        return file

    @abstractmethod
    def _program(self) -> list[str]:
        """The server's command.

        Raises:
            SandboxError: it is not installed.
        """

    @abstractmethod
    def _installer(self, draft: Path) -> list[str]:
        """The command that makes a data folder."""

    def _own_options(self) -> list[str]:
        """The options that only this kind of server knows."""
        return []

    def _install(self) -> None:
        # Renamed once it is complete, so that an interrupted installation is not taken for one.
        draft = self._data.with_name("data.new")
        shutil.rmtree(draft, ignore_errors=True)
        command = self._installer(draft)
        installed = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(self._make_temporary_folder())},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if installed.returncode:
            raise SandboxError(
                f"{self.title} cannot make its data folder {draft}:\n"
                f"{installed.stdout}{installed.stderr}"
            )
        draft.rename(self._data)

    def _make_temporary_folder(self) -> Path:
        """Make the folder for the server's temporary files.

        In /tmp the start of another server would remove them: their names are the same.
        """
        folder = self._folder / "tmp"
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder

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
        reader = server.reader
        write_private(
            self._accounts_sql,
            f"CREATE USER IF NOT EXISTS {admin};\n"
            f"ALTER USER {admin} IDENTIFIED BY '{server.admin_password}';\n"
            f"GRANT ALL PRIVILEGES ON *.* TO {admin} WITH GRANT OPTION;\n"
            f"CREATE USER IF NOT EXISTS {reader};\n"
            f"ALTER USER {reader} IDENTIFIED BY '{server.reader_password}';\n"
            f"GRANT {READER_RIGHTS} ON prod.* TO {reader};\n"
            # PROCESS shows which transactions are open, so that no batch overtakes one.
            f"GRANT PROCESS ON *.* TO {reader};\n",
        )
        return server

    def _options(self, port: int) -> list[str]:
        return [
            f"--datadir={self._data}",
            f"--tmpdir={self._make_temporary_folder()}",
            f"--init-file={self._accounts_sql}",
            *run_as(),
            f"--bind-address={LOOPBACK}",
            f"--port={port}",
            # Relative to the data folder: a socket's path may have 107 bytes at most.
            f"--socket={self.name}.sock",
            f"--pid-file={self.name}.pid",
            "--skip-name-resolve",
            "--local-infile=1",
            "--secure-file-priv=",
            "--character-set-server=utf8mb4",
            "--default-time-zone=+00:00",
            "--skip-log-bin",
            # A power cut may lose the data, which can be made again; a killed server must not.
            "--innodb-flush-log-at-trx-commit=2",
            "--innodb-doublewrite=0",
            f"--innodb-buffer-pool-size={self._buffer_pool_mb}M",
            *self._own_options(),
        ]


class MySQL(MySQLService):
    """A real MySQL; see ``MySQLService``. It has no TLS, like many servers in a VPC."""

    title = "MySQL"
    name = "mysql"

    def _program(self) -> list[str]:
        # mysqld runs with the loader and libraries that came with it: the system's are older.
        programs = _programs()
        loaders = [*programs.glob("usr/lib*/ld-linux-*"), *programs.glob("usr/lib/*/ld-linux-*")]
        libraries = [str(folder) for folder in programs.glob("usr/lib/*-linux-gnu*")]
        if not loaders:
            raise SandboxError(
                f"MySQL is not in {programs}. Run Millrace's scripts/fetch_mysql {programs}, or "
                "use MariaDB: SOURCE=mariadb"
            )
        server = programs / "usr" / "sbin" / "mysqld"
        return [str(loaders[0]), "--library-path", ":".join(libraries), str(server)]

    def _installer(self, draft: Path) -> list[str]:
        return [
            *self._program(),
            *("--no-defaults", "--initialize-insecure", f"--datadir={draft}"),
            *self._places(),
            *run_as(),
        ]

    def _own_options(self) -> list[str]:
        return [*self._places(), "--mysqlx=OFF", "--log-error-verbosity=2"]

    def _places(self) -> list[str]:
        return [
            f"--basedir={_programs() / 'usr'}",
            f"--lc-messages-dir={_programs() / 'usr' / 'share' / 'mysql'}",
            "--auto-generate-certs=OFF",
        ]


def _programs() -> Path:
    """Where ``scripts/fetch_mysql`` unpacked MySQL: 300 MB, shared by the project's sandboxes."""
    return project_root() / ".sandbox" / "programs" / "mysql"


def run_as() -> list[str]:
    """The option that lets a server run as root, where this process does.

    The sandbox's folders then belong to root, and both servers refuse root without the option.
    """
    return ["--user=root"] if os.geteuid() == 0 else []


def _answers(server: MySQLServer) -> bool:
    try:
        connection = server.connect_as_admin(connect_timeout=5)
    except MySQLdb.OperationalError:
        return False
    with closing(connection):
        return True
