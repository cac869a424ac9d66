"""A connection to a MySQL or MariaDB server: how it is opened, queried and closed.

Whatever the server's or the account's settings are, a session of Millrace's sees every row as it is
stored. Nothing hangs: every wait has a timeout and can be interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import pyarrow as pa

from millrace.errors import (
    ConnectionNotFound,
    SourceFailed,
    SourceMismatch,
    SourceRefused,
    SourceUnavailable,
)
from millrace.sources.mysql.client import Client, MySQLError
from millrace.sources.mysql.result import Misfit, Result
from millrace.sources.mysql.rows import BATCH_ROWS
from millrace.sources.mysql.tls import Tls

if TYPE_CHECKING:
    from millrace.connections import Connection

_CONNECT_SECONDS = 10
_CLOSE_SECONDS = 10
# The variable by which a server ends a statement that takes too long, and how it takes seconds:
# MySQL's and MariaDB's.
_TIME_OUTS: dict[str, Callable[[float], str]] = {
    "max_execution_time": lambda seconds: f"{1000 * seconds:.0f}",
    "max_statement_time": lambda seconds: f"{seconds:.3f}",
}
# The errors that such a statement then ends with.
_TIMED_OUT = frozenset({3024, 1969})
# How long the server may work before it sends the next packet.
_READ_SECONDS = 600
_P = ParamSpec("_P")
_T = TypeVar("_T")

SETTINGS = {
    # The rows: how many come, and which version of them.
    "sql_big_selects": "1",
    "sql_auto_is_null": "0",
    "max_execution_time": "0",
    "max_statement_time": "0",
    "max_recursive_iterations": "4294967295",
    "system_versioning_asof": "DEFAULT",
    "wsrep_dirty_reads": "0",
    "autocommit": "1",
    # The values: as they are stored, not padded, cut or in another zone.
    "sql_mode": "''",
    "time_zone": "'+00:00'",
    "timestamp": "DEFAULT",
    "group_concat_max_len": "4294967295",
    # What the server tells of its tables and results.
    "show_gipk_in_create_table_and_information_schema": "1",
    "resultset_metadata": "FULL",
    # A landing that pauses must not make the server give up on us, nor a lock hold us for a year.
    "net_write_timeout": "3600",
    "lock_wait_timeout": "300",
}
"""The variables that a session sets, if its server has them: each changes what is read."""

# Errors of the server or the client that pass without anybody fixing anything.
_OUTAGES = frozenset(
    {
        # Memory, disk, connections and prepared statements that are used up.
        *(3, 20, 1021, 1026, 1037, 1040, 1041, 1114, 1135, 1203, 1226, 1461, 2008),
        # The server is stopping, or ended the connection or the query.
        *(1053, 1077, 1079, 1152, 1184, 1317, 1927, 4031),
        # The network.
        *(1042, 1043, 1158, 1159, 1160, 1161, 2002, 2003, 2005, 2006, 2013, 2026, 2027, 2055),
        # Another transaction, or a table that is being altered.
        *(1047, 1205, 1213, 1412, 1615),
    }
)
# A password, a host or an account that the server does not let in.
_ACCESS_DENIED = 1045
_NOT_LET_IN = frozenset({1044, 1045, 1130, 1698, 2059})
# A right on the server, such as PROCESS, that the account lacks.
_RIGHT_MISSING = 1227
_RIGHT_THERE_MISSING = frozenset({1044, 1142})
_DENIED = _RIGHT_THERE_MISSING | {1143, _RIGHT_MISSING, 1370}


class Session:
    """A connection whose waits can be interrupted.

    The client waits in C, where neither Ctrl-C nor an alarm reaches it. So a thread of its own
    waits, and a caller that is interrupted meanwhile shuts the connection down.
    """

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._worker = ThreadPoolExecutor(1, "millrace-mysql")
        self._client: Client | None = None
        self._client = self._wait(connect)
        # The variables of ``SETTINGS`` that the server has.
        self.variables: frozenset[str] = frozenset()

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection is encrypted."""
        return self._connected.cipher is not None

    def run(self, statement: str) -> None:
        """Run a statement."""
        self._wait(self._rows, statement)

    def rows(self, query: str, arguments: Sequence[str] = ()) -> list[tuple[str | None, ...]]:
        """A small result, as text."""
        return self._wait(self._rows, query, arguments)[1]

    def estimated_rows(self, query: str, arguments: Sequence[str] = ()) -> int:
        """How many rows the server expects to look at."""
        # The format is named, because a server may be set to answer as a tree or as JSON.
        steps = self.records(f"EXPLAIN FORMAT=TRADITIONAL {query}", arguments)
        # NULL: there are no rows, or the server knows without looking.
        return max(int(step["rows"] or 0) for step in steps)

    def records(self, query: str, arguments: Sequence[str] = ()) -> list[dict[str, str | None]]:
        """A small result, as text by the names of its columns."""
        names, rows = self._wait(self._rows, query, arguments)
        return [dict(zip(names, row, strict=True)) for row in rows]

    def limit_statements(self, seconds: float | None) -> None:
        """Let the server end every statement that takes longer (``has_timed_out``); None: none."""
        for name, written in _TIME_OUTS.items():
            if name in self.variables:
                self.run(f"SET SESSION {name} = {written(seconds or 0)}")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A transaction, all of whose statements see the rows as they are now."""
        self.start_snapshot()
        try:
            yield
        except MySQLError:
            # The first error is the one that is reported.
            with suppress(MySQLError):
                self.run("ROLLBACK")
            raise
        self.run("COMMIT")

    def start_snapshot(self) -> None:
        """Start a transaction whose statements see the rows as they are now."""
        self.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def stream(
        self,
        query: str,
        arguments: Sequence[str],
        types: Sequence[pa.DataType],
        strict: Collection[int] = (),
    ) -> Rows:
        """A large result, which the server sends as it is read; see ``Result``."""
        return Rows(self, self._wait(self._stream, query, arguments, types, strict))

    def read(self, result: Result, size: int) -> list[pa.Array]:
        """The next rows of a result, one array for each column."""
        return self._wait(result.read, size)

    def cut(self) -> None:
        """End whatever waits for the server, with an error; the connection is of no use then."""
        if self._client is not None:
            self._client.cut()

    def close(self) -> None:
        """Close the connection, whatever it is doing."""
        if self._client is not None:
            closing = self._worker.submit(self._client.close)
            try:
                closing.result(_CLOSE_SECONDS)
            except TimeoutError:
                self._client.cut()
        self._worker.shutdown(wait=False)

    @property
    def _connected(self) -> Client:
        if self._client is None:
            raise ValueError("a session is asked before it is connected")
        return self._client

    def _rows(
        self, query: str, arguments: Sequence[str] = ()
    ) -> tuple[list[str], list[tuple[str | None, ...]]]:
        return self._connected.rows(self._bound(query, arguments))

    def _stream(
        self,
        query: str,
        arguments: Sequence[str],
        types: Sequence[pa.DataType],
        strict: Collection[int],
    ) -> Result:
        return Result(self._connected, self._bound(query, arguments), types, BATCH_ROWS, strict)

    def _bound(self, query: str, arguments: Sequence[str]) -> str:
        """A query with its arguments in the place of each ``%s``.

        Needed even without arguments, because names have their percent signs doubled.
        """
        return query % tuple(map(self._connected.literal, arguments))

    def _wait(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        running = self._worker.submit(call, *args, **kwargs)
        try:
            return running.result()
        except BaseException:
            if not running.done() and self._client is not None:
                self._client.cut()
            raise


def has_timed_out(error: MySQLError) -> bool:
    """Whether the server has ended a statement because it took too long."""
    return error.number in _TIMED_OUT


def lacks_a_right(error: MySQLError) -> bool:
    """Whether our account lacks a right on the server for what it asked, such as PROCESS."""
    return error.number == _RIGHT_MISSING


def lacks_a_right_there(error: MySQLError) -> bool:
    """Whether our account lacks a right on a database or a table, such as LOCK TABLES."""
    return error.number in _RIGHT_THERE_MISSING


class Rows:
    """A large result, read piece by piece."""

    def __init__(self, session: Session, result: Result) -> None:
        self._session = session
        self._result = result

    def read(self, size: int) -> list[pa.Array]:
        """The next rows, of about ``size`` bytes; no rows at the end."""
        return self._session.read(self._result, size)

    @property
    def without_date(self) -> list[int]:
        """How many dates that no calendar has became NULL so far, by column."""
        return self._result.without_date

    @property
    def misfits(self) -> list[Misfit]:
        """The values of the last read that their columns' types cannot hold."""
        return self._result.misfits


