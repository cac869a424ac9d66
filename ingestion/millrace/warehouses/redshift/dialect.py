"""How Redshift writes what SQL leaves open."""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from millrace.warehouses.dialect import StandardNames
from millrace.warehouses.expressions import quote
from millrace.warehouses.redshift.options import LIMITS

_TYPES = {
    pa.bool_(): "BOOLEAN",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float32(): "REAL",
    pa.float64(): "DOUBLE PRECISION",
    pa.string(): f"VARCHAR({LIMITS.text_bytes})",
    pa.binary(): f"VARBYTE({LIMITS.binary_bytes})",
    pa.date32(): "DATE",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("us", "UTC"): "TIMESTAMPTZ",
}


def sql_type(type_: pa.DataType) -> str:
    """Redshift's name of a type."""
    if pa.types.is_decimal(type_):
        return f"DECIMAL({type_.precision},{type_.scale})"
    return _TYPES[type_]


class RedshiftDialect(StandardNames):
    """See ``millrace.warehouses.dialect.Dialect``.

    Args:
        parsed: The columns that are kept as SUPER, whose text is not the one that was landed.
    """

    def __init__(self, parsed: Collection[str] = ()) -> None:
        self._parsed = parsed

    def text(self, field: pa.Field) -> str | None:
        """An expression of a value's text; bytes and floating point have none."""
        type_ = field.type
        if field.name in self._parsed:
            return None
        if pa.types.is_string(type_):
            return quote(field.name)
        # The raw table's type may be wider.
        value = f"CAST({quote(field.name)} AS {sql_type(type_)})"
        if pa.types.is_integer(type_) or pa.types.is_decimal(type_):
            return f"CAST({value} AS VARCHAR)"
        if pa.types.is_boolean(type_):
            return f"CASE WHEN {value} THEN '1' WHEN NOT {value} THEN '0' END"
        if pa.types.is_date(type_):
            return f"TO_CHAR({value}, 'YYYY-MM-DD')"
        if pa.types.is_timestamp(type_):
            moment = f"{value} AT TIME ZONE 'UTC'" if type_.tz else value
            return f"TO_CHAR({moment}, 'YYYY-MM-DD HH24:MI:SS.US')"
        return None

    def hexadecimal(self, field: pa.Field) -> str:
        """An expression of bytes as small hexadecimal digits."""
        return f"LOWER(TO_HEX({quote(field.name)}))"

    def hashed(self, value: str) -> str:
        """An expression of the SHA-256 of a text."""
        return f"SHA2({value}, 256)"

    def md5(self, text: str) -> str:
        """An expression of the MD5 of a text."""
        return f"MD5({text})"

    def number(self, digits: str) -> str:
        """An expression of the whole number that hexadecimal digits write."""
        return f"STRTOL({digits}, 16)"

    def divided(self, whole: str, by: int) -> str:
        """An expression of the quotient of two whole numbers that leave no remainder."""
        return f"CAST({whole} / {by} AS BIGINT)"
