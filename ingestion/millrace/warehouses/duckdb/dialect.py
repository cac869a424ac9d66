"""How DuckDB writes what SQL leaves open."""

from __future__ import annotations

import pyarrow as pa

from millrace.warehouses.dialect import StandardNames
from millrace.warehouses.expressions import quote


class DuckDBDialect(StandardNames):
    """See ``millrace.warehouses.dialect.Dialect``."""

    def text(self, field: pa.Field) -> str | None:
        """An expression of a value's text; floating point has none."""
        name, type_ = quote(field.name), field.type
        if pa.types.is_floating(type_):
            return None
        if pa.types.is_string(type_) or pa.types.is_binary(type_):
            return name
        if pa.types.is_boolean(type_):
            return f"CAST(CAST({name} AS TINYINT) AS VARCHAR)"
        if pa.types.is_timestamp(type_):
            moment = f"{name} AT TIME ZONE 'UTC'" if type_.tz else name
            return f"strftime({moment}, '%Y-%m-%d %H:%M:%S.%f')"
        return f"CAST({name} AS VARCHAR)"

    def hexadecimal(self, field: pa.Field) -> str:
        """An expression of bytes as small hexadecimal digits."""
        return f"lower(hex({quote(field.name)}))"

    def hashed(self, value: str) -> str:
        """An expression of the SHA-256 of a text or of bytes."""
        return f"sha256({value})"

    def number(self, digits: str) -> str:
        """An expression of the whole number that hexadecimal digits write."""
        return f"CAST('0x' || {digits} AS BIGINT)"

    def divided(self, whole: str, by: int) -> str:
        """An expression of the quotient of two whole numbers that leave no remainder."""
        return f"CAST({whole} AS HUGEINT) // {by}"
