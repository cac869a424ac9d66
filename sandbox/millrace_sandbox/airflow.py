"""A local Airflow: its four services and its private settings.

Callers drive it from outside, through the `airflow` command and the REST API (airflow_api.py):
importing Airflow takes seconds and would tie the caller to Airflow's own environment.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from millrace.airflow.settings import ENVIRONMENT
from millrace_sandbox.airflow_api import LOG_LINES, AirflowClient, Login, parse_time
from millrace_sandbox.postgres import Postgres
from millrace_sandbox.processes import LOOPBACK, SandboxError, Service, poll
from redshift_standin.files import write_private
from redshift_standin.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from millrace_sandbox.paths import SandboxPaths

logger = logging.getLogger(__name__)

PREFERRED_PORT = 8080
# Airflow's default is 32, whose idle workers alone would take a gigabyte.
PARALLELISM = 6
# The slots of a source's pool: how many connections to it are open at the same time.
SOURCE_SLOTS = 4
CONNECTION_PREFIX = "AIRFLOW_CONN_"
VARIABLE_PREFIX = "AIRFLOW_VAR_"
# The environment variable that tells the processes of one Airflow from all others.
MARK = "MILLRACE_SANDBOX_AIRFLOW"

# The log servers are skipped: they listen on every address, and all logs are on this machine.
SERVICES = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}

SETTINGS = {
    **ENVIRONMENT,
    "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
    "AIRFLOW__CORE__PARALLELISM": str(PARALLELISM),
    # The default asks the DNS, for which a laptop without a network would wait.
    "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
    "AIRFLOW__CORE__AUTH_MANAGER": (
        "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager"
    ),
    "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
    "AIRFLOW__API__HOST": LOOPBACK,
    "AIRFLOW__API__WORKERS": "1",
    "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
}


class Airflow:
    """Airflow's API server, scheduler, DAG processor and triggerer, and their PostgreSQL.

    Args:
        paths: The sandbox; AIRFLOW_HOME is its `airflow` folder.
        dags_folder: Where the DAG files are.
        env: What the DAGs need besides Airflow's own settings: connections, URLs, folders.
        inherited: The user's environment variables. They reach the DAGs, except settings of
            Airflow and what the sandbox sets itself. Default: this process's environment.
        port: Where the API server listens when that port is free; 0 means any free port.
        preparations: Commands to run when the database is there, before the services start.
    """

    def __init__(
        self,
        paths: SandboxPaths,
        dags_folder: Path,
        env: Mapping[str, str] | None = None,
        inherited: Mapping[str, str] | None = None,
        port: int = PREFERRED_PORT,
        preparations: Sequence[Sequence[str]] = (),
    ) -> None:
        self.paths = paths
        self.dags_folder = dags_folder.resolve()
        self.env = dict(env or {})
        self._inherited = dict(os.environ if inherited is None else inherited)
        self.services = {name: Service(f"airflow-{name}", paths) for name in SERVICES}
        self._home = paths.airflow
        self._preferred_port = port
        self._preparations = preparations
        version = _version_key()
        self._database = f"metadata-{version}"
        self._pristine = f"pristine-{version}"
        self._postgres = Postgres("airflow-postgres", paths, self._home / "postgres")
        self._port_file = self._home / "port"
        self._passwords_file = self._home / "passwords.json"

    @property
    def url(self) -> str:
        """The address of the UI and the REST API, as of the last start."""
        try:
            return f"http://{LOOPBACK}:{int(self._port_file.read_text())}"
        except FileNotFoundError:
            raise SandboxError(
                "Airflow has not been started in this sandbox. Start it: millrace-sandbox up"
            ) from None

    @property
    def login(self) -> Login:
        """The user and the password that was made up for this sandbox."""
        if not self._passwords_file.exists():
            self.paths.create()
            # Written here, because Airflow would print the password to its log.
            write_private(self._passwords_file, json.dumps({"admin": secrets.token_urlsafe(18)}))
        return Login("admin", json.loads(self._passwords_file.read_text())["admin"])

    def environment(self) -> dict[str, str]:
        """Everything the `airflow` command needs to act on this Airflow; it holds secrets."""
        keys = self._keys()
        loopback = ",".join(filter(None, [os.environ.get("NO_PROXY"), LOOPBACK, "localhost"]))
        return {
            **SETTINGS,
            "AIRFLOW_HOME": str(self._home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags_folder),
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self._passwords_file),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
            "AIRFLOW__CORE__FERNET_KEY": keys["fernet"],
            **self._connection(self._database),
            "AIRFLOW__API__PORT": self.url.rpartition(":")[2],
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__SECRET_KEY": keys["api"],
            # The default is in /tmp, where another user's cache may be in the way.
            "AIRFLOW__COSMOS__CACHE_DIR": str(self._home / "cosmos"),
            "AIRFLOW__API_AUTH__JWT_SECRET": keys["jwt"],
            # Tasks speak to the API server, which a proxy would not reach.
            "NO_PROXY": loopback,
            "no_proxy": loopback,
            **self.env,
        }

    @property
    def program(self) -> Path:
        """The `airflow` command.

        Raises:
            SandboxError: It is not installed.
        """
        return _command()

    def process_environment(self) -> dict[str, str]:
        """The whole environment of its processes, the user's variables included."""
        inherited = {
            name: value
            for name, value in self._inherited.items()
            # Without cached bytecode every start takes several seconds longer.
            if not _is_setting(name) and name != "PYTHONDONTWRITEBYTECODE"
        }
        path = os.pathsep.join([str(_command().parent), inherited.get("PATH", os.defpath)])
        return {**inherited, "PATH": path, MARK: str(self._home), **self.environment()}

    def start(self, timeout: float = 90) -> None:
        """Start all services, unless they run, and wait until they are healthy.

        The port may differ from the last start: it is the preferred one, or another when that is
        taken.

        Args:
            timeout: Seconds to wait at most for each service.

        Raises:
            SandboxError: A service died or did not become healthy; carries the end of its log.
        """
        if self.is_running():
            return
        self.stop()
        self.paths.create()
        self._port_file.write_text(str(free_port(self._preferred_port)))
        # Makes the passwords file before the API server looks for it.
        logger.info("Starting Airflow on %s, user %s", self.url, self.login.user)
        self._prepare_database()
        for command in self._preparations:
            self._run(command, self.process_environment())
        started_at = datetime.now(UTC)
        env = self.process_environment()
        for name, arguments in SERVICES.items():
            self.services[name].start([str(_command()), *arguments], env, cwd=self._home)
        try:
            self._wait_until_healthy(started_at, timeout)
            self._ensure_source_pools()
        except SandboxError:
            self.stop()
            raise

    def stop(self) -> None:
        """End all services and the tasks they run; does nothing when nothing is left of them."""
        others = [service for name, service in self.services.items() if name != "scheduler"]
        triggerer = self.services["triggerer"].pid
        if triggerer is not None:
            # The triggerer may take 10 s to end on one SIGTERM; the stop below sends a second.
            with suppress(ProcessLookupError):
                os.kill(triggerer, signal.SIGTERM)
        # The scheduler goes first, because its tasks report their end to the API server.
        self.services["scheduler"].stop()
        with ThreadPoolExecutor(len(others)) as pool:
            list(pool.map(Service.stop, others))
        self._kill_strays()
        self._postgres.stop()

    def is_running(self) -> bool:
        """Whether all four services are alive."""
        return all(service.is_running() for service in self.services.values())

    def reset(self) -> None:
        """Forget every run, log and setting made in the UI, keeping the login.

        Raises:
            SandboxError: Airflow runs.
        """
        if any(service.is_running() for service in self.services.values()):
            raise SandboxError(
                "Airflow runs, so it cannot be reset. Stop it first: millrace-sandbox down"
            )
        self._postgres.start()
        self._postgres.drop(self._database)
        shutil.rmtree(self._home / "logs", ignore_errors=True)

    def client(self) -> AirflowClient:
        """A logged-in client of the running Airflow."""
        return AirflowClient(self.url, self.login)

    def _ensure_source_pools(self) -> None:
        """Make a pool for each connection; only those of sources are used."""
        client = self.client()
        for name in self.process_environment():
            if name.startswith(CONNECTION_PREFIX):
                client.ensure_pool(name.removeprefix(CONNECTION_PREFIX).lower(), SOURCE_SLOTS)

    def _keys(self) -> dict[str, str]:
        file = self._home / "keys.json"
        if not file.exists():
            self.paths.create()
            keys = {
                "jwt": secrets.token_urlsafe(48),
                "api": secrets.token_urlsafe(48),
                "fernet": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            }
            write_private(file, json.dumps(keys))
        return dict(json.loads(file.read_text()))

    def _kill_strays(self) -> None:
        """Kill what tasks have started in sessions of their own, as Cosmos and BashOperator do."""

        def is_done() -> bool:
            strays = self._strays()
            for pid in strays:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not strays

        if not poll(is_done, timeout=10):
            raise SandboxError(f"Tasks of Airflow cannot be ended: pids {self._strays()} stay.")

    def _strays(self) -> list[int]:
        mark = f"{MARK}={self._home}".encode()
        pids = []
        for process in Path("/proc").glob("[0-9]*"):
            # The process may be another user's, or may just have ended.
            with suppress(PermissionError, FileNotFoundError, ProcessLookupError):
                if mark in (process / "environ").read_bytes().split(b"\0"):
                    pids.append(int(process.name))
        return pids

    def _prepare_database(self) -> None:
        """Create Airflow's database where it is missing, as an instant copy of a pristine one.

        Each set of Airflow and provider versions has a database of its own.
        """
        self._postgres.start()
        existing = self._postgres.databases()
        if self._pristine not in existing:
            self._make_pristine_database()
        if self._database not in existing:
            self._postgres.create(self._database, template=self._pristine)

    def _make_pristine_database(self) -> None:
        draft = f"{self._pristine}-draft"
        self._postgres.drop(draft)
        self._postgres.create(draft)
        logger.info("Creating Airflow's database, once")
        environment = self.process_environment() | self._connection(draft)
        self._run([str(_command()), "db", "migrate"], environment)
        self._postgres.create(self._pristine, template=draft)
        self._postgres.drop(draft)

    def _run(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        done = subprocess.run(
            command,
            env=environment,
            cwd=self._home,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            tail = "\n  ".join((done.stdout + done.stderr).splitlines()[-LOG_LINES:])
            raise SandboxError(f"`{' '.join(command)}` failed:\n  {tail}")

    def _connection(self, database: str) -> dict[str, str]:
        """The settings for a database: Airflow's services use one driver, its API another.

        The connection is for the DAG `maintenance`, because Airflow hides the settings from tasks.
        """
        return {
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self._postgres.url(
                database, "postgresql+psycopg2"
            ),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": self._postgres.url(
                database, "postgresql+asyncpg"
            ),
            "AIRFLOW_CONN_AIRFLOW_METADATA": self._postgres.url(database, "postgresql"),
        }

    def _wait_until_healthy(self, started_at: datetime, timeout: float) -> None:
        with httpx.Client(base_url=self.url, timeout=timeout, trust_env=False) as http:

            def answers(path: str) -> dict[str, Any] | None:
                try:
                    return dict(http.get(path).raise_for_status().json())
                except httpx.HTTPError:
                    return None

            def is_healthy(component: str) -> bool:
                health = (answers("/api/v2/monitor/health") or {}).get(component)
                if health is None or health["status"] != "healthy":
                    return False
                # Airflow calls a component healthy for half a minute after it was killed.
                heartbeat = parse_time(health[f"latest_{component}_heartbeat"])
                return heartbeat is not None and heartbeat >= started_at

            # Otherwise the first task would wait seconds for the execution API's first answer.
            self.services["api-server"].wait_until(
                lambda: answers("/execution/health") is not None, timeout, "answered"
            )
            for name in ("scheduler", "dag-processor", "triggerer"):
                condition = partial(is_healthy, name.replace("-", "_"))
                self.services[name].wait_until(condition, timeout, "was healthy")


def _is_setting(name: str) -> bool:
    """Whether a variable is a setting of Airflow: the user's settings are for another Airflow.

    Connections and variables (``AIRFLOW_CONN_…``, ``AIRFLOW_VAR_…``) are not: they are for DAGs.
    """
    return name.startswith("AIRFLOW") and not name.startswith((CONNECTION_PREFIX, VARIABLE_PREFIX))


def _command() -> Path:
    command = Path(sys.executable).parent / "airflow"
    if not command.exists():
        raise SandboxError(f"There is no {command}. Install the environment: uv sync")
    return command


def _version_key() -> str:
    """A name for the set of Airflow and provider versions, which decides the database's schema."""
    versions = {
        f"{distribution.name}=={distribution.version}"
        for distribution in metadata.distributions()
        if distribution.name.startswith("apache-airflow")
    }
    return hashlib.sha256("\n".join(sorted(versions)).encode()).hexdigest()[:12]
