"""A private PostgreSQL: its programs, its data folder, its server."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from millrace_sandbox.paths import write_private
from millrace_sandbox.processes import LOOPBACK, SandboxError, Service, free_port

if TYPE_CHECKING:
    from collections.abc import Mapping

    from millrace_sandbox.paths import SandboxPaths

START_TIMEOUT = 60
SUPERUSER = "millrace"
# The data can be made again, so a power cut may cost it; a killed server may not.
SETTINGS = {
    "unix_socket_directories": "",
    "timezone": "UTC",
    "max_connections": "200",
    "synchronous_commit": "off",
    "fsync": "off",
    "full_page_writes": "off",
    "jit": "off",
}


def find_programs() -> Path:
    """The folder of ``postgres`` and ``initdb``; of several versions the newest.

    Raises:
        SandboxError: PostgreSQL is not installed.
    """
    # Debian keeps each major version in a folder of its own, which is on nobody's PATH.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name)
    on_path = shutil.which("postgres")
    candidates = [*reversed(folders), *([Path(on_path).parent] if on_path else [])]
    for folder in candidates:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise SandboxError("PostgreSQL is not installed. Run: apt-get install postgresql")


def unprivileged_account() -> pwd.struct_passwd:
    """Who runs PostgreSQL where the sandbox runs as root.

    Raises:
        SandboxError: there is nobody.
    """
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise SandboxError("PostgreSQL refuses to run as root. Make an account called postgres.")


def run_as() -> list[str]:
    """What runs a program as somebody whom PostgreSQL accepts.

    PostgreSQL refuses root, and the sandbox's folders are root's alone: the capability lets the
    other account through them.
    """
    if os.geteuid() != 0:
        return []
    account = unprivileged_account()
    return [
        "setpriv",
        f"--reuid={account.pw_uid}",
        f"--regid={account.pw_gid}",
        "--clear-groups",
        "--inh-caps=-all,+dac_override",
        "--ambient-caps=-all,+dac_override",
        "--bounding-set=-all,+dac_override",
    ]


class Postgres:
    """A private PostgreSQL server on loopback.

    Args:
        name: Names its log and pid file.
        paths: The sandbox.
        folder: Where it keeps its data and its password.
    """

    def __init__(self, name: str, paths: SandboxPaths, folder: Path) -> None:
        self.service = Service(name, paths)
        self._folder = folder
        self._data = folder / "data"
        self._password_file = folder / "password"
        self._port_file = folder / "port"

    def start(self) -> None:
        """Start it, making its data folder first if need be, and wait until it answers.

        Raises:
            SandboxError: PostgreSQL is not installed, or does not come up.
        """
        if self.service.is_running():
            return
        programs = find_programs()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._data.exists():
            self._make_data(programs)
        self._port_file.write_text(str(free_port(0)))
        settings: Mapping[str, str] = {
            **SETTINGS,
            "listen_addresses": LOOPBACK,
            "port": self._port_file.read_text(),
        }
        options = [f"-c{name}={value}" for name, value in settings.items()]
        program = str(programs / "postgres")
        self.service.start([*run_as(), program, "-D", str(self._data), *options])
        self.service.wait_until(self._answers, START_TIMEOUT, "answered")

    def stop(self) -> None:
        """Stop it and wait until it is gone; does nothing when it does not run."""
        # On SIGTERM it would wait for its clients to leave.
        if pid := self.service.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        self.service.stop(timeout=60)

    def url(self, database: str, driver: str) -> str:
        """Where SQLAlchemy finds a database; it holds the password."""
        login = f"{SUPERUSER}:{self._password_file.read_text()}"
        return f"{driver}://{login}@{LOOPBACK}:{self._port_file.read_text()}/{database}"

    def databases(self) -> set[str]:
        """The names of the databases there are."""
        with self._connect() as connection:
            rows = connection.execute("select datname from pg_database").fetchall()
        return {str(name) for (name,) in rows}

    def create(self, database: str, template: str = "template1") -> None:
        """Make a database, as a copy of another."""
        with self._connect() as connection:
            connection.execute(f'create database "{database}" template "{template}"'.encode())

    def drop(self, database: str) -> None:
        """Remove a database, whoever is connected to it."""
        with self._connect() as connection:
            connection.execute(f'drop database if exists "{database}" with (force)'.encode())

    def _make_data(self, programs: Path) -> None:
        # Renamed when it is whole, so an interrupted start is not taken for one.
        draft = self._data.with_name("data.new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        write_private(self._password_file, secrets.token_urlsafe(24))
        if os.geteuid() == 0:
            account = unprivileged_account()
            os.chown(draft, account.pw_uid, account.pw_gid)
        made = subprocess.run(
            [
                *(*run_as(), str(programs / "initdb"), f"--pgdata={draft}"),
                *(f"--username={SUPERUSER}", f"--pwfile={self._password_file}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise SandboxError(f"initdb failed in {draft}:\n{made.stdout}{made.stderr}")
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
