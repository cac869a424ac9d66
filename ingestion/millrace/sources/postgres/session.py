"""A connection to a PostgreSQL server: how it is opened, queried and closed.

Whatever the server's or the account's settings are, a session of Millrace's sees every row as it is
stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import adbc_driver_manager
import adbc_driver_postgresql
import pyarrow as pa
from adbc_driver_manager import dbapi
from adbc_driver_manager._reader import AdbcRecordBatchReader

from millrace.errors import (
    ConnectionNotFound,
    SourceBusy,
    SourceFailed,
    SourceMismatch,
    SourceRefused,
    SourceUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from millrace.connections import Connection

PostgresError = adbc_driver_manager.Error

APPLICATION = "millrace"
"""The application name of every session, by which sessions know each other."""

_PORT = 5432
# TID range scans, and infinite numerics.
_OLDEST = 14
# A few batches are in memory at a time; one is a row group of Parquet.
_BATCH_BYTES = 4 * 1024 * 1024
# So that a peer that is gone is noticed, whatever waits for it.
_NETWORK = {
    "connect_timeout": "10",
    "keepalives_idle": "60",
    "keepalives_interval": "10",
    "keepalives_count": "6",
    "tcp_user_timeout": "120000",
}
# What an Airflow connection may say of it in its extras, in libpq's own words.
_EXTRAS = frozenset(
    {
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "gssencmode", "krbsrvname", "channel_binding"),
        *("require_auth", "connect_timeout", "target_session_attrs", "hostaddr"),
    }
)

SETTINGS = {
    # The rows: all of them, or an error. A policy must not hide some.
    "row_security": "off",
    "gin_fuzzy_search_limit": "0",
    # The values: as they are stored, in one spelling.
    "client_encoding": "UTF8",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    # Nothing is written, and nobody ends a read before its end; no lock holds it for ever.
    "default_transaction_read_only": "on",
    "default_transaction_isolation": "repeatable read",
    "default_transaction_deferrable": "off",
    "statement_timeout": "0",
    "transaction_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": "300s",
}
"""The variables that a session sets, if its server has them: each changes what is read."""

_CANCELLED = "57014"
_DENIED = "42501"
_NO_TABLE = "42P01"
_NO_SCHEMA = "3F000"
# Classes of errors that pass without anybody fixing anything: the network, a transaction that was
# in the way, memory and connections that are used up, an operator, a system that is not well.
_OUTAGES = ("08", "40", "53", "55", "57", "58")
# What the server says before it lets anybody in comes without a code.
_NOT_LET_IN = re.compile(r"authentication failed|pg_hba\.conf|role .* (does not exist|is not)")
_NO_DATABASE = re.compile(r"database .* does not exist")
_LEVEL = re.compile(r"^.*?\b(?:ERROR|FATAL|PANIC):\s+|^\w+: \[libpq\] ", re.DOTALL)
_STATEMENT = re.compile(r"\s*(?:LINE \d+:.*|Query was:.*|\. SQLSTATE: \w+\s*)$", re.DOTALL)


class Session:
    """A connection; each statement is a transaction of its own, unless ``snapshot`` begins one."""

    def __init__(self, conninfo: str) -> None:
        self._database = adbc_driver_postgresql.connect(conninfo)
        try:
            raw = adbc_driver_manager.AdbcConnection(self._database)
            self._connection = dbapi.Connection(self._database, raw, autocommit=True)
        except BaseException:
            self._database.close()
            raise

    def run(self, statement: str) -> None:
        """Run a statement."""
        with self._connection.cursor() as cursor:
            _without_copy(cursor)
            cursor.execute(statement)

    def rows(self, query: str, arguments: Sequence[str] = ()) -> list[tuple[Any, ...]]:
        """A small result; the query has its arguments as ``$1``, ``$2``."""
        with self._connection.cursor() as cursor:
            _without_copy(cursor)
            cursor.execute(query, list(arguments) or None)
            return list(cursor.fetchall())

    def estimated_rows(self, query: str) -> int:
        """How many rows the server expects of a query."""
        ((plan,),) = self.rows(f"EXPLAIN {query}")[:1]
        found = re.search(r"rows=(\d+)", str(plan))
        return int(found[1]) if found else 0

    def limit_statements(self, seconds: float | None) -> None:
        """Let the server end every statement that takes longer (``has_timed_out``); None: none."""
        self.run(f"SET statement_timeout = {1000 * (seconds or 0):.0f}")

    @contextmanager
    def snapshot(self, exported: str | None = None) -> Iterator[None]:
        """A transaction, all of whose statements see the rows as they are now.

        Args:
            exported: What ``exported_snapshot`` of another session has returned: they see the rows
                as that session does.
        """
        self.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            if exported is not None:
                self.run(f"SET TRANSACTION SNAPSHOT '{exported}'")
            yield
        except BaseException:
            # The first error is the one that is reported.
            with suppress(PostgresError):
                self.run("ROLLBACK")
            raise
        self.run("COMMIT")

    def exported_snapshot(self) -> str:
        """Let other sessions see what this one's transaction sees, while it is open."""
        ((name,),) = self.rows("SELECT pg_export_snapshot()")
        return str(name)

    def stream(self, query: str) -> Iterator[pa.RecordBatch]:
        """A large result, which the server sends as it is read."""
        with self._connection.cursor() as cursor:
            options = adbc_driver_postgresql.StatementOptions
            cursor.adbc_statement.set_options(
                **{options.BATCH_SIZE_HINT_BYTES.value: str(_BATCH_BYTES)}
            )
            cursor.execute(query)
            # PyArrow's own reader would lose the code of an error.
            handle = cursor.fetch_arrow()
            reader = AdbcRecordBatchReader._import_from_c(handle.address)  # noqa: SLF001
            is_done = False
            try:
                yield from iter(reader)
                is_done = True
            finally:
                if not is_done:
                    self.cut()
                reader.close()

    def cut(self) -> None:
        """End whatever runs at the server, with an error."""
        with suppress(PostgresError):
            self._connection.adbc_cancel()

    def close(self) -> None:
        """Close the connection."""
        with suppress(PostgresError):
            self._connection.close()
        self._database.close()


