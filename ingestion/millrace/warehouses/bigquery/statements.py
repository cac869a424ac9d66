"""The SQL of a load into BigQuery: text alone, which nothing here runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from millrace.bad_values import RECORDS
from millrace.batch import Interval
from millrace.catalog import IngestTable
from millrace.warehouses.base import BATCH_COLUMN, LEDGER, LOADED_COLUMN, LedgerRow, quarantine_of
from millrace.warehouses.bigquery.dialect import (
    BigQueryDialect,
    every_partition,
    literal,
    options_of,
    quote,
    raw,
    sql_type,
)
from millrace.warehouses.bigquery.errors import raised
from millrace.warehouses.expressions import cursor_bounds

LEDGER_COLUMNS = {
    "table_name": "STRING NOT NULL",
    "batch_id": "STRING NOT NULL",
    "interval_start": "TIMESTAMP",
    "interval_end": "TIMESTAMP",
    "manifest_url": "STRING NOT NULL",
    "row_count": "INT64 NOT NULL",
    "byte_count": "INT64 NOT NULL",
    "extracted_at": "TIMESTAMP NOT NULL",
    "loaded_at": "TIMESTAMP NOT NULL",
    "verified": "STRING",
    "is_correction": "BOOL",
    "quarantined": "INT64",
    "schema_changes": "STRING",
    "salt_id": "STRING",
    "files": "STRING",
}
OWN_COLUMNS = {BATCH_COLUMN: "STRING NOT NULL", LOADED_COLUMN: "TIMESTAMP NOT NULL"}
OTHER_LOAD = "another load of the table has committed meanwhile"
OTHER_COUNT = "other rows than promised"
_MOST_CLUSTERED = 4


def ledger_of(table: IngestTable) -> str:
    """The quoted name of the ledger."""
    return f"{quote(table.schema)}.{LEDGER}"


def create_ledger(table: IngestTable) -> str:
    """Make the ledger, unless it is there."""
    return f"CREATE TABLE IF NOT EXISTS {ledger_of(table)} ({_columns(LEDGER_COLUMNS)})"


def complete_ledger(table: IngestTable, there: Collection[str]) -> list[str]:
    """Add the columns that a ledger of an earlier version lacks.

    Args:
        table: The declaration.
        there: The columns that the ledger has.
    """
    return [
        f"ALTER TABLE {ledger_of(table)} ADD COLUMN IF NOT EXISTS {name} {type_}"
        for name, type_ in LEDGER_COLUMNS.items()
        if name not in there
    ]


def create_raw(table: IngestTable, schema: pa.Schema) -> str:
    """Make a raw table.

    Args:
        table: The declaration.
        schema: Its columns without Millrace's own.
    """
    return f"CREATE TABLE {_raw_table(table, schema)}"


def replace_raw(table: IngestTable, schema: pa.Schema, values: Sequence[str], rows: str) -> str:
    """Put a new raw table in the place of the old one, at once.

    Args:
        table: The declaration.
        schema: Its columns without Millrace's own.
        values: The expressions of these columns, and of Millrace's own.
        rows: What follows FROM.
    """
    return (
        f"CREATE OR REPLACE TABLE {_raw_table(table, schema)} "
        f"AS SELECT {', '.join(values)} FROM {rows}"
    )


def create_quarantine(table: IngestTable) -> str:
    """Make the table of what is set aside, unless it is there."""
    columns = {field.name: sql_type(field.type) for field in RECORDS} | OWN_COLUMNS
    return f"CREATE TABLE IF NOT EXISTS {raw(quarantine_of(table))} ({_columns(columns)})"


def create_staged(place: str, schema: pa.Schema, expires: datetime) -> str:
    """Make a table with the columns of a batch, in their order, that BigQuery drops by itself."""
    columns = {quote(field.name): sql_type(field.type) for field in schema}
    return (
        f"CREATE TABLE {place} ({_columns(columns)}) "
        f"OPTIONS(expiration_timestamp = {literal(expires)})"
    )


def column_type(table: IngestTable, field: pa.Field) -> str:
    """The type of a raw table's column."""
    return "JSON" if field.name in options_of(table).json_columns else sql_type(field.type)


def add_column(table: IngestTable, field: pa.Field) -> str:
    """Add a column to the raw table."""
    return f"ALTER TABLE {raw(table)} ADD COLUMN {quote(field.name)} {column_type(table, field)}"


