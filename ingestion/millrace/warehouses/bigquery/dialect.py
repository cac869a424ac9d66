"""How BigQuery writes names, types, values and texts."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime

import pyarrow as pa

from millrace.catalog import IngestTable
from millrace.warehouses.bigquery.options import BigQueryOptions

_TYPES = {
    pa.bool_(): "BOOL",
    pa.int16(): "INT64",
    pa.int32(): "INT64",
    pa.int64(): "INT64",
    pa.float32(): "FLOAT64",
    pa.float64(): "FLOAT64",
    pa.string(): "STRING",
    pa.binary(): "BYTES",
    pa.date32(): "DATE",
    pa.timestamp("us"): "DATETIME",
    pa.timestamp("us", "UTC"): "TIMESTAMP",
}
# The widest of the types that BigQuery has one of where Arrow has several.
_ARROW_TYPES = {name: type_ for type_, name in _TYPES.items()} | {
    # As its API writes them.
    "INTEGER": pa.int64(),
    "FLOAT": pa.float64(),
    "BOOLEAN": pa.bool_(),
    # JSON travels as text.
    "JSON": pa.string(),
}
# https://cloud.google.com/bigquery/docs/reference/standard-sql/data-types#parameterized_decimal_type
_NUMERIC_SCALE = 9
_NUMERIC_WHOLE_DIGITS = 29
# NUMERIC and BIGNUMERIC without parameters, of which Arrow's decimal holds 38 digits.
_UNPARAMETERIZED = {"NUMERIC": (38, 9), "BIGNUMERIC": (38, 18)}
_DEFAULTS = BigQueryOptions.model_validate({})
# What needs no escape in a literal, whatever the rules for escapes are.
_PLAIN = re.compile(r"[\w .,:;/+=()@-]*", re.ASCII)


def quote(identifier: str) -> str:
    """An identifier in backticks.

    https://cloud.google.com/bigquery/docs/reference/standard-sql/lexical#quoted_identifiers
    """
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"


def raw(table: IngestTable) -> str:
    """The raw table's quoted name; the project is the client's."""
    return f"{quote(table.schema)}.{quote(table.identifier)}"


def sql_type(type_: pa.DataType) -> str:
    """BigQuery's name of a type."""
    if not pa.types.is_decimal(type_):
        return _TYPES[type_]
    whole = type_.precision - type_.scale
    is_numeric = type_.scale <= _NUMERIC_SCALE and whole <= _NUMERIC_WHOLE_DIGITS
    return f"{'' if is_numeric else 'BIG'}NUMERIC({type_.precision},{type_.scale})"


def arrow_type(name: str, precision: int | None, scale: int | None) -> pa.DataType | None:
    """The Arrow type of a column; None: Millrace makes no such column."""
    if name in _UNPARAMETERIZED:
        both = (precision, scale or 0) if precision else _UNPARAMETERIZED[name]
        return pa.decimal128(*both)
    return _ARROW_TYPES.get(name)


def literal(value: str | int | datetime | None) -> str:
    """A value in the text of a script.

    The scripts that commit a load are the same on BigQuery and on its emulator, which takes no
    parameters in a script. A text is written so that none of its characters can end the literal.
    """
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            return f"DATETIME '{value.isoformat(' ', 'microseconds')}'"
        return f"TIMESTAMP '{value.astimezone(UTC).isoformat(' ', 'microseconds')}'"
    if _PLAIN.fullmatch(value):
        return f"'{value}'"
    return f"SAFE_CONVERT_BYTES_TO_STRING(FROM_HEX('{value.encode().hex()}'))"


def options_of(table: IngestTable) -> BigQueryOptions:
    """What the table's declaration says of BigQuery."""
    options = table.of_warehouse.get("bigquery", _DEFAULTS)
    if not isinstance(options, BigQueryOptions):
        raise TypeError(f"{options!r} is of another kind of warehouse")
    return options


def every_partition(table: IngestTable) -> str:
    """A condition that is true of every row, and says which partitions are read: all."""
    column = quote(options_of(table).partition_by)
    # The literal becomes a value of the column's type.
    return f"({column} >= '0001-01-01' OR {column} IS NULL)"


class BigQueryDialect:
    """See ``millrace.warehouses.dialect.Dialect``.

    Args:
        parsed: The columns that are kept as JSON, whose text is not the one that was landed.
    """

    def __init__(self, parsed: Collection[str] = ()) -> None:
        self._parsed = parsed

    def quote(self, identifier: str) -> str:
        """An identifier in backticks."""
        return quote(identifier)

    def raw(self, table: IngestTable) -> str:
        """The raw table's quoted name."""
        return raw(table)

    def rows(self, table: IngestTable) -> str:
        """What follows FROM where all rows of the raw table are read."""
        if not options_of(table).require_partition_filter:
            return raw(table)
        return f"(SELECT * FROM {raw(table)} WHERE {every_partition(table)})"

    def timestamp(self, *, has_zone: bool) -> str:
        """The type of a moment, or of a time without a zone."""
        return "TIMESTAMP" if has_zone else "DATETIME"

    def text(self, field: pa.Field) -> str | None:
        """An expression of a value's text; floating point has none."""
        name, type_ = quote(field.name), field.type
        if field.name in self._parsed or pa.types.is_floating(type_):
            return None
        if pa.types.is_string(type_) or pa.types.is_binary(type_):
            return name
        if pa.types.is_boolean(type_):
            return f"CAST(CAST({name} AS INT64) AS STRING)"
        if pa.types.is_decimal(type_) and type_.scale:
            # A cast to STRING leaves zeros at the end out.
            return f"FORMAT('%.{type_.scale}f', {name})"
        if pa.types.is_timestamp(type_):
            kind = self.timestamp(has_zone=bool(type_.tz))
            moment = f"CAST({name} AS {kind})"
            # The year by itself, because FORMAT does not write one before 1000 in four digits.
            year = f"LPAD(CAST(EXTRACT(YEAR FROM {moment}) AS STRING), 4, '0')"
            return f"CONCAT({year}, FORMAT_{kind}('-%m-%d %H:%M:%E6S', {moment}))"
        return f"CAST({name} AS STRING)"

    def hexadecimal(self, field: pa.Field) -> str:
        """An expression of bytes as small hexadecimal digits."""
        return f"TO_HEX({quote(field.name)})"

    def hashed(self, value: str) -> str:
        """An expression of the SHA-256 of a text or of bytes."""
        return f"TO_HEX(SHA256({value}))"

    def md5(self, text: str) -> str:
        """An expression of the MD5 of a text or of bytes."""
        return f"TO_HEX(MD5({text}))"

    def number(self, digits: str) -> str:
        """An expression of the whole number that hexadecimal digits write.

        As BIGNUMERIC, because a sum of INT64 overflows.
        """
        return f"CAST(CAST(CONCAT('0x', {digits}) AS INT64) AS BIGNUMERIC)"

    def divided(self, whole: str, by: int) -> str:
        """An expression of the quotient of two whole numbers that leave no remainder."""
        return f"DIV({whole}, {by})"
