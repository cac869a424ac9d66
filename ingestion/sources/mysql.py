"""Tables of a MySQL or MariaDB server, streamed as Arrow record batches.

Read with mysqlclient's unbuffered cursor and no conversions: the values stay bytes until one
vectorised cast a column turns them into Arrow. That is exact, bounded in memory, and several
times faster than building Python objects (docs/decisions/ has the measurements' source).
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import MySQLdb
import MySQLdb.cursors
import pyarrow as pa

from ingestion.batch import Interval
from ingestion.catalog import IngestTable, MySQLOptions
from ingestion.errors import (
    ConnectionNotFound,
    DeclarationError,
    SourceMismatch,
    SourceRefused,
    SourceUnavailable,
)
from ingestion.sources.base import Extraction
from ingestion.sources.mysql_types import Column, column_of, quote, to_array

if TYPE_CHECKING:
    from ingestion.connections import Connection

log = logging.getLogger(__name__)

_BATCH_ROWS = 65_536
_BATCH_BYTES = 16 * 1024 * 1024
# Small fetches keep the rows, as Python objects, in the processor's cache.
_FETCH_ROWS = 2_000
# What a fetch may bring at most, going by the columns' types; of texts without a bound it brings
# the fewest rows that do not slow down the reading of short ones.
_FETCH_BYTES = 4 * 1024 * 1024
_FETCH_LONG_ROWS = 4
# Columns whose values may be longer than this are measured, to keep a batch to its size.
_SHORT_VALUE_BYTES = 255
_CONNECT_SECONDS = 10

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

    @contextmanager
    def extract(
        self, table: IngestTable, interval: Interval, *, without: frozenset[str] = frozenset()
    ) -> Iterator[Extraction]:
        """Stream the rows of an interval, as of one moment; see ``Source.extract``."""
        options = table.options
        if not isinstance(options, MySQLOptions):
            raise DeclarationError(
                f"{table.key} is not a MySQL table.", fix="Set its `kind` to mysql."
            )
        with self._connected() as session:
            relation = _Relation.find(session, options.table, self._connection)
            relation.check_key(session, options.primary_key)
            columns = relation.columns(without)
            session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
            where, bounds = relation.where(session, options.cursor, interval)
            query = (
                f"SELECT {', '.join(column.expression for column in columns)} "
                f"FROM {relation.quoted}{where}"
            )
            rows = session.stream(query, bounds)
            yield Extraction(_schema(columns), _record_batches(rows, columns, str(relation)))

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

    def run(self, statement: str) -> None:
        with self._client.cursor() as cursor:
            cursor.execute(statement)

    def rows(self, query: str, arguments: Sequence[str] = ()) -> list[tuple[str | None, ...]]:
        """A small result, as text."""
        with self._client.cursor() as cursor:
            cursor.execute(query, arguments)
            return [
                tuple(None if value is None else value.decode() for value in row)
                for row in cursor.fetchall()
            ]

    def stream(self, query: str, arguments: Sequence[Any]) -> Any:
        """An unbuffered cursor over a large result.

        It is never closed: that would read the rest of the result first. Its connection is.
        """
        cursor = self._client.cursor(MySQLdb.cursors.SSCursor)
        cursor.execute(query, arguments)
        return cursor


@dataclass(frozen=True)
class _Relation:
    """A table or view of the server.

    Attributes:
        database: Its database.
        name: Its name.
        is_view: A view has no indexes to check a key against.
        types: What ``information_schema.columns`` says of each column, by its name.
    """

    database: str
    name: str
    is_view: bool
    types: Mapping[str, Sequence[str | None]] = field(repr=False)

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
            "character_octet_length, is_nullable FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
            (database, name),
        )
        types = {str(column): facts for column, *facts in columns}
        return cls(database, name, found[0][0] == "VIEW", types)

    def columns(self, without: frozenset[str]) -> list[Column]:
        """What is selected.

        Raises:
            SourceMismatch: a column to leave out is not there: a misspelt one would be read.
        """
        for name in sorted(without):
            self._require(name, "`pii: drop`")
        return [self._column(name) for name in self.types if name not in without]

    def _column(self, name: str) -> Column:
        data_type, column_type, precision, scale, max_bytes, is_nullable = self.types[name]
        return column_of(
            name,
            str(data_type),
            str(column_type),
            precision=int(precision) if precision else None,
            scale=int(scale) if scale else None,
            max_bytes=int(max_bytes) if max_bytes else None,
            is_nullable=is_nullable == "YES",
            where=str(self),
        )

    def _require(self, name: str, declared_as: str) -> None:
        if name not in self.types:
            raise SourceMismatch(
                f"{self} has no column '{name}', which is declared as {declared_as}.",
                fix=f"Correct the declaration; its columns: {', '.join(self.types)}.",
            )

    def check_key(self, session: _Session, key: tuple[str, ...]) -> None:
        """Refuse a declared key that does not name a row."""
        for name in key:
            self._require(name, "its primary_key")
        if self.is_view:
            return
        unique: dict[str, set[str]] = {}
        for index, column, nullable in session.rows(
            "SELECT index_name, column_name, nullable FROM information_schema.statistics "
            "WHERE table_schema = %s AND table_name = %s AND non_unique = 0",
            (self.database, self.name),
        ):
            # NULLs are never equal, so a nullable column makes no key.
            unique.setdefault(str(index), set()).add(str(column) if nullable != "YES" else "")
        if not any(columns <= set(key) for columns in unique.values()):
            found = "; ".join(
                ", ".join(sorted(columns)) for columns in unique.values() if "" not in columns
            )
            raise SourceMismatch(
                f"{self} has no primary key or unique index on ({', '.join(key)}), "
                "which is declared as its primary_key.",
                fix=f"Declare one of its keys: {found}." if found else "Add the key in MySQL.",
            )

    def where(
        self, session: _Session, cursor: str | None, interval: Interval
    ) -> tuple[str, list[str]]:
        """The WHERE clause of an interval and its bound values."""
        if cursor is None:
            return "", []
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
        conditions, bounds = [], []
        for operator, bound in ((">=", interval.start), ("<", interval.end)):
            if bound is not None:
                conditions.append(f"{quote(cursor)} {operator} %s")
                moment = bound.astimezone(UTC).replace(tzinfo=None)
                bounds.append(moment.isoformat(" ", "microseconds"))
        return (f" WHERE {' AND '.join(conditions)}" if conditions else ""), bounds


def _schema(columns: Sequence[Column]) -> pa.Schema:
    return pa.schema([pa.field(column.name, column.type) for column in columns])


def _record_batches(
    cursor: Any, columns: Sequence[Column], relation: str
) -> Iterator[pa.RecordBatch]:
    no_dates: Counter[str] = Counter()
    while True:
        with _no_garbage_collection():
            rows = _collect(cursor, columns)
            if not rows:
                break
            batch = _record_batch(rows, columns, relation, no_dates)
            # The reader may keep us waiting: not with these in memory.
            del rows
        yield batch
    for name, count in no_dates.items():
        log.warning(
            "%s: column %s: %s dates that no calendar has (0000-00-00) are landed as NULL",
            *(relation, name, f"{count:,}"),
        )


def _collect(cursor: Any, columns: Sequence[Column]) -> list[tuple[bytes | None, ...]]:
    """Rows up to a number or a size, whichever comes first."""
    measured = [at for at, column in enumerate(columns) if column.max_bytes > _SHORT_VALUE_BYTES]
    longest = sum(column.max_bytes for column in columns)
    fetch = min(_FETCH_ROWS, max(_FETCH_LONG_ROWS, _FETCH_BYTES // longest))
    rows: list[tuple[bytes | None, ...]] = []
    size = 0
    while len(rows) < _BATCH_ROWS and size < _BATCH_BYTES:
        fetched = cursor.fetchmany(fetch)
        if not fetched:
            break
        rows.extend(fetched)
        size += sum(len(row[at] or b"") for row in fetched for at in measured)
    return rows


def _record_batch(
    rows: list[tuple[bytes | None, ...]],
    columns: Sequence[Column],
    relation: str,
    no_dates: Counter[str],
) -> pa.RecordBatch:
    arrays = []
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        array, count = to_array(values, column, relation)
        arrays.append(array)
        if count:
            no_dates[column.name] += count
    return pa.RecordBatch.from_arrays(arrays, schema=_schema(columns))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Rows are tuples of bytes and make no cycles: looking for some would take most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
