"""`millrace why`: what is behind each cell of a sheet, and which cells it refuses."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from millrace.batch import Interval
from millrace.catalog import Publication
from millrace.cli import cli
from millrace.destinations.base import Shown
from millrace.destinations.google_sheets.destination import GoogleSheetDestination
from millrace.destinations.google_sheets.options import GoogleSheetPublishOptions
from millrace.errors import CellNotPublished
from millrace.pipeline import Pipeline
from millrace.provenance.why import TableBehind, why
from millrace.settings import Settings
from tests.millrace.shop import TARGETS, open_shop

if TYPE_CHECKING:
    from tests.millrace.conftest import Database, Workspace
    from tests.millrace.sheets import Workbook

pytestmark = pytest.mark.service

FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
profile: millrace
flags: {send_anonymous_usage_stats: false}
snapshots: {shop: {+schema: snapshots}}
""",
    "models/_shop.yml": """
sources:
  - name: mysql
    schema: "{{ target.schema }}_raw_mysql"
    config: {meta: {ingest: {kind: mysql, connection: mysql_prod}}}
    tables:
      - name: users
        config: {meta: {ingest: {table: users, primary_key: [id]}}}
      - name: orders
        config: {meta: {ingest: {table: orders, primary_key: [id], cursor: updated_at}}}
exposures:
  - name: days_sheet
    type: dashboard
    owner: {name: Data team, email: data@example.com}
    depends_on: [ref('days')]
    config:
      meta:
        publish:
          kind: google_sheet
          connection: google_sheets
          spreadsheet: SPREADSHEET
          tab: days
          order_by: [day]
""",
    "models/int_orders.sql": """
{{ config(materialized='incremental', unique_key='order_id') }}
with versions as (
    select id as order_id, user_id, amount, day, updated_at, _loaded_at
    from {{ source('mysql', 'orders') }}
    {% if is_incremental() %}
    where _loaded_at > (select max(_loaded_at) from {{ this }})
    union all
    select * from {{ this }}
    {% endif %}
)
select delivered.* from versions as delivered
qualify row_number() over (
    partition by delivered.order_id order by delivered.updated_at desc, delivered._loaded_at desc
) = 1
""",
    "models/days.sql": """
{{ config(materialized='table') }}
with orders as (select * from {{ ref('int_orders') }}),
days as (
    select day, count(*) as orders, sum(amount) as amount from orders group by day
),
plans as (
    select orders.day, cast(max(users.plan) as varchar(9)) as highest_plan
    from orders
    inner join {{ ref('users_snapshot') }} as users on orders.user_id = users.id
    group by orders.day
)
select
    days.day,
    cast(days.orders as integer) as orders,
    cast(days.amount as integer) as amount,
    cast(sum(days.amount) over () as integer) as of_all_days,
    plans.highest_plan
from days
left join plans on days.day = plans.day
""",
    "snapshots/_snapshots.yml": """
snapshots:
  - name: users_snapshot
    relation: source('mysql', 'users')
    config: {unique_key: id, strategy: check, check_cols: [plan]}
""",
}
TABLES = """
CREATE TABLE users (id INT PRIMARY KEY, plan VARCHAR(9));
CREATE TABLE orders (
    id INT PRIMARY KEY, user_id INT, amount INT, day DATE, updated_at DATETIME NOT NULL,
    KEY (updated_at)
)
"""
USERS = [(1, "free"), (2, "team")]
ORDERS = [
    (10, 1, 5, "2026-09-28", "2026-09-28 10:00:00"),
    (11, 2, 7, "2026-09-29", "2026-09-29 10:00:00"),
    (12, 1, 9, "2026-09-29", "2026-09-29 11:00:00"),
]
# Of each batch, which orders are behind each day: order 11 was edited after the first batch.
FIRST, SECOND = "beginning_20260930T000000Z", "20260930T000000Z_20261002T000000Z"
BEHIND = {
    date(2026, 9, 28): {FIRST: {"10"}},
    date(2026, 9, 29): {FIRST: {"12"}, SECOND: {"11"}},
    date(2026, 10, 1): {SECOND: {"13"}},
}
ALL_DAYS = {FIRST: {"10", "12"}, SECOND: {"11", "13"}}


