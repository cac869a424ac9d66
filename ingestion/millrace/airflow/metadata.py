"""Airflow's metadata database, from a task: its dump into the landing, and its clean-up.

Airflow hides the database from tasks. So these get an account by a connection of their own, and
hand it to child processes in their environment, never among their arguments.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, urlencode

from millrace.airflow.connections import airflow_connection
from millrace.connections import Connection
from millrace.errors import (
    ConnectionNotFound,
    MetadataError,
    MetadataRefused,
    MetadataUnavailable,
    NotInstalled,
)
from millrace.landing.objects import Objects, Stored

log = logging.getLogger(__name__)

CONNECTION = "airflow_metadata"
"""The connection with an account of the metadata database."""

BACKUPS = "_backups/airflow"
"""Where backups are kept below the landing."""

CLEANED = (
    *("asset_event", "callback", "celery_taskmeta", "celery_tasksetmeta"),
    *("connection_test_request", "dag_run", "dag_version", "deadline", "import_error", "job"),
    *("log", "partitioned_asset_key_log", "revoked_token", "session", "task_instance"),
    *("task_instance_history", "task_reschedule", "task_state_store", "trigger", "xcom"),
)
"""The tables that ``airflow db clean`` cleans here: all but ``dag``, as far as there are.

The rows of ``dag`` are few, and deleting a DAG that is gone deletes versions of it that task
instances may still refer to, which ends the whole command (apache/airflow#71864).
"""

_CHUNK_BYTES = 1024 * 1024
# Added to zlib's window bits, it asks for gzip's header.
_GZIP = 16
_HIDDEN = re.compile(r"SQL_ALCHEMY_CONN(_ASYNC)?(_CMD|_SECRET)?$")
_TIME = "%Y%m%dT%H%M%SZ"
_NAME = re.compile(r"(\d{8}T\d{6}Z)\.(dump|sql\.gz)")
_LAST_LINES = 5
_SERVER_IS_NEWER = re.compile(r"server version: (\S+).*?pg_dump version: (\S+)", re.DOTALL)
_REFUSALS = re.compile(
    r"authentication failed|no password supplied|permission denied|does not exist"
    r"|Access denied|Unknown database|must be owner|no pg_hba\.conf entry",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Backup:
    """A new backup.

    Attributes:
        path: The new backup, below the landing.
        size: Its size, in bytes.
        removed: The old backups that were deleted.
    """

    path: str
    size: int
    removed: tuple[str, ...]


def metadata_database() -> MetadataDatabase:
    """The metadata database, by the account that its connection has.

    Raises:
        ConnectionNotFound: there is no such connection.
        MetadataRefused: it is of no kind of database that Airflow keeps metadata in.
    """
    try:
        return database_of(airflow_connection(CONNECTION))
    except ConnectionNotFound as error:
        raise ConnectionNotFound(
            "Airflow hides its metadata database from tasks, so this one needs a connection to it: "
            f"{error.message}",
            fix=f"Make the connection '{CONNECTION}' (docs/operations.md, Backups), or leave out "
            "what needs it: maintenance_dag(…, keep=Retention(backups=None, metadata=None)).",
        ) from None


def back_up(
    database: MetadataDatabase, objects: Objects, keep: timedelta, now: datetime | None = None
) -> Backup:
    """Dump the metadata database into the landing, then delete backups that are too old.

    Args:
        database: The database.
        objects: The landing.
        keep: How long a backup is kept.
        now: The time; default: the clock's.

    Raises:
        MetadataError: it cannot be dumped; no backup is left, and no old one was deleted.
        LandingError: the landing cannot be written.
    """
    now = now or datetime.now(UTC)
    path = f"{BACKUPS}/{now:{_TIME}}.{database.suffix}"
    size = objects.put(path, database.dump())
    old = [found.path for found in objects.below(BACKUPS) if _taken_at(found) < now - keep]
    if old:
        objects.delete(old)
    return Backup(path, size, tuple(old))


def _taken_at(backup: Stored) -> datetime:
    found = _NAME.fullmatch(backup.path.rpartition("/")[2])
    # What is not ours is kept.
    if found is None:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.strptime(found[1], _TIME).replace(tzinfo=UTC)


def clean(database: MetadataDatabase, before: datetime) -> None:
    """Run ``airflow db clean`` on all tables of ``CLEANED``, and log what it says.

    The rows are deleted, not moved to other tables of the database, which would only keep growing.

    Args:
        database: The metadata database.
        before: Rows of this time and later are kept, and the last scheduled run of each DAG.

    Raises:
        MetadataError: it failed; the tables before the one that it names were cleaned.
    """
    command = [
        *(sys.executable, "-m", "airflow", "db", "clean"),
        *("--clean-before-timestamp", before.isoformat(timespec="seconds")),
        *("--tables", ",".join(CLEANED)),
        *("--skip-archive", "--yes", "--error-on-cleanup-failure"),
    ]
    with _started(command, _shown(database), stderr=subprocess.STDOUT) as process:
        said = list(_logged(process))
    if process.returncode:
        raise _explained("airflow db clean", "\n".join(said[-_LAST_LINES:]))


def _shown(database: MetadataDatabase) -> dict[str, str]:
    """The task's environment, in which the database is hidden no more."""
    shown = {name: value for name, value in os.environ.items() if not _HIDDEN.search(name)}
    return shown | {
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url,
        # Its driver need not be installed here.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": "",
    }


def _logged(process: subprocess.Popen[bytes]) -> Iterator[str]:
    for line in process.stdout or ():
        if text := line.decode(errors="replace").rstrip():
            log.info("%s", text)
            yield text


def database_of(connection: Connection) -> MetadataDatabase:
    """The database of a connection.

    Raises:
        MetadataRefused: it is of no kind of database that Airflow keeps metadata in.
    """
    if connection.conn_type in ("postgres", "postgresql"):
        return PostgreSQL(connection)
    if connection.conn_type == "mysql":
        return MySQL(connection)
    raise MetadataRefused(
        f"The connection '{connection.conn_id}' is of the type '{connection.conn_type}'.",
        fix="Airflow's metadata can be backed up from PostgreSQL (postgres://…) and MySQL "
        "(mysql://…).",
    )


@dataclass(frozen=True)
class MetadataDatabase(ABC):
    """A database that Airflow keeps its metadata in.

    Attributes:
        connection: An account that may read and delete everything in it.
        driver: SQLAlchemy's name of the driver.
        suffix: Of the names of its dumps.
    """

    connection: Connection
    driver: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def dump(self) -> Generator[bytes]:
        """A consistent dump of the database, piece by piece.

        Raises:
            MetadataError: it failed; what came before is no dump.
            NotInstalled: the program for it is not installed.
        """

    @property
    def url(self) -> str:
        """SQLAlchemy's URL; it holds the password."""
        of = self.connection
        login = f"{quote(of.login or '', safe='')}:{quote(of.password or '', safe='')}"
        host = f"{of.host}:{of.port}" if of.port else of.host
        options = f"?{urlencode(of.extra)}" if of.extra else ""
        return f"{self.driver}://{login}@{host}/{of.schema or ''}{options}"


class PostgreSQL(MetadataDatabase):
    """Dumped by pg_dump, in its custom format: compressed, and read by pg_restore."""

    driver = "postgresql+psycopg2"
    suffix = "dump"

    def dump(self) -> Generator[bytes]:
        """See ``MetadataDatabase.dump``."""
        # A migration that holds its locks is not waited for without an end.
        command = ["pg_dump", "--format=custom", "--no-password", "--lock-wait-timeout=60s"]
        return _output(command, os.environ | self._environment(), "postgresql-client")

    def _environment(self) -> dict[str, str]:
        of = self.connection
        variables = {
            "PGHOST": of.host,
            "PGPORT": of.port,
            "PGUSER": of.login,
            "PGPASSWORD": of.password,
            "PGDATABASE": of.schema,
            "PGCONNECT_TIMEOUT": 30,
            **{
                f"PG{name.upper()}": of.extra.get(name)
                for name in ("sslmode", "sslrootcert", "sslcert", "sslkey")
            },
        }
        return {name: str(value) for name, value in variables.items() if value is not None}


class MySQL(MetadataDatabase):
    """Dumped by mysqldump, or MariaDB's own, as compressed SQL."""

    driver = "mysql+mysqldb"
    suffix = "sql.gz"

    def dump(self) -> Generator[bytes]:
        """See ``MetadataDatabase.dump``."""
        packer = zlib.compressobj(wbits=zlib.MAX_WBITS | _GZIP)
        with tempfile.TemporaryDirectory(prefix="millrace-dump-") as folder:
            options = Path(folder, "client.cnf")
            options.touch(mode=0o600)
            options.write_text(self._options())
            command = [
                *(_mysqldump(), f"--defaults-file={options}"),
                *("--single-transaction", "--quick", "--no-tablespaces"),
                self.connection.schema or "",
            ]
            with closing(_output(command, os.environ, "default-mysql-client")) as chunks:
                for chunk in chunks:
                    yield packer.compress(chunk)
        yield packer.flush()

    def _options(self) -> str:
        of = self.connection
        client = {
            "host": of.host,
            "port": of.port,
            "user": of.login,
            "password": of.password,
            # Else it would take the host localhost for a socket.
            "protocol": "tcp",
            **{
                name.replace("_", "-"): of.extra.get(name)
                for name in ("ssl_ca", "ssl_cert", "ssl_key")
            },
        }
        lines = [f"{name}={_quoted(value)}" for name, value in client.items() if value is not None]
        # Else a server with GTIDs would refuse its own dump. MariaDB's program does not know it.
        return "\n".join(["[client]", *lines, "[mysqldump]", "loose-set-gtid-purged=OFF", ""])


def _mysqldump() -> str:
    return shutil.which("mysqldump") or shutil.which("mariadb-dump") or "mysqldump"


def _quoted(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _output(
    command: Sequence[str], environment: Mapping[str, str], package: str
) -> Generator[bytes]:
    """What a program writes, piece by piece; that it has failed is known only at the end."""
    with tempfile.TemporaryFile() as errors:
        with _started(command, environment, stderr=errors, package=package) as process:
            while process.stdout and (chunk := process.stdout.read(_CHUNK_BYTES)):
                yield chunk
        if process.returncode:
            errors.seek(0)
            raise _explained(Path(command[0]).name, errors.read().decode(errors="replace"))


@contextmanager
def _started(
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    stderr: object,
    package: str = "apache-airflow",
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program, and wait for its end; it is killed if the block ends early."""
    try:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,  # type: ignore[call-overload]
        )
    except FileNotFoundError:
        raise NotInstalled(
            f"The program {command[0]} is not installed where this task runs.",
            fix=f"Install it there: apt-get install {package}.",
        ) from None
    with process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


def _explained(program: str, said: str) -> MetadataError:
    """Why a program has failed, by what it says."""
    if found := _SERVER_IS_NEWER.search(said):
        server, own = found.groups()
        major = server.partition(".")[0]
        return MetadataRefused(
            f"pg_dump {own} cannot dump Airflow's metadata: its server is PostgreSQL {server}, "
            "which is newer.",
            fix=f"Install postgresql-client-{major} or later where this task runs, and see that it "
            "comes first on PATH.",
        )
    message = f"{program} failed: {said.strip()}"
    if _REFUSALS.search(said):
        return MetadataRefused(
            message, fix=f"Correct the connection '{CONNECTION}', or the rights of its user."
        )
    return MetadataUnavailable(
        message, fix=f"See whether the database of the connection '{CONNECTION}' answers."
    )
