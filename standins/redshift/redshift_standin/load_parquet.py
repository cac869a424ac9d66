"""COPY from Parquet: converts objects to CSV for PostgreSQL's COPY.

Redshift matches the columns by position and converts nothing: a file's type must be the table's.
https://docs.aws.amazon.com/redshift/latest/dg/copy-usage_notes-copy-from-columnar.html
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from redshift_standin.storage import DataFile, Storage, detailed_error, explained
from redshift_standin.text_values import Options, TargetColumn

if TYPE_CHECKING:
    from redshift_standin.wire import ServerError

BATCH_ROWS = 32 * 1024

_CSV = pacsv.WriteOptions(include_header=False, quoting_style="needed")

_INTEGERS = {
    "int2": frozenset((pa.int8(), pa.int16(), pa.int32())),
    "int4": frozenset((pa.int8(), pa.int16(), pa.int32())),
    "int8": frozenset((pa.int64(),)),
}
_PLAIN = {"float4": pa.float32(), "float8": pa.float64(), "bool": pa.bool_(), "date": pa.date32()}


def chunks(
    files: Iterable[DataFile],
    storage: Storage,
    columns: list[TargetColumn],
    options: Options,
    counts: Counter[str],
) -> Iterator[bytes]:
    """The rows of the files as CSV, some thousands at a time.

    Args:
        files: What is loaded.
        storage: Where they lie.
        columns: The table's columns for them, in the order of the files' columns.
        options: The statement's.
        counts: Receives the number of rows of each file, by its URL.

    Raises:
        ServerError: A file cannot be read, or does not fit the table.
    """
    for file in files:
        with explained(file.url):
            try:
                with pq.ParquetFile(storage.open_reader(file.url)) as parquet:
                    fields = _checked_fields(parquet, columns, options, file.url)
                    counts[file.url] += parquet.metadata.num_rows
                    for batch in parquet.iter_batches(BATCH_ROWS):
                        yield _to_csv(batch, fields, columns, file.url)
            except pa.ArrowInvalid as error:
                raise _scan_error(
                    15001, f"File '{file.url}' is not valid Parquet: {error}"
                ) from error


def _checked_fields(
    parquet: pq.ParquetFile, columns: list[TargetColumn], options: Options, url: str
) -> list[pa.Field]:
    fields = list(parquet.schema_arrow)
    missing = len(columns) - len(fields)
    if missing < 0 or (missing > 0 and "FILLRECORD" not in options):
        raise _scan_error(
            15007,
            "Unmatched number of columns between table and file. "
            f"Table columns: {len(columns)}, Data columns: {len(fields)}, File name: {url}",
        )
    for field, column in zip(fields, columns, strict=False):
        if column.type == "super" and "SERIALIZETOJSON" not in options:
            raise detailed_error(
                "Assert",
                1000,
                "Unreachable - Invalid type: 4000",
                hint="SERIALIZETOJSON loads Parquet into SUPER.",
            )
        if not _fits(field.type, column):
            raise _scan_error(
                15007,
                f"File '{url}' has an incompatible Parquet schema for column "
                f"'{url.rpartition('/')[0]}.{field.name}'. Column type: {column.redshift_type}, "
                f"Parquet schema:\n{_described(parquet, field)}",
            )
    return fields


def _fits(type_: pa.DataType, column: TargetColumn) -> bool:
    if column.type in _INTEGERS:
        # Redshift's documentation lists no unsigned integers among the types that it reads.
        return type_ in _INTEGERS[column.type]
    if column.type in _PLAIN:
        return bool(type_ == _PLAIN[column.type])
    if column.type == "numeric":
        return bool(
            pa.types.is_decimal(type_)
            and (type_.precision, type_.scale) == (column.precision, column.scale)
        )
    if column.type in ("timestamp", "timestamptz"):
        return bool(pa.types.is_timestamp(type_))
    if column.type in ("varchar", "bpchar", "text"):
        return bool(_is_text(type_) or pa.types.is_binary(type_))
    if column.type == "varbyte":
        return bool(pa.types.is_binary(type_) or pa.types.is_fixed_size_binary(type_))
    return column.type == "super"


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _described(parquet: pq.ParquetFile, field: pa.Field) -> str:
    """The column in the words of Parquet's own schema language."""
    required = "optional" if field.nullable else "required"
    for index in range(len(parquet.schema)):
        leaf = parquet.schema.column(index)
        if leaf.name == field.name:
            return (
                f"{required} {leaf.physical_type.lower()} {field.name} "
                f"[i:{index} d:{leaf.max_definition_level} r:{leaf.max_repetition_level}]"
            )
    return f"{required} group {field.name}"


def _to_csv(
    batch: pa.RecordBatch, fields: list[pa.Field], columns: list[TargetColumn], url: str
) -> bytes:
    arrays = [
        _prepared(array, column, url) for array, column in zip(batch.columns, columns, strict=False)
    ]
    arrays += [pa.nulls(batch.num_rows, pa.string())] * (len(columns) - len(fields))
    names = [column.name for column in columns]
    sink = pa.BufferOutputStream()
    pacsv.write_csv(pa.RecordBatch.from_arrays(arrays, names=names), sink, _CSV)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _prepared(array: pa.Array, column: TargetColumn, url: str) -> pa.Array:
    """The values as PostgreSQL reads them, checked against the column."""
    if not column.is_nullable and array.null_count:
        raise _scan_error(
            15001, f"Column {column.name} is declared NOT NULL, but {url} has nulls in it"
        )
    if column.type == "varbyte":
        _check_length(array, column, url)
        texts = [None if value is None else "\\x" + value.hex() for value in array.to_pylist()]
        return pa.array(texts, pa.string())
    if column.type == "super":
        return pa.array([_json(value) for value in array.to_pylist()], pa.string())
    if column.type == "int2" and array.type == pa.int32():
        try:
            return array.cast(pa.int16())
        except pa.ArrowInvalid as error:
            raise _scan_error(15001, f"Column {column.name} in {url}: {error}") from error
    if column.type in ("varchar", "bpchar", "text"):
        if not _is_text(array.type):
            try:
                array = array.cast(pa.string())
            except pa.ArrowInvalid as error:
                raise _scan_error(15001, f"Column {column.name} in {url}: {error}") from error
        _check_length(array, column, url)
    return array


def _check_length(array: pa.Array, column: TargetColumn, url: str) -> None:
    if column.length is None:
        return
    longest = pc.max(pc.binary_length(array)).as_py()
    if longest is not None and longest > column.length:
        raise _scan_error(
            15001,
            f"The length of the data column {column.name} is longer than the length defined in "
            f"the table. Table: {column.length}, Data: {longest}, File name: {url}",
        )


def _json(value: Any) -> str | None:
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _scan_error(code: int, context: str) -> ServerError:
    return detailed_error("Spectrum Scan Error", code, context)
