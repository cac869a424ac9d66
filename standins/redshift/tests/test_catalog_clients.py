"""How clients look around: each way in which redshift_connector and psql ask the catalog."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from redshift_standin import RedshiftServer
from standins.redshift.tests.conftest import run

pytestmark = [pytest.mark.service, pytest.mark.redshift]


@pytest.fixture
def tables(connection: Any, schema: str) -> str:
    """A schema with one of everything."""
    for statement in (
        (
            "create table {s}.parent (id int not null, name varchar(10) default 'x', "
            "amount decimal(9, 2), payload super, primary key (id)) distkey (id) sortkey (name)"
        ),
        "comment on table {s}.parent is 'The parent.'",
        "create table {s}.child (n int references {s}.parent (id), at timestamp)",
        "create view {s}.seen as select id from {s}.parent",
        (
            "create function {s}.f_add(int, int) returns int immutable "
            "as $$ select $1 + $2 $$ language sql"
        ),
        "grant select on table {s}.parent to public",
        "grant select (at) on table {s}.child to public",
    ):
        run(connection, statement.format(s=schema))
    return schema


@pytest.fixture
def cursor(connection: Any, tables: str) -> Iterator[Any]:
    with closing(connection.cursor()) as opened:
        yield opened


def named(cursor: Any, rows: Any) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_databases_and_schemas(cursor: Any, tables: str) -> None:
    assert cursor.get_catalogs() == (["dev"],)
    assert cursor.get_schemas(schema_pattern="test!_%") == ()
    assert cursor.get_schemas(schema_pattern=tables) == ([tables, "dev"],)
    assert [tables, "dev"] in cursor.get_schemas()
    assert cursor.get_schemas(catalog="elsewhere") == ()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["child", "parent", "seen"]),
        ({"table_name_pattern": "p%"}, ["parent"]),
        ({"types": ["VIEW"]}, ["seen"]),
        ({"catalog": "dev", "types": ["TABLE"]}, ["child", "parent"]),
    ],
    ids=["all", "a pattern", "views", "tables"],
)
def test_tables(cursor: Any, tables: str, options: dict[str, Any], expected: list[str]) -> None:
    rows = named(cursor, cursor.get_tables(schema_pattern=tables, **options))
    assert sorted(row["TABLE_NAME"] for row in rows) == expected
    remarks = {row["TABLE_NAME"]: row["REMARKS"] for row in rows}
    assert remarks.get("parent", "The parent.") == "The parent."


def test_columns(cursor: Any, tables: str) -> None:
    rows = named(cursor, cursor.get_columns(schema_pattern=tables, tablename_pattern="parent"))
    wanted = ("COLUMN_NAME", "TYPE_NAME", "COLUMN_SIZE", "DECIMAL_DIGITS", "IS_NULLABLE")
    assert [tuple(row[name] for name in wanted) for row in rows] == [
        ("id", "int4", 10, 0, "NO"),
        ("name", "varchar", 10, 0, "YES"),
        ("amount", "numeric", 9, 2, "YES"),
        ("payload", "super", None, None, "YES"),
    ]
    assert [(row["SORT_KEY"], row["DIST_KEY"]) for row in rows[:2]] == [(0, 1), (1, 0)]
    (one,) = named(
        cursor,
        cursor.get_columns("dev", tables, tablename_pattern="child", columnname_pattern="a%"),
    )
    assert (one["COLUMN_NAME"], one["TYPE_NAME"]) == ("at", "timestamp")


def test_keys(cursor: Any, tables: str) -> None:
    assert cursor.get_primary_keys(None, tables, "parent") == (
        ["dev", tables, "parent", "id", 1, "parent_pkey"],
    )
    assert cursor.get_primary_keys(None, tables, "child") == ()
    foreign = [
        *("dev", tables, "parent", "id", "dev", tables, "child", "n", 1),
        *(3, 3, "child_n_fkey", "parent_pkey", 7),
    ]
    assert cursor.get_imported_keys(None, tables, "child") == (foreign,)
    assert cursor.get_exported_keys(None, tables, "parent") == (foreign,)
    assert cursor.get_exported_keys(None, tables, "child") == ()
    ((_, column, *_),) = cursor.get_best_row_identifier(None, tables, "parent", 1, True)
    assert column == "id"


def test_privileges(cursor: Any, tables: str) -> None:
    rows = named(cursor, cursor.get_table_privileges(None, tables, "parent"))
    assert ("public", "SELECT") in [(row["GRANTEE"], row["PRIVILEGE"]) for row in rows]
    rows = named(cursor, cursor.get_column_privileges(None, tables, "child"))
    assert [(row["COLUMN_NAME"], row["GRANTEE"], row["PRIVILEGE"]) for row in rows] == [
        ("at", "public", "SELECT")
    ]


def test_routines(cursor: Any, tables: str) -> None:
    assert cursor.get_procedures(None, tables) == ()
    assert cursor.get_procedure_columns(None, tables) == ()
    (function,) = named(cursor, cursor.get_functions(None, tables))
    assert function["SPECIFIC_NAME"] == "f_add(integer, integer)"
    rows = named(cursor, cursor.get_function_columns(None, tables, "f_add"))
    assert [(row["TYPE_NAME"], row["ORDINAL_POSITION"]) for row in rows] == [
        ("int4", 1),
        ("int4", 2),
    ]


def test_show_takes_types_written_out(connection: Any, tables: str) -> None:
    shown = f"show parameters of function {tables}.f_add"
    assert len(run(connection, f"{shown}(int, integer)")) == 2
    assert run(connection, f"{shown}(varchar)") == []


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (r"\d {s}.parent", "name | character varying(10)"),
        (r"\d+ {s}.child", "timestamp without time zone"),
        (r"\d {s}.seen", 'View "{s}.seen"'),
        (r"\dt {s}.*", "parent | table"),
        (r"\dv {s}.*", "seen | view"),
        (r"\dn", "{s} | awsuser"),
        (r"\dp {s}.*", "parent | table"),
        (r"\du", "awsuser"),
        (r"\l", "dev"),
        (r"\di {s}.*", "Did not find any relation"),
    ],
)
def test_psql_describes(redshift: RedshiftServer, tables: str, command: str, expected: str) -> None:
    endpoint = redshift.endpoint
    done = subprocess.run(
        [
            *("psql", "--no-psqlrc", "--no-password", f"--host={endpoint.host}"),
            *(f"--port={endpoint.port}", f"--user={endpoint.user}"),
            *(f"--dbname={endpoint.database}", f"--command={command.format(s=tables)}"),
        ],
        env={**os.environ, "PGPASSWORD": endpoint.password},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert " ".join(expected.format(s=tables).split()) in " ".join(
        (done.stdout + done.stderr).split()
    )
    assert "ERROR" not in done.stderr
