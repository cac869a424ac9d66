"""Names as on the page "Names and identifiers": with characters beyond ASCII, quoted or not."""

from __future__ import annotations

from typing import Any

import pytest

from redshift_standin.sql import RedshiftError, translate
from standins.redshift.tests.conftest import run

NAMES = ["größe", "_ñ", "주문", "日本$1", "😀", "e\u0301te\u0301", "x€", "मूल्य", "Ünder"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", ["{}", '"{}"'])
@pytest.mark.service
@pytest.mark.redshift
def test_a_name_beyond_ascii_works_everywhere(
    connection: Any, schema: str, name: str, form: str
) -> None:
    written = form.format(name)
    run(connection, f"create table {schema}.{written} ({written} int) sortkey ({written})")
    run(connection, f"insert into {schema}.{written} ({written}) values (1), (2)")
    run(connection, f"create view {schema}.v as select {written} from {schema}.{written}")
    with connection.cursor() as cursor:
        cursor.execute(
            f"with {written} as (select * from {schema}.{written} as {written}) "
            f"select max({written}.{written}) as {written} from {written}"
        )
        assert cursor.description[0][0] == name
        assert cursor.fetchall() == ([2],)
    assert run(
        connection,
        "select table_name, column_name from svv_columns where table_schema = %s "
        "and table_name = %s",
        schema,
        name,
    ) == [(name, name)]
    # dbt's way.
    shown = run(connection, f'show columns from table "dev"."{schema}"."{name}"')
    assert [row[3] for row in shown] == [name]


@pytest.mark.parametrize("name", ["a\u00a0b", '"a\u00a0b"', '"a\tb"', "\u200bx", "\u3000"])
def test_a_name_that_is_not_printable_is_refused(name: str) -> None:
    with pytest.raises(RedshiftError, match="syntax error"):
        translate(f"select 1 as {name}")


@pytest.mark.parametrize("name", ["a" * 64, f'"{"a" * 64}"', "é" * 32, '"' + "a" * 128 + '"'])
@pytest.mark.parametrize(
    "statement",
    [
        "create table {} (id int)",
        "create table t ({} int)",
        "create view v as select 1 as {}",
        "create schema {}",
        "alter table t rename to {}",
        "alter table t add column {} int",
        "select 1 as {}",
        "create temporary table t as select 1 as {}",
    ],
)
def test_a_name_that_is_shown_is_never_cut_off(name: str, statement: str) -> None:
    with pytest.raises(RedshiftError, match="stand-in 63"):
        translate(statement.format(name))
    translate(statement.format("é" * 31))


@pytest.mark.service
@pytest.mark.redshift
def test_a_temporary_table_may_have_a_long_name(connection: Any) -> None:
    # dbt gives its temporary tables such names.
    name = "increment_onto_an_empty_table_brings_everything__dbt_tmp045931323598"
    run(connection, f'create temporary table "{name}" as (select 1 as id)')
    assert run(connection, f'select id from "{name}"') == [(1,)]
    assert run(
        connection,
        f"select column_name from information_schema.columns where table_name = '{name}'",
    ) == [("id",)]
    run(connection, f'drop table "{name}"')


@pytest.mark.service
@pytest.mark.redshift
def test_an_account_may_have_any_name(connection: Any, schema: str) -> None:
    run(connection, "create user \"o'größe-b.c\" password 'Abcdef12'")
    try:
        run(connection, f'grant all on schema {schema} to "o\'größe-b.c"')
        run(connection, 'set session authorization "o\'größe-b.c"')
        run(connection, f"create table {schema}.t (id int)")
        run(connection, f"insert into {schema}.t values (1)")
        run(connection, f"create materialized view {schema}.mv as select id from {schema}.t")
        run(connection, f"refresh materialized view {schema}.mv")
        assert run(connection, f"select id from {schema}.mv") == [(1,)]
    finally:
        run(connection, "set session authorization default")
        run(connection, f"drop table if exists {schema}.t cascade")
        run(connection, f'revoke all on schema {schema} from "o\'größe-b.c"')
        run(connection, 'drop user "o\'größe-b.c"')
