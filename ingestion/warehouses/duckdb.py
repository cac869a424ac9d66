"""DuckDB: the warehouse on a laptop, one file."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from ingestion.catalog import IngestTable
from ingestion.errors import (
    CountMismatch,
    RelationNotFound,
    SchemaConflict,
    WarehouseLocked,
    WarehouseUnavailable,
)
from ingestion.manifest import Manifest
from ingestion.warehouses.base import BATCH_COLUMN, LEDGER, LOADED_COLUMN, LedgerRow, LocalCopy
from ingestion.warehouses.evolution import plan_evolution

_TYPES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
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
_HOLDER = re.compile(r"PID (\d+)")


class DuckDBWarehouse:
    """A DuckDB file.

    Args:
        path: The file; it is made when it is missing.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> str:
        """Open the file for writing."""
        with self._connected() as connection:
            ((version,),) = connection.execute("SELECT version()").fetchall()
        return f"DuckDB {version} at {self._path}"

    def batches(self, table: IngestTable) -> list[LedgerRow]:
        """The table's ledger; see ``Warehouse.batches``."""
        if not self._path.exists():
            return []
        with self._connected() as connection:
            return _ledger(connection, table)

    def load(self, table: IngestTable, manifest: Manifest, local_copy: LocalCopy) -> LedgerRow:
        """Load a landed batch; see ``Warehouse.load``."""
        with self._connected() as connection, _transaction(connection):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {_quote(table.schema)}")
            _make_ledger(connection, table)
            columns = _prepare(connection, table, manifest.schema)
            earlier = _ledger(connection, table)
            # The file's lock makes loads one after another; the clock may still step back.
            loaded_at = max([_now(), *(row.loaded_at + _TICK for row in earlier)])
            replaced = [
                row.batch_id for row in earlier if manifest.batch.interval.contains(row.interval)
            ]
            _forget(connection, table, replaced)
            for part in manifest.parts:
                with local_copy(part) as path:
                    names = ", ".join(_quote(name) for name in columns)
                    ((count,),) = connection.execute(
                        f"INSERT INTO {_raw(table)} ({names}, {BATCH_COLUMN}, {LOADED_COLUMN}) "
                        f"SELECT {names}, ?, ? FROM read_parquet(?)",
                        [manifest.batch.id, _naive(loaded_at), str(path)],
                    ).fetchall()
                if count != part.rows:
                    raise CountMismatch(
                        f"{part.url} brought {count:,} rows; its manifest says {part.rows:,}.",
                        fix="Ingest the batch again: a new attempt lands beside it.",
                    )
            row = LedgerRow(
                table=table.key,
                batch_id=manifest.batch.id,
                start=manifest.batch.interval.start,
                end=manifest.batch.interval.end,
                manifest_url=manifest.url,
                rows=manifest.rows,
                size=manifest.size,
                extracted_at=manifest.extracted_at,
                loaded_at=loaded_at,
            )
            _write_ledger(connection, table, row)
        return row

    def read(
        self, schema: str, identifier: str, columns: Sequence[str] | None, order_by: Sequence[str]
    ) -> pa.Table:
        """The rows of a mart; see ``Warehouse.read``."""
        relation = f"{_quote(schema)}.{_quote(identifier)}"
        names = ", ".join(map(_quote, columns)) if columns else "*"
        order = ", ".join(f"{_quote(name)} NULLS LAST" for name in order_by)
        with self._connected() as connection:
            try:
                return connection.execute(
                    f"SELECT {names} FROM {relation} ORDER BY {order}"
                ).to_arrow_table()
            except duckdb.CatalogException:
                raise RelationNotFound(
                    f"There is no {schema}.{identifier} in {self._path}.",
                    fix="Build it: `dbt build`, or the DAG transform.",
                ) from None
            except duckdb.BinderException as error:
                raise RelationNotFound(
                    f"{schema}.{identifier} lacks a column that is asked for: "
                    f"{str(error).splitlines()[0]}",
                    fix="Correct `columns` or `order_by` in the declaration.",
                ) from None

    @contextmanager
    def _connected(self) -> Iterator[duckdb.DuckDBPyConnection]:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            connection = duckdb.connect(str(self._path))
        except (duckdb.Error, OSError) as error:
            text = str(error)
            if "lock" in text:
                holder = _HOLDER.search(text)
                by = f" (process {holder[1]})" if holder else ""
                raise WarehouseLocked(
                    f"Another process{by} holds the DuckDB file {self._path}.",
                    fix="Wait until it is done, or close it (a dbt run, a notebook, a DuckDB "
                    "shell); DuckDB lets one process write at a time.",
                ) from None
            raise WarehouseUnavailable(
                f"The DuckDB file {self._path} cannot be opened: {text.splitlines()[0]}",
                fix="Set DUCKDB_PATH to a file that you may write and that DuckDB made.",
            ) from error
        try:
            # Widening a DATE or a TIMESTAMP must not depend on the laptop's time zone.
            connection.execute("SET TimeZone = 'UTC'")
            yield connection
        finally:
            connection.close()


