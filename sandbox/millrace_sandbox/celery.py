"""Airflow with Celery: tasks go through Redis to workers, here or on hosts of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millrace.airflow.settings import CELERY
from millrace_sandbox.processes import LOOPBACK, Service

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from millrace_sandbox.airflow import Airflow
    from millrace_sandbox.hosts import Host
    from millrace_sandbox.redis import Redis

START_TIMEOUT = 120
# For running tasks to end by themselves.
STOP_TIMEOUT = 30


def settings(redis: Redis) -> dict[str, str]:
    """The environment variables that let every component of an Airflow use Celery."""
    return {**CELERY, "AIRFLOW__CELERY__BROKER_URL": redis.url}


class Worker:
    """A Celery worker of an Airflow, with all tasks that it runs.

    Args:
        airflow: Its Airflow, which is configured for Celery and has been started.
        name: The worker's name, unique in its Airflow.
        queues: The queues that it takes tasks from.
        concurrency: How many tasks it runs at a time.
        host: The host that it runs on; default: this machine.
        head: The address of this machine, where that host reaches the services of loopback.
        env: What it needs besides, or otherwise than the other components.
    """

    def __init__(
        self,
        airflow: Airflow,
        name: str,
        queues: Sequence[str],
        concurrency: int,
        *,
        host: Host | None = None,
        head: str = LOOPBACK,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self._airflow = airflow
        self._queues = queues
        self._concurrency = concurrency
        self._head = head
        self._env = dict(env or {})
        self._service = Service(f"airflow-worker-{name}", airflow.paths)

    @property
    def pid(self) -> int | None:
        """Its process, None when it does not run."""
        return self._service.pid

    def start(self) -> None:
        """Start it, without waiting for it.

        Raises:
            SandboxError: It runs already, or cannot be started.
        """
        own = {
            name: value.replace(LOOPBACK, self._head)
            for name, value in self._airflow.process_environment().items()
        }
        self._service.start(self._command(), own | self._env, cwd=self._airflow.paths.airflow)

    def wait_until_ready(self) -> None:
        """Wait until it takes tasks.

        Raises:
            SandboxError: It died, or was not ready in time; carries the end of its log.
        """
        ready = f"celery@{self.name} ready"
        self._service.wait_until(
            lambda: ready in self._service.log.read_text(errors="replace"),
            START_TIMEOUT,
            "was ready",
        )

    def stop(self) -> None:
        """Stop it with its tasks; does nothing when it does not run."""
        self._service.stop(STOP_TIMEOUT)

    def _command(self) -> list[str]:
        command = [
            *(str(self._airflow.program), "celery", "worker"),
            *("--queues", ",".join(self._queues)),
            *("--concurrency", str(self._concurrency)),
            *("--celery-hostname", f"celery@{self.name}"),
            # Each other's state is nobody's business: it is hundreds of messages a minute.
            *("--without-gossip", "--without-mingle"),
        ]
        if self.host is None:
            # All logs are on this machine, where each worker would want the same port.
            return [*command, "--skip-serve-logs"]
        return self.host.command(command)
