"""What every SQL warehouse does alike: the raw table, the ledger, one transaction around a load.

A kind of warehouse adds its connection, its types and its own bulk load.
"""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from millrace.batch import Interval
from millrace.catalog import IngestTable
from millrace.checksums.columns import differing
from millrace.errors import CountMismatch, SchemaConflict
from millrace.manifest import Manifest
from millrace.warehouses.base import (
    BATCH_COLUMN,
    LEDGER,
    LOADED_COLUMN,
    Landed,
    LedgerRow,
    quarantine_of,
)
from millrace.warehouses.evolution import (
    conflict,
    plan_evolution,
    refuse_ambiguous_names,
    refuse_other_columns,
)
from millrace.warehouses.expressions import cursor_bounds, naive, quote, raw
from millrace.warehouses.loads import (
    aware,
    is_read_again,
    new_row,
    refuse_taken,
    replaces,
    stamp,
    told_older,
)
from millrace.warehouses.quarantine import insert_records, trim
from millrace.warehouses.raw_rows import Session
from millrace.warehouses.reading import SqlReader

log = logging.getLogger(__name__)

_LEDGER_COLUMNS = (
    "table_name VARCHAR(512) NOT NULL",
    "batch_id VARCHAR(512) NOT NULL",
    "interval_start TIMESTAMP",
    "interval_end TIMESTAMP",
    "manifest_url VARCHAR(2048) NOT NULL",
    "row_count BIGINT NOT NULL",
    "byte_count BIGINT NOT NULL",
    "extracted_at TIMESTAMP NOT NULL",
    "loaded_at TIMESTAMP NOT NULL",
)
# What later versions keep, too: a ledger gets such a column with its next load.
_LATER_LEDGER_COLUMNS = {
    "verified": "VARCHAR(16)",
    "is_correction": "BOOLEAN",
    "quarantined": "BIGINT",
    "schema_changes": "VARCHAR(65535)",
    "salt_id": "VARCHAR(16)",
    "files": "VARCHAR(65535)",
}


