"""Parquet as declared columns: exactly, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.errors import SourceMismatch
from millrace.sources.json_values import arrow_type, converter, shown
from millrace.sources.s3_files.options import Column, S3FilesOptions
from millrace.sources.s3_files.texts import as_moment, missing_column, text_converter

ROWS = 20_000
"""Rows a record batch."""


@dataclass(frozen=True)
class Converted:
    """A column's values.

    Attributes:
        values: Those that fit, NULL for the others.
        problems: Why one does not fit and how it is written, by its position.
    """

    values: pa.Array
    problems: dict[int, tuple[str, str]]


def names_and_types(body: IO[bytes]) -> dict[str, str]:
    """The columns of a file, with their types in Arrow's words."""
    schema = pq.ParquetFile(body).schema_arrow
    return dict(zip(schema.names, map(str, schema.types), strict=True))


def columns_of(
    body: IO[bytes], options: S3FilesOptions, where: str
) -> Iterator[dict[str, Converted]]:
    """The declared columns of a file, some rows at a time.

    Args:
        body: The file.
        options: The declaration.
        where: The file, for messages.

    Raises:
        SourceMismatch: a column is not there, or is of another type.
        pa.ArrowInvalid, OSError: it is no Parquet, or breaks off.
    """
    file = pq.ParquetFile(body)
    there = file.schema_arrow
    found: dict[str, tuple[str, Callable[[pa.Array], Converted]]] = {}
    for name, column in options.columns.items():
        heading = column.heading or name
        if heading in there.names:
            type_ = there.field(heading).type
            found[name] = heading, _conversion(type_, name, column, where)
        elif not column.optional:
            raise missing_column(where, name, heading, there.names)
    wanted = [heading for heading, _ in found.values()]
    for batch in file.iter_batches(ROWS, columns=wanted):
        read = {name: convert(batch.column(of)) for name, (of, convert) in found.items()}
        yield {
            name: read.get(name) or Converted(pa.nulls(batch.num_rows, arrow_type(column.type)), {})
            for name, column in options.columns.items()
        }


def _conversion(
    type_: pa.DataType, name: str, column: Column, where: str
) -> Callable[[pa.Array], Converted]:
    """What converts a column of some type."""
    of_values = type_.value_type if pa.types.is_dictionary(type_) else type_
    target = arrow_type(column.type)
    if _is_text(of_values):
        convert = text_converter(column, is_json=False)
        if column.type == "string":
            return lambda array: _cast(array, target)
        return lambda array: _one_by_one(array, convert, target)
    is_nested_json = column.type == "json" and pa.types.is_nested(of_values)
    if is_nested_json or (column.type.startswith("unix") and pa.types.is_integer(of_values)):
        return lambda array: _one_by_one(array, converter(column.type), target)
    zone = column.time_zone
    if zone is not None and pa.types.is_timestamp(of_values) and of_values.tz is None:
        key = ZoneInfo(zone)
        return lambda array: _one_by_one(
            array, lambda value: as_moment(value, key, str(value)), target
        )
    if not _may_become(of_values, target):
        raise SourceMismatch(
            f"{where}: the column {name} is {type_}, which is not {column.type} exactly.",
            fix="Declare the type that it has, or ask who delivers it for another. "
            "Nothing was loaded.",
        )
    return lambda array: _cast(array, target)


def _is_text(type_: pa.DataType) -> bool:
    return any(
        check(type_)
        for check in (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    )


def _may_become(type_: pa.DataType, target: pa.DataType) -> bool:
    """Whether values of a type may be of another one; each is then looked at."""
    types = pa.types
    if types.is_decimal(target):
        fits = types.is_decimal(type_) or types.is_integer(type_)
    elif types.is_timestamp(target):
        fits = types.is_timestamp(type_) and (type_.tz is None) == (target.tz is None)
    elif types.is_floating(target):
        fits = types.is_floating(type_) or types.is_integer(type_)
    elif types.is_integer(target):
        fits = types.is_integer(type_)
    elif types.is_date(target):
        fits = types.is_date(type_)
    else:
        fits = type_ == target
    return bool(fits)


def _cast(array: pa.Array, target: pa.DataType) -> Converted:
    try:
        return Converted(array.cast(target), {})
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _one_at_a_time(array, target)


def _one_at_a_time(array: pa.Array, target: pa.DataType) -> Converted:
    """Cast each value by itself, because one of them does not fit."""
    values, problems = [], {}
    for at in range(len(array)):
        try:
            values.append(array.slice(at, 1).cast(target))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            text = str(array[at])
            problems[at] = (f"{text} does not fit {target}", text)
            values.append(pa.nulls(1, target))
    return Converted(pa.concat_arrays(values), problems)


def _one_by_one(array: pa.Array, convert: Callable[[Any], Any], target: pa.DataType) -> Converted:
    values: list[Any] = []
    problems = {}
    for at, value in enumerate(array.to_pylist()):
        try:
            values.append(None if value is None else convert(value))
        except (ValueError, TypeError) as problem:
            problems[at] = (str(problem), shown(value) if isinstance(value, str) else str(value))
            values.append(None)
    return Converted(pa.array(values, target), problems)
