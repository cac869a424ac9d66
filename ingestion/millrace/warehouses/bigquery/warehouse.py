"""Google BigQuery: parts are loaded by load jobs, and committed by one transaction.

The client is dbt-bigquery's own, from the same credentials (application default, service account,
workload identity …). A transaction holds no statement that makes or changes a table, so what is
needed of that comes before it, and is such that the old rows read as before.
https://cloud.google.com/bigquery/docs/transactions
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pyarrow as pa
from dbt.adapters.bigquery.clients import create_bigquery_client
from dbt_common.exceptions import DbtBaseException
from google.api_core.exceptions import GoogleAPICallError
from google.cloud import bigquery

from millrace import arrow_types
from millrace.bad_values import RECORDS
from millrace.catalog import IngestTable
from millrace.checksums.columns import Checksums, differing
from millrace.connections import masked
from millrace.errors import (
    CountMismatch,
    RelationNotFound,
    SchemaConflict,
    WarehouseBusy,
    WarehouseError,
    WarehouseRefused,
)
from millrace.manifest import Manifest, Part
from millrace.warehouses.base import (
    BATCH_COLUMN,
    LEDGER,
    LOADED_COLUMN,
    Landed,
    LedgerRow,
    Passed,
    ignored,
)
from millrace.warehouses.bigquery import statements as sql
from millrace.warehouses.bigquery.dialect import (
    BigQueryDialect,
    arrow_type,
    literal,
    options_of,
    quote,
)
from millrace.warehouses.bigquery.errors import explained, raised_by
from millrace.warehouses.bigquery.refusals import refuse_partitions, refuse_unfit
from millrace.warehouses.bigquery.session import BigQuerySession
from millrace.warehouses.bigquery.steps import steps_of_a_load
from millrace.warehouses.dialect import Dialect
from millrace.warehouses.evolution import (
    conflict,
    plan_evolution,
    refuse_ambiguous_names,
    refuse_other_columns,
)
from millrace.warehouses.loads import (
    aware,
    is_read_again,
    new_row,
    refuse_taken,
    replaces,
    stamp,
    told_older,
    tried_again,
)
from millrace.warehouses.raw_rows import Session
from millrace.warehouses.read_again import md5_of_parts, md5_of_rows
from millrace.warehouses.reading import SqlReader

log = logging.getLogger(__name__)

# A load that was killed leaves its staging tables behind for so long.
_STAGED_FOR = timedelta(days=1)
_IN_CLOUD_STORAGE = "gs://"
# https://cloud.google.com/bigquery/quotas#load_jobs
_MOST_URLS = 10_000
_NOT_OF_A_LABEL = re.compile(r"[^a-z0-9_-]")
_MOST_OF_A_LABEL = 63

# Loads of the tables of one dataset share its ledger, so they get into each other's way.
_tried_again = tried_again(10)


class BigQueryWarehouse(SqlReader):
    """The datasets of a project in one location.

    Args:
        credentials: dbt-bigquery's credentials of the target.
    """

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._project: str = credentials.database

    @property
    def name(self) -> str:
        """The project."""
        return f"bigquery {self._project}"

    def check(self, passed: Passed = ignored) -> str:
        """Try what a load needs, step by step; see ``Warehouse.check``."""
        with self._session() as session:
            for step in steps_of_a_load(session, self._credentials):
                try:
                    with explained(self._project):
                        step.attempt()
                except WarehouseError as error:
                    raise type(error)(f"{step.what}: no. {error.message}", fix=error.fix) from None
                passed(step.what)
        location = self._credentials.location or "the default location"
        return (
            f"BigQuery, project {self._project} in {location}: all that a load needs works in the "
            f"dataset {self._credentials.schema}"
        )

    def ledgers(self, tables: Sequence[IngestTable]) -> Mapping[str, list[LedgerRow]]:
        """The ledgers of tables; see ``Warehouse.ledgers``."""
        found: dict[str, list[LedgerRow]] = {table.key: [] for table in tables}
        with self._session() as session:
            for schema in sorted({table.schema for table in tables}):
                if (ledger := session.describe(schema, LEDGER)) is not None:
                    keys = [table.key for table in tables if table.schema == schema]
                    for row in _ledger(session, schema, keys, ledger):
                        found[row.table].append(row)
        return found

    def columns(self, schema: str, identifier: str) -> Mapping[str, str]:
        """The columns of a relation; see ``Warehouse.columns``."""
        with self._session() as session:
            found = session.describe(schema, identifier)
            return {field.name: _type_name(field) for field in found.schema} if found else {}

    def read(
        self, schema: str, identifier: str, columns: Sequence[str] | None, order_by: Sequence[str]
    ) -> pa.Table:
        """The rows of a mart; see ``Warehouse.read``."""
        with self._session() as session:
            found = session.describe(schema, identifier)
            if found is None:
                raise RelationNotFound(
                    f"There is no {schema}.{identifier} in {self._project}.",
                    fix="Build it: `dbt build`.",
                )
            known = _types_of(found)
            chosen = list(columns or known)
            if missing := [name for name in (*chosen, *order_by) if name not in known]:
                raise RelationNotFound(
                    f"{schema}.{identifier} has no column {missing[0]}.",
                    fix="Correct `columns` or `order_by` in the declaration. "
                    f"Its columns: {', '.join(known)}.",
                )
            order = ", ".join(f"{quote(name)} NULLS LAST" for name in order_by)
            rows = session.table(
                f"SELECT {', '.join(map(quote, chosen))} FROM {quote(schema)}.{quote(identifier)} "
                f"ORDER BY {order}",
                [],
                {name: known[name] for name in chosen},
            )
        undeclared = {field.name for field in found.schema if field.precision is None}
        return with_used_places(rows, undeclared & set(chosen))

    @_tried_again
    def create(self, table: IngestTable, columns: pa.Schema) -> bool:
        """Make a raw table without rows; see ``Warehouse.create``."""
        refuse_ambiguous_names(table, columns)
        refuse_unfit(table, columns)
        with self._session(table) as session:
            session.make_dataset(table.schema)
            found = session.describe(table.schema, table.identifier)
            if found:
                self._refuse_foreign(session, table)
                refuse_other_columns(table, self._columns(session, table), columns)
                _refuse_other_partitions(table, found)
            self._make(session, table, columns)
        return found is None

    @_tried_again
    def load(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch; see ``Warehouse.load``."""
        with self._staged(table, manifest, landed) as (session, staged):
            self._make(session, table, manifest.schema)
            earlier = _ledger(session, table.schema, [table.key])
            replaced = [row for row in earlier if replaces(manifest.batch, row)]
            refuse_taken(table, manifest.batch, earlier)
            told = self._evolve(session, table, manifest, replaced)
            row = new_row(table, manifest, stamp(earlier), told)
            commit = sql.Commit(table, row, earlier, self._columns(session, table))
            again = [row for row in earlier if is_read_again(table, row, manifest.batch.interval)]
            self._commit(
                session,
                [
                    commit.guard(),
                    *commit.forget(replaced),
                    *(statement for earlier_row in again for statement in commit.trim(earlier_row)),
                    *commit.insert(staged.rows, manifest.schema),
                    *commit.take_back(),
                    *([commit.insert_quarantine(staged.aside)] if staged.aside else []),
                    commit.write_ledger(),
                ],
            )
            kept = [one for one in earlier if not replaces(manifest.batch, one)]
            if row.is_correction and (taken_back := self._taken_back(session, table, kept)):
                log.warning("%s", told_older(table, taken_back))
        for text in told:
            log.warning("%s", text)
        return row

    @_tried_again
    def reload(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch in the place of all others; see ``Warehouse.reload``.

        No transaction holds the statement that puts the new table in the place of the old one. The
        job that does so also writes the ledger: once it has begun, it needs nobody here.
        """
        with self._staged(table, manifest, landed) as (session, staged):
            self._refuse_foreign(session, table)
            if manifest.quarantine:
                session.run(sql.create_quarantine(table))
            self._make(session, table, manifest.schema)
            earlier = _ledger(session, table.schema, [table.key])
            row = new_row(table, manifest, stamp(earlier))
            types = dict(zip(manifest.schema.names, manifest.schema.types, strict=True))
            commit = sql.Commit(table, row, earlier, types)
            self._commit(
                session,
                [
                    commit.guard(),
                    *commit.empty_ledger(),
                    *([commit.insert_quarantine(staged.aside)] if staged.aside else []),
                    commit.write_ledger(),
                ],
                first=[commit.guard(), commit.replace(staged.rows, manifest.schema)],
            )
            _remember(session, table, manifest.schema)
        return row

    @_tried_again
    def discard(self, table: IngestTable, batch_id: str) -> None:
        """Delete a batch; see ``Warehouse.discard``."""
        with self._session(table) as session:
            session.transaction(sql.delete_batches(table, [batch_id], has_quarantine=False))

    def _dialect(self, table: IngestTable) -> Dialect:
        return BigQueryDialect(options_of(table).json_columns)

    @contextmanager
    def _session(
        self, table: IngestTable | None = None, run: str | None = None
    ) -> Iterator[BigQuerySession]:
        labels = {"millrace_table": table.key, "millrace_run": run} if table else {}
        said = {name: _label(value) for name, value in labels.items() if value}
        said |= options_of(table).labels if table else {}
        with explained(self._project):
            client = self._connect()
            session = BigQuerySession(client, self._credentials, said)
            try:
                yield session
            finally:
                client.close()
                if run and table:
                    billed = session.bytes_billed / 1_000_000
                    log.info("%s: Google billed %s MB of this load", table.key, f"{billed:,.1f}")

    def _connect(self) -> bigquery.Client:
        try:
            return create_bigquery_client(self._credentials)
        except (DbtBaseException, OSError, ValueError) as error:
            # dbt's own words, and those of a key's file that cannot be read.
            said = masked(" ".join(str(error).split()))
            raise WarehouseRefused(
                f"Google's credentials of the dbt target do not work: {said}.",
                fix="Correct `method` and what belongs to it in profiles.yml, or log in: "
                "`gcloud auth application-default login`.",
            ) from None

    @contextmanager
    def _staged(
        self, table: IngestTable, manifest: Manifest, landed: Landed
    ) -> Iterator[tuple[BigQuerySession, _Staged]]:
        """The batch's rows in tables of their own, which are those that were landed."""
        refuse_ambiguous_names(table, manifest.schema)
        refuse_unfit(table, manifest.schema)
        token = uuid4().hex[:8]
        names = [f"{table.identifier}__staged_{token}", f"{table.identifier}__aside_{token}"]
        places = [f"{quote(table.schema)}.{quote(name)}" for name in names]
        with self._session(table, manifest.batch.id) as session:
            session.make_dataset(table.schema)
            landed.verify(manifest)
            try:
                self._stage(session, table, names[0], manifest.schema, manifest.parts, landed)
                landed.verify(manifest)
                self._verify(session, table, manifest, places[0], landed)
                if manifest.quarantine:
                    parts = manifest.quarantine
                    self._stage(session, table, names[1], RECORDS, parts, landed)
                yield session, _Staged(places[0], places[1] if manifest.quarantine else None)
            finally:
                # They expire anyway.
                with suppress(Exception):
                    for name in names:
                        session.drop(table.schema, name)

    def _stage(
        self,
        session: BigQuerySession,
        table: IngestTable,
        name: str,
        schema: pa.Schema,
        parts: Sequence[Part],
        landed: Landed,
    ) -> None:
        place = f"{quote(table.schema)}.{quote(name)}"
        expires = datetime.now(UTC) + _STAGED_FOR
        session.run(sql.create_staged(place, schema, expires))
        target = f"{table.schema}.{name}"
        urls = [part.url for part in parts]
        if all(url.startswith(_IN_CLOUD_STORAGE) for url in urls):
            for at in range(0, len(urls), _MOST_URLS):
                some = urls[at : at + _MOST_URLS]
                session.load(some, target, _job_id(name, *some))
        else:
            for part in parts:
                with landed.local_copy(part) as path:
                    session.upload(path, target, _job_id(name, part.url))
        promised = sum(part.rows for part in parts)
        ((count,),) = session.run(f"SELECT COUNT(*) FROM {place}")
        if count != promised:
            raise CountMismatch(
                f"The parts of {table.key} brought {count:,} rows; their manifest promises "
                f"{promised:,}.",
                fix="Ingest the batch again: a new attempt lands beside it.",
            )

    def _verify(
        self,
        session: BigQuerySession,
        table: IngestTable,
        manifest: Manifest,
        staged: str,
        landed: Landed,
    ) -> None:
        """Refuse rows with other values than were landed, or of too many partitions."""
        column = options_of(table).partition_by
        if column != LOADED_COLUMN:
            ((days,),) = session.run(
                f"SELECT COUNT(DISTINCT CAST({quote(column)} AS DATE)) FROM {staged}"
            )
            refuse_partitions(table, days)
        if table.options.verify not in (None, "values") or manifest.checksums is None:
            return
        names = manifest.schema.names
        expected = md5_of_parts(manifest, landed, names)
        if wrong := differing(
            expected, md5_of_rows(session, BigQueryDialect(), staged, manifest.schema, names)
        ):
            raise CountMismatch(
                f"BigQuery got other values than {manifest.url} has, in the columns "
                f"{', '.join(wrong)}.",
                fix="Ingest the batch again: a new attempt lands beside it. The warehouse is as it "
                "was before.",
            )

    def _make(self, session: BigQuerySession, table: IngestTable, incoming: pa.Schema) -> None:
        """Make what is missing: the ledger, the raw table."""
        ledger = session.describe(table.schema, LEDGER)
        if ledger is None:
            session.run(sql.create_ledger(table))
        else:
            # An earlier version made it, which kept less.
            for statement in sql.complete_ledger(table, {field.name for field in ledger.schema}):
                session.run(statement)
        if session.describe(table.schema, table.identifier) is None:
            session.run(sql.create_raw(table, incoming))
            _remember(session, table, incoming)

    def _evolve(
        self,
        session: BigQuerySession,
        table: IngestTable,
        manifest: Manifest,
        replaced: Sequence[LedgerRow],
    ) -> tuple[str, ...]:
        """Change the raw table's columns as needed.

        Returns:
            What a person should know.
        """
        if manifest.quarantine:
            session.run(sql.create_quarantine(table))
        before = self._columns(session, table)
        evolution = plan_evolution(table, before, manifest.schema)
        ids = [manifest.batch.id, *(row.batch_id for row in replaced)]
        for name, types in evolution.rewrite.items():
            ((count,),) = session.run(sql.misfits(table, name, types, ids))
            if count:
                why = f"{count:,} values there would not stay the same"
                raise conflict(table, {name: types}, why)
        retyped = {
            **evolution.widen,
            **{name: after for name, (_, after) in evolution.rewrite.items()},
        }
        if not all(
            sql.is_same_column(before[name], type_) or sql.is_in_place(before[name], type_)
            for name, type_ in retyped.items()
        ):
            session.run(sql.retype(table, before, retyped))
        else:
            for name, type_ in retyped.items():
                if not sql.is_same_column(before[name], type_):
                    session.run(sql.retype_in_place(table, name, type_))
        added = [pa.field(name, type_) for name, type_ in evolution.add.items()]
        for field in added:
            session.run(sql.add_column(table, field))
        if added or retyped:
            after = {**before, **retyped, **evolution.add}
            _remember(session, table, pa.schema(after.items()))
        return evolution.told

    def _commit(
        self, session: BigQuerySession, statements: Sequence[str], first: Sequence[str] = ()
    ) -> None:
        try:
            session.transaction(statements, first)
        except GoogleAPICallError as error:
            said = raised_by(error)
            if said == sql.OTHER_LOAD:
                raise WarehouseBusy(
                    f"In BigQuery ({self._project}), {said}.",
                    fix="It may pass: try again. Nothing was loaded.",
                ) from error
            if said == sql.OTHER_COUNT:
                raise CountMismatch(
                    f"BigQuery ({self._project}) has inserted {said}.",
                    fix="Ingest the batch again. The warehouse is as it was before.",
                ) from error
            raise

    def _taken_back(
        self, session: BigQuerySession, table: IngestTable, kept: Sequence[LedgerRow]
    ) -> int:
        """How many later versions a correction has deleted."""
        ids = {row.batch_id for row in kept}
        left = [
            row.rows for row in _ledger(session, table.schema, [table.key]) if row.batch_id in ids
        ]
        return sum(row.rows for row in kept) - sum(left)

    def _refuse_foreign(self, session: BigQuerySession, table: IngestTable) -> None:
        """Refuse to replace a table that Millrace did not make."""
        found = session.describe(table.schema, table.identifier)
        if found is None:
            return
        if not {BATCH_COLUMN, LOADED_COLUMN} <= {field.name for field in found.schema}:
            raise SchemaConflict(
                f"{table.schema}.{table.identifier} lacks {BATCH_COLUMN} and {LOADED_COLUMN}, "
                "which every raw table has: Millrace did not make it, so it does not replace it.",
                fix="Rename it out of the way, or give the source table another `identifier`.",
            )

    def _columns(self, session: Session, table: IngestTable) -> dict[str, pa.DataType]:
        if not isinstance(session, BigQuerySession):
            raise TypeError(f"{session!r} is of another warehouse")
        found = session.describe(table.schema, table.identifier)
        types = _types_of(found) if found else {}
        return {
            name: type_
            for name, type_ in types.items()
            if name not in (BATCH_COLUMN, LOADED_COLUMN)
        }

    def _checksums(
        self,
        session: Session,
        table: IngestTable,
        manifest: Manifest,
        columns: Sequence[str],
        loaded_at: datetime,
        landed: Landed,
    ) -> tuple[Checksums, Checksums]:
        parsed = options_of(table).json_columns
        names = [name for name in columns if name not in parsed]
        rows = (
            f"{BigQueryDialect().rows(table)} AS loaded "
            f"WHERE {BATCH_COLUMN} = {literal(manifest.batch.id)} "
            f"AND {LOADED_COLUMN} = {literal(loaded_at)}"
        )
        found = md5_of_rows(session, BigQueryDialect(), rows, manifest.schema, names)
        return md5_of_parts(manifest, landed, names), found


@dataclass(frozen=True)
class _Staged:
    """The quoted names of the tables with a batch's rows.

    Attributes:
        rows: The rows.
        aside: What was set aside; None: nothing.
    """

    rows: str
    aside: str | None


def _refuse_other_partitions(table: IngestTable, found: bigquery.Table) -> None:
    """Refuse a raw table with other partitions than are declared, which BigQuery cannot change."""
    declared, partitions = options_of(table).partition_by, found.time_partitioning
    # The emulator knows of those by a date's day alone.
    if partitions and (partitions.field, partitions.type_) != (declared, "DAY"):
        raise SchemaConflict(
            f"{table.schema}.{table.identifier} is there already, partitioned by the "
            f"{partitions.type_.lower()} of {partitions.field or 'its arrival'}, and {table.key} "
            f"declares that of {declared}.",
            fix="BigQuery changes no partitions: drop it and make it again, or declare "
            "`partition_by` as it is.",
        )


def with_used_places(rows: pa.Table, columns: Collection[str]) -> pa.Table:
    """Rows whose decimals have as many places as their column uses.

    A NUMERIC without a declared scale has nine, and readers would see 25.540000000.

    Args:
        rows: The rows.
        columns: The columns whose scale nobody has declared.
    """
    for at, field in enumerate(rows.schema):
        if field.name in columns and pa.types.is_decimal(field.type):
            values = [value.normalize() for value in rows[field.name].to_pylist() if value]
            places = max((-int(value.as_tuple().exponent) for value in values), default=0)
            type_ = pa.decimal128(field.type.precision, max(places, 0))
            rows = rows.set_column(at, field.name, rows[field.name].cast(type_))
    return rows


def _ledger(
    session: BigQuerySession,
    schema: str,
    keys: Sequence[str],
    described: bigquery.Table | None = None,
) -> list[LedgerRow]:
    """The rows of tables in a ledger, oldest load first.

    Args:
        session: The session.
        schema: The ledger's dataset.
        keys: The keys of the tables.
        described: The ledger, where it may be one of an earlier version, which lacks columns.
    """
    there = {field.name for field in described.schema} if described else sql.LEDGER_COLUMNS
    columns = [name if name in there else f"NULL AS {name}" for name in sql.LEDGER_COLUMNS]
    places = ", ".join("?" * len(keys))
    rows = session.run(
        f"SELECT {', '.join(columns)} FROM {quote(schema)}.{LEDGER} "
        f"WHERE table_name IN ({places}) ORDER BY loaded_at",
        keys,
    )
    return [LedgerRow(*map(aware, row)) for row in rows]


def _remember(session: BigQuerySession, table: IngestTable, columns: pa.Schema) -> None:
    """Write the types of columns into their descriptions.

    BigQuery has one type for whole numbers and one for floating point; Millrace has several, and a
    source that changes from one to another is told of.
    """
    session.describe_columns(
        f"{table.schema}.{table.identifier}",
        {
            field.name: bigquery.SchemaField(
                field.name,
                sql.column_type(table, field).partition("(")[0],
                description=str(field.type),
                precision=field.type.precision if pa.types.is_decimal(field.type) else None,
                scale=field.type.scale if pa.types.is_decimal(field.type) else None,
            )
            for field in columns
        },
    )


def _types_of(table: bigquery.Table) -> dict[str, pa.DataType]:
    """The columns of a table with their Arrow types, as they are remembered or else as they are."""
    types = {}
    for field in table.schema:
        type_ = _remembered(field) or arrow_type(field.field_type, field.precision, field.scale)
        if type_ is None or field.mode == "REPEATED":
            raise SchemaConflict(
                f"{table.dataset_id}.{table.table_id}.{field.name} is of the type "
                f"{_type_name(field)}, which Millrace does not read.",
                fix="In a model, cast it to another, such as numeric or string. A raw table is "
                "Millrace's to make: rename this one out of the way.",
            )
        types[field.name] = type_
    return types


def _remembered(field: bigquery.SchemaField) -> pa.DataType | None:
    """The type in a column's description, if the column is of that type."""
    with suppress(ValueError):
        type_ = arrow_types.from_name(field.description or "")
        actual = arrow_type(field.field_type, field.precision, field.scale)
        if actual and sql.is_same_column(actual, type_):
            return type_
        if actual and pa.types.is_decimal(actual) and pa.types.is_decimal(type_):
            # The emulator forgets precision and scale.
            return type_ if field.precision is None else None
    return None


def _type_name(field: bigquery.SchemaField) -> str:
    """A type with its precision and scale, as it is written in SQL."""
    if field.precision is None:
        return str(field.field_type)
    return f"{field.field_type}({field.precision},{field.scale or 0})"


def _job_id(*parts: str) -> str:
    """The id of a job, the same for the same parts."""
    return f"millrace_{sha256(chr(0).join(parts).encode()).hexdigest()[:32]}"


def _label(text: str) -> str:
    """A text as the value of a label."""
    return _NOT_OF_A_LABEL.sub("-", text.lower())[:_MOST_OF_A_LABEL]