_TICK = timedelta(microseconds=1)


@contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        # An error may have ended the transaction already.
        with contextlib.suppress(duckdb.Error):
            connection.rollback()
        raise
    connection.commit()


def _prepare(
    connection: duckdb.DuckDBPyConnection, table: IngestTable, incoming: pa.Schema
) -> tuple[str, ...]:
    """Make or widen the raw table; returns the batch's columns that it takes."""
    existing = _columns(connection, table)
    evolution = plan_evolution(table, existing, incoming)
    if not existing:
        columns = [f"{_quote(field.name)} {_type(field.type)}" for field in incoming]
        columns += [f"{BATCH_COLUMN} VARCHAR NOT NULL", f"{LOADED_COLUMN} TIMESTAMP NOT NULL"]
        connection.execute(f"CREATE TABLE {_raw(table)} ({', '.join(columns)})")
        return tuple(incoming.names)
    for name, type_ in evolution.add.items():
        connection.execute(f"ALTER TABLE {_raw(table)} ADD COLUMN {_quote(name)} {_type(type_)}")
    for name, type_ in evolution.widen.items():
        connection.execute(
            f"ALTER TABLE {_raw(table)} ALTER COLUMN {_quote(name)} TYPE {_type(type_)}"
        )
    return evolution.insert


def _columns(connection: duckdb.DuckDBPyConnection, table: IngestTable) -> dict[str, pa.DataType]:
    rows = connection.execute(
        "SELECT column_name, data_type FROM information_schema.columns "
        "WHERE table_catalog = current_database() AND table_schema = ? AND table_name = ? "
        "ORDER BY ordinal_position",
        [table.schema, table.identifier],
    ).fetchall()
    return {
        name: _arrow_type(data_type, f"{table.schema}.{table.identifier}.{name}")
        for name, data_type in rows
        if name not in (BATCH_COLUMN, LOADED_COLUMN)
    }


def _make_ledger(connection: duckdb.DuckDBPyConnection, table: IngestTable) -> None:
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {_quote(table.schema)}.{LEDGER} ("
        "table_name VARCHAR NOT NULL, batch_id VARCHAR NOT NULL, interval_start TIMESTAMP, "
        "interval_end TIMESTAMP, manifest_url VARCHAR NOT NULL, row_count BIGINT NOT NULL, "
        "byte_count BIGINT NOT NULL, extracted_at TIMESTAMP NOT NULL, "
        "loaded_at TIMESTAMP NOT NULL)"
    )


def _ledger(connection: duckdb.DuckDBPyConnection, table: IngestTable) -> list[LedgerRow]:
    try:
        rows = connection.execute(
            "SELECT table_name, batch_id, interval_start, interval_end, manifest_url, row_count, "
            f"byte_count, extracted_at, loaded_at FROM {_quote(table.schema)}.{LEDGER} "
            "WHERE table_name = ? ORDER BY loaded_at",
            [table.key],
        ).fetchall()
    except duckdb.CatalogException:
        return []
    return [LedgerRow(*map(_aware, row)) for row in rows]


def _forget(
    connection: duckdb.DuckDBPyConnection, table: IngestTable, batch_ids: list[str]
) -> None:
    """Delete batches from the raw table and from the ledger."""
    connection.execute(
        f"DELETE FROM {_raw(table)} WHERE list_contains(?, {BATCH_COLUMN})", [batch_ids]
    )
    connection.execute(
        f"DELETE FROM {_quote(table.schema)}.{LEDGER} "
        "WHERE table_name = ? AND list_contains(?, batch_id)",
        [table.key, batch_ids],
    )


def _write_ledger(
    connection: duckdb.DuckDBPyConnection, table: IngestTable, row: LedgerRow
) -> None:
    connection.execute(
        f"INSERT INTO {_quote(table.schema)}.{LEDGER} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            *(row.table, row.batch_id, _naive(row.start), _naive(row.end), row.manifest_url),
            *(row.rows, row.size, _naive(row.extracted_at), _naive(row.loaded_at)),
        ],
    )


def _type(type_: pa.DataType) -> str:
    if pa.types.is_decimal(type_):
        return f"DECIMAL({type_.precision},{type_.scale})"
    return _TYPES[type_]


def _arrow_type(name: str, where: str) -> pa.DataType:
    if match := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(match[1]), int(match[2]))
    if name in _ARROW_TYPES:
        return _ARROW_TYPES[name]
    raise SchemaConflict(
        f"{where} is of the type {name}, which no batch brings.",
        fix="Let Millrace make its raw tables: rename this one out of the way.",
    )


def _raw(table: IngestTable) -> str:
    return f"{_quote(table.schema)}.{_quote(table.identifier)}"


def _quote(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _now() -> datetime:
    return datetime.now(UTC)


def _naive(time: datetime | None) -> Any:
    """The warehouse keeps UTC without a zone."""
    return None if time is None else time.astimezone(UTC).replace(tzinfo=None)


def _aware(value: Any) -> Any:
    return value.replace(tzinfo=UTC) if isinstance(value, datetime) else value
