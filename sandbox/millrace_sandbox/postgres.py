"""A private PostgreSQL in the background: for Airflow, and for tests to read from."""

from __future__ import annotations

import os
import secrets
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg

from millrace_sandbox.processes import Service
from redshift_standin import postgres
from redshift_standin.files import write_private
from redshift_standin.ports import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from millrace_sandbox.paths import SandboxPaths

START_TIMEOUT = 60
SUPERUSER = "millrace"
INITDB_OPTIONS = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8")


class Postgres:
    """A private PostgreSQL server on loopback.

    Args:
        name: Names its log and pid file.
        paths: The sandbox.
        folder: Where it keeps its data and its password.
        settings: Changes to the server's settings.
    """

    def __init__(
        self,
        name: str,
        paths: SandboxPaths,
        folder: Path,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.service = Service(name, paths)
        self._folder = folder
        self._settings = settings
        self._data = folder / "data"
        self._password_file = folder / "password"
        self._port_file = folder / "port"

    def start(self) -> None:
        """Start it, making its data folder first if need be, and wait until it answers.

        Raises:
            StandinError: PostgreSQL is not installed.
            SandboxError: It does not come up.
        """
        if self.service.is_running():
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._data.exists():
            self._make_data()
        port = free_port(0)
        self._port_file.write_text(str(port))
        command = postgres.command(self._data, port, self._settings)
        self.service.start([*postgres.run_as(), *command])
        self.service.wait_until(self._answers, START_TIMEOUT, "answered")

    def stop(self) -> None:
        """Stop it and wait until it is gone; does nothing when it does not run."""
        # On SIGTERM PostgreSQL would wait for its clients to leave.
        if pid := self.service.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        self.service.stop(timeout=60)

    def url(self, database: str, driver: str) -> str:
        """SQLAlchemy's URL of a database; it holds the password."""
        login = f"{SUPERUSER}:{self._password_file.read_text()}"
        return f"{driver}://{login}@{LOOPBACK}:{self._port_file.read_text()}/{database}"

    def databases(self) -> set[str]:
        """The names of the existing databases."""
        with self._connect() as connection:
            rows = connection.execute("select datname from pg_database").fetchall()
        return {str(name) for (name,) in rows}

    def create(self, database: str, template: str = "template1") -> None:
        """Make a database, as a copy of another."""
        with self._connect() as connection:
            connection.execute(f'create database "{database}" template "{template}"'.encode())

    def drop(self, database: str) -> None:
        """Drop a database, even while clients are connected to it."""
        with self._connect() as connection:
            connection.execute(f'drop database if exists "{database}" with (force)'.encode())

    def _make_data(self) -> None:
        # Renamed once it is complete, so that a half-made folder is not taken for one.
        draft = self._data.with_name("data.new")
        write_private(self._password_file, secrets.token_urlsafe(24))
        postgres.make_data(draft, SUPERUSER, self._password_file.read_text(), *INITDB_OPTIONS)
        draft.rename(self._data)

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        url = self.url("postgres", "postgresql")
        return psycopg.connect(url, autocommit=True, connect_timeout=5)

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True
