"""Redshift's data types, as PostgreSQL takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redshift_standin.lexer import Kind
from redshift_standin.statements import SYNTAX_ERROR, RedshiftError

if TYPE_CHECKING:
    from redshift_standin.lexer import Tokens

MAX_VARCHAR = 65535

# What the types with names of one word are called in PostgreSQL.
_TYPES = {
    "smallint": "smallint",
    "int2": "smallint",
    "integer": "integer",
    "int": "integer",
    "int4": "integer",
    "bigint": "bigint",
    "int8": "bigint",
    "decimal": "numeric",
    "numeric": "numeric",
    "dec": "numeric",
    "real": "real",
    "float4": "real",
    "float": "double precision",
    "float8": "double precision",
    "boolean": "boolean",
    "bool": "boolean",
    "char": "char",
    "character": "char",
    "nchar": "char",
    "bpchar": "char",
    "varchar": "varchar",
    "nvarchar": "varchar",
    "text": "varchar",
    "date": "date",
    "datetime": "timestamp",
    "timestamp": "timestamp",
    "timestamptz": "timestamptz",
    "time": "time",
    "timetz": "timetz",
    "interval": "interval",
    "super": "super",
    "varbyte": "varbyte",
    "varbinary": "varbyte",
}
_UNCOVERED = frozenset(("geometry", "geography", "hllsketch"))
# Units after INTERVAL make another type of it.
INTERVAL_UNITS = frozenset(("year", "month", "day", "hour", "minute", "second"))
# Redshift's in table definitions; elsewhere the length is that of the expression.
_DEFAULT_LENGTHS = {
    "varchar": 256,
    "nvarchar": 256,
    "text": 256,
    "bpchar": 256,
    "varbyte": 64_000,
    "varbinary": 64_000,
}


def parse_type(
    tokens: Tokens, start: int, end: int, *, in_table: bool = False, on_leader: bool = False
) -> tuple[str, int]:
    """The type that begins at `start`.

    Args:
        tokens: The statement.
        start: The type's first token.
        end: The index at which it has to end.
        in_table: A column is being declared: a length that is not given has Redshift's default.
        on_leader: The query reads only the catalog, so the leader node runs it, which knows
            PostgreSQL's types too.

    Returns:
        The type for PostgreSQL and the index after it.

    Raises:
        RedshiftError: Redshift has no such type, or the stand-in does not cover it.
    """
    name = tokens.word(start)
    index = start + 1
    if name == "double" and tokens.word(index) == "precision":
        return "double precision", index + 1
    if name == "national" and tokens.word(index) in ("character", "char"):
        name, index = tokens.word(index), index + 1
    if name == "binary" and tokens.word(index) == "varying":
        name, index = "varbyte", index + 1
    if name in ("character", "char", "nchar") and tokens.word(index) == "varying":
        name, index = "varchar", index + 1
    if name in _UNCOVERED:
        raise RedshiftError(f"The type {name} is not covered by the Redshift stand-in.")
    if name == "interval":
        refuse_interval_units(tokens, index)
        if in_table:
            raise _no_type(name)
    if name not in _TYPES or tokens.word(index) == "[":
        return _foreign_type(tokens, start, end, on_leader)
    arguments = ""
    if index < end and tokens.word(index) == "(":
        after = tokens.after(index)
        arguments = _arguments(tokens, index + 1, after - 1)
        index = after
    elif in_table and name in _DEFAULT_LENGTHS:
        arguments = f"({_DEFAULT_LENGTHS[name]})"
    elif _TYPES[name] == "numeric":
        arguments = "(18, 0)"
    base = _TYPES[name]
    if tokens.word(index) in ("with", "without") and tokens.starts(index + 1, "time", "zone"):
        base += "tz" if tokens.word(index) == "with" else ""
        index += 3
    if tokens.word(index) == "[" and not on_leader:
        raise _no_type(tokens.source(start, tokens.after(index)))
    return base + arguments, index


def refuse_interval_units(tokens: Tokens, index: int) -> None:
    """Refuse the units that stand at an index, after INTERVAL or its literal."""
    if tokens.word(index) in INTERVAL_UNITS:
        raise RedshiftError(
            "INTERVAL YEAR TO MONTH and INTERVAL DAY TO SECOND are not covered by the Redshift "
            "stand-in.",
            hint="Write the units into the literal: INTERVAL '3 days'",
        )


def _arguments(tokens: Tokens, start: int, end: int) -> str:
    values = [tokens.source(*each) for each in tokens.separated(start, end)]
    values = [str(MAX_VARCHAR) if value.lower() == "max" else value for value in values]
    if not values or not all(value.isdigit() for value in values):
        raise RedshiftError(f'syntax error at or near "{tokens.source(start, end)}"', SYNTAX_ERROR)
    return f"({', '.join(values)})"


def _foreign_type(tokens: Tokens, start: int, end: int, on_leader: bool) -> tuple[str, int]:
    index = start + 1
    while tokens.word(index) == "." and index < end:
        index += 2
    if index < end and tokens.word(index) == "(":
        index = tokens.after(index)
    while index < end and tokens.word(index) == "[":
        index = tokens.after(index)
    source = tokens.source(start, index)
    if on_leader and tokens.at(start).kind in (Kind.NAME, Kind.QUOTED):
        return source, index
    raise _no_type(source)


def _no_type(name: str) -> RedshiftError:
    return RedshiftError(
        f'type "{name}" does not exist',
        "42704",
        "Redshift does not support this type; see c_unsupported-postgresql-datatypes in its "
        "documentation. SUPER holds semi-structured values and arrays.",
    )