def retype_in_place(table: IngestTable, name: str, type_: pa.DataType) -> str:
    """Widen a column as BigQuery can."""
    return f"ALTER TABLE {raw(table)} ALTER COLUMN {quote(name)} SET DATA TYPE {sql_type(type_)}"


def is_same_column(before: pa.DataType, after: pa.DataType) -> bool:
    """Whether BigQuery has one type for both."""
    return sql_type(before) == sql_type(after)


def is_in_place(before: pa.DataType, after: pa.DataType) -> bool:
    """Whether BigQuery retypes the column in place.

    https://cloud.google.com/bigquery/docs/managing-table-schemas#change_column_data_type: only
    what its table of coercions names without a doubt about parameters.
    """
    return (
        pa.types.is_decimal(before)
        and pa.types.is_decimal(after)
        and sql_type(before).partition("(")[0] == sql_type(after).partition("(")[0]
        and after.scale >= before.scale
        and after.precision - after.scale >= before.precision - before.scale
    )


def converted(name: str, before: pa.DataType, after: pa.DataType) -> str:
    """A column's values as another type; NULL where one does not fit."""
    if pa.types.is_string(after):
        return str(BigQueryDialect().text(pa.field(name, before)))
    return f"SAFE_CAST({quote(name)} AS {sql_type(after)})"


def misfits(
    table: IngestTable, name: str, types: tuple[pa.DataType, pa.DataType], replaced: Sequence[str]
) -> str:
    """Count the values that would not stay the same in a column of another type.

    Args:
        table: The declaration.
        name: The column.
        types: Its type, and the other one.
        replaced: Batches that do not count, because they are replaced.
    """
    before, after = types
    back = f"SAFE_CAST({converted(name, before, after)} AS {sql_type(before)})"
    return (
        f"SELECT COUNT(*) FROM {raw(table)} WHERE {every_partition(table)} "
        f"AND {BATCH_COLUMN} NOT IN ({', '.join(map(literal, replaced))}) "
        f"AND {quote(name)} IS NOT NULL AND COALESCE({back} <> {quote(name)}, TRUE)"
    )


def retype(
    table: IngestTable, before: Mapping[str, pa.DataType], after: Mapping[str, pa.DataType]
) -> str:
    """Retype columns of the raw table.

    Args:
        table: The declaration.
        before: Its columns.
        after: The columns to retype, with their new types.
    """
    schema = pa.schema([(name, after.get(name, type_)) for name, type_ in before.items()])
    values = [
        f"{converted(name, type_, after[name])} AS {quote(name)}" if name in after else quote(name)
        for name, type_ in before.items()
    ]
    rows = f"{raw(table)} WHERE {every_partition(table)}"
    return replace_raw(table, schema, [*values, BATCH_COLUMN, LOADED_COLUMN], rows)


