"""The raw rows behind a value: each shape of SQL that models have, on DuckDB."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pytest
from pydantic import BaseModel

from millrace.catalog import IngestTable
from millrace.provenance.relations import Relation, Relations
from millrace.provenance.rows import keys_query
from millrace.provenance.trails import NotFollowed, Queries, Trail
from millrace.sources.mysql.options import MySQLOptions

RAW = """
create schema raw; create schema marts;
create table raw.orders (id int, customer int, amount int, day int, version int);
insert into raw.orders values
    (1, 10, 5, 1, 1), (2, 10, 7, 2, 1), (3, 20, 9, 2, 1), (4, null, 2, 3, 1), (5, 20, 1, 4, 1),
    (5, 20, 4, 4, 2);
create table raw.flags (is_open boolean);
create table raw.numbers (number int);
create table raw.customers (id int, plan varchar, version int);
insert into raw.customers values (10, 'free', 1), (20, 'team', 1), (30, 'team', 1);
"""
COLUMNS = {
    "orders": ("id", "customer", "amount", "day", "version"),
    "customers": ("id", "plan", "version"),
}
Rows = Mapping[str, Collection[Any]]


@dataclass(frozen=True)
class Case:
    """A mart, a cell of it, and the rows behind that cell: id and version, by raw table."""

    mart: str
    column: str
    row: Mapping[str, object]
    behind: Rows
    models: Mapping[str, str] = field(default_factory=dict)


def orders(*ids: int) -> set[tuple[object, ...]]:
    """The orders of these ids; the second version of the one that has two."""
    return {(number, 2 if number == 5 else 1) for number in ids}


BOTH_VERSIONS = {(5, 1), (5, 2)}
LATEST = (
    "select * from raw.orders qualify row_number() over (partition by id order by version desc) = 1"
)
BY_RANK = """
with ranked as (
    select *, row_number() over (partition by id order by version desc) as place from raw.orders
)
select id, customer, amount, day from ranked where place = 1
"""
DAYS = "select day, sum(amount) as amount, count(*) as orders from marts.latest group by day"
CASES = {
    "a renamed column of filtered rows": Case(
        "select id as order_id, amount * 2 as doubled from raw.orders where version = 1",
        *("doubled", {"order_id": 3}, {"orders": orders(3)}),
    ),
    "a sum of a group": Case(
        "select customer, sum(amount) as total from marts.latest group by customer",
        *("total", {"customer": 20}, {"orders": orders(3, 5)}, {"latest": LATEST}),
    ),
    "a group whose key is NULL": Case(
        "select customer, sum(amount) as total from marts.latest group by 1",
        *("total", {"customer": None}, {"orders": orders(4)}, {"latest": LATEST}),
    ),
    "the newest version, by a rank of its own": Case(
        "select * from marts.latest",
        *("amount", {"id": 5}, {"orders": orders(5)}, {"latest": BY_RANK}),
    ),
    "a count beside a left join": Case(
        "select plan, count(*) as orders from marts.latest as o "
        "left join raw.customers as c on o.customer = c.id group by plan",
        *("orders", {"plan": "team"}, {"orders": orders(3, 5)}, {"latest": LATEST}),
    ),
    "a count over an inner join": Case(
        "select c.plan, count(*) as orders from marts.latest as o "
        "join raw.customers as c on o.customer = c.id group by c.plan",
        *("orders", {"plan": "team"}),
        {"orders": orders(3, 5), "customers": {(20, 1)}},
        {"latest": LATEST},
    ),
    "a column of a joined table": Case(
        "select o.id, c.plan from marts.latest as o join raw.customers as c on o.customer = c.id",
        *("plan", {"id": 2}, {"customers": {(10, 1)}}, {"latest": LATEST}),
    ),
    "a union of two tables, by the place of their columns": Case(
        "select kind, sum(size) as size from marts.both_tables group by kind",
        *("size", {"kind": "order"}),
        {"orders": orders(1, 2, 3, 4) | BOTH_VERSIONS, "customers": set()},
        {
            "both_tables": "select 'order' as kind, amount as size from raw.orders "
            "union all select 'customer', id from raw.customers"
        },
    ),
    "distinct rows": Case(
        "select distinct customer from raw.orders",
        *("customer", {"customer": 20}, {"orders": {(3, 1), *BOTH_VERSIONS}}),
    ),
    "a value over a partition": Case(
        "select id, sum(amount) over (partition by customer) as of_customer from marts.latest",
        *("of_customer", {"id": 1}, {"orders": orders(1, 2)}, {"latest": LATEST}),
    ),
    "a value over all rows": Case(
        "select id, sum(amount) over () as of_all from marts.latest",
        *("of_all", {"id": 1}, {"orders": orders(1, 2, 3, 4, 5)}, {"latest": LATEST}),
    ),
    "groups that are filtered by what they come to": Case(
        "select customer, sum(amount) as total from marts.latest group by customer "
        "having count(*) > 1",
        *("total", {"customer": 10}, {"orders": orders(1, 2)}, {"latest": LATEST}),
    ),
    "groups that another query filters by what they come to": Case(
        "select day, amount from marts.days where orders > 1",
        *("amount", {"day": 2}, {"orders": orders(2, 3)}, {"latest": LATEST, "days": DAYS}),
    ),
    "groups that are told by what they come to": Case(
        "select orders, max(amount) as most from marts.days group by orders",
        *("most", {"orders": 2}, {"orders": orders(2, 3)}, {"latest": LATEST, "days": DAYS}),
    ),
    "groups by what is not selected": Case(
        "select sum(amount) as total, max(day) as day from marts.latest group by day % 2, day",
        *("total", {"day": 2}, {"orders": orders(2, 3)}, {"latest": LATEST}),
    ),
    "groups by an expression under its alias": Case(
        "select day % 2 as is_odd, sum(amount) as total from marts.latest group by is_odd",
        *("total", {"is_odd": 1}, {"orders": orders(1, 4)}, {"latest": LATEST}),
    ),
    "a moving window by a join with itself": Case(
        "with days as (select * from marts.days) "
        "select days.day, sum(counted.amount) as amount from days "
        "join days as counted on counted.day between days.day - 1 and days.day "
        "group by days.day",
        *("amount", {"day": 3}, {"orders": orders(2, 3, 4)}, {"latest": LATEST, "days": DAYS}),
    ),
    "one side of a full join": Case(
        "select coalesce(o.customer, c.id) as customer, o.total from "
        "(select customer, sum(amount) as total from marts.latest group by customer) as o "
        "full join raw.customers as c on o.customer = c.id",
        *("total", {"customer": 20}, {"orders": orders(3, 5)}, {"latest": LATEST}),
    ),
    "both sides of a full join": Case(
        "select coalesce(o.customer, c.id) as customer from "
        "(select customer from marts.latest group by customer) as o "
        "full join raw.customers as c on o.customer = c.id",
        *("customer", {"customer": 30}, {"orders": set(), "customers": {(30, 1)}}),
        {"latest": LATEST},
    ),
    "what is left of one table without another": Case(
        "select id from raw.customers except select customer from raw.orders",
        *("id", {"id": 30}, {"customers": {(30, 1)}}),
    ),
    "all rows in one": Case(
        "select 'all' as kind, sum(amount) as total from marts.latest",
        *("total", {"kind": "all"}, {"orders": orders(1, 2, 3, 4, 5)}, {"latest": LATEST}),
    ),
    "the first rows": Case(
        "select id, amount from marts.latest order by amount desc limit 2",
        *("amount", {"id": 2}, {"orders": orders(2)}, {"latest": LATEST}),
    ),
}


@dataclass(frozen=True)
class World:
    """The raw tables and the models of a case."""

    connection: duckdb.DuckDBPyConnection
    case: Case

    @property
    def models(self) -> dict[str, str]:
        return {**self.case.models, "mart": self.case.mart}

    @property
    def queries(self) -> Queries:
        raw = [
            Relation(f"source.raw.{name}", name, "memory", "raw", name, None, (), declared(name))
            for name in COLUMNS
        ]
        relations = {found.id: found for found in raw}
        for name, sql in self.models.items():
            relations[f"model.{name}"] = Relation(
                *(f"model.{name}", name, "memory", "marts", name, sql, tuple(relations), None)
            )
        columns = {name: dict.fromkeys(names, "int") for name, names in COLUMNS.items()}
        return Queries(Relations(relations, "duckdb"), lambda found: columns[found.name])

    def build(self) -> None:
        for name, sql in self.models.items():
            self.connection.execute(f"create or replace table marts.{name} as {sql}")

    def value(self) -> object:
        conditions = " and ".join(f"{name} is not distinct from ?" for name in self.case.row)
        return self.connection.execute(
            f"select {self.case.column} from marts.mart where {conditions}",
            list(self.case.row.values()),
        ).fetchall()

    def trails(self) -> list[Trail]:
        queries = self.queries
        return queries.trails(queries.relations.by_id["model.mart"], self.case.column)

    def behind(self) -> Rows:
        queries, found = self.queries, {}
        mart = queries.relations.by_id["model.mart"]
        trails = queries.trails(mart, self.case.column)
        assert [trail.broken for trail in trails] == [""] * len(trails)
        for table in sorted({trail.end.name for trail in trails}):
            here = [trail for trail in trails if trail.end.name == table]
            query = keys_query(queries, here, ("id", "version"), self.case.row)
            found[table] = set(self.connection.execute(query).fetchall())
        return found


def declared(name: str) -> IngestTable:
    options: BaseModel = MySQLOptions.model_validate(
        {"kind": "mysql", "connection": "m", "table": name, "primary_key": ["id"]}
    )
    return IngestTable("raw", name, "raw", name, options)  # type: ignore[arg-type]


def opened(case: Case) -> World:
    connection = duckdb.connect()
    connection.execute(RAW)
    world = World(connection, case)
    world.build()
    return world


@pytest.fixture(params=CASES.values(), ids=list(CASES))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    found = opened(request.param)
    yield found
    found.connection.close()


def test_the_rows_behind_a_value_are_found(world: World) -> None:
    assert world.value() != []
    assert world.behind() == world.case.behind


def test_the_rows_behind_a_value_are_enough_to_make_it(world: World) -> None:
    value = world.value()
    for table, rows in world.behind().items():
        kept = ", ".join(map(str, rows)) or "(null, null)"
        world.connection.execute(f"delete from raw.{table} where (id, version) not in ({kept})")
    world.build()
    assert world.value() == value


REFUSED = {
    "ranks or limits rows that were grouped before": Case(
        "select day, amount from marts.days order by amount desc limit 2",
        *("amount", {"day": 2}, {}, {"latest": LATEST, "days": DAYS}),
    ),
    "groups rows in several ways at once": Case(
        "select day, customer, sum(amount) as total from marts.latest "
        "group by rollup (day, customer)",
        *("total", {"day": 2}, {}, {"latest": LATEST}),
    ),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_cannot_be_followed_to_rows_says_why(reason: str) -> None:
    world = opened(REFUSED[reason])
    with pytest.raises(NotFollowed, match=reason):
        world.behind()


BROKEN = {
    "mart makes newest by a query of its own": Case(
        "select id, (select max(day) from raw.orders) as newest from raw.customers",
        *("newest", {"id": 10}, {}),
    ),
    "mart is a recursive query": Case(
        "with recursive n as (select min(id) as n from raw.customers union all "
        "select n + 10 from n where n < 30) select n from n",
        *("n", {"n": 20}, {}),
    ),
    "mart has no column is_open that its SQL names": Case(
        "select * from raw.flags",
        *("is_open", {"is_open": True}, {}),
    ),
    "mart reads flags, which dbt does not know": Case(
        "select flags.is_open from raw.flags as flags",
        *("is_open", {"is_open": True}, {}),
    ),
    "mart combines queries whose columns are not known": Case(
        "select id from raw.orders union all select * from raw.numbers",
        *("id", {"id": 10}, {}),
    ),
    "mart combines queries by name": Case(
        "select id from raw.orders union all by name select id from raw.customers",
        *("id", {"id": 10}, {}),
    ),
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_query_that_is_not_followed_is_named(reason: str) -> None:
    assert reason in {trail.broken for trail in opened(BROKEN[reason]).trails()}
