"""MySQL's and MariaDB's column types as Arrow types: how each is selected, and how it is read.

``result`` reads values as the server sends them; one vectorised cast per column gives them the type
that is set here. docs/type-mapping.md shows the whole table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from millrace.bad_values import Misfit
from millrace.errors import SourceMismatch

_INTEGERS = {
    # Signed and unsigned.
    "tinyint": (pa.int16(), pa.int16()),
    "smallint": (pa.int16(), pa.int32()),
    "mediumint": (pa.int32(), pa.int32()),
    "int": (pa.int32(), pa.int64()),
    "bigint": (pa.int64(), pa.decimal128(20, 0)),
}
_TEXTS = frozenset(
    {
        *("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "json"),
        # TIME reaches from -838:59:59 to 838:59:59: a duration that no time of day can hold.
        *("enum", "set", "time", "uuid", "inet4", "inet6"),
    }
)
_UTF8 = frozenset({"utf8mb4", "utf8mb3", "utf8", "ascii"})
_BINARIES = frozenset({"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"})
_GEOMETRIES = frozenset(
    {
        *("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring"),
        *("multipolygon", "geometrycollection", "geomcollection"),
    }
)
# Not FLOAT and DOUBLE, whose text is not exact; not ENUM, which is ordered by position.
_ORDERED = frozenset(
    {
        *_INTEGERS,
        *("decimal", "date", "datetime", "timestamp"),
        *("char", "varchar", "binary", "varbinary"),
    }
)
_TEMPORALS = {
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "timestamp": pa.timestamp("us", "UTC"),
}
_MAX_ARROW_DECIMAL = 38
# Characters of a value in a message.
_SHOWN = 80


@dataclass(frozen=True)
class Column:
    """A column as it is selected and read.

    Attributes:
        name: Its name.
        expression: Its expression in the SELECT list, already quoted.
        type: Its Arrow type.
        is_nullable: Whether MySQL allows NULL in it.
        is_ordered: Whether MySQL sorts its values in the order in which it compares literals.
        text: An expression of a value's text, for its checksum (see ``millrace.checksums``); None:
            the type has none.
    """

    name: str
    expression: str
    type: pa.DataType
    is_nullable: bool = True
    is_ordered: bool = False
    text: str | None = None


def column_of(
    name: str,
    data_type: str,
    column_type: str,
    *,
    precision: int | None = None,
    scale: int | None = None,
    is_nullable: bool = True,
    charset: str | None = None,
    where: str = "",
) -> Column:
    """Decide how a column is read.

    Args:
        name: The column's name.
        data_type: ``information_schema.columns.data_type``, e.g. ``bigint``.
        column_type: ``….column_type``, e.g. ``bigint(20) unsigned``.
        precision: ``….numeric_precision``.
        scale: ``….numeric_scale``.
        is_nullable: ``….is_nullable``.
        charset: ``….character_set_name``.
        where: The table, for the message.

    Raises:
        SourceMismatch: Millrace has no mapping for the type.
    """
    quoted = quote(name)

    def column(
        type_: pa.DataType, expression: str = quoted, *, text: str | None = quoted
    ) -> Column:
        return Column(name, expression, type_, is_nullable, data_type in _ORDERED, text)

    data_type = data_type.lower()
    if data_type in _INTEGERS:
        is_unsigned = "unsigned" in column_type.lower()
        # Without the zeros that a column with ZEROFILL shows.
        whole = f"CAST({quoted} AS {'UNSIGNED' if is_unsigned else 'SIGNED'})"
        return column(_INTEGERS[data_type][is_unsigned], text=whole)
    if data_type == "decimal":
        # Neither DuckDB nor Redshift holds more than 38 digits: wider ones travel as exact text.
        if precision is None or precision > _MAX_ARROW_DECIMAL:
            return column(pa.string())
        exact = f"CAST({quoted} AS DECIMAL({precision}, {scale or 0}))"
        is_filled = "zerofill" in column_type.lower()
        type_ = pa.decimal128(precision, scale or 0)
        return column(type_, text=exact if is_filled else quoted)
    if data_type == "float":
        return column(pa.float32(), text=None)
    if data_type == "double":
        return column(pa.float64(), text=None)
    if data_type == "year":
        return column(pa.int16(), text=f"CAST({quoted} AS UNSIGNED)")
    if data_type == "bit":
        bits = {"bit(1)": pa.bool_(), "bit(64)": pa.decimal128(20, 0)}
        type_ = bits.get(column_type.lower(), pa.int64())
        whole = f"CAST({quoted} AS UNSIGNED)"
        return column(type_, whole, text=whole)
    if data_type in _TEMPORALS:
        return column(_TEMPORALS[data_type], text=_time_text(quoted, data_type))
    if data_type in _TEXTS:
        is_utf8 = charset in _UTF8
        return column(pa.string(), text=quoted if is_utf8 else f"CONVERT({quoted} USING utf8mb4)")
    if data_type in _BINARIES:
        return column(pa.binary())
    if data_type in _GEOMETRIES:
        well_known = f"ST_AsWKB({quoted})"
        return column(pa.binary(), well_known, text=well_known)
    raise SourceMismatch(
        f"{where}: column {name} is of the type {column_type}, which has no decided form.",
        fix=f"Leave it out (`columns: [{{name: {name}, config: {{meta: {{ingest: false}}}}}}]`), "
        "or read the table through a view that casts it.",
    )


def _time_text(quoted: str, data_type: str) -> str:
    value = quoted if data_type == "date" else f"CAST({quoted} AS DATETIME(6))"
    # A date that no calendar has is landed as NULL.
    return f"IF(DAYOFMONTH({quoted}) AND MONTH({quoted}), {value}, NULL)"


def quote(identifier: str) -> str:
    """An identifier in backticks, for a query whose parameters are bound with ``%s``."""
    return "`" + identifier.replace("`", "``").replace("%", "%%") + "`"


def to_array(raw: pa.Array, column: Column, where: str) -> tuple[pa.Array, Sequence[Misfit]]:
    """One column's values in its type.

    Args:
        raw: What was read; binary where the server sends texts.
        column: How to read it.
        where: The table, for the message.

    Returns:
        The values, and those that the type cannot hold, which are NULL among them.

    Raises:
        SourceMismatch: the column is of another type than the server said.
    """
    if raw.type == column.type:
        return raw, ()
    try:
        return _cast(raw, column.type), ()
    except pa.ArrowNotImplementedError as error:
        raise SourceMismatch(
            f"{where}: column {column.name} comes as {raw.type}, which is no {column.type}: "
            f"{error}.",
            fix="Ingest again: the table was altered. A view that stays so has to cast the column.",
        ) from None
    except pa.ArrowInvalid:
        misfits = [
            misfit_of(column, row, _text(raw[row].as_py())) for row in _uncastable(raw, column.type)
        ]
        bad = {misfit.row for misfit in misfits}
        fits = pa.array([row not in bad for row in range(len(raw))])
        return _cast(pc.if_else(fits, raw, pa.scalar(None, raw.type)), column.type), misfits


def misfit_of(column: Column, row: int, text: bytes) -> Misfit:
    """A value that its column's type cannot hold.

    Args:
        column: Its column.
        row: Its row's position.
        text: The value as the server writes it.
    """
    shown = text.decode("utf-8", "backslashreplace")
    if pa.types.is_temporal(column.type):
        reason = f"'{shown}' is a date that no calendar has"
        return Misfit(row, column.name, reason, shown, counted=_counted_time(shown, column.type))
    problem = "is not UTF-8" if pa.types.is_string(column.type) else f"does not fit {column.type}"
    short = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return Misfit(row, column.name, f"'{short}' {problem}", shown, counted=text)


def _counted_time(text: str, type_: pa.DataType) -> bytes | None:
    """The text of a time that no calendar has, as ``_time_text`` lets the server compute it."""
    month, day = text[5:7], text[8:10]
    if "00" in (month, day):
        return None
    has_fraction = pa.types.is_date(type_) or "." in text
    return (text if has_fraction else f"{text}.000000").encode()


def _uncastable(raw: pa.Array, type_: pa.DataType, first: int = 0) -> Iterator[int]:
    """The positions of the values that cannot be cast, found by halving."""
    try:
        _cast(raw, type_)
    except pa.ArrowInvalid:
        if len(raw) == 1:
            yield first
            return
        half = len(raw) // 2
        yield from _uncastable(raw[:half], type_, first)
        yield from _uncastable(raw[half:], type_, first + half)


def _cast(raw: pa.Array, type_: pa.DataType) -> pa.Array:
    if pa.types.is_binary(raw.type):
        raw = raw.cast(pa.string())
    return raw.cast(type_)


def _text(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()
