"""Amazon Redshift: parts are copied by the cluster itself, straight from the manifest.

The connection is dbt-redshift's own, from the same credentials (password, IAM, serverless …). The
cluster reads the landing with the IAM role that ``REDSHIFT_IAM_ROLE`` names: no key is in the SQL.
https://docs.aws.amazon.com/redshift/latest/dg/r_COPY.html
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import redshift_connector
from dbt.adapters.exceptions import FailedToConnectError
from dbt.adapters.redshift.connections import get_connection_method

from millrace.catalog import IngestTable
from millrace.checksums.columns import Checksums
from millrace.errors import (
    CountMismatch,
    DeclarationError,
    RelationNotFound,
    SchemaConflict,
    SettingError,
    WarehouseBusy,
    WarehouseError,
    WarehouseRefused,
    WarehouseUnavailable,
)
from millrace.manifest import Manifest
from millrace.settings import Settings
from millrace.warehouses.base import (
    BATCH_COLUMN,
    LOADED_COLUMN,
    Landed,
    LedgerRow,
    Passed,
    ignored,
)
from millrace.warehouses.dialect import Dialect
from millrace.warehouses.expressions import naive, quote, raw
from millrace.warehouses.loads import tried_again
from millrace.warehouses.read_again import md5_of_parts, md5_of_rows
from millrace.warehouses.redshift.dialect import RedshiftDialect, sql_type
from millrace.warehouses.redshift.options import LIMITS, RedshiftOptions
from millrace.warehouses.sql import SqlWarehouse

# The cluster's timeout for a statement comes this much earlier than the client's.
_GRACE_SECONDS = 30
_CONNECT_SECONDS = 30
_FAREWELL_SECONDS = 5
# A host that answers no probe, or takes no data, counts as gone after a minute and a half.
_PROBES = {
    socket.TCP_KEEPIDLE: 60,
    socket.TCP_KEEPINTVL: 10,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 90_000,
}
_STAGED = "millrace_staged"
# A message quotes names and values, so it is matched as a whole where the SQLSTATE does not tell.
_IN_THE_WAY_STATES = {
    # A serialization failure, a deadlock.
    *("40001", "40P01"),
    # Another load has just created the missing schema or table. (Redshift checks unique keys only
    # in its own catalog.)
    *("42P06", "42P07", "23505"),
}
_IN_THE_WAY = re.compile(
    r"1023\b.*|Serializable isolation violation.*|.* conflict with concurrent transaction"
    r"|could not serialize access.*|deadlock detected"
    # A load that waited for the lock while the table was made anew.
    r"|table \S+ dropped by concurrent transaction|(schema|relation|table) \S+ already exists",
    re.IGNORECASE | re.DOTALL,
)
_NOT_LET_STATE = "42501"
_CANCELLED_STATE = "57014"
_DATA_STATES = "22"
# Redshift's own errors of values have no state of their own.
_UNCASTABLE = re.compile(r"(Invalid digit|Numeric data overflow|Overflow)\b.*", re.DOTALL)
_WRONG_LOGIN_STATES = {"28000", "28P01"}
_WRONG_LOGIN = re.compile(r"(FATAL: *)?password authentication failed for user .*", re.DOTALL)
_UNTRUSTED = "certificate verify failed"
_CONTEXT = re.compile(r"^\s*context:\s*(.*\S)", re.MULTILINE)

_ARROW_TYPES = {
    "boolean": pa.bool_(),
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "real": pa.float32(),
    "double precision": pa.float64(),
    "character varying": pa.string(),
    "binary varying": pa.binary(),
    "varbyte": pa.binary(),
    # JSON travels as text.
    "super": pa.string(),
    "date": pa.date32(),
    "timestamp without time zone": pa.timestamp("us"),
    "timestamp with time zone": pa.timestamp("us", "UTC"),
}

_BROKEN = (OSError, redshift_connector.InterfaceError, redshift_connector.OperationalError)


_tried_again = tried_again(4)


class RedshiftWarehouse(SqlWarehouse):
    """A Redshift cluster or workgroup.

    Args:
        credentials: dbt-redshift's credentials of the target.
        iam_role: The role of the cluster that reads the landing, by its ARN, or ``default``.
        statement_seconds: How many seconds one statement may take.
    """

    def __init__(
        self,
        credentials: Any,
        iam_role: str | None = None,
        statement_seconds: int = Settings.redshift_statement_seconds,
    ) -> None:
        self._credentials = credentials
        self._iam_role = iam_role
        self._statement_seconds = statement_seconds

    @property
    def name(self) -> str:
        """The cluster and the database."""
        host = self._credentials.host
        return " ".join(filter(None, ["redshift", host, self._credentials.database]))

    def check(self, passed: Passed = ignored) -> str:
        """Connect and ask for the version."""
        with self._session() as session:
            ((version,),) = session.run("SELECT version()")
        place = f"{self._credentials.host}:{self._credentials.port}/{self._credentials.database}"
        return f"{str(version).split(' on ')[0]} at {place}"

    def columns(self, schema: str, identifier: str) -> Mapping[str, str]:
        """The columns of a relation; see ``Warehouse.columns``."""
        with self._session() as session:
            # The information schema lacks those of late-binding views.
            rows = session.run(
                "SELECT column_name, data_type, character_maximum_length, numeric_precision, "
                "numeric_scale FROM svv_columns WHERE table_schema = ? AND table_name = ? "
                "ORDER BY ordinal_position",
                [schema, identifier],
            )
        return {name: _type_name(*described) for name, *described in rows}

    @_tried_again
    def load(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch; see ``Warehouse.load``."""
        return super().load(table, manifest, landed)

    @_tried_again
    def reload(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch in the place of all others; see ``Warehouse.reload``."""
        return super().reload(table, manifest, landed)

    def read(
        self, schema: str, identifier: str, columns: Sequence[str] | None, order_by: Sequence[str]
    ) -> pa.Table:
        """The rows of a mart; see ``Warehouse.read``."""
        relation = f"{quote(schema)}.{quote(identifier)}"
        with self._session() as session:
            known = dict(_described(session, schema, identifier))
            if not known:
                raise RelationNotFound(
                    f"There is no {schema}.{identifier} in {self._credentials.database}.",
                    fix="Build it: `dbt build`.",
                )
            chosen = list(columns or known)
            if missing := [name for name in (*chosen, *order_by) if name not in known]:
                raise RelationNotFound(
                    f"{schema}.{identifier} has no column {missing[0]}.",
                    fix="Correct `columns` or `order_by` in the declaration. "
                    f"Its columns: {', '.join(known)}.",
                )
            return session.table(
                f"SELECT {', '.join(map(quote, chosen))} FROM {relation} "
                f"ORDER BY {', '.join(f'{quote(name)} NULLS LAST' for name in order_by)}",
                [],
                {name: known[name] for name in chosen},
            )

    @contextmanager
    def _session(self) -> Iterator[RedshiftSession]:
        place = f"{self._credentials.host}:{self._credentials.port}"
        seconds = self._statement_seconds
        connection = self._connect(place)
        wire: socket.socket = connection._usock  # noqa: SLF001 it tells nobody else
        try:
            # The probes detect a host that is gone. Only the timeout of a statement detects a
            # cluster that is stuck.
            for option, value in _PROBES.items():
                wire.setsockopt(socket.IPPROTO_TCP, option, value)
            wire.settimeout(seconds + _GRACE_SECONDS)
            # Statements outside a transaction commit by themselves.
            connection.autocommit = True
            session = RedshiftSession(connection)
            session.run(f"SET statement_timeout TO {seconds * 1000}")
            yield session
        except redshift_connector.Error as error:
            raise _explain(error, place) from error
        except OSError as error:
            raise WarehouseBusy(
                f"The connection to Redshift at {place} broke: {error}.",
                fix="It may pass: try again. Nothing was loaded.",
            ) from error
        finally:
            # The cluster rolls back an open transaction anyway: do not wait long for the goodbye.
            with contextlib.suppress(redshift_connector.Error, OSError):
                wire.settimeout(_FAREWELL_SECONDS)
                connection.close()

    def _connect(self, place: str) -> Any:
        credentials = self._credentials
        if credentials.connect_timeout is None:
            credentials = replace(credentials, connect_timeout=_CONNECT_SECONDS)
        try:
            return get_connection_method(credentials)()
        except (redshift_connector.Error, FailedToConnectError, OSError) as error:
            text = _text(error)
            if _state(error) in _WRONG_LOGIN_STATES or _WRONG_LOGIN.fullmatch(text):
                raise WarehouseRefused(
                    f"Redshift at {place} refuses the user '{self._credentials.user}': {text}.",
                    fix="Correct the user or password that profiles.yml reads.",
                ) from None
            raise WarehouseUnavailable(
                f"Redshift at {place} cannot be reached: {text}.",
                fix="Name a file with the authority of its certificate: SSL_CERT_FILE."
                if _UNTRUSTED in text
                else "Check that the cluster runs, is not paused, and lets this machine in.",
            ) from error

    @contextmanager
    def _transaction(self, session: RedshiftSession) -> Iterator[None]:
        session.run("BEGIN")
        try:
            yield
        except Exception as error:
            # A broken connection has rolled back, and would let a ROLLBACK wait for ever. Whatever
            # ends the process (Ctrl-C, a task's timeout) closes the connection, which rolls back.
            if not isinstance(error, _BROKEN):
                with contextlib.suppress(redshift_connector.Error, OSError):
                    session.run("ROLLBACK")
            raise
        session.run("COMMIT")

    def _stage(
        self, session: RedshiftSession, table: IngestTable, manifest: Manifest, landed: Landed
    ) -> None:
        """Copy the parts into a temporary table, so that the raw table is locked only to insert.

        The raw table is created here too, before the transaction. A transaction sees the data as
        of its first statement, so its first statement has to be the lock.
        """
        self._make(session, table, manifest.schema)
        columns = ", ".join(
            f"{quote(field.name)} {self._type(field.type)}" for field in manifest.schema
        )
        session.run(f"DROP TABLE IF EXISTS {_STAGED}")
        session.run(f"CREATE TEMPORARY TABLE {_STAGED} ({columns}) DISTSTYLE EVEN")
        if not manifest.parts:
            return
        role = self._iam_role
        if not role:
            raise SettingError(
                "REDSHIFT_IAM_ROLE is not set.",
                fix="Set REDSHIFT_IAM_ROLE to the ARN of a role of the cluster that may read the "
                "landing (or to `default`).",
            )
        # The cluster reads S3 by itself: what is there both before and after is what it read.
        landed.verify(manifest)
        try:
            session.run(
                f"COPY {_STAGED} FROM {_literal(manifest.url)} "
                f"IAM_ROLE {'default' if role == 'default' else _literal(role)} "
                "FORMAT AS PARQUET MANIFEST"
            )
        except redshift_connector.ProgrammingError as error:
            text = _text(error)
            raise WarehouseError(
                f"Redshift cannot copy {manifest.url}: {text}{_load_errors(session)}",
                fix=_copy_fix(text),
            ) from error
        landed.verify(manifest)
        ((copied,),) = session.run(f"SELECT COUNT(*) FROM {_STAGED}")
        ((reported,),) = session.run("SELECT pg_last_copy_count()")
        if not copied == reported == manifest.rows:
            raise CountMismatch(
                f"{manifest.url} brought {copied:,} rows (COPY says {reported:,}); "
                f"it promises {manifest.rows:,}.",
                fix="Ingest the batch again: a new attempt lands beside it.",
            )

    def _claim(self, session: RedshiftSession, table: IngestTable, incoming: pa.Schema) -> None:
        session.run(f"LOCK TABLE {raw(table)}")

    def _columns(self, session: RedshiftSession, table: IngestTable) -> dict[str, pa.DataType]:
        return {
            name: type_
            for name, type_ in _described(session, table.schema, table.identifier)
            if name not in (BATCH_COLUMN, LOADED_COLUMN)
        }

    def _dialect(self, table: IngestTable) -> Dialect:
        return RedshiftDialect(_options(table).super)

    def _type(self, type_: pa.DataType) -> str:
        return sql_type(type_)

    def _column_type(self, table: IngestTable, field: pa.Field) -> str:
        return "SUPER" if field.name in _options(table).super else self._type(field.type)

    def _table_options(self, table: IngestTable, columns: Sequence[str]) -> str:
        """Keep the rows of one key on one slice, sorted as dbt asks for new ones."""
        declared = _options(table)
        known = {name.lower() for name in columns}
        for name in (declared.distkey, *(declared.sortkey or ()), *declared.super):
            if name is not None and name.lower() not in known:
                raise DeclarationError(
                    f"{table.file}: source table {table.key}: meta.ingest.redshift names the "
                    f"column {name}, which the batch does not have.",
                    fix=f"Its columns: {', '.join(columns)}.",
                )
        distkey = declared.distkey or next(iter(table.options.primary_key), None)
        sortkey = declared.sortkey if declared.sortkey is not None else (table.cursor_column,)
        is_kept = distkey is not None and distkey.lower() in known
        distribution = f" DISTKEY ({quote(str(distkey))})" if is_kept else ""
        order = [quote(name) for name in sortkey if name is not None and name.lower() in known]
        order.insert(0, LOADED_COLUMN)
        return f"{distribution} COMPOUND SORTKEY ({', '.join(order)})"

    def _retype(
        self, session: RedshiftSession, table: IngestTable, column: str, type_: pa.DataType
    ) -> None:
        """Retype a column with a new column, or a key with a new table.

        Redshift changes no type in place, but the length of a text.
        """
        if column.lower() in _key_columns(session, table):
            self._retype_key(session, table, column.lower(), type_)
            return
        retyped, sql_type = quote(f"{column}__retyped"), self._type(type_)
        session.run(f"ALTER TABLE {raw(table)} ADD COLUMN {retyped} {sql_type}")
        session.run(f"UPDATE {raw(table)} SET {retyped} = CAST({quote(column)} AS {sql_type})")
        session.run(f"ALTER TABLE {raw(table)} DROP COLUMN {quote(column)} CASCADE")
        session.run(f"ALTER TABLE {raw(table)} RENAME COLUMN {retyped} TO {quote(column)}")

    def _retype_key(
        self, session: RedshiftSession, table: IngestTable, column: str, type_: pa.DataType
    ) -> None:
        """Retype a key with a new table, which then replaces the old one.

        A key cannot be dropped, and Redshift does not document whether it can be changed in a
        transaction.
        """
        names = [name for name, _ in _described(session, table.schema, table.identifier)]
        values = ", ".join(
            f"CAST({quote(name)} AS {self._type(type_)}) AS {quote(name)}"
            if name == column
            else quote(name)
            for name in names
        )
        retyped = f"{quote(table.schema)}.{quote(f'{table.identifier}__retyped')}"
        session.run(
            f"CREATE TABLE {retyped}{self._table_options(table, names)} "
            f"AS SELECT {values} FROM {raw(table)}"
        )
        session.run(f"DROP TABLE {raw(table)} CASCADE")
        session.run(f"ALTER TABLE {retyped} RENAME TO {quote(table.identifier)}")

    def _cast_problem(self, error: Exception) -> str | None:
        is_cast = isinstance(error, redshift_connector.ProgrammingError) and (
            str(_state(error)).startswith(_DATA_STATES) or _UNCASTABLE.fullmatch(_message(error))
        )
        return _text(error) if is_cast else None

    def _views_on(self, session: RedshiftSession, table: IngestTable) -> list[str]:
        """The views that depend on the raw table; late-binding ones do not, so they stay."""
        rows = session.run(
            "SELECT DISTINCT view_space.nspname, view_class.relname FROM pg_depend "
            "JOIN pg_rewrite ON pg_rewrite.oid = pg_depend.objid "
            "JOIN pg_class AS view_class ON view_class.oid = pg_rewrite.ev_class "
            "JOIN pg_namespace AS view_space ON view_space.oid = view_class.relnamespace "
            "JOIN pg_class AS raw_class ON raw_class.oid = pg_depend.refobjid "
            "JOIN pg_namespace AS raw_space ON raw_space.oid = raw_class.relnamespace "
            "WHERE CAST(raw_space.nspname AS VARCHAR) = ? "
            "AND CAST(raw_class.relname AS VARCHAR) = ? AND view_class.oid <> raw_class.oid",
            [table.schema, table.identifier],
        )
        return sorted(f"{schema}.{name}" for schema, name in rows)

    def _insert(
        self,
        session: RedshiftSession,
        table: IngestTable,
        manifest: Manifest,
        columns: Sequence[str],
        loaded_at: datetime,
        landed: Landed,
    ) -> None:
        names = ", ".join(map(quote, columns))
        values = ", ".join(
            f"JSON_PARSE({quote(name)})" if name in _options(table).super else quote(name)
            for name in columns
        )
        session.run(
            f"INSERT INTO {raw(table)} ({names}, {BATCH_COLUMN}, {LOADED_COLUMN}) "
            f"SELECT {values}, ?, CAST(? AS TIMESTAMP) FROM {_STAGED}",
            [manifest.batch.id, naive(loaded_at)],
        )
        ((count,),) = session.run(
            f"SELECT COUNT(*) FROM {raw(table)} WHERE {BATCH_COLUMN} = ? AND {LOADED_COLUMN} = ?",
            [manifest.batch.id, naive(loaded_at)],
        )
        if count != manifest.rows:
            raise CountMismatch(
                f"{raw(table)} got {count:,} rows of {manifest.url}, "
                f"which promises {manifest.rows:,}.",
                fix="Ingest the batch again: a new attempt lands beside it.",
            )

    def _checksums(
        self,
        session: RedshiftSession,
        table: IngestTable,
        manifest: Manifest,
        columns: Sequence[str],
        loaded_at: datetime,
        landed: Landed,
    ) -> tuple[Checksums, Checksums]:
        """Redshift has no CRC-32, so the parts are read once more, for the MD5 of their values."""
        names = [name for name in columns if name not in _options(table).super]
        rows = f"{raw(table)} WHERE {BATCH_COLUMN} = ? AND {LOADED_COLUMN} = ?"
        parameters = [manifest.batch.id, naive(loaded_at)]
        found = md5_of_rows(session, RedshiftDialect(), rows, manifest.schema, names, parameters)
        return md5_of_parts(manifest, landed, names), found


class RedshiftSession:
    """A connection to the cluster."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; see ``Session.run``."""
        with self._connection.cursor() as cursor:
            cursor.paramstyle = "qmark"
            cursor.execute(statement, tuple(parameters))
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def table(
        self, query: str, parameters: Sequence[Any], types: Mapping[str, pa.DataType]
    ) -> pa.Table:
        """The rows of a query; see ``Session.table``."""
        return _table(self.run(query, parameters), types)


def _table(rows: Sequence[tuple[Any, ...]], types: Mapping[str, pa.DataType]) -> pa.Table:
    values = zip(*rows, strict=True) if rows else ([] for _ in types)
    return pa.table(
        {
            name: pa.array(list(column), type_)
            for (name, type_), column in zip(types.items(), values, strict=True)
        }
    )


def _options(table: IngestTable) -> RedshiftOptions:
    options = table.of_warehouse.get("redshift", RedshiftOptions())
    if not isinstance(options, RedshiftOptions):
        raise TypeError(f"{options!r} is of another kind of warehouse")
    return options


def _described(
    session: RedshiftSession, schema: str, identifier: str
) -> list[tuple[str, pa.DataType]]:
    """A relation's columns with their Arrow types, in order; none where there is no relation."""
    rows = session.run(
        "SELECT column_name, data_type, numeric_precision, numeric_scale "
        "FROM information_schema.columns WHERE table_schema = ? AND table_name = ? "
        "ORDER BY ordinal_position",
        [schema, identifier],
    )
    described = []
    for name, data_type, precision, scale in rows:
        # Redshift always has a precision; its stand-in, like PostgreSQL, has none for a sum.
        if data_type == "numeric" and precision is not None:
            described.append((name, pa.decimal128(precision, scale)))
        elif data_type in _ARROW_TYPES:
            described.append((name, _ARROW_TYPES[data_type]))
        else:
            without = " without a precision" if data_type == "numeric" else ""
            raise SchemaConflict(
                f"{schema}.{identifier}.{name} is of the type {data_type}{without}, which "
                "Millrace does not read.",
                fix="In a model, cast it to another, such as decimal(18, 2) or varchar. A raw "
                "table is Millrace's to make: rename this one out of the way.",
            )
    return described


def _type_name(data_type: str, length: int | None, precision: int | None, scale: int | None) -> str:
    """A type with its length, or with its precision and scale, as it is written in SQL."""
    if data_type == "numeric":
        return f"{data_type}({precision},{scale})"
    return f"{data_type}({length})" if length else data_type


def _key_columns(session: RedshiftSession, table: IngestTable) -> set[str]:
    """The columns of the raw table's distribution and sort keys."""
    rows = session.run(
        "SELECT column_name FROM svv_redshift_columns WHERE database_name = current_database() "
        "AND schema_name = ? AND table_name = ? AND (distkey OR sortkey <> 0)",
        [table.schema, table.identifier],
    )
    return {name for (name,) in rows}


def _load_errors(session: RedshiftSession) -> str:
    """Redshift's errors for the rows that the last COPY refused."""
    with contextlib.suppress(redshift_connector.Error):
        rows = session.run(
            "SELECT file_name, line_number, column_name, error_message FROM sys_load_error_detail "
            "WHERE session_id = pg_backend_pid() ORDER BY start_time DESC LIMIT 5"
        )
        return "".join(
            f"\n  {file.strip()}, line {line}, column {column.strip()}: {text.strip()}"
            for file, line, column, text in rows
        )
    return ""


def _explain(error: redshift_connector.Error, place: str) -> WarehouseError:
    text = _text(error)
    if _state(error) in _IN_THE_WAY_STATES or _IN_THE_WAY.fullmatch(_message(error)):
        return WarehouseBusy(
            f"Another transaction of Redshift at {place} was in the way: {text}.",
            fix="It may pass: try again. Nothing was loaded.",
        )
    if _state(error) == _NOT_LET_STATE:
        return WarehouseRefused(
            f"Redshift at {place} does not let us: {text}.",
            fix="Grant the loader USAGE and CREATE on the schemas that it loads into.",
        )
    if _state(error) == _CANCELLED_STATE:
        return WarehouseUnavailable(
            f"Redshift at {place} cancelled a statement: {text}. Nothing was loaded.",
            fix="See what it waited for; REDSHIFT_STATEMENT_TIMEOUT is how many seconds one may "
            "take.",
        )
    if isinstance(error, _BROKEN):
        return WarehouseBusy(
            f"The connection to Redshift at {place} broke: {text}.",
            fix="It may pass: try again. Nothing was loaded.",
        )
    return WarehouseError(
        f"Redshift at {place} refuses: {text}.", fix="Look the message up; nothing was loaded."
    )


def _copy_fix(text: str) -> str:
    if "not authorized" in text or "AccessDenied" in text:
        return "Attach the role of REDSHIFT_IAM_ROLE to the cluster, and let it read the landing."
    if "longer than" in text:
        return (
            f"Shorten it in the source to {LIMITS.text_bytes:,} bytes, declare `pii: drop` for it, "
            "or `on_bad_value: null` or `quarantine` for the table."
        )
    return "Ingest the batch again: a new attempt lands beside it."


def _text(error: Exception) -> str:
    """The message of an error and its details."""
    detail = str(_fields(error).get("D", "")).strip()
    # Redshift's details repeat the message, and their line "context" says what is wrong.
    if context := _CONTEXT.search(detail):
        detail = context[1]
    return ": ".join(filter(None, [_message(error), detail]))


def _message(error: Exception) -> str:
    # What was in the driver's way follows its own words.
    said = ": ".join(map(str, error.args))
    return str(_fields(error).get("M") or said or error)


def _state(error: Exception) -> str | None:
    """The SQLSTATE that the server gave; None where it gave none."""
    return _fields(error).get("C")


def _fields(error: Exception) -> dict[str, str]:
    """The fields of the server's error, by their letters in the protocol, as the driver does."""
    first = error.args[0] if error.args else None
    return first if isinstance(first, dict) else {}


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
