"""A server in the background that keeps where it listens in a file of its folder."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

from millrace_sandbox.processes import SandboxError, Service
from redshift_standin.files import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from millrace_sandbox.paths import SandboxPaths


class _Endpoint(Protocol):
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def url(self) -> str: ...


Endpoint = TypeVar("Endpoint", bound=_Endpoint)


class Emulator(ABC, Generic[Endpoint]):
    """A server on a folder of the sandbox.

    Args:
        paths: The sandbox.
        port: The preferred port, used when it is free; 0 means any.
    """

    title: ClassVar[str]
    name: ClassVar[str]
    start_timeout: ClassVar[int] = 60

    def __init__(self, paths: SandboxPaths, port: int) -> None:
        self._paths = paths
        self._preferred_port = port
        self._service = Service(self.name, paths)
        self.folder = paths.root / self.name
        self._endpoint_file = self.folder / "endpoint.json"

    @property
    def endpoint(self) -> Endpoint:
        """Where it listens, as last started.

        Raises:
            SandboxError: It was never started.
        """
        try:
            return self._kind()(**json.loads(self._endpoint_file.read_text()))
        except (FileNotFoundError, TypeError):  # or a file of another version
            raise SandboxError(
                f"{self.title} was never started in this sandbox. Start it."
            ) from None

    @property
    def status(self) -> str:
        """Whether and where it runs, in one line for a person."""
        if not self.is_running():
            return "stopped"
        return f"running on {self.endpoint.url}, pid {self._service.pid}"

    def is_running(self) -> bool:
        """Whether its process is alive."""
        return self._service.is_running()

    def stop(self) -> None:
        """Stop it and wait until it is gone; does nothing when it does not run."""
        self._service.stop()

    @abstractmethod
    def _kind(self) -> type[Endpoint]:
        """The kind of its endpoint."""

    @abstractmethod
    def _answers(self, endpoint: Endpoint) -> bool:
        """Whether it answers."""

    def _keep(self, endpoint: Endpoint) -> None:
        """Keep where it is going to listen."""
        write_private(self._endpoint_file, json.dumps(asdict(endpoint), indent=2) + "\n")

    def _start(
        self, command: Sequence[str], endpoint: Endpoint, env: Mapping[str, str] | None = None
    ) -> Endpoint:
        """Start it and wait until it answers.

        Raises:
            SandboxError: It does not come up.
        """
        try:
            self._service.start(command, env, self.folder)
            self._service.wait_until(
                lambda: self._answers(endpoint), self.start_timeout, f"answered on {endpoint.url}"
            )
        except SandboxError:
            self.stop()
            raise
        return endpoint
