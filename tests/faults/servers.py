"""The servers behind the worlds: each can be killed, and is then started again on its port."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg

from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.mysql import MySQL
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import poll
from redshift_standin import RedshiftServer
from redshift_standin.ports import free_port
from redshift_standin.s3 import S3Server
from redshift_standin.supervisor import DATABASE, connect_superuser
from sheets_standin import GoogleSheetsServer
from tests.faults.disks import Disk, mounted

if TYPE_CHECKING:
    from millrace_sandbox.mysql import MySQLService

_PATIENCE = 60
_TABLESPACE = "small"


class Servers:
    """Starts each server when it is asked for first, and stops them all at the end.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._paths = SandboxPaths(folder)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    @cached_property
    def mariadb(self) -> MySQLService:
        """MariaDB."""
        return self._started(MariaDB(self._paths, port=free_port(0)))

    @cached_property
    def mysql(self) -> MySQLService:
        """MySQL; MariaDB, where MYSQL_TEST_URI names a server: that is not ours to kill."""
        if "MYSQL_TEST_URI" in os.environ:
            return self.mariadb
        return self._started(MySQL(self._paths, port=free_port(0)))

    @cached_property
    def s3(self) -> S3Server:
        """The S3 server."""
        self._paths.create()
        return self._open.enter_context(S3Server(self._paths.s3, port=free_port(0)))

    @cached_property
    def sheets(self) -> GoogleSheetsServer:
        """The Google Sheets stand-in."""
        self._paths.create()
        return self._open.enter_context(GoogleSheetsServer(self._folder / "google_sheets"))

    @cached_property
    def redshift(self) -> RedshiftServer:
        """The Redshift stand-in."""
        folder = self._folder / "redshift"
        server = RedshiftServer(folder, self.s3.endpoint, port=free_port(0))
        return self._open.enter_context(server)

    @cached_property
    def redshift_disk(self) -> Disk | None:
        """The disk of the stand-in's tables, if it could be given one of its own."""
        disk = self._open.enter_context(mounted(self._folder / "redshift_disk", 96))
        if disk is not None:
            _keep_tables_on(disk, self.redshift)
        return disk

    def _started(self, service: MySQLService) -> MySQLService:
        self._open.callback(service.stop)
        service.start()
        return service


def _keep_tables_on(disk: Disk, redshift: RedshiftServer) -> None:
    """Let the stand-in keep its tables on a disk, and all else where it was.

    With its log on a full disk, PostgreSQL would stop; Redshift refuses a statement.
    """
    folder = disk.folder / "tables"
    folder.mkdir()
    owner = (redshift.folder / "data").stat()
    os.chown(folder, owner.st_uid, owner.st_gid)
    with connect_superuser(redshift.endpoint) as connection:
        connection.execute(f"CREATE TABLESPACE {_TABLESPACE} LOCATION '{folder}'")
        for setting in ("default_tablespace", "temp_tablespaces"):
            connection.execute(f"ALTER DATABASE {DATABASE} SET {setting} = '{_TABLESPACE}'")


def kill(server: MySQLService | S3Server) -> None:
    """Kill a server, and wait until it is gone."""
    if server.pid is not None:
        os.kill(server.pid, signal.SIGKILL)
    assert poll(lambda: not server.is_running(), _PATIENCE)


def crash(redshift: RedshiftServer) -> None:
    """Kill a backend of the stand-in, by which PostgreSQL ends all the others and recovers."""
    # The connection is lost with the others.
    with suppress(psycopg.OperationalError), connect_superuser(redshift.endpoint) as connection:
        found = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert found is not None
        os.kill(int(str(found[0])), signal.SIGKILL)
        connection.execute("SELECT 1")


def await_recovery(redshift: RedshiftServer) -> None:
    """Wait until a stand-in that has crashed lets clients in."""

    def answers() -> bool:
        with suppress(psycopg.OperationalError):
            connect_superuser(redshift.endpoint).close()
            return True
        return False

    assert poll(answers, _PATIENCE)