class Server:
    """A server and the account that reads it.

    Args:
        connection: Host, port, login, password and default database (``schema``); the extras
            ``ssl`` and ``ssl_mode`` (``tls.Tls``), ``unix_socket``, and ``read_timeout`` in
            seconds.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @contextmanager
    def connected(self) -> Iterator[Session]:
        """A session, closed at the end; errors of the client become Millrace's."""
        with self.explained():
            session = self._opened()
            try:
                yield session
            finally:
                session.close()

    @property
    def address(self) -> str:
        """Where the server is, for a person."""
        return self._unix_socket or f"{self._host}:{self._port}"

    def _opened(self) -> Session:
        tls = Tls.of(self.connection)
        try:
            session = Session(partial(self._connect, tls))
        except MySQLError as error:
            if error.number in _NOT_LET_IN:
                raise SourceRefused(
                    f"MySQL at {self.address} refuses the user '{self.connection.login}' of the "
                    f"connection '{self.connection.conn_id}': {error.text}.",
                    fix=f"Correct the user name or password in '{self.connection.conn_id}'.",
                ) from None
            raise
        try:
            if tls and tls.is_demanded:
                self._check_encryption(session)
            _settle(session)
        except BaseException:
            session.close()
            raise
        return session

    def _connect(self, tls: Tls | None) -> Client:
        return Client(
            host=self._host,
            port=self._port,
            user=self.connection.login,
            password=self.connection.password,
            database=self.connection.schema,
            unix_socket=self._unix_socket,
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=self._seconds("read_timeout", _READ_SECONDS),
            write_timeout=_READ_SECONDS,
            tls=tls,
        )

    @property
    def _host(self) -> str:
        if self._unix_socket:
            # The client uses the socket only for this name.
            return "localhost"
        host = self.connection.host or "localhost"
        # For localhost the client would use the default socket, whatever server that is.
        return "127.0.0.1" if host == "localhost" and self.connection.port else host

    @property
    def _port(self) -> int:
        return self.connection.port or 3306

    @property
    def _unix_socket(self) -> str | None:
        return self.connection.extra.get("unix_socket")

    def _seconds(self, name: str, default: int) -> int:
        value = self.connection.extra.get(name, default)
        if not str(value).isdecimal() or int(value) < 1:
            raise ConnectionNotFound(
                f"The connection '{self.connection.conn_id}' cannot be read: its extra `{name}` "
                f"is {value!r}.",
                fix="Write a whole number of seconds, or leave it out.",
            )
        return int(value)

    def _check_encryption(self, session: Session) -> None:
        """Refuse plain text, which MariaDB's client silently uses if the server has no TLS."""
        if not session.is_encrypted:
            raise SourceUnavailable(
                f"MySQL at {self.address} does not encrypt, and the connection "
                f"'{self.connection.conn_id}' demands it.",
                fix="Turn TLS on in the server, or take `ssl` and `ssl_mode` out of the "
                "connection.",
            )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the client's errors into Millrace's, with the server's address and what to do."""
        try:
            yield
        except MySQLError as error:
            code, text = error.number, error.text
            if code == _ACCESS_DENIED:
                raise SourceRefused(
                    f"MySQL at {self.address} cannot open a view for "
                    f"'{self.connection.login}': {text}.",
                    fix="Its definer is gone or lacks rights: `SHOW CREATE VIEW` names it. Create "
                    "the account, or the view anew with SQL SECURITY INVOKER.",
                ) from None
            if code in _DENIED:
                raise SourceRefused(
                    f"MySQL at {self.address} does not let '{self.connection.login}' read: {text}.",
                    fix="Grant SELECT on the table to that user.",
                ) from None
            if code == 1049:
                raise SourceMismatch(
                    f"MySQL at {self.address} has no such database: {text}.",
                    fix=f"Correct the database in the connection '{self.connection.conn_id}'.",
                ) from None
            what = (
                f"MySQL at {self.address} (connection '{self.connection.conn_id}') cannot be read: "
                f"{text} ({code})."
            )
            if code in _OUTAGES:
                raise SourceUnavailable(
                    what,
                    fix="Check that the server runs and is reached from here, then run the batch "
                    "again: nothing was loaded.",
                ) from error
            raise SourceFailed(
                what,
                fix="Fix in MySQL what the message names, or read the table through a view without "
                "it; nothing was loaded.",
            ) from error


def _settle(session: Session) -> None:
    """Let the session see every row, as it is stored; see ``SETTINGS``."""
    # The server's settings and `init_connect` apply already. A limit would cut SHOW, too.
    session.run("SET SESSION sql_select_limit = 18446744073709551615")
    session.run("SET NAMES utf8mb4")
    names = ", ".join(f"'{name}'" for name in SETTINGS)
    has = {name for name, _ in session.rows(f"SHOW VARIABLES WHERE variable_name IN ({names})")}
    session.variables = frozenset(map(str, has))
    values = [f"{name} = {value}" for name, value in SETTINGS.items() if name in has]
    session.run(f"SET SESSION {', SESSION '.join(values)}")
    session.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
