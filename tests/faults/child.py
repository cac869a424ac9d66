"""One stage of the pipeline in a process of its own, stopped at any of its passages.

A passage is a place where a stage touches the outside: a statement to MySQL or the warehouse, an
object of the landing, a request to Google Sheets. The production code knows nothing of them: they
are put around the few calls by which it reaches the outside. Before and after each, the process
can be made to wait until the test has done something to the world.

What is imported here is imported once, in the process that the others are forked from.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import obstore
from dbt.adapters.duckdb.credentials import DuckDBCredentials
from dbt.adapters.redshift.connections import RedshiftCredentials
from dbt.adapters.sql.connections import SQLConnectionManager
from dbt.cli.main import dbtRunner
from dbt.contracts.project import ProfileConfig
from google.auth import _helpers as google_auth

from millrace import pipeline
from millrace.catalog.kinds import DESTINATIONS, SOURCES, WAREHOUSES
from millrace.errors import MillraceError
from millrace.google_sheets import client as google
from millrace.landing import landing
from millrace.object_store import store
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace.sources.mysql import session as mysql
from millrace.warehouses import loads
from millrace.warehouses.duckdb.warehouse import DuckDBSession
from millrace.warehouses.redshift import warehouse as redshift

if TYPE_CHECKING:
    from ctypes import c_double
    from multiprocessing.connection import Connection as Pipe

# What a stage imports when it opens a kind, or dbt its adapter.
for name in (
    "dbt.adapters.duckdb",
    "dbt.adapters.redshift",
    "millrace.destinations.google_sheets.destination",
    "millrace.sources.google_sheets.source",
    "millrace.sources.mysql.source",
):
    import_module(name)

# What a process works out once.
for schema in (ProfileConfig, DuckDBCredentials, RedshiftCredentials):
    schema.json_schema()
for kinds in (SOURCES, WAREHOUSES, DESTINATIONS):
    kinds.names()

BUILD, PUBLISH = "build", "publish"
When = Literal["before", "after"]

# Seconds of silence that are an outage here, where nothing is far away.
_SILENCE = 2


@dataclass(frozen=True)
class Strike:
    """Where a stage waits for the test.

    Attributes:
        passage: Its number, from 0.
        when: Before it or after it.
    """

    passage: int
    when: When = "before"


@dataclass(frozen=True)
class Job:
    """What a process does.

    Attributes:
        stage: A table to ingest; ``build`` or ``publish``.
        environ: The environment.
        folder: Of ``profiles.yml``, and of the process's output.
        strike: Where it waits.
        clock: How many seconds its clock is ahead; the test may change it at any moment.
        is_patient: Whether it waits for the services as long as Millrace does by itself.
    """

    stage: str
    environ: Mapping[str, str]
    folder: Path
    strike: Strike | None
    clock: c_double
    is_patient: bool


@dataclass(frozen=True)
class Outcome:
    """How a stage ended.

    Attributes:
        kind: ``done``; ``refused`` with an error of ours; ``failed`` as dbt's builds do;
            ``crashed`` with any other error.
        said: The error.
        may_pass: Whether the error says that trying again may help.
        passages: What was passed, in order.
    """

    kind: Literal["done", "refused", "failed", "crashed"]
    said: str = ""
    may_pass: bool = False
    passages: Sequence[str] = ()


STRUCK = "struck"
"""What a process says when it has reached the place where it waits."""


class BuildFailed(Exception):
    """dbt did not build everything; it has said why."""


class Passages:
    """Counts passages, and waits at one of them.

    Args:
        pipe: To the test.
        strike: Where to wait.
    """

    def __init__(self, pipe: Pipe, strike: Strike | None) -> None:
        self.labels: list[str] = []
        self._pipe = pipe
        self._strike = strike
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def at(self, label: str) -> Iterator[None]:
        """Pass, unless the test is waited for first."""
        with self._lock:
            number = len(self.labels)
            self.labels.append(label)
        self._wait(number, "before")
        yield
        self._wait(number, "after")

    def around(self, owner: Any, name: str, label: Callable[..., str]) -> None:
        """Make a passage of a function or method.

        Args:
            owner: Its module or class.
            name: Its name there.
            label: What the passage is called, of the function's arguments.
        """
        original = getattr(owner, name)

        @wraps(original)
        def passing(*args: Any, **kwargs: Any) -> Any:
            with self.at(label(*args, **kwargs)):
                return original(*args, **kwargs)

        setattr(owner, name, passing)

    def _wait(self, number: int, when: When) -> None:
        if self._strike == Strike(number, when):
            self._pipe.send(STRUCK)
            self._pipe.recv()


def run(job: Job, pipe: Pipe) -> None:
    """Do a job; what became of it goes through the pipe."""
    # Garbage is not looked for in what the process was forked with.
    gc.freeze()
    os.chdir(job.folder)
    os.environ.clear()
    os.environ.update(job.environ)
    # Where TMPDIR was before is remembered.
    tempfile.tempdir = None
    log = (job.folder / "child.log").open("a", buffering=1)
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log
    passages = Passages(pipe, job.strike)
    _put_around(passages)
    if not job.is_patient:
        _lose_patience()
    _set_clock(job.clock)
    try:
        _stage(job)
    except MillraceError as error:
        said = f"{type(error).__name__}: {error}"
        outcome = Outcome("refused", said, error.may_pass, passages.labels)
    except BuildFailed as error:
        outcome = Outcome("failed", str(error), passages=passages.labels)
    except BaseException:
        outcome = Outcome("crashed", traceback.format_exc(), passages=passages.labels)
    else:
        outcome = Outcome("done", passages=passages.labels)
    pipe.send(outcome)


def _stage(job: Job) -> None:
    if job.stage == BUILD:
        flags = ("--quiet", "--no-use-colors", "--log-path", str(job.folder / "logs"))
        where = ("--project-dir", str(job.folder / "dbt_project"), "--profiles-dir", ".")
        done = dbtRunner().invoke([*flags, "build", *where])
        if not done.success:
            raise BuildFailed(done.exception or "child.log says why")
        return
    carrier = Pipeline.find(Settings.read(os.environ))
    if job.stage == PUBLISH:
        for publication in carrier.catalog.publications:
            carrier.publish(publication, "faults")
    else:
        carrier.ingest(carrier.catalog.table(job.stage))


def _put_around(passages: Passages) -> None:
    for name in ("run", "rows", "estimated_rows", "stream"):
        passages.around(mysql.Session, name, lambda _, statement, *__: f"mysql: {_verb(statement)}")
    passages.around(mysql.Session, "read", lambda *_: "mysql: read rows")
    passages.around(obstore, "put", lambda _, path, *__: f"landing: write {_file(path)}")
    passages.around(obstore, "get", lambda _, path: f"landing: read {_file(path)}")
    passages.around(obstore, "head", lambda _, path: f"landing: look at {_file(path)}")
    begin = obstore.open_writer
    _replace(
        obstore, "open_writer", lambda *args, **kwargs: _Upload(begin(*args, **kwargs), passages)
    )
    for session in (DuckDBSession, redshift.RedshiftSession):
        passages.around(session, "run", lambda _, sql, *__: f"warehouse: {_verb(sql)}")
    connect: Any = DuckDBSession.__init__
    _replace(
        DuckDBSession, "__init__", lambda self, real: connect(self, _Transaction(real, passages))
    )
    passages.around(SQLConnectionManager, "add_query", lambda _, sql, *__, **___: _dbt(sql))
    passages.around(
        google._HTTPClient,
        "request",
        lambda _, method, url, *__, **___: f"sheets: {method} {url.rpartition('/')[2][:40]}",
    )


class _Upload:
    """A part on its way."""

    def __init__(self, writer: Any, passages: Passages) -> None:
        self._writer = writer
        self._passages = passages

    def __enter__(self) -> Self:
        with self._passages.at("landing: begin a part"):
            self._writer.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        with self._passages.at("landing: abandon a part" if kind else "landing: complete a part"):
            self._writer.__exit__(kind, *error)

    def write(self, data: Any) -> None:
        self._writer.write(data)


class _Transaction:
    """A DuckDB connection whose transaction has passages."""

    def __init__(self, connection: Any, passages: Passages) -> None:
        self._connection = connection
        self._passages = passages

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def begin(self) -> None:
        with self._passages.at("warehouse: BEGIN"):
            self._connection.begin()

    def commit(self) -> None:
        with self._passages.at("warehouse: COMMIT"):
            self._connection.commit()


def _lose_patience() -> None:
    os.environ["REDSHIFT_STATEMENT_TIMEOUT"] = "5"
    _replace(landing, "SILENCE_SECONDS", _SILENCE)
    _replace(landing, "_SLOWEST_BYTES_A_SECOND", 10**9)
    _replace(store, "_RETRIES", 1)
    _replace(store, "_RETRIED", timedelta(seconds=2 * _SILENCE))
    _replace(mysql, "_READ_SECONDS", _SILENCE)
    _replace(mysql, "_CONNECT_SECONDS", _SILENCE)
    _replace(google, "_TIMEOUT_SECONDS", (_SILENCE, _SILENCE))
    _replace(google, "_RETRY", google._RETRY.new(total=1, backoff_factor=0, backoff_jitter=0))
    _replace(redshift, "_CONNECT_SECONDS", _SILENCE)


def _set_clock(ahead: c_double) -> None:
    """Let the process read a clock that may step, wherever Millrace or Google's library reads one.

    The clocks of servers go on as they were, and S3's requests are signed outside Python.
    """

    class Stepping(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + timedelta(seconds=ahead.value)

    for module in (landing, pipeline):
        _replace(module, "datetime", Stepping)
    _replace(loads, "_now", lambda: Stepping.now(UTC))
    _replace(google_auth, "utcnow", lambda: Stepping.now(UTC).replace(tzinfo=None))


def _replace(owner: Any, name: str, value: Any) -> None:
    """Put something in the place of what a module or class has; it fails where there is nothing."""
    getattr(owner, name)
    setattr(owner, name, value)


def _verb(statement: str) -> str:
    return " ".join(statement.split()[:2])


def _dbt(sql: str) -> str:
    lines = [line for line in sql.splitlines() if not line.lstrip().startswith(("/*", "--"))]
    return f"dbt: {_verb(' '.join(lines))}"


def _file(path: str) -> str:
    name = path.rpartition("/")[2]
    return "a part" if name.endswith(".parquet") else name
