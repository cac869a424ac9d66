"""DuckDB: the warehouse on a laptop, one file."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from millrace.catalog import IngestTable
from millrace.checksums.columns import Checksums, Tally
from millrace.errors import (
    CountMismatch,
    RelationNotFound,
    SchemaConflict,
    WarehouseError,
    WarehouseLocked,
    WarehouseRefused,
)
from millrace.manifest import Manifest
from millrace.warehouses.base import (
    BATCH_COLUMN,
    LOADED_COLUMN,
    Landed,
    LedgerRow,
    Passed,
    ignored,
)
from millrace.warehouses.dialect import Dialect
from millrace.warehouses.duckdb.dialect import DuckDBDialect
from millrace.warehouses.expressions import naive, quote, raw
from millrace.warehouses.sql import SqlWarehouse

_TYPES = {
    pa.bool_(): "BOOLEAN",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", "UTC"): "TIMESTAMP WITH TIME ZONE",
}
_ARROW_TYPES = {name: type_ for type_, name in _TYPES.items()}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")
# DuckDB's answer to Ctrl-C in the middle of a statement.
_INTERRUPTED = "Query interrupted"
_LOCKED = "IO Error: Could not set lock on file"
_HOLDER = re.compile(r"\(PID (\d+)\)")
# Longer than somebody who only looks holds the file: `millrace status`, the page in Airflow.
_PATIENCE_SECONDS = 5
_PAUSE_SECONDS = 0.1


class DuckDBWarehouse(SqlWarehouse):
    """A DuckDB file; its lock lets one process in at a time, and others wait for some seconds.

    Args:
        path: The file. It is created if it is missing; its folder is not.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, passed: Passed = ignored) -> str:
        """Open the file for writing."""
        with self._session() as session:
            ((version,),) = session.run("SELECT version()")
        return f"DuckDB {version} at {self._path}"

    @property
    def name(self) -> str:
        """The file's name and a hash of its path: tells files apart without showing the folder."""
        folder = sha256(str(self._path.resolve()).encode()).hexdigest()[:8]
        return f"duckdb {self._path.name} {folder}"

    def ledgers(self, tables: Sequence[IngestTable]) -> Mapping[str, list[LedgerRow]]:
        """The ledgers of tables; see ``Warehouse.ledgers``."""
        if not self._path.exists():
            # Connecting would create the file.
            return {table.key: [] for table in tables}
        return super().ledgers(tables)

    def raw_types(self, table: IngestTable) -> Mapping[str, pa.DataType]:
        """The raw table's columns; see ``Warehouse.raw_types``."""
        return super().raw_types(table) if self._path.exists() else {}

    def columns(self, schema: str, identifier: str) -> Mapping[str, str]:
        """The columns of a relation; see ``Warehouse.columns``."""
        if not self._path.exists():
            return {}
        with self._session() as session:
            return _described(session, schema, identifier)

    def read(
        self, schema: str, identifier: str, columns: Sequence[str] | None, order_by: Sequence[str]
    ) -> pa.Table:
        """The rows of a mart; see ``Warehouse.read``."""
        relation = f"{quote(schema)}.{quote(identifier)}"
        names = ", ".join(map(quote, columns)) if columns else "*"
        order = ", ".join(f"{quote(name)} NULLS LAST" for name in order_by)
        with self._session() as session:
            try:
                return session.connection.sql(
                    f"SELECT {names} FROM {relation} ORDER BY {order}"
                ).to_arrow_table()
            except duckdb.CatalogException:
                raise RelationNotFound(
                    f"There is no {schema}.{identifier} in {self._path}.",
                    fix="Build it: `dbt build`.",
                ) from None
            except duckdb.BinderException as error:
                raise RelationNotFound(
                    f"{schema}.{identifier} lacks a column that is asked for: "
                    f"{str(error).splitlines()[0]}",
                    fix="Correct `columns` or `order_by` in the declaration.",
                ) from None

    @contextmanager
    def _session(self) -> Iterator[DuckDBSession]:
        connection = self._connect()
        try:
            # Widening a DATE or a TIMESTAMP must not depend on the laptop's time zone.
            connection.execute("SET TimeZone = 'UTC'")
            # To keep a part's rows in their order, threads would have to wait for each other.
            connection.execute("SET preserve_insertion_order = false")
            yield DuckDBSession(connection)
        except duckdb.Error as error:
            raise _explain(error, self._path) from error
        except RuntimeError as error:
            if str(error) != _INTERRUPTED:
                raise
            raise KeyboardInterrupt from None
        finally:
            # If the disk is full, what cannot be written into the file stays in the WAL beside it.
            with contextlib.suppress(duckdb.Error):
                connection.close()

    @retry(
        retry=retry_if_exception_type(WarehouseLocked),
        stop=stop_after_delay(_PATIENCE_SECONDS),
        wait=wait_fixed(_PAUSE_SECONDS),
        reraise=True,
    )
    def _connect(self) -> duckdb.DuckDBPyConnection:
        if not self._path.parent.is_dir():
            # If the folder were created, a mistyped path would be a second, empty warehouse.
            raise WarehouseRefused(
                f"There is no folder {self._path.parent} for the DuckDB file {self._path.name}.",
                fix="Correct the target's `path` in profiles.yml, or make the folder. A relative "
                "path starts where profiles.yml is.",
            )
        try:
            return duckdb.connect(str(self._path))
        except duckdb.IOException as error:
            if not str(error).startswith(_LOCKED):
                raise self._unfit(error) from error
            holder = _HOLDER.search(str(error))
            by = f" (process {holder[1]})" if holder else ""
            raise WarehouseLocked(
                f"Another process{by} holds the DuckDB file {self._path}.",
                fix="Wait until it is done, or close it (a dbt run, a notebook, a DuckDB "
                "shell); DuckDB lets one process write at a time.",
            ) from None
        except (duckdb.Error, OSError) as error:
            raise self._unfit(error) from error

    def _unfit(self, error: Exception) -> WarehouseRefused:
        return WarehouseRefused(
            f"The DuckDB file {self._path} cannot be opened: {_said(error)}.",
            fix="Let the target's `path` in profiles.yml name a file that you may write, and that "
            "DuckDB made.",
        )

    @contextmanager
    def _transaction(self, session: DuckDBSession) -> Iterator[None]:
        session.connection.begin()
        try:
            yield
        except BaseException:
            # An error may have ended the transaction already.
            with contextlib.suppress(duckdb.Error):
                session.connection.rollback()
            raise
        session.connection.commit()

    def _claim(self, session: DuckDBSession, table: IngestTable, incoming: pa.Schema) -> None:
        self._make(session, table, incoming)

    def _columns(self, session: DuckDBSession, table: IngestTable) -> dict[str, pa.DataType]:
        found = _described(session, table.schema, table.identifier)
        return {
            name: _arrow_type(data_type, f"{table.schema}.{table.identifier}.{name}")
            for name, data_type in found.items()
            if name not in (BATCH_COLUMN, LOADED_COLUMN)
        }

    def _dialect(self, table: IngestTable) -> Dialect:
        return DuckDBDialect()

    def _type(self, type_: pa.DataType) -> str:
        if pa.types.is_decimal(type_):
            return f"DECIMAL({type_.precision},{type_.scale})"
        return _TYPES[type_]

    def _retype(
        self, session: DuckDBSession, table: IngestTable, column: str, type_: pa.DataType
    ) -> None:
        name, sql_type = quote(column), self._type(type_)
        # DuckDB casts deleted rows too, and these need not fit.
        session.run(
            f"ALTER TABLE {raw(table)} ALTER {name} TYPE {sql_type} "
            f"USING TRY_CAST({name} AS {sql_type})"
        )

    def _cast_problem(self, error: Exception) -> str | None:
        is_cast = isinstance(error, duckdb.ConversionException | duckdb.OutOfRangeException)
        return _said(error) if is_cast else None

    def _insert(
        self,
        session: DuckDBSession,
        table: IngestTable,
        manifest: Manifest,
        columns: Sequence[str],
        loaded_at: datetime,
        landed: Landed,
    ) -> None:
        names = ", ".join(map(quote, columns))
        for part in manifest.parts:
            with landed.local_copy(part) as path:
                ((count,),) = session.run(
                    f"INSERT INTO {raw(table)} ({names}, {BATCH_COLUMN}, {LOADED_COLUMN}) "
                    f"SELECT {names}, ?, ? FROM read_parquet(?)",
                    [manifest.batch.id, naive(loaded_at), str(path)],
                )
            if count != part.rows:
                raise CountMismatch(
                    f"{part.url} brought {count:,} rows; its manifest says {part.rows:,}.",
                    fix="Ingest the batch again: a new attempt lands beside it.",
                )

    def _checksums(
        self,
        session: DuckDBSession,
        table: IngestTable,
        manifest: Manifest,
        columns: Sequence[str],
        loaded_at: datetime,
        landed: Landed,
    ) -> tuple[Checksums, Checksums]:
        schema = pa.schema([manifest.schema.field(name) for name in columns])
        values = ", ".join(
            f"CAST({quote(field.name)} AS {self._type(field.type)}) AS {quote(field.name)}"
            for field in schema
        )
        reader = session.connection.sql(
            f"SELECT {values} FROM {raw(table)} WHERE {BATCH_COLUMN} = ? AND {LOADED_COLUMN} = ?",
            params=[manifest.batch.id, naive(loaded_at)],
        ).to_arrow_reader()
        tally = Tally(schema)
        for batch in reader:
            tally.add(batch.cast(schema))
        return manifest.checksums or {}, tally.checksums


