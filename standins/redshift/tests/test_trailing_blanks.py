"""Blanks at the end of a text are stored and returned, and do not count in a comparison.

The page is "Character types", with its examples; `address` is theirs.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from standins.redshift.tests.conftest import run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redshift_standin import RedshiftServer

pytestmark = [pytest.mark.service, pytest.mark.redshift]


@pytest.fixture
def address(connection: Any, schema: str) -> Iterator[Any]:
    run(connection, f"set search_path to {schema}")
    run(connection, "create table address (id int, line varchar(30), code char(5))")
    run(
        connection,
        "insert into address values (1, 'Magnolia', 'ab'), (2, 'Magnolia  ', 'ab '), "
        "(3, 'Main', 'abc'), (4, ' Magnolia', null), (5, '', ''), (6, '   ', ' '), (7, null, null)",
    )
    yield connection
    run(connection, "reset search_path")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("'abc  ' = 'abc'", True),
        ("'abc  ' <> 'abc'", False),
        ("'abc' < 'abc ' or 'abc' > 'abc '", False),
        ("'abc ' <= 'abc' and 'abc' >= 'abc '", True),
        ("' abc' = 'abc'", False),
        ("'' = '   '", True),
        ("'abc ' in ('x', 'abc')", True),
        ("'abc ' not in ('x', 'abc')", False),
        ("'abc ' between 'abc' and 'abc'", True),
        ("'abc '::varchar(9) = 'abc'::char(5)", True),
        ("nullif('abc ', 'abc')", None),
        ("case 'abc ' when 'abc' then 1 end", 1),
        ("decode('abc ', 'abc', 1)", 1),
        # Everything except a comparison sees them.
        ("len('abc ')", 4),
        ("len('abc '::char(9))", 3),
        ("octet_length('abc '::varchar(9))", 4),
        ("'abc ' || 'd'", "abc d"),
        ("'abc '::char(9) || 'd'", "abcd"),
        ("strpos('abc d', 'c ')", 3),
    ],
)
def test_blanks_at_the_end_do_not_count_in_a_comparison(
    connection: Any, expression: str, expected: object
) -> None:
    assert run(connection, f"select {expression}") == [(expected,)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select count(*) from address where line = 'Magnolia'", 2),
        ("select count(*) from address where line in ('Magnolia ', 'Main ')", 3),
        ("select count(*) from address where line <> 'Magnolia'", 4),
        ("select count(*) from address where code = 'ab'", 2),
        ("select count(distinct line) from address", 4),
        ("select approximate count(distinct line) from address", 4),
        ("select count(*) from (select distinct line from address)", 5),
        ("select count(*) from (select line from address group by line)", 5),
        ("select count(*) from (select line from address union select 'Main  ')", 5),
        ("select count(*) from (select line from address intersect select 'Main  ')", 1),
        ("select count(*) from (select line from address except select 'Magnolia   ')", 4),
        ("select count(*) from address as a join address as b on a.line = b.line", 10),
        ("select count(*) from address as a join address as b on a.code = b.line", 4),
        ("select count(*) from address where line in (select 'Magnolia   ')", 2),
        ("select count(*) from address where (line, id) in (select 'Main   ', 3)", 1),
        ("select max(n) from (select dense_rank() over (order by line) as n from address)", 5),
        ("select max(n) from (select count(*) over (partition by line) as n from address)", 2),
        ("select regexp_count(listagg(distinct line, ','), 'M') from address where id < 3", 1),
    ],
)
def test_rows_that_differ_in_blanks_at_the_end_match(
    address: Any, query: str, expected: object
) -> None:
    assert run(address, query) == [(expected,)]


def test_rows_that_differ_in_blanks_at_the_end_are_ordered_by_what_follows(address: Any) -> None:
    assert run(address, "select id from address where line is not null order by line, id desc") == [
        *((6,), (5,), (4,), (2,), (1,), (3,))
    ]


def test_what_is_stored_keeps_its_blanks(address: Any) -> None:
    rows = run(address, "select line, len(line) from address where line = 'Magnolia' order by id")
    assert rows == [("Magnolia", 8), ("Magnolia  ", 10)]


def test_rows_that_differ_in_blanks_at_the_end_are_changed_together(address: Any) -> None:
    run(address, "create table news (line varchar(30), id int)")
    run(address, "insert into news values ('Main   ', 30), ('Elsewhere', 40)")
    run(
        address,
        "merge into address using news on address.line = news.line "
        "when matched then update set id = news.id "
        "when not matched then insert (id, line) values (news.id, news.line)",
    )
    run(address, "update address set id = 10 where line = 'Magnolia'")
    run(address, "delete from address where line = ' '")
    assert run(address, "select id from address order by id") == [
        *((4,), (7,), (10,), (10,), (30,), (40,))
    ]


@pytest.mark.parametrize("way", ["hashjoin", "mergejoin", "nestloop"])
def test_every_way_to_join_passes_the_blanks_over(
    redshift: RedshiftServer, address: Any, schema: str, way: str
) -> None:
    endpoint = redshift.endpoint
    account: dict[str, Any] = {
        "host": endpoint.host,
        "port": endpoint.postgres_port,
        "dbname": endpoint.database,
        "user": endpoint.user,
        "password": endpoint.password,
    }
    query = f"select count(*) from {schema}.address as a join {schema}.address as b using (line)"
    with closing(psycopg.connect(**account)) as client, client.cursor() as cursor:
        for other in {"hashjoin", "mergejoin", "nestloop"} - {way}:
            cursor.execute(f"set enable_{other} = off")
        cursor.execute(query)
        assert cursor.fetchall() == [(10,)]


def test_the_order_behind_a_sort_key_passes_the_blanks_over(address: Any) -> None:
    run(address, "create table digits (n int)")
    run(address, f"insert into digits values {', '.join(f'({n})' for n in range(100))}")
    run(
        address,
        "create table many sortkey (code) as select cast(cast(a.n as varchar) || '-' || "
        "cast(b.n as varchar) || repeat(' ', c.n) as varchar(200)) as code "
        "from digits as a, digits as b, (select n from digits where n < 20) as c",
    )
    plan = "\n".join(
        line for (line,) in run(address, "explain select * from many where code = '7-7'")
    )
    assert "redshift_sortkey" in plan
    assert run(
        address, "select count(*), min(len(code)), max(len(code)) from many where code = '7-7 '"
    ) == [(20, 3, 22)]