def _without_copy(cursor: dbapi.Cursor) -> None:
    """Not every statement can be copied from."""
    options = adbc_driver_postgresql.StatementOptions
    cursor.adbc_statement.set_options(**{options.USE_COPY.value: "false"})


def has_timed_out(error: PostgresError) -> bool:
    """Whether the server has ended a statement because it took too long."""
    return error.sqlstate == _CANCELLED


class Server:
    """A server and the account that reads it.

    Args:
        connection: Host, port, login, password and database (``schema``); the extras are those of
            libpq, such as ``sslmode`` and ``sslrootcert``.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @property
    def address(self) -> str:
        """Where the server is, for a person."""
        return f"{self.connection.host or 'localhost'}:{self.connection.port or _PORT}"

    @contextmanager
    def connected(self) -> Iterator[Session]:
        """A session, closed at the end; errors of the driver become Millrace's."""
        with self.explained():
            session = self._opened()
            try:
                yield session
            finally:
                session.close()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the driver's errors into Millrace's, with the server's address and what to do."""
        try:
            yield
        except PostgresError as error:
            raise self._explained(error) from None

    def _opened(self) -> Session:
        session = Session(self._conninfo())
        try:
            ((version,),) = session.rows("SELECT current_setting('server_version_num')::int")
            if version < _OLDEST * 10_000:
                raise SourceMismatch(
                    f"PostgreSQL at {self.address} is of version {version // 10_000}.",
                    fix=f"Millrace reads {_OLDEST} and newer ones.",
                )
            values = ", ".join(f"('{name}', '{value}')" for name, value in SETTINGS.items())
            session.rows(
                "SELECT set_config(s.name, v.value, false) FROM pg_catalog.pg_settings s "
                f"JOIN (VALUES {values}) AS v (name, value) ON v.name = s.name"
            )
        except BaseException:
            session.close()
            raise
        return session

    def _conninfo(self) -> str:
        connection = self.connection
        self._refuse_unknown_encryption()
        extra = connection.extra
        given = {name: str(extra[name]) for name in sorted(_EXTRAS & extra.keys()) if extra[name]}
        # A client that is given an authority means it.
        mode = {"sslmode": "verify-full"} if "sslrootcert" in given else {}
        parts: Mapping[str, str | None] = {
            **_NETWORK,
            **mode,
            **given,
            "host": connection.host or "localhost",
            "port": str(connection.port or _PORT),
            "user": connection.login,
            "password": connection.password,
            "dbname": connection.schema,
            "application_name": APPLICATION,
        }
        if not connection.schema:
            raise ConnectionNotFound(
                f"The connection '{connection.conn_id}' names no database.",
                fix="Name it after the host: postgres://user:password@host:5432/database, or as "
                "`schema` in JSON.",
            )
        return " ".join(f"{name}={_quoted(value)}" for name, value in parts.items() if value)

    def _refuse_unknown_encryption(self) -> None:
        """Refuse a misspelt extra, without which nothing might be encrypted."""
        for name in sorted(self.connection.extra):
            if name.startswith("ssl") and name not in _EXTRAS:
                raise ConnectionNotFound(
                    f"The connection '{self.connection.conn_id}' cannot be read: it has the extra "
                    f"`{name}`.",
                    fix="Write sslmode, sslrootcert, sslcert or sslkey, as libpq calls them.",
                )

    def _explained(self, error: PostgresError) -> Exception:
        conn_id, login = self.connection.conn_id, self.connection.login
        text, code = _said(error), error.sqlstate or ""
        if code.startswith("28") or (not code and _NOT_LET_IN.search(text)):
            return SourceRefused(
                f"PostgreSQL at {self.address} refuses the user '{login}' of the connection "
                f"'{conn_id}': {text}.",
                fix=f"Correct the user name or password in '{conn_id}', or let that user in from "
                "here (pg_hba.conf).",
            )
        if not code and _NO_DATABASE.search(text):
            return SourceMismatch(
                f"PostgreSQL at {self.address} has no such database: {text}.",
                fix=f"Correct the database in the connection '{conn_id}'.",
            )
        if code == _DENIED:
            return SourceRefused(
                f"PostgreSQL at {self.address} does not let '{login}' read: {text}.",
                fix="Grant SELECT on the table and USAGE on its schema to that user; BYPASSRLS, if "
                "the table has row security.",
            )
        what = f"PostgreSQL at {self.address} (connection '{conn_id}') cannot be read: {text}"
        if code == _CANCELLED:
            return SourceBusy(
                f"{what}.",
                fix="Raise `max_statement_s`, give the table an index that begins with its cursor, "
                "or read it when the server has less to do. Nothing was loaded.",
            )
        if code in (_NO_TABLE, _NO_SCHEMA):
            return SourceMismatch(
                f"{what}.", fix="Correct `table` in the declaration. Nothing was loaded."
            )
        if not code or code.startswith(_OUTAGES):
            return SourceUnavailable(
                f"{what}{f' ({code})' if code else ''}.",
                fix="Check that the server runs and is reached from here, then run the batch "
                "again: nothing was loaded.",
            )
        return SourceFailed(
            f"{what} ({code}).",
            fix="Fix in PostgreSQL what the message names, or read the table through a view "
            "without it; nothing was loaded.",
        )


def _said(error: PostgresError) -> str:
    """What the server says, without the statement."""
    for name, value in error.details or ():
        if name == "PG_DIAG_MESSAGE_PRIMARY":
            return bytes(value).decode("utf-8", "replace")
    text = _LEVEL.sub("", _STATEMENT.sub("", str(error))).strip()
    return " ".join(text.removesuffix(".").split())


def _quoted(value: str) -> str:
    """A value of libpq's connection string."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