@pytest.fixture(params=TARGETS)
def pipeline(
    request: pytest.FixtureRequest,
    mysql: Database,
    workbook: Workbook,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Pipeline:
    """The project of a sheet that was published after two batches, in this environment."""
    files = {name: text.replace("SPREADSHEET", workbook.key) for name, text in FILES.items()}
    connection = workbook.connection().extra
    shop = open_shop(
        request,
        mysql,
        tmp_path,
        files,
        AIRFLOW_CONN_GOOGLE_SHEETS=json.dumps(
            {"conn_type": "google_cloud_platform", "extra": connection}
        ),
        WAREHOUSE_SCHEMA=f"why_{request.param}",
    )
    for name, value in shop.environment.items():
        monkeypatch.setenv(name, value)
    for statement in TABLES.split(";"):
        mysql.execute(statement)
    mysql.insert("users", USERS)
    mysql.insert("orders", ORDERS)
    opened = Pipeline.find(Settings.read(os.environ), start=shop.project.root)
    opened.project.ensure_manifest()
    opened.ingest(opened.catalog.table("mysql.users"))
    orders, middle = opened.catalog.table("mysql.orders"), datetime(2026, 9, 30, tzinfo=UTC)
    opened.ingest(orders, Interval(None, middle))
    mysql.execute("UPDATE orders SET amount = 8, updated_at = '2026-10-01 09:00:00' WHERE id = 11")
    mysql.insert("orders", [(13, 2, 4, "2026-10-01", "2026-10-01 10:00:00")])
    opened.ingest(orders, Interval(middle, middle + timedelta(days=2)))
    shop.run("dbt", "build")
    opened.publish(opened.catalog.publication("days_sheet"), run="a test")
    opened.project.compile()
    return opened


def keys(found: TableBehind) -> dict[str, set[str]]:
    return {batch.batch_id: {key for (key,) in batch.keys} for batch in found.batches}


def test_every_cell_names_the_rows_behind_it_and_the_note_what_was_loaded(
    pipeline: Pipeline,
    workbook: Workbook,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = workbook.state("days").notes["A1"].splitlines()[1]
    assert re.fullmatch(
        r"3 rows, equal to the mart\. Loaded by then \(UTC\): "
        r"mysql\.orders until 2026-10-02 00:00, verified by values; "
        r"mysql\.users of \d{4}-\d\d-\d\d \d\d:\d\d, verified by values\.",
        told,
    ), told
    publication = pipeline.catalog.publication("days_sheet")
    for row, (day, rows) in enumerate(BEHIND.items(), start=2):
        for column in ("A", "B", "C"):
            (orders,) = why(pipeline, publication, f"{column}{row}").tables
            assert (orders.table.key, keys(orders), orders.not_followed) == (
                *("mysql.orders", rows, ()),
            ), (day, column)
        (orders,) = why(pipeline, publication, f"D{row}").tables
        assert keys(orders) == ALL_DAYS
        (users,) = why(pipeline, publication, f"E{row}").tables
        assert users.table.key == "mysql.users"
        assert users.not_followed == (
            "users_snapshot is a snapshot, which keeps rows of earlier loads",
        )
        assert [batch.rows for batch in users.batches] == [None]

    batches = {batch.batch_id: batch for batch in orders.batches}
    first = batches[FIRST]
    assert first.ledger is not None
    assert (first.rows, first.ledger.rows, first.ledger.verified) == (2, 3, "values")
    (part,) = first.parts
    if part.url.startswith("file://"):
        content = Path(part.url.removeprefix("file://")).read_bytes()
        assert hashlib.sha256(content).hexdigest() == part.sha256

    monkeypatch.chdir(pipeline.project.root)
    cli.main(["why", "days_sheet!C3"], standalone_mode=False)
    said = capsys.readouterr().out
    assert "days!C3 shows 17: amount of days, day 2026-09-29" in said
    assert "days.amount = SUM(orders.amount)" in said
    assert "mysql.orders: 2 rows can have contributed, of 2 batches:" in said


# Two rows of a mart, whose key is a date.
MART = pa.table({"day": [date(2026, 10, 1), date(2026, 10, 2)], "orders": [5, 7]})
WAREHOUSE = "duckdb w.duckdb, analytics"


@pytest.fixture
def publication(workbook: Workbook) -> Publication:
    options = GoogleSheetPublishOptions(
        kind="google_sheet",
        connection="google_sheets",
        spreadsheet=workbook.key,
        tab="days",
        order_by=("day",),
        at="B2",
    )
    return Publication("days_sheet", "days", "analytics", "days", options)


@pytest.fixture
def destination(workbook: Workbook, publication: Publication) -> GoogleSheetDestination:
    opened = GoogleSheetDestination(workbook.connection())
    opened.publish(publication, MART, refreshed="today, run 1", warehouse=WAREHOUSE)
    return opened


def test_a_cell_is_found_wherever_people_put_the_table(
    workbook: Workbook, destination: GoogleSheetDestination, publication: Publication
) -> None:
    # Somebody renames the tab and sorts the table the other way round.
    workbook.judge.worksheet("days").update_title("Our days")
    first = workbook.read("Our days")[2][1:]
    second = workbook.read("Our days")[3][1:]
    workbook.judge.worksheet("Our days").update([second, first], "B3", raw=True)
    assert destination.shown(publication, MART, "c3", warehouse=WAREHOUSE) == Shown(
        "Our days!C3", "orders", 1, "Refreshed today, run 1"
    )


@pytest.mark.parametrize(
    ("cell", "says"),
    [
        ("C2", "days!C2 is the heading of the column orders"),
        ("B2", "days!B2 is the heading of the column day"),
        ("A3", "days!A3 is not in the published table, which is days!B2 to days!C4"),
        ("C5", "days!C5 is not in the published table"),
        ("D3", "days!D3 is not in the published table"),
        ("C", "'C' does not name a cell"),
        ("3C", "'3C' does not name a cell"),
    ],
)
def test_a_cell_that_shows_no_value_of_the_mart_is_refused(
    destination: GoogleSheetDestination, publication: Publication, cell: str, says: str
) -> None:
    with pytest.raises(CellNotPublished, match=says):
        destination.shown(publication, MART, cell, warehouse=WAREHOUSE)


def test_a_sheet_of_another_build_is_refused_with_what_differs(
    destination: GoogleSheetDestination, publication: Publication
) -> None:
    built_again = pa.table({"day": MART["day"], "orders": [6, 7]})
    with pytest.raises(
        CellNotPublished, match="The row of days!C3 shows orders 5, and the mart has 6 now"
    ):
        destination.shown(publication, built_again, "C3", warehouse=WAREHOUSE)
    with pytest.raises(CellNotPublished, match="days!C4 is in the row of day 2026-10-02, and the"):
        destination.shown(publication, MART.slice(0, 1), "C4", warehouse=WAREHOUSE)
    with pytest.raises(CellNotPublished, match="the column orders, and the mart has no such"):
        destination.shown(publication, MART.select(["day"]), "C3", warehouse=WAREHOUSE)


def test_a_sheet_of_another_warehouse_or_publication_is_refused(
    destination: GoogleSheetDestination, publication: Publication
) -> None:
    with pytest.raises(CellNotPublished, match="has a table of days_sheet"):
        destination.shown(publication, MART, "C3", warehouse="redshift h prod, analytics")
    with pytest.raises(CellNotPublished, match="has a table of other_sheet"):
        destination.shown(replace(publication, name="other_sheet"), MART, "C3", warehouse=WAREHOUSE)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("days_sheet", "write the publication, '!' and a cell: nps_summary_sheet!C12"),
        ("day_sheet!C3", "No exposure 'day_sheet' with a `publish` block is declared."),
    ],
)
def test_what_is_no_cell_of_a_publication_is_refused(
    workspace: Workspace, asked: str, says: str
) -> None:
    workspace.refuses("why", asked, says=[says])
