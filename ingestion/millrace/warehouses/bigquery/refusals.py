"""What BigQuery would refuse, refused before anything is sent.

The emulator takes some of it, and Google says it only after the upload.
"""

from __future__ import annotations

import re

import pyarrow as pa

from millrace.catalog import IngestTable
from millrace.errors import DeclarationError, SchemaConflict
from millrace.warehouses.base import LOADED_COLUMN
from millrace.warehouses.bigquery.dialect import options_of

# https://cloud.google.com/bigquery/quotas#standard_tables
_MOST_COLUMNS = 10_000
# https://cloud.google.com/bigquery/quotas#partitioned_tables
MOST_PARTITIONS_A_JOB = 4_000
# https://cloud.google.com/bigquery/docs/datasets#dataset-naming
_DATASET = re.compile(r"\w{1,1024}", re.ASCII)
# https://cloud.google.com/bigquery/docs/tables#table_naming: up to 1,024 bytes of letters, marks,
# numbers, connectors, dashes and spaces. Millrace adds names of its own to a raw table's.
_TABLE = re.compile(r"[\w\- ]+")
_MOST_TABLE_BYTES = 960
# https://cloud.google.com/bigquery/docs/schemas#column_names: without flexible column names, which
# a load job of Parquet does not take by default.
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_MOST_COLUMN_CHARACTERS = 300
_RESERVED_PREFIXES = (
    *("_table_", "_file_", "_partition", "_row_timestamp", "__root__", "_colidentifier"),
    "_change_type",
    "_change_sequence_number",
    "_change_timestamp",
)
# https://cloud.google.com/bigquery/docs/clustered-tables#cluster_column_types: no BYTES, no
# floating point.
_UNCLUSTERED = (pa.types.is_floating, pa.types.is_binary)


def refuse_unfit(table: IngestTable, schema: pa.Schema) -> None:
    """Refuse names, options and columns that BigQuery does not take.

    Raises:
        DeclarationError: the declaration has to change.
        SchemaConflict: the source has.
    """
    _refuse_names(table)
    _refuse_columns(table, schema)
    _refuse_options(table, schema)


def refuse_partitions(table: IngestTable, days: int) -> None:
    """Refuse a load into more partitions than one job may change.

    Args:
        table: The table.
        days: How many days the batch's rows are of.

    Raises:
        SchemaConflict: too many.
    """
    if days > MOST_PARTITIONS_A_JOB:
        column = options_of(table).partition_by
        raise SchemaConflict(
            f"{table.key}: the batch has rows of {days:,} days of {column}, and a job of BigQuery "
            f"writes to {MOST_PARTITIONS_A_JOB:,} partitions at most.",
            fix="Leave `partition_by` out: then the day of the load partitions the rows. Or ingest "
            "the table in shorter intervals.",
        )


def _refuse_names(table: IngestTable) -> None:
    if not _DATASET.fullmatch(table.schema):
        raise DeclarationError(
            f"{table.file}: source table {table.key}: {table.schema!r} cannot be a dataset of "
            "BigQuery.",
            fix="Let the source's `schema` have only letters, digits and underscores.",
        )
    size = len(table.identifier.encode())
    if not _TABLE.fullmatch(table.identifier) or size > _MOST_TABLE_BYTES:
        raise DeclarationError(
            f"{table.file}: source table {table.key}: {table.identifier!r} cannot be a table of "
            "BigQuery.",
            fix="Give it an `identifier` of letters, digits, underscores, dashes and spaces, of "
            f"{_MOST_TABLE_BYTES} bytes at most.",
        )


def _refuse_columns(table: IngestTable, schema: pa.Schema) -> None:
    # Millrace adds two.
    if len(schema) > _MOST_COLUMNS - 2:
        raise SchemaConflict(
            f"{table.key} has {len(schema):,} columns; with Millrace's two, BigQuery takes "
            f"{_MOST_COLUMNS:,}.",
            fix="Leave some out (`ingest: false`).",
        )
    for name in schema.names:
        why = _misnamed(name)
        if why:
            raise SchemaConflict(
                f"{table.key}: the column {name!r} cannot be one of BigQuery: {why}.",
                fix="Leave it out (`ingest: false`), or read the table through a view that renames "
                "it.",
            )


def _misnamed(name: str) -> str | None:
    """What is wrong with a column's name for BigQuery."""
    if not _COLUMN.fullmatch(name):
        return "a name there has letters, digits and underscores, and does not begin with a digit"
    if len(name) > _MOST_COLUMN_CHARACTERS:
        return f"a name there has {_MOST_COLUMN_CHARACTERS} characters at most"
    for prefix in _RESERVED_PREFIXES:
        if name.lower().startswith(prefix):
            return f"names that begin with {prefix.upper()} are its own"
    return None


def _refuse_options(table: IngestTable, schema: pa.Schema) -> None:
    options = options_of(table)
    known = {field.name.lower(): field.type for field in schema}
    for name in (options.partition_by, *(options.cluster_by or ()), *options.json_columns):
        if name != LOADED_COLUMN and name.lower() not in known:
            raise _wrong(table, f"names the column {name}, which the batch does not have", schema)
    partition = known.get(options.partition_by.lower())
    if partition is not None and not pa.types.is_temporal(partition):
        raise _wrong(table, f"partitions by {options.partition_by}, which is no time", schema)
    for name in options.cluster_by or ():
        type_ = known.get(name.lower())
        if type_ is not None and any(is_unclustered(type_) for is_unclustered in _UNCLUSTERED):
            raise _wrong(table, f"clusters by {name}, whose type {type_} does not cluster", schema)
    for name in options.json_columns:
        if not pa.types.is_string(known[name.lower()]):
            raise _wrong(table, f"keeps {name} as JSON, which is no text", schema)


def _wrong(table: IngestTable, what: str, schema: pa.Schema) -> DeclarationError:
    return DeclarationError(
        f"{table.file}: source table {table.key}: meta.ingest.bigquery {what}.",
        fix=f"Its columns: {', '.join(f'{field.name} ({field.type})' for field in schema)}.",
    )
