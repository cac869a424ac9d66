"""A private Redis in the background, for Celery."""

from __future__ import annotations

import secrets
import shutil
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from millrace_sandbox.processes import LOOPBACK, SandboxError, Service
from redshift_standin.files import write_private
from redshift_standin.ports import free_port

if TYPE_CHECKING:
    from millrace_sandbox.paths import SandboxPaths

START_TIMEOUT = 30


class Redis:
    """A private Redis server that keeps what it holds, behind a password of its own.

    Its port and its password stay the same for as long as its folder is there, so that its clients
    find it again after a restart.

    Args:
        paths: The sandbox.
        host: The address that it listens on, and no other.
    """

    def __init__(self, paths: SandboxPaths, host: str = LOOPBACK) -> None:
        self._service = Service("redis", paths)
        self._paths = paths
        self._host = host
        self._folder = paths.root / "redis"
        self._data = self._folder / "data"
        self._password_file = self._folder / "password"
        self._port_file = self._folder / "port"

    @property
    def url(self) -> str:
        """The URL of its first database; it holds the password."""
        password = self._password_file.read_text()
        return f"redis://:{password}@{self._host}:{self._port_file.read_text()}/0"

    def start(self) -> None:
        """Start it, and wait until it has read what it held before.

        Raises:
            SandboxError: Redis is not installed, or does not come up.
        """
        program = shutil.which("redis-server")
        if program is None:
            raise SandboxError("redis-server is not installed. Run: scripts/setup celery")
        self._paths.create()
        self._data.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._port_file.exists():
            write_private(self._password_file, secrets.token_urlsafe(24))
            self._port_file.write_text(str(free_port(0)))
        # In a file: a list of processes would show a password argument.
        settings = self._folder / "redis.conf"
        write_private(settings, self._settings())
        self._service.start([program, str(settings)])
        self._service.wait_until(self._answers, START_TIMEOUT, "answered")

    def stop(self) -> None:
        """Stop it and wait until it is gone; does nothing when it does not run."""
        self._service.stop()

    def forget(self) -> None:
        """Delete what it holds, as a restart does where nothing is persistent. It must not run."""
        shutil.rmtree(self._data)

    def _settings(self) -> str:
        return "\n".join(
            [
                f"bind {self._host}",
                f"port {self._port_file.read_text()}",
                f"requirepass {self._password_file.read_text()}",
                f'dir "{self._data}"',
                # Each message is on the disk before its sender is answered, or a second later.
                "appendonly yes",
                "appendfsync everysec",
                # A snapshot too would say the same twice.
                'save ""',
                # What is full must refuse a message, and never drop one.
                "maxmemory-policy noeviction",
                "",
            ]
        )

    def _answers(self) -> bool:
        address = self._host, int(self._port_file.read_text())
        with suppress(OSError), socket.create_connection(address, timeout=1) as connection:
            connection.sendall(f"AUTH {self._password_file.read_text()}\r\nPING\r\n".encode())
            # It refuses while it still reads its file.
            return connection.makefile("rb").read(len(b"+OK\r\n+PONG")) == b"+OK\r\n+PONG"
        return False
