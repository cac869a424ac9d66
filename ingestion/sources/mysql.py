"""Tables of a MySQL or MariaDB server, streamed as Arrow record batches.

mysqlclient connects and asks; ``mysql_result`` and ``mysql_rows`` turn a large result into Arrow as
the server sends it, and ``mysql_ranges`` splits a large table for several connections.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import MySQLdb
import pyarrow as pa
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from ingestion.batch import EVERY_KEY, Interval, KeyRange
from ingestion.catalog import IngestTable, MySQLOptions
from ingestion.errors import (
    ConnectionNotFound,
    DeclarationError,
    SourceMismatch,
    SourceRefused,
    SourceUnavailable,
)
from ingestion.sources.base import Extraction
from ingestion.sources.mysql_ranges import Condition, in_range, split, where_clause
from ingestion.sources.mysql_result import Result
from ingestion.sources.mysql_rows import BATCH_ROWS, record_batches, schema_of
from ingestion.sources.mysql_types import Column, column_of, quote

if TYPE_CHECKING:
    from ingestion.connections import Connection

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10

# Below a million rows, a range takes longer to prepare than it saves.
_MIN_ROWS_A_RANGE = 1_000_000
_ROWS_A_RANGE = 5_000_000
_MAX_CHOSEN_RANGES = 4
_LOCK_SECONDS = 2
_LOCK_ATTEMPTS = 10
_LOCK_WAIT_TIMEOUT = 1205
_DENIED = (1044, 1142)

_SESSION = (
    "SET SESSION time_zone = '+00:00'",
    # A landing that pauses must not make the server give up on us.
    "SET SESSION net_write_timeout = 3600",
    "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
)

_CURSOR_TYPES = (pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC"))


class MySQLSource:
    """A MySQL or MariaDB server.

    Args:
        connection: Host, port, login, password and default database (``schema``); the extras
            ``ssl`` (a mapping, or its JSON), ``ssl_mode`` and ``unix_socket`` are mysqlclient's
            own.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def check(self) -> str:
        """Connect and ask for the version."""
        with self._connected() as session:
            ((version,),) = session.rows("SELECT VERSION()")
        return f"MySQL {version} at {self._address}, as {self._connection.login}"

    def now(self) -> datetime:
        """The server's clock, in UTC."""
        with self._connected() as session:
            ((now,),) = session.rows("SELECT UTC_TIMESTAMP(6)")
        return datetime.fromisoformat(str(now)).replace(tzinfo=UTC)

    def ranges(self, table: IngestTable, interval: Interval) -> tuple[KeyRange, ...]:
        """Ranges of the primary key, of a million rows or more; see ``Source.ranges``."""
        options = _options(table)
        with self._connected() as session:
            relation = _Relation.find(session, options.table, self._connection)
            relation.check_key(options.primary_key)
            if relation.is_view:
                return (EVERY_KEY,)
            where = where_clause(relation.interval(session, options.cursor, interval))
            rows = session.estimated_rows(f"SELECT 1 FROM {relation.quoted}{where[0]}", where[1])
            count = min(
                options.partitions or min(rows // _ROWS_A_RANGE, _MAX_CHOSEN_RANGES),
                rows // _MIN_ROWS_A_RANGE,
            )
            is_asked_for = options.partitions is not None or options.cursor is not None
            if count > 1 and not is_asked_for and not self._may_lock(relation):
                return (EVERY_KEY,)
            # Boundaries are told to Airflow and to its logs.
            key = takewhile(lambda column: column.name not in table.pii, relation.key)
            return split(session, relation.quoted, tuple(key), count)

    @contextmanager
    def extract(
        self,
        table: IngestTable,
        interval: Interval,
        *,
        without: frozenset[str] = frozenset(),
        ranges: Sequence[KeyRange] = (EVERY_KEY,),
    ) -> Iterator[Extraction]:
        """Stream the rows of an interval, as of one moment; see ``Source.extract``."""
        options = _options(table)
        with ExitStack() as connections:
            sessions = [connections.enter_context(self._connected()) for _ in ranges]
            session = sessions[0]
            relation = _Relation.find(session, options.table, self._connection)
            relation.check_key(options.primary_key)
            columns = relation.columns(without)
            schema = schema_of(columns)
            self._see_one_moment(sessions, relation, is_interval=options.cursor is not None)
            interval_taken = relation.interval(session, options.cursor, interval)
            names = ", ".join(column.expression for column in columns)
            streams, expected = [], 0
            for session, key_range in zip(sessions, ranges, strict=True):
                where, arguments = where_clause(
                    [*interval_taken, *in_range(relation.key, key_range)]
                )
                query = f"SELECT {names} FROM {relation.quoted}{where}"
                # To see a view's plan takes more rights than to read it. And of an interval, only
                # an index on the cursor tells how many rows it has.
                if not relation.is_view and (
                    interval.start is None or relation.is_indexed(options.cursor)
                ):
                    expected += session.estimated_rows(query, arguments)
                result = session.stream(query, arguments, schema.types)
                streams.append(record_batches(result, columns, schema, str(relation)))
            yield Extraction(schema, tuple(streams), expected or None)

    def _see_one_moment(
        self, sessions: Sequence[_Session], relation: _Relation, *, is_interval: bool
    ) -> None:
        """Start a transaction in each session that sees the same rows as the others'.

        Snapshots that are started one after another differ in what was committed in between. A
        read lock on the table holds writers up for the milliseconds that it takes.
        """
        with ExitStack() as held:
            if len(sessions) > 1:
                try:
                    held.enter_context(self._locked(relation))
                except SourceRefused:
                    # An edit in between moves a row into the next interval, from any of them.
                    if not is_interval:
                        raise
            for session in sessions:
                session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    @contextmanager
    def _locked(self, relation: _Relation) -> Iterator[None]:
        """Keep writers out of a table.

        Raises:
            SourceRefused: our account may not.
        """
        with self._connected() as session:
            session.run(f"SET SESSION lock_wait_timeout = {_LOCK_SECONDS}")
            for attempt in Retrying(
                # Whoever waits for the lock holds up the writers behind: rather ask again.
                retry=retry_if_exception(_is_lock_timeout),
                stop=stop_after_attempt(_LOCK_ATTEMPTS),
                wait=wait_random(0, 2),
                reraise=True,
            ):
                with attempt:
                    self._lock(session, relation)
            yield
            session.run("UNLOCK TABLES")

    def _lock(self, session: _Session, relation: _Relation) -> None:
        try:
            session.run(f"LOCK TABLES {relation.quoted} READ")
        except MySQLdb.Error as error:
            if error.args[0] not in _DENIED:
                raise
            raise SourceRefused(
                f"MySQL at {self._address} does not let '{self._connection.login}' lock "
                f"{relation}, which several connections need to see it as of one moment.",
                fix=f"GRANT LOCK TABLES ON {quote(relation.database)}.* to that user, or declare "
                "`partitions: 1`.",
            ) from None

    def _may_lock(self, relation: _Relation) -> bool:
        try:
            with self._locked(relation):
                return True
        except SourceRefused:
            log.info("%s is read by one connection: LOCK TABLES is not granted", relation)
            return False

    @contextmanager
    def _connected(self) -> Iterator[_Session]:
        with self._named():
            client = MySQLdb.connect(**self._arguments())
            try:
                session = _Session(client)
                self._check_encryption(session)
                for statement in _SESSION:
                    session.run(statement)
                yield session
            finally:
                with contextlib.suppress(MySQLdb.Error):
                    client.close()

    def _arguments(self) -> dict[str, Any]:
        connection, extra = self._connection, self._connection.extra
        host = connection.host or "localhost"
        if "unix_socket" in extra:
            # The client takes the socket for this name only.
            host = "localhost"
        elif host == "localhost" and connection.port:
            # The client would take the default socket, whatever server that is, not the port.
            host = "127.0.0.1"
        arguments = {
            "host": host,
            "port": connection.port or 3306,
            "user": connection.login,
            "passwd": connection.password,
            "db": connection.schema,
            "charset": "utf8mb4",
            "use_unicode": False,
            # No conversions: every value stays bytes.
            "conv": {},
            "connect_timeout": _CONNECT_SECONDS,
            "ssl": self._ssl,
            "ssl_mode": extra.get("ssl_mode"),
            "unix_socket": extra.get("unix_socket"),
        }
        return {name: value for name, value in arguments.items() if value is not None}

    @property
    def _ssl(self) -> Any:
        ssl = self._connection.extra.get("ssl")
        if not isinstance(ssl, str):
            return ssl
        try:
            return json.loads(ssl)
        except ValueError:
            raise ConnectionNotFound(
                f"The connection '{self._connection.conn_id}' cannot be read: its extra `ssl` "
                "is not JSON.",
                fix='Write a mapping, for example {"ca": "/path/to/ca.pem"}.',
            ) from None

    def _check_encryption(self, session: _Session) -> None:
        """MariaDB's client falls back to plain text without a word where the server has no TLS."""
        mode = self._connection.extra.get("ssl_mode", "REQUIRED" if self._ssl else "PREFERRED")
        if str(mode).upper() in ("DISABLED", "PREFERRED"):
            return
        ((_, cipher),) = session.rows("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        if not cipher:
            raise SourceUnavailable(
                f"MySQL at {self._address} does not encrypt, and the connection "
                f"'{self._connection.conn_id}' demands it.",
                fix="Turn TLS on in the server, or take `ssl` and `ssl_mode` out of the "
                "connection.",
            )

    @property
    def _address(self) -> str:
        arguments = self._arguments()
        return str(arguments.get("unix_socket") or f"{arguments['host']}:{arguments['port']}")

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn the client's errors into ours, with the server's address and the way out."""
        try:
            yield
        except MySQLdb.Error as error:
            code = error.args[0] if error.args else None
            text = error.args[1] if len(error.args) > 1 else str(error)
            conn_id = self._connection.conn_id
            address = self._address
            if code in (1044, 1045, 1698):
                raise SourceRefused(
                    f"MySQL at {address} refuses the user '{self._connection.login}' of the "
                    f"connection '{conn_id}': {text}.",
                    fix=f"Correct the user name or password in '{conn_id}'.",
                ) from None
            if code in (1142, 1143):
                raise SourceRefused(
                    f"MySQL at {address} does not let '{self._connection.login}' read: {text}.",
                    fix="Grant SELECT on the table to that user.",
                ) from None
            if code == 1049:
                raise SourceMismatch(
                    f"MySQL at {address} has no such database: {text}.",
                    fix=f"Correct the database in the connection '{conn_id}'.",
                ) from None
            raise SourceUnavailable(
                f"MySQL at {address} (connection '{conn_id}') cannot be read: {text} ({code}).",
                fix="Check that the server runs and is reached from here, then run the batch "
                "again: nothing was loaded.",
            ) from error


class _Session:
    """A connection, asked in plain Python."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._result: Result | None = None

    def run(self, statement: str) -> None:
        with self._client.cursor() as cursor:
            # Without parameters, too: names have their percent signs doubled.
            cursor.execute(statement, ())

    def rows(self, query: str, arguments: Sequence[str] = ()) -> list[tuple[str | None, ...]]:
        """A small result, as text."""
        with self._client.cursor() as cursor:
            cursor.execute(query, arguments)
            return [
                tuple(None if value is None else value.decode() for value in row)
                for row in cursor.fetchall()
            ]

    def estimated_rows(self, query: str, arguments: Sequence[str] = ()) -> int:
        """How many rows the server expects to look at."""
        with self._client.cursor() as cursor:
            cursor.execute(f"EXPLAIN {query}", arguments)
            names = [column[0] for column in cursor.description]
            steps = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        # NULL: there are none, or the server knows without looking.
        return max(int(step["rows"] or 0) for step in steps)

    def stream(self, query: str, arguments: Sequence[str], types: Sequence[pa.DataType]) -> Result:
        """A large result, of which the server sends what is read."""
        with self._client.cursor() as cursor:
            statement = cursor.mogrify(query, arguments)
        self._client.query(statement.encode())
        # Kept until the connection is closed: to free it before is to read the rest of it.
        self._result = Result(self._client, types, BATCH_ROWS)
        return self._result


@dataclass(frozen=True)
class _Relation:
    """A table or view of the server.

    Attributes:
        database: Its database.
        name: Its name.
        is_view: A view has no indexes to check a key against.
        types: What ``information_schema.columns`` says of each column, by its name.
        indexes: What ``information_schema.statistics`` says of the columns of each index, in its
            order, by its name.
    """

    database: str
    name: str
    is_view: bool
    types: Mapping[str, Sequence[str | None]] = field(repr=False)
    indexes: Mapping[str, Sequence[Sequence[str | None]]] = field(repr=False)

    @property
    def quoted(self) -> str:
        return f"{quote(self.database)}.{quote(self.name)}"

    def __str__(self) -> str:
        return f"{self.database}.{self.name}"

    @classmethod
    def find(cls, session: _Session, declared: str, connection: Connection) -> _Relation:
        database, _, name = declared.rpartition(".")
        database = database or connection.schema or ""
        if not database:
            raise SourceMismatch(
                f"The table '{declared}' names no database, and neither does the connection "
                f"'{connection.conn_id}'.",
                fix="Declare it as database.table.",
            )
        found = session.rows(
            "SELECT table_type FROM information_schema.tables "
            "WHERE table_schema = %s AND table_name = %s",
            (database, name),
        )
        if not found:
            raise SourceMismatch(
                f"MySQL has no table {database}.{name} that '{connection.login}' may read.",
                fix="Correct `table` in the declaration, or grant SELECT on it.",
            )
        columns = session.rows(
            "SELECT column_name, data_type, column_type, numeric_precision, numeric_scale, "
            "is_nullable FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            (database, name),
        )
        types = {str(column): facts for column, *facts in columns}
        indexes: dict[str, list[Sequence[str | None]]] = {}
        for index, *facts in session.rows(
            "SELECT index_name, column_name, nullable, non_unique "
            "FROM information_schema.statistics WHERE table_schema = %s AND table_name = %s "
            "ORDER BY index_name, seq_in_index",
            (database, name),
        ):
            indexes.setdefault(str(index), []).append(facts)
        return cls(database, name, found[0][0] == "VIEW", types, indexes)

    def columns(self, without: frozenset[str]) -> list[Column]:
        """What is selected.

        Raises:
            SourceMismatch: a column to leave out is not there: a misspelt one would be read.
        """
        for name in sorted(without):
            self._require(name, "`pii: drop`")
        return [self._column(name) for name in self.types if name not in without]

    def _column(self, name: str) -> Column:
        data_type, column_type, precision, scale, is_nullable = self.types[name]
        return column_of(
            name,
            str(data_type),
            str(column_type),
            precision=int(precision) if precision else None,
            scale=int(scale) if scale else None,
            is_nullable=is_nullable == "YES",
            where=str(self),
        )

    def _require(self, name: str, declared_as: str) -> None:
        if name not in self.types:
            raise SourceMismatch(
                f"{self} has no column '{name}', which is declared as {declared_as}.",
                fix=f"Correct the declaration; its columns: {', '.join(self.types)}.",
            )

    def check_key(self, key: tuple[str, ...]) -> None:
        """Refuse a declared key that does not name a row."""
        for name in key:
            self._require(name, "its primary_key")
        if self.is_view:
            return
        unique = [
            # NULLs are never equal, so a nullable column makes no key.
            {str(column) if nullable != "YES" else "" for column, nullable, _ in columns}
            for columns in self.indexes.values()
            if columns[0][2] == "0"
        ]
        if not any(columns <= set(key) for columns in unique):
            found = "; ".join(", ".join(sorted(columns)) for columns in unique if "" not in columns)
            raise SourceMismatch(
                f"{self} has no primary key or unique index on ({', '.join(key)}), "
                "which is declared as its primary_key.",
                fix=f"Declare one of its keys: {found}." if found else "Add the key in MySQL.",
            )

    @property
    def key(self) -> tuple[Column, ...]:
        """The columns by which the table is ordered; none where it has no primary key."""
        return tuple(self._column(str(name)) for name, *_ in self.indexes.get("PRIMARY", ()))

    def is_indexed(self, column: str | None) -> bool:
        """Whether the server finds rows by a column's values in an index."""
        return any(columns[0][0] == column for columns in self.indexes.values())

    def interval(
        self, session: _Session, cursor: str | None, interval: Interval
    ) -> list[Condition]:
        """The conditions that an interval sets."""
        if cursor is None:
            return []
        self._require(cursor, "its cursor")
        column = self._column(cursor)
        if column.type not in _CURSOR_TYPES:
            raise SourceMismatch(
                f"{self}.{cursor} is declared as the cursor, but is not a date or time.",
                fix="Declare a DATETIME, TIMESTAMP or DATE column that changes with every edit, "
                "or none, for a full refresh.",
            )
        if column.is_nullable and session.rows(
            f"SELECT 1 FROM {self.quoted} WHERE {quote(cursor)} IS NULL LIMIT 1"
        ):
            raise SourceMismatch(
                f"{self} has rows whose cursor '{cursor}' is NULL: no interval would take them.",
                fix="Fill it in MySQL and make it NOT NULL, or declare another cursor, "
                "or none, for a full refresh.",
            )
        conditions = []
        for operator, bound in ((">=", interval.start), ("<", interval.end)):
            if bound is not None:
                moment = bound.astimezone(UTC).replace(tzinfo=None)
                conditions.append(
                    Condition(
                        f"{quote(cursor)} {operator} %s", (moment.isoformat(" ", "microseconds"),)
                    )
                )
        return conditions


def _options(table: IngestTable) -> MySQLOptions:
    if not isinstance(table.options, MySQLOptions):
        raise DeclarationError(f"{table.key} is not a MySQL table.", fix="Set its `kind` to mysql.")
    return table.options


def _is_lock_timeout(error: BaseException) -> bool:
    return isinstance(error, MySQLdb.Error) and error.args[0] == _LOCK_WAIT_TIMEOUT
