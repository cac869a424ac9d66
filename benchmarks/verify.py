"""Compares what a method wrote with what the table holds: every value of every row.

The reference was written by the server, so no client's mistake is in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

# Types of one family hold the same values. A column of another family than the table's is reported.
_FAMILIES = {
    "BIGINT": "integer",
    "INTEGER": "integer",
    "SMALLINT": "integer",
    "TINYINT": "integer",
    "DOUBLE": "double",
    "FLOAT": "double",
    "VARCHAR": "text",
    "TIMESTAMP": "timestamp",
    "TIMESTAMP_NS": "timestamp",
    "TIMESTAMP_MS": "timestamp",
    "TIMESTAMP_S": "timestamp",
    "TIMESTAMP WITH TIME ZONE": "timestamp with a time zone",
    "DATE": "date",
}


@dataclass(frozen=True)
class Verdict:
    """What a comparison found.

    Attributes:
        rows: How many rows were written.
        changed: The differences from the table, one phrase each; empty if there are none.
        examples: One changed value for each changed column.
        retyped: The columns whose type is of another family, one phrase per type.
    """

    rows: int
    changed: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    retyped: tuple[str, ...] = ()


def compare(reference: Path, written: Sequence[Path]) -> Verdict:
    """Compare Parquet files with the reference.

    The rows may come in any order and in any number of files; each value is cast to the type that
    it has in the table. Columns that the table lacks are not looked at.

    Args:
        reference: The table's rows, with the key ``id``.
        written: What the method wrote.
    """
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        expected = connection.read_parquet(str(reference)).set_alias("expected")
        if not written:
            return Verdict(0, ("nothing was written",))
        found = connection.read_parquet([str(file) for file in written], union_by_name=True)
        connection.register("expected", expected)
        connection.register("found", found)
        ((expected_rows,),) = connection.execute("select count(*) from expected").fetchall()
        ((rows,),) = connection.execute("select count(*) from found").fetchall()
        changed = []
        if rows != expected_rows:
            changed.append(f"{rows:,} rows instead of {expected_rows:,}")
        types = dict(zip(found.columns, map(str, found.types), strict=True))
        retyped: dict[str, list[str]] = {}
        shared = []
        for name, type_ in zip(expected.columns, map(str, expected.types), strict=True):
            if name not in types:
                changed.append(f"{name} is missing")
                continue
            shared.append((name, type_))
            if _family(types[name]) != _family(type_):
                retyped.setdefault(_family(types[name]), []).append(name)
        examples = []
        for name, type_ in _differing(connection, shared):
            count, example = _difference(connection, name, type_)
            changed.append(f"{name} in {count:,} rows")
            examples.append(example)
        as_other_types = [f"{', '.join(names)} as {type_}" for type_, names in retyped.items()]
        return Verdict(rows, tuple(changed), tuple(examples), tuple(as_other_types))


def _differing(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """The columns whose values differ."""
    # Hashed together with the row's key, so that two rows that swapped values are noticed.
    sums = ", ".join(
        f"count({value}), sum(hash(try_cast(id as bigint), {value}))"
        for name, type_ in columns
        for value in [f"try_cast({_quoted(name)} as {type_})"]
    )
    expected = connection.execute(f"select {sums} from expected").fetchone() or ()
    found = connection.execute(f"select {sums} from found").fetchone() or ()
    pairs = [slice(2 * number, 2 * number + 2) for number in range(len(columns))]
    return [
        column for column, pair in zip(columns, pairs, strict=True) if expected[pair] != found[pair]
    ]


def _difference(connection: duckdb.DuckDBPyConnection, name: str, type_: str) -> tuple[int, str]:
    """In how many rows a column differs, and an example."""
    column = _quoted(name)
    differing = (
        "from expected join found on expected.id = try_cast(found.id as bigint) "
        f"where expected.{column} is distinct from try_cast(found.{column} as {type_})"
    )
    ((count,),) = connection.execute(f"select count(*) {differing}").fetchall()
    example = connection.execute(
        f"select expected.id, expected.{column}::varchar, found.{column}::varchar {differing} "
        "order by 1 limit 1"
    ).fetchone()
    if example is None:
        return 0, f"{name}: other rows"
    key, was, came = example
    return int(count), f"{name} of row {key}: {_shown(was)} became {_shown(came)}"


def _family(type_: str) -> str:
    # Another precision or scale is another type.
    return _FAMILIES.get(type_, type_.lower())


def _shown(value: str | None) -> str:
    if value is None:
        return "NULL"
    return f"'{value}'" if not value else value[:40]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
