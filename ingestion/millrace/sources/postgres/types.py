"""PostgreSQL's column types as Arrow types: how each is selected, and what it cannot hold.

What the driver has an exact Arrow type for is read as it is, and a numeric as its digits. All
others are cast to text by the server. docs/type-mapping.md shows the whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from millrace.errors import SourceMismatch

_PLAIN = {
    "bool": pa.bool_(),
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float32(),
    "float8": pa.float64(),
    "bytea": pa.binary(),
}
_TEMPORALS = {
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamptz": pa.timestamp("us", "UTC"),
}
_TEXTS = frozenset(
    {
        # `char(n)` loses its padding, as it does in every cast of PostgreSQL's own.
        *("text", "varchar", "bpchar", "char", "name", "citext"),
        *("json", "jsonb", "jsonpath", "xml", "uuid"),
        *("time", "timetz", "interval"),
        *("cidr", "macaddr", "macaddr8", "bit", "varbit"),
        *("tsvector", "tsquery", "pg_lsn", "ltree"),
        *("point", "line", "lseg", "box", "path", "polygon", "circle"),
    }
)
# By `pg_type.typtype`: what an enum, a range and a multirange are cast to.
_TEXT_KINDS = frozenset("erm")
_COMPOSITE = "c"
_MAX_ARROW_DECIMAL = 38
# The digits of a 64-bit number.
_MONEY_DIGITS = 19
# What Python, Arrow's text of a time and every warehouse agree on.
_FIRST, _AFTER_LAST = "0001-01-01", "10000-01-01"


@dataclass(frozen=True)
class Described:
    """What the catalog says of a column.

    Attributes:
        name: Its name.
        declared: Its type in PostgreSQL's own words, such as ``numeric(12,2)``.
        type: The name of its type; of a domain, that of the type below it.
        kind: That type's ``typtype``.
        is_array: Whether that type is an array.
        precision: Digits of a numeric; None: any.
        scale: Of a numeric, those after the point; of a money, in the database's locale.
        fraction: Digits of a time's seconds.
        is_nullable: Whether NULL is allowed in it.
    """

    name: str
    declared: str
    type: str
    kind: str = "b"
    is_array: bool = False
    precision: int | None = None
    scale: int = 0
    fraction: int = 6
    is_nullable: bool = True


@dataclass(frozen=True)
class Column:
    """A column as it is selected and read.

    Attributes:
        name: Its name.
        expression: Its expression in the SELECT list: NULL where a value does not fit.
        type: Its Arrow type.
        is_nullable: Whether PostgreSQL allows NULL in it.
        text: An expression of a value's text, for its checksum (see ``millrace.checksums``), or of
            its bytes; None: the type has none.
        misfit: A condition that holds for values that the type cannot hold; None: all fit.
    """

    name: str
    expression: str
    type: pa.DataType
    is_nullable: bool = True
    text: str | None = None
    misfit: str | None = None

    @property
    def is_binary(self) -> bool:
        """Whether its values are bytes."""
        return bool(pa.types.is_binary(self.type))


def column_of(described: Described, where: str) -> Column:
    """Decide how a column is read.

    Args:
        described: The column.
        where: The table, for the message.

    Raises:
        SourceMismatch: Millrace has no mapping for the type.
    """
    name, type_ = described.name, described.type
    quoted = quote(name)
    nullable = described.is_nullable
    if described.is_array or described.kind == _COMPOSITE or type_ == "hstore":
        as_json = f"to_json({quoted})::text"
        return Column(name, as_json, pa.string(), nullable, as_json)
    if type_ in _PLAIN:
        return _plain(described)
    if type_ in _TEMPORALS:
        return _temporal(described)
    if type_ == "numeric":
        return _numeric(described)
    if type_ == "oid":
        return Column(name, f"{quoted}::bigint", pa.int64(), nullable, f"{quoted}::text")
    if type_ == "money":
        amount = f"{quoted}::numeric({_MONEY_DIGITS},{described.scale})"
        decimal = pa.decimal128(_MONEY_DIGITS, described.scale)
        return Column(name, amount, decimal, nullable, f"({amount})::text")
    if type_ == "inet":
        # The cast to text would write every address with its mask.
        text = f"(to_json({quoted}) #>> '{{}}')"
        return Column(name, text, pa.string(), nullable, text)
    if type_ in _TEXTS or described.kind in _TEXT_KINDS:
        return Column(name, f"{quoted}::text", pa.string(), nullable, f"{quoted}::text")
    raise SourceMismatch(
        f"{where}: column {name} is of the type {described.declared}, which has no decided form.",
        fix=f"Leave it out (`columns: [{{name: {name}, config: {{meta: {{ingest: false}}}}}}]`), "
        "or read the table through a view that casts it.",
    )


def _plain(described: Described) -> Column:
    quoted, type_ = quote(described.name), _PLAIN[described.type]
    text: str | None = f"{quoted}::text"
    if pa.types.is_boolean(type_):
        text = f"{quoted}::int::text"
    if pa.types.is_binary(type_):
        text = quoted
    if pa.types.is_floating(type_):
        text = None
    return Column(described.name, quoted, type_, described.is_nullable, text)


def _temporal(described: Described) -> Column:
    quoted, type_ = quote(described.name), _TEMPORALS[described.type]
    zone = "+00" if described.type == "timestamptz" else ""
    bounds = [f"'{day}{zone}'::{described.type}" for day in (_FIRST, _AFTER_LAST)]
    # The driver takes infinity for a number, and it and others overflow.
    misfit = f"({quoted} < {bounds[0]} OR {quoted} >= {bounds[1]})"
    fitting = f"CASE WHEN {misfit} THEN NULL ELSE {quoted} END"
    text = f"({fitting})::text"
    if described.type != "date":
        wall_clock = f"{quoted} AT TIME ZONE 'UTC'" if zone else quoted
        written = f"to_char({wall_clock}, 'YYYY-MM-DD HH24:MI:SS.US')"
        text = f"(CASE WHEN {misfit} THEN NULL ELSE {written} END)"
    return Column(described.name, fitting, type_, described.is_nullable, text, misfit)


def _numeric(described: Described) -> Column:
    quoted, type_ = quote(described.name), pa.string()
    # A negative scale rounds before the point, and a scale above the precision begins with zeros.
    scale = max(described.scale, 0)
    precision = described.precision and max(described.precision - min(described.scale, 0), scale)
    if precision and precision <= _MAX_ARROW_DECIMAL:
        type_ = pa.decimal128(precision, scale)
    misfit = f"({quoted} IN ('NaN', 'Infinity', '-Infinity'))"
    fitting = f"CASE WHEN {misfit} THEN NULL ELSE {quoted} END"
    return Column(
        described.name,
        # In a CASE, a numeric is still sent with its digits.
        fitting,
        type_,
        described.is_nullable,
        f"({fitting})::text",
        misfit,
    )


def misfits_of(columns: Sequence[Column]) -> str:
    """An expression of the values of a row that do not fit.

    It is a JSON array with a text or null for each column that has a ``misfit``, and NULL in a row
    whose values all fit.
    """
    checked = [column for column in columns if column.misfit]
    if not checked:
        return "NULL::text"
    values = ", ".join(
        f"CASE WHEN {column.misfit} THEN {quote(column.name)}::text END" for column in checked
    )
    is_one = " OR ".join(str(column.misfit) for column in checked)
    return f"CASE WHEN {is_one} THEN json_build_array({values})::text END"


def quote(identifier: str) -> str:
    """An identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as a literal; a session has ``standard_conforming_strings`` on.

    It takes the type of what it is compared with.
    """
    return "'" + value.replace("'", "''") + "'"
