"""The two stand-ins as services: started by their own commands, in the background."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from millrace_sandbox.processes import Service
from redshift_standin import RedshiftEndpoint, server
from redshift_standin.supervisor import Options
from sheets_standin import SheetsEndpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from millrace_sandbox.paths import SandboxPaths
    from redshift_standin import S3Endpoint

START_TIMEOUT = 120
STOP_TIMEOUT = 60


class _Endpoint(Protocol):
    @classmethod
    def read(cls, folder: Path) -> Self: ...

    @classmethod
    def is_ready(cls, folder: Path, pid: int | None) -> bool: ...


Endpoint = TypeVar("Endpoint", bound=_Endpoint)


class _StandIn(ABC, Generic[Endpoint]):
    """A stand-in on a folder of the sandbox.

    Args:
        name: Names its folder, its log and its pid file.
        paths: The sandbox.
        endpoint: The kind of endpoint that it writes into its folder.
    """

    def __init__(self, name: str, paths: SandboxPaths, endpoint: type[Endpoint]) -> None:
        self.folder = paths.root / name
        self._paths = paths
        self._kind = endpoint
        self._service = Service(name, paths)

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens.

        Raises:
            StandinError: It does not run.
        """
        return self._kind.read(self.folder)

    @property
    @abstractmethod
    def address(self) -> str:
        """Where it listens, for a person."""

    @property
    def status(self) -> str:
        """Whether and where it runs, in one line for a person."""
        if not self.is_running():
            return "stopped"
        return f"running on {self.address}, pid {self._service.pid}"

    def is_running(self) -> bool:
        """Whether its process is alive."""
        return self._service.is_running()

    def stop(self) -> None:
        """Stop it and wait until it is gone; does nothing when it does not run."""
        self._service.stop(STOP_TIMEOUT)

    def _start(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> Endpoint:
        """Start it and wait until it answers; does nothing when it runs already.

        Raises:
            SandboxError: It does not come up; carries the end of its log.
        """
        if not self.is_running():
            self._paths.create()
            try:
                self._service.start(command, env)
                self._service.wait_until(
                    lambda: self._kind.is_ready(self.folder, self._service.pid),
                    START_TIMEOUT,
                    "was ready",
                )
            except BaseException:
                self.stop()
                raise
        return self.endpoint


class Redshift(_StandIn[RedshiftEndpoint]):
    """The Redshift stand-in.

    Args:
        paths: The sandbox.
        s3: The S3 server that COPY reads and UNLOAD writes; None for SQL alone.
        port: Where it listens, 0 means any free port; default: 15439, or another where that is
            taken.
    """

    def __init__(
        self, paths: SandboxPaths, s3: S3Endpoint | None = None, port: int | None = None
    ) -> None:
        super().__init__("redshift", paths, RedshiftEndpoint)
        self._options = Options(self.folder, port, s3)

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.endpoint.host}:{self.endpoint.port}"

    def start(self) -> RedshiftEndpoint:
        """Start it and wait until it answers; does nothing when it runs already.

        Raises:
            SandboxError: PostgreSQL is missing, or it does not come up; carries its log's end.
        """
        return self._start(server.command(self._options), server.environment(self._options))

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


class GoogleSheets(_StandIn[SheetsEndpoint]):
    """The Google Sheets stand-in.

    Args:
        paths: The sandbox.
        port: Where it listens, 0 means any free port; default: 18080, or another where that is
            taken.
    """

    def __init__(self, paths: SandboxPaths, port: int | None = None) -> None:
        super().__init__("google_sheets", paths, SheetsEndpoint)
        self._port = port

    @property
    def address(self) -> str:
        """The URL, for a browser too."""
        return self.endpoint.url

    def start(self) -> SheetsEndpoint:
        """Start it and wait until it answers; does nothing when it runs already.

        Raises:
            SandboxError: It does not come up; carries the end of its log.
        """
        command = [sys.executable, "-m", "sheets_standin", "serve", "--folder", str(self.folder)]
        port = [] if self._port is None else ["--port", str(self._port)]
        return self._start([*command, *port])