@dataclass(frozen=True)
class Commit:
    """The statements of one transaction.

    Attributes:
        table: The declaration.
        row: What the ledger gets.
        earlier: What the ledger has, as it was read.
        types: The raw table's columns.
    """

    table: IngestTable
    row: LedgerRow
    earlier: Sequence[LedgerRow]
    types: Mapping[str, pa.DataType]

    def guard(self) -> str:
        """Fail, if the ledger is not as it was read: another load has committed."""
        latest = max((row.loaded_at for row in self.earlier), default=None)
        return fail_unless(
            f"(SELECT COUNT(*) = {len(self.earlier)} "
            f"AND COALESCE(MAX(loaded_at) = {literal(latest)}, {literal(latest is None)}) "
            f"FROM {ledger_of(self.table)} WHERE {self._own})",
            OTHER_LOAD,
        )

    def forget(self, replaced: Sequence[LedgerRow]) -> list[str]:
        """Delete batches, and what is left of this one."""
        ids = sorted({self.row.batch_id, *(row.batch_id for row in replaced)})
        return delete_batches(
            self.table, ids, has_quarantine=any(row.quarantined for row in replaced)
        )

    def trim(self, row: LedgerRow) -> list[str]:
        """Delete from an earlier batch what a batch with a lookback has read again."""
        start = Interval(self.row.start)
        bounds = cursor_bounds(BigQueryDialect(), self.table, self.types, start)
        if not bounds:
            # The cursor is hashed: older versions of rows stay, and dbt takes the newest.
            return []
        [(since, bound)] = bounds
        since = since.replace("?", literal(bound))
        trimmed = f"{BATCH_COLUMN} = {literal(row.batch_id)} AND {since}"
        of_ledger = f"{self._own} AND batch_id = {literal(row.batch_id)}"
        trimmed += f" AND {every_partition(self.table)}"
        count = f"SELECT COUNT(*) FROM {raw(self.table)} WHERE {trimmed}"
        changes = f"interval_end = {literal(self.row.start)}, row_count = row_count - ({count})"
        statements = [
            f"UPDATE {ledger_of(self.table)} SET {changes} WHERE {of_ledger}",
            f"DELETE FROM {raw(self.table)} WHERE {trimmed}",
        ]
        if row.quarantined:
            place = raw(quarantine_of(self.table))
            of_batch = f"{BATCH_COLUMN} = {literal(row.batch_id)}"
            moment = f"CAST({literal(bound.removesuffix('+00:00'))} AS DATETIME)"
            left = f"SELECT COUNT(DISTINCT row_key) FROM {place} WHERE {of_batch}"
            statements += [
                f"DELETE FROM {place} WHERE {of_batch} AND row_cursor >= {moment}",
                f"UPDATE {ledger_of(self.table)} SET quarantined = ({left}) WHERE {of_ledger}",
            ]
        return statements

    def insert(self, staged: str, schema: pa.Schema) -> list[str]:
        """Insert what was staged, by the names of the columns, and compare the count."""
        names = ", ".join([*map(quote, schema.names), BATCH_COLUMN, LOADED_COLUMN])
        values = ", ".join([*map(self._value, schema), *self._stamps])
        loaded = (
            f"{BATCH_COLUMN} = {literal(self.row.batch_id)} "
            f"AND {LOADED_COLUMN} = {literal(self.row.loaded_at)}"
        )
        return [
            f"INSERT INTO {raw(self.table)} ({names}) SELECT {values} FROM {staged}",
            fail_unless(
                f"(SELECT COUNT(*) FROM {raw(self.table)} WHERE {loaded} "
                f"AND {every_partition(self.table)}) = {self.row.rows}",
                OTHER_COUNT,
            ),
        ]

    def replace(self, staged: str, schema: pa.Schema) -> str:
        """Put a new raw table with what was staged in the place of the old one."""
        batch_id, loaded_at = self._stamps
        values = [
            *(f"{self._value(field)} AS {quote(field.name)}" for field in schema),
            *(f"{batch_id} AS {BATCH_COLUMN}", f"{loaded_at} AS {LOADED_COLUMN}"),
        ]
        return replace_raw(self.table, schema, values, staged)

    def take_back(self) -> list[str]:
        """Delete the versions that come after those of a correction."""
        cursor = self.table.cursor_column
        if not self.row.is_correction or cursor is None:
            return []
        same = " AND ".join(
            f"again.{quote(name)} = later.{quote(name)}" for name in self.table.options.primary_key
        )
        where = (
            f"later.{BATCH_COLUMN} <> {literal(self.row.batch_id)} AND EXISTS ("
            f"SELECT 1 FROM {BigQueryDialect().rows(self.table)} AS again WHERE {same} "
            f"AND again.{BATCH_COLUMN} = {literal(self.row.batch_id)} "
            f"AND again.{LOADED_COLUMN} = {literal(self.row.loaded_at)} "
            f"AND again.{quote(cursor)} < later.{quote(cursor)})"
        )
        rows = f"{BigQueryDialect().rows(self.table)} AS later"
        filtered = f" AND {every_partition(self.table)}" if self._is_filtered else ""
        gone = (
            f"SELECT later.{BATCH_COLUMN} AS gone_id, COUNT(*) AS versions FROM {rows} "
            f"WHERE {where} GROUP BY 1"
        )
        changes = "row_count = row_count - gone.versions"
        of_gone = f"{self._own} AND batch_id = gone.gone_id"
        return [
            f"UPDATE {ledger_of(self.table)} SET {changes} FROM ({gone}) AS gone WHERE {of_gone}",
            f"DELETE FROM {raw(self.table)} AS later WHERE {where}{filtered}",
        ]

    def insert_quarantine(self, staged: str) -> str:
        """Insert what was set aside."""
        names = ", ".join([*RECORDS.names, BATCH_COLUMN, LOADED_COLUMN])
        values = ", ".join([*RECORDS.names, *self._stamps])
        place = raw(quarantine_of(self.table))
        return f"INSERT INTO {place} ({names}) SELECT {values} FROM {staged}"

    def write_ledger(self) -> str:
        """Insert the ledger's row."""
        row = self.row
        values = (
            *(row.table, row.batch_id, row.start, row.end, row.manifest_url, row.rows, row.size),
            *(row.extracted_at, row.loaded_at, row.verified, row.is_correction, row.quarantined),
            *(row.schema_changes, row.salt_id, row.files),
        )
        return (
            f"INSERT INTO {ledger_of(self.table)} ({', '.join(LEDGER_COLUMNS)}) "
            f"VALUES ({', '.join(map(literal, values))})"
        )

    def empty_ledger(self) -> list[str]:
        """Delete all that is known of the table's batches, and what was set aside."""
        statements = [f"DELETE FROM {ledger_of(self.table)} WHERE {self._own}"]
        if any(row.quarantined for row in self.earlier):
            statements.append(f"DELETE FROM {raw(quarantine_of(self.table))} WHERE TRUE")
        return statements

    @property
    def _own(self) -> str:
        return f"table_name = {literal(self.table.key)}"

    @property
    def _stamps(self) -> list[str]:
        return [literal(self.row.batch_id), literal(self.row.loaded_at)]

    @property
    def _is_filtered(self) -> bool:
        return options_of(self.table).require_partition_filter

    def _value(self, field: pa.Field) -> str:
        if field.name in options_of(self.table).json_columns:
            return f"PARSE_JSON({quote(field.name)})"
        # A narrower type becomes the raw table's by itself.
        return quote(field.name)