class DuckDBSession:
    """A connection to the file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection = connection

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Run a statement; see ``Session.run``."""
        return self.connection.execute(statement, list(parameters)).fetchall()

    def table(
        self, query: str, parameters: Sequence[Any], types: Mapping[str, pa.DataType]
    ) -> pa.Table:
        """The rows of a query; see ``Session.table``."""
        found = self.connection.sql(query, params=list(parameters))
        return found.to_arrow_table().cast(pa.schema(types.items()))


def _described(session: DuckDBSession, schema: str, identifier: str) -> dict[str, str]:
    """A relation's columns with DuckDB's types, in order; none where there is no relation."""
    return dict(
        session.run(
            "SELECT column_name, data_type FROM information_schema.columns "
            "WHERE table_catalog = current_database() AND table_schema = ? AND table_name = ? "
            "ORDER BY ordinal_position",
            [schema, identifier],
        )
    )


def _explain(error: duckdb.Error, path: Path) -> WarehouseError:
    said = _said(error)
    if said.endswith(os.strerror(errno.ENOSPC)):
        return WarehouseError(
            f"There is no room for the DuckDB file {path}: {said}.",
            fix="Free space there, or let the target's `path` in profiles.yml name a file where "
            "there is more. The warehouse is as it was before.",
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return WarehouseError(
            f"DuckDB at {path} does not have enough memory: {said}.",
            fix="Give the process more, or DuckDB room to spill to beside its file. The warehouse "
            "is as it was before.",
        )
    return WarehouseError(
        f"DuckDB at {path} refuses: {said}.",
        fix="Look the message up; the warehouse is as it was before.",
    )


def _said(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")


def _arrow_type(name: str, where: str) -> pa.DataType:
    if match := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(match[1]), int(match[2]))
    if name in _ARROW_TYPES:
        return _ARROW_TYPES[name]
    raise SchemaConflict(
        f"{where} is of the type {name}, which no batch brings.",
        fix="Let Millrace make its raw tables: rename this one out of the way.",
    )
