"""PostgreSQL's column types as Arrow types: how each is selected, and what it cannot hold.

What the driver has an exact Arrow type for is read as it is. All others are cast to text by the
server, a numeric too, of which Arrow then makes a decimal. docs/type-mapping.md shows the whole
table.
"""

from __future__ import annotations

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
        expression: Its expression in the SELECT list.
        type: Its Arrow type.
        is_nullable: Whether PostgreSQL allows NULL in it.
        text: An expression of a value's text, for its checksum (see ``millrace.checksums``), or of
            its bytes; None: the type has none.
        is_number: Whether it is a numeric, which may be none that can be counted with.
    """

    name: str
    expression: str
    type: pa.DataType
    is_nullable: bool = True
    text: str | None = None
    is_number: bool = False

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
        return Column(name, f"{amount}::text", decimal, nullable, f"{amount}::text")
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
    written = f"{quoted}::text"
    if described.type != "date":
        is_moment = described.type == "timestamptz"
        wall_clock = f"{quoted} AT TIME ZONE 'UTC'" if is_moment else quoted
        written = f"to_char({wall_clock}, 'YYYY-MM-DD HH24:MI:SS.US')"
    text = f"(CASE WHEN {unfit(described)} THEN NULL ELSE {written} END)"
    return Column(described.name, quoted, type_, described.is_nullable, text)


def _numeric(described: Described) -> Column:
    type_ = pa.string()
    # A negative scale rounds before the point, and a scale above the precision begins with zeros.
    scale = max(described.scale, 0)
    precision = described.precision and max(described.precision - min(described.scale, 0), scale)
    if precision and precision <= _MAX_ARROW_DECIMAL:
        type_ = pa.decimal128(precision, scale)
    # As text, because the driver takes longer to make digits of a numeric than the server.
    text = f"{quote(described.name)}::text"
    return Column(described.name, text, type_, described.is_nullable, text, is_number=True)


def unfit(described: Described) -> str:
    """A condition that holds for times that no calendar of ours has, such as infinity."""
    quoted = quote(described.name)
    zone = "+00" if described.type == "timestamptz" else ""
    bounds = [f"'{day}{zone}'::{described.type}" for day in (_FIRST, _AFTER_LAST)]
    return f"({quoted} < {bounds[0]} OR {quoted} >= {bounds[1]})"


def quote(identifier: str) -> str:
    """An identifier in double quotes."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(value: str) -> str:
    """A text as a literal; a session has ``standard_conforming_strings`` on.

    It takes the type of what it is compared with.
    """
    return "'" + value.replace("'", "''") + "'"