def delete_batches(table: IngestTable, ids: Sequence[str], *, has_quarantine: bool) -> list[str]:
    """Delete batches from the raw table, from its quarantine, and from the ledger."""
    listed = ", ".join(map(literal, ids))
    of_batches = f"{BATCH_COLUMN} IN ({listed})"
    statements = [f"DELETE FROM {raw(table)} WHERE {of_batches} AND {every_partition(table)}"]
    if has_quarantine:
        statements.append(f"DELETE FROM {raw(quarantine_of(table))} WHERE {of_batches}")
    statements.append(
        f"DELETE FROM {ledger_of(table)} WHERE table_name = {literal(table.key)} "
        f"AND batch_id IN ({listed})"
    )
    return statements


def fail_unless(condition: str, message: str) -> str:
    """Fail the script, unless a condition is true."""
    return f"SELECT IF({condition}, 1, ERROR({literal(raised(message))}))"


def _raw_table(table: IngestTable, schema: pa.Schema) -> str:
    """The name of a raw table, and what follows it."""
    columns = {quote(field.name): column_type(table, field) for field in schema} | OWN_COLUMNS
    return (
        f"{raw(table)} ({_columns(columns)}) PARTITION BY {_partition(table, schema)}"
        f"{_cluster(table, schema)}{_table_options(table)}"
    )


def _columns(types: Mapping[str, str]) -> str:
    return ", ".join(map(" ".join, types.items()))


def _partition(table: IngestTable, schema: pa.Schema) -> str:
    """The day of a column."""
    name = options_of(table).partition_by
    if name == LOADED_COLUMN:
        return f"TIMESTAMP_TRUNC({name}, DAY)"
    type_ = {field.name.lower(): field.type for field in schema}[name.lower()]
    return (
        quote(name) if pa.types.is_date(type_) else f"{sql_type(type_)}_TRUNC({quote(name)}, DAY)"
    )


def _cluster(table: IngestTable, schema: pa.Schema) -> str:
    """The declared columns, or as much of the key as BigQuery can cluster by."""
    declared = options_of(table).cluster_by
    types = {field.name.lower(): field.type for field in schema}
    if declared is None:
        declared = tuple(name for name in table.options.primary_key if _clusters(types, name))
    chosen = [quote(name) for name in declared[:_MOST_CLUSTERED]]
    return f" CLUSTER BY {', '.join(chosen)}" if chosen else ""


def _clusters(types: Mapping[str, pa.DataType], name: str) -> bool:
    type_ = types.get(name.lower())
    return type_ is not None and not (pa.types.is_floating(type_) or pa.types.is_binary(type_))


def _table_options(table: IngestTable) -> str:
    options = options_of(table)
    given = []
    if options.require_partition_filter:
        given.append("require_partition_filter = TRUE")
    if options.labels:
        pairs = ", ".join(f"('{name}', '{value}')" for name, value in options.labels.items())
        given.append(f"labels = [{pairs}]")
    if options.kms_key:
        given.append(f"kms_key_name = {literal(options.kms_key)}")
    return f" OPTIONS({', '.join(given)})" if given else ""