class SqlWarehouse(SqlReader):
    """A warehouse that speaks SQL."""

    def ledgers(self, tables: Sequence[IngestTable]) -> Mapping[str, list[LedgerRow]]:
        """The ledgers of tables, in one query; see ``Warehouse.ledgers``."""
        found: dict[str, list[LedgerRow]] = {table.key: [] for table in tables}
        if not tables:
            return found
        with self._session() as session:
            schemas = _ledgers(session, {table.schema for table in tables})
            for row in _ledger(session, schemas, list(found)):
                found[row.table].append(row)
        return found

    def create(self, table: IngestTable, columns: pa.Schema) -> bool:
        """Make a raw table without rows; see ``Warehouse.create``."""
        refuse_ambiguous_names(table, columns)
        with self._session() as session, self._transaction(session):
            existing = self._columns(session, table)
            if existing:
                self._refuse_foreign(session, table)
                refuse_other_columns(table, existing, columns)
            self._make(session, table, columns)
        return not existing

    def load(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch; see ``Warehouse.load``."""
        refuse_ambiguous_names(table, manifest.schema)
        with self._session() as session:
            self._stage(session, table, manifest, landed)
            with self._transaction(session):
                self._claim(session, table, manifest.schema)
                earlier = self._ledger(session, table)
                interval = manifest.batch.interval
                replaced = [row for row in earlier if replaces(manifest.batch, row)]
                refuse_taken(table, manifest.batch, earlier)
                if replaced:
                    # First, because what is replaced need not fit the new columns.
                    _forget(
                        session,
                        table,
                        [row.batch_id for row in replaced],
                        has_quarantine=any(row.quarantined for row in replaced),
                    )
                columns, told = self._evolve(session, table, manifest.schema)
                for row in earlier:
                    if is_read_again(table, row, interval):
                        self._trim(session, table, row, manifest)
                row = new_row(table, manifest, stamp(earlier), told)
                self._fill(session, table, manifest, columns, row.loaded_at, landed)
                taken_back = self._take_back(session, table, row)
                self._insert_quarantined(session, table, manifest, row, landed)
                _write_ledger(session, table, row)
        if taken_back:
            log.warning("%s", told_older(table, taken_back))
        for text in told:
            log.warning("%s", text)
        return row

    def reload(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch in the place of all others; see ``Warehouse.reload``."""
        refuse_ambiguous_names(table, manifest.schema)
        beside = replace(table, identifier=f"{table.identifier}__reload")
        with self._session() as session:
            self._stage(session, table, manifest, landed)
            with self._transaction(session):
                self._claim(session, table, manifest.schema)
                self._refuse_foreign(session, table)
                earlier = self._ledger(session, table)
                row = new_row(table, manifest, stamp(earlier))
                self._create(session, beside, manifest.schema)
                names = manifest.schema.names
                self._fill(session, beside, manifest, names, row.loaded_at, landed)
                views = self._views_on(session, table)
                session.run(f"DROP TABLE {raw(table)} CASCADE")
                session.run(f"ALTER TABLE {raw(beside)} RENAME TO {quote(table.identifier)}")
                if any(row.quarantined for row in earlier):
                    session.run(f"DELETE FROM {raw(quarantine_of(table))}")
                self._insert_quarantined(session, table, manifest, row, landed)
                session.run(f"DELETE FROM {_ledger_of(table)} WHERE table_name = ?", [table.key])
                _write_ledger(session, table, row)
        if views:
            log.warning("%s", _told_dropped(table, views))
        return row

    @staticmethod
    def _ledger(session: Session, table: IngestTable) -> list[LedgerRow]:
        """A table's rows in its ledger, which ``_make`` has brought up to date."""
        return _ledger(session, {table.schema: set(_LATER_LEDGER_COLUMNS)}, [table.key])

    def discard(self, table: IngestTable, batch_id: str) -> None:
        """Delete a batch; see ``Warehouse.discard``."""
        with self._session() as session, self._transaction(session):
            _forget(session, table, [batch_id])

    def _refuse_foreign(self, session: Session, table: IngestTable) -> None:
        """Refuse to replace a table that Millrace did not make."""
        ((count,),) = session.run(
            "SELECT COUNT(DISTINCT column_name) FROM information_schema.columns "
            "WHERE table_schema = ? AND table_name = ? AND column_name IN (?, ?)",
            [table.schema, table.identifier, BATCH_COLUMN, LOADED_COLUMN],
        )
        if count != 2:
            raise SchemaConflict(
                f"{table.schema}.{table.identifier} lacks {BATCH_COLUMN} and {LOADED_COLUMN}, "
                "which every raw table has: Millrace did not make it, so it does not replace it.",
                fix="Rename it out of the way, or give the source table another `identifier`.",
            )

    @abstractmethod
    def _transaction(self, session: Any) -> AbstractContextManager[None]:
        """Commit at the end, or roll back on an exception."""

    def _stage(self, session: Any, table: IngestTable, manifest: Manifest, landed: Landed) -> None:
        """Bring the rows into the warehouse before the transaction, if that shortens its locks."""

    @abstractmethod
    def _claim(self, session: Any, table: IngestTable, incoming: pa.Schema) -> None:
        """Let one load of a table run at a time; from here on the raw table is there."""

    @abstractmethod
    def _type(self, type_: pa.DataType) -> str:
        """The warehouse's name of a type."""

    def _column_type(self, table: IngestTable, field: pa.Field) -> str:
        """The type of a raw table's column."""
        return self._type(field.type)

    def _table_options(self, table: IngestTable, columns: Sequence[str]) -> str:
        """What follows the columns of a new raw table."""
        return ""

    @abstractmethod
    def _retype(self, session: Any, table: IngestTable, column: str, type_: pa.DataType) -> None:
        """Give a column of the raw table another type, which every value in it fits."""

    @abstractmethod
    def _cast_problem(self, error: Exception) -> str | None:
        """What an error says of a value that cannot be cast; None if it is another error."""

    def _views_on(self, session: Any, table: IngestTable) -> list[str]:
        """The views that are dropped with the raw table."""
        return []

    @abstractmethod
    def _insert(
        self,
        session: Any,
        table: IngestTable,
        manifest: Manifest,
        columns: Sequence[str],
        loaded_at: datetime,
        landed: Landed,
    ) -> None:
        """Insert the batch's rows.

        Raises:
            CountMismatch: not as many rows arrived as the manifest promises.
        """

    def _fill(
        self,
        session: Any,
        table: IngestTable,
        manifest: Manifest,
        columns: Sequence[str],
        loaded_at: datetime,
        landed: Landed,
    ) -> None:
        """Insert the batch's rows, and see that their values are those that were landed.

        Raises:
            CountMismatch: they are not; names the columns.
        """
        self._insert(session, table, manifest, columns, loaded_at, landed)
        if table.options.verify not in (None, "values") or manifest.checksums is None:
            return
        expected, found = self._checksums(session, table, manifest, columns, loaded_at, landed)
        if names := differing(expected, found):
            raise CountMismatch(
                f"{raw(table)} got other values than {manifest.url} has, in the columns "
                f"{', '.join(names)}.",
                fix="Ingest the batch again: a new attempt lands beside it. The warehouse is as it "
                "was before.",
            )

    def _insert_quarantined(
        self,
        session: Session,
        table: IngestTable,
        manifest: Manifest,
        row: LedgerRow,
        landed: Landed,
    ) -> None:
        """Insert what was set aside of a batch; without such rows there need be no table."""
        if manifest.quarantine:
            place = raw(quarantine_of(table))
            insert_records(session, place, manifest, naive(row.loaded_at), landed)

    def _trim(
        self, session: Session, table: IngestTable, row: LedgerRow, manifest: Manifest
    ) -> None:
        """Delete from an earlier batch the rows that a batch with a lookback has read again."""
        start = manifest.batch.interval.start
        types = dict(zip(manifest.schema.names, manifest.schema.types, strict=True))
        bounds = cursor_bounds(self._dialect(table), table, types, Interval(start))
        if not bounds:
            # The cursor is hashed: older versions of rows stay, and dbt takes the newest.
            return
        [(since, bound)] = bounds
        condition, values = f"{BATCH_COLUMN} = ? AND {since}", [row.batch_id, bound]
        ((count,),) = session.run(f"SELECT COUNT(*) FROM {raw(table)} WHERE {condition}", values)
        session.run(f"DELETE FROM {raw(table)} WHERE {condition}", values)
        quarantined = row.quarantined
        if quarantined:
            quarantined = trim(
                session, raw(quarantine_of(table)), row.batch_id, bound.removesuffix("+00:00")
            )
        session.run(
            f"UPDATE {_ledger_of(table)} SET interval_end = ?, row_count = row_count - ?, "
            "quarantined = ? WHERE table_name = ? AND batch_id = ?",
            [naive(start), count, quarantined, table.key, row.batch_id],
        )

    def _take_back(self, session: Session, table: IngestTable, row: LedgerRow) -> int:
        """Delete the versions that come after those of a correction, which is what the source has.

        Returns:
            How many there were: a row that was restored at its source may be older than it was.
        """
        if not row.is_correction or table.cursor_column is None:
            return 0
        same = " AND ".join(
            f"again.{quote(name)} = {raw(table)}.{quote(name)}"
            for name in table.options.primary_key
        )
        cursor = quote(table.cursor_column)
        where = (
            f"{BATCH_COLUMN} <> ? AND EXISTS (SELECT 1 FROM {raw(table)} AS again WHERE {same} "
            f"AND again.{BATCH_COLUMN} = ? AND again.{LOADED_COLUMN} = ? "
            f"AND again.{cursor} < {raw(table)}.{cursor})"
        )
        values = [row.batch_id, row.batch_id, naive(row.loaded_at)]
        later = session.run(
            f"SELECT {BATCH_COLUMN}, COUNT(*) FROM {raw(table)} WHERE {where} "
            f"GROUP BY {BATCH_COLUMN}",
            values,
        )
        session.run(f"DELETE FROM {raw(table)} WHERE {where}", values)
        for batch_id, count in later:
            session.run(
                f"UPDATE {_ledger_of(table)} SET row_count = row_count - ? "
                "WHERE table_name = ? AND batch_id = ?",
                [count, table.key, batch_id],
            )
        return sum(count for _, count in later)

    def _evolve(
        self, session: Session, table: IngestTable, incoming: pa.Schema
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Change the raw table's columns as needed.

        Returns:
            The columns to insert, and what a person should know.
        """
        evolution = plan_evolution(table, self._columns(session, table), incoming)
        for name, type_ in evolution.add.items():
            column_type = self._column_type(table, pa.field(name, type_))
            session.run(f"ALTER TABLE {raw(table)} ADD COLUMN {quote(name)} {column_type}")
        for name, (before, after) in evolution.rewrite.items():
            self._refuse_misfits(session, table, name, before, after)
        retyped = {name: after for name, (_, after) in evolution.rewrite.items()}
        if not (evolution.widen or retyped):
            return evolution.insert, evolution.told
        views = self._views_on(session, table)
        for name, type_ in {**evolution.widen, **retyped}.items():
            self._retype(session, table, name, type_)
        dropped = sorted(set(views) - set(self._views_on(session, table)))
        told = [_told_dropped(table, dropped)] if dropped else []
        return evolution.insert, (*evolution.told, *told)

    def _refuse_misfits(
        self,
        session: Session,
        table: IngestTable,
        column: str,
        before: pa.DataType,
        after: pa.DataType,
    ) -> None:
        """Refuse a rewriting that changes a value: cast there and back, each must be the same."""
        name, changed = quote(column), {column: (before, after)}
        there = f"CAST({name} AS {self._type(after)})"
        back = f"CAST({there} AS {self._type(before)})"
        try:
            ((count,),) = session.run(f"SELECT COUNT(*) FROM {raw(table)} WHERE {back} <> {name}")
        except Exception as error:
            problem = self._cast_problem(error)
            if problem is None:
                raise
            raise conflict(table, changed, f"a value there does not fit ({problem})") from None
        if count:
            raise conflict(table, changed, f"{count:,} values there would not stay the same")

    def _make(self, session: Session, table: IngestTable, incoming: pa.Schema) -> None:
        """Make what is missing: the schema, its ledger, the raw table."""
        session.run(f"CREATE SCHEMA IF NOT EXISTS {quote(table.schema)}")
        columns = [*_LEDGER_COLUMNS, *map(" ".join, _LATER_LEDGER_COLUMNS.items())]
        session.run(f"CREATE TABLE IF NOT EXISTS {_ledger_of(table)} ({', '.join(columns)})")
        there = _ledgers(session, [table.schema])[table.schema]
        for name, type_ in _LATER_LEDGER_COLUMNS.items():
            if name not in there:
                session.run(f"ALTER TABLE {_ledger_of(table)} ADD COLUMN {name} {type_}")
        if not self._columns(session, table):
            self._create(session, table, incoming)

    def _create(self, session: Session, table: IngestTable, incoming: pa.Schema) -> None:
        """Make a raw table with the columns of a batch."""
        columns = [f"{quote(field.name)} {self._column_type(table, field)}" for field in incoming]
        columns.append(f"{BATCH_COLUMN} VARCHAR(512) NOT NULL")
        columns.append(f"{LOADED_COLUMN} TIMESTAMP NOT NULL")
        options = self._table_options(table, incoming.names)
        session.run(f"CREATE TABLE {raw(table)} ({', '.join(columns)}){options}")


def _ledger_of(table: IngestTable) -> str:
    return f"{quote(table.schema)}.{LEDGER}"


def _told_dropped(table: IngestTable, views: Sequence[str]) -> str:
    return (
        f"The new shape of {table.schema}.{table.identifier} has dropped the views that read it "
        f"({', '.join(views)}), and those that read them: `dbt build` makes dbt's own again."
    )


def _ledgers(session: Session, schemas: Collection[str]) -> dict[str, set[str]]:
    """The schemas that have a ledger, and which of the later columns it has."""
    places = ", ".join("?" * len(schemas))
    rows = session.run(
        "SELECT table_schema, column_name FROM information_schema.columns "
        f"WHERE table_name = ? AND table_schema IN ({places})",
        [LEDGER, *schemas],
    )
    found: dict[str, set[str]] = {
        schema: set() for schema in sorted({schema for schema, _ in rows})
    }
    for schema, column in rows:
        found[schema] |= {column} & _LATER_LEDGER_COLUMNS.keys()
    return found


def _ledger(
    session: Session, schemas: Mapping[str, Collection[str]], keys: Sequence[str]
) -> list[LedgerRow]:
    """The rows of tables in the ledgers of schemas, oldest load first."""
    if not schemas:
        return []
    places = ", ".join("?" * len(keys))
    selects = []
    for schema, there in schemas.items():
        later = [name if name in there else f"NULL AS {name}" for name in _LATER_LEDGER_COLUMNS]
        selects.append(
            "SELECT table_name, batch_id, interval_start, interval_end, manifest_url, row_count, "
            f"byte_count, extracted_at, loaded_at, {', '.join(later)} "
            f"FROM {quote(schema)}.{LEDGER} WHERE table_name IN ({places})"
        )
    rows = session.run(f"{' UNION ALL '.join(selects)} ORDER BY loaded_at", [*keys] * len(schemas))
    return [LedgerRow(*map(aware, row)) for row in rows]


def _forget(
    session: Session, table: IngestTable, batch_ids: Sequence[str], *, has_quarantine: bool = False
) -> None:
    """Delete batches from the raw table, from its quarantine, and from the ledger."""
    places = ", ".join("?" * len(batch_ids))
    for place in (table, quarantine_of(table)) if has_quarantine else (table,):
        session.run(f"DELETE FROM {raw(place)} WHERE {BATCH_COLUMN} IN ({places})", batch_ids)
    session.run(
        f"DELETE FROM {_ledger_of(table)} WHERE table_name = ? AND batch_id IN ({places})",
        [table.key, *batch_ids],
    )


def _write_ledger(session: Session, table: IngestTable, row: LedgerRow) -> None:
    values = {
        "table_name": row.table,
        "batch_id": row.batch_id,
        "interval_start": naive(row.start),
        "interval_end": naive(row.end),
        "manifest_url": row.manifest_url,
        "row_count": row.rows,
        "byte_count": row.size,
        "extracted_at": naive(row.extracted_at),
        "loaded_at": naive(row.loaded_at),
        "verified": row.verified,
        "is_correction": row.is_correction,
        "quarantined": row.quarantined,
        "schema_changes": row.schema_changes,
        "salt_id": row.salt_id,
        "files": row.files,
    }
    session.run(
        f"INSERT INTO {_ledger_of(table)} ({', '.join(values)}) "
        f"VALUES ({', '.join('?' * len(values))})",
        list(values.values()),
    )
