"""A small dbt project whose data decide what fails: a source test, a model, a data test …"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import duckdb

from millrace.dbt.project import Project
from sheets_standin import GoogleSheetsServer, TabSpec

ROOT = Path(__file__).parents[2]
SHEET = "shop-orders"

FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
profile: millrace
test-paths: [tests]
""",
    "models/_shop.yml": """
sources:
  - name: shop
    schema: raw_shop
    config:
      meta:
        ingest: {kind: mysql, connection: shop_db, schedule: "@daily"}
    tables:
      - name: orders
        config: {meta: {ingest: {table: shop.orders, primary_key: [id]}}}
        columns:
          - name: id
            data_tests:
              - unique: {name: orders_have_one_row_an_id}
      - name: customers
        config: {meta: {ingest: {table: shop.customers, primary_key: [id]}}}
      - name: visits
        config: {meta: {ingest: {table: shop.visits, primary_key: [id]}}}
models:
  - name: stg_orders
    columns:
      - name: customer_id
        data_tests:
          - relationships:
              name: orders_have_a_customer
              arguments: {to: ref('stg_customers'), field: customer_id}
  - name: orders_summary
    columns:
      - name: amount
        data_tests:
          - not_null: {name: a_customer_has_an_amount}
exposures:
  - name: orders_sheet
    type: dashboard
    owner: {name: Data team, email: data@example.com}
    depends_on: [ref('orders_summary')]
    config:
      meta:
        publish:
          kind: google_sheet
          connection: google_sheets
          spreadsheet: shop-orders
          tab: orders
          order_by: [customer_id]
""",
    "models/stg_orders.sql": """
select id as order_id, customer_id, cast(amount as integer) as amount
from {{ source('shop', 'orders') }}
""",
    "models/stg_customers.sql": """
select id as customer_id, name from {{ source('shop', 'customers') }}
""",
    "models/orders_summary.sql": """
{{ config(materialized='table') }}
select customers.customer_id, customers.name, sum(orders.amount) as amount
from {{ ref('stg_customers') }} as customers
left join {{ ref('stg_orders') }} as orders using (customer_id)
group by 1, 2
""",
    "models/visits_summary.sql": """
{{ config(materialized='table') }}
select count(*) as visits from {{ source('shop', 'visits') }}
""",
    "tests/the_books_are_open.sql": """
-- A test that reads no model and no source.
select * from raw_shop.flags where name = 'books' and is_closed
""",
}

RAW = """
create schema raw_shop;
create table raw_shop.orders (id bigint, customer_id bigint, amount varchar);
create table raw_shop.customers (id bigint, name varchar);
create table raw_shop.flags (name varchar, is_closed boolean);
create table raw_shop._batches (
    table_name varchar, batch_id varchar, interval_start timestamp, interval_end timestamp,
    manifest_url varchar, row_count bigint, byte_count bigint, extracted_at timestamp,
    loaded_at timestamp
);
insert into raw_shop._batches
select name, 'b', null, null, 'file:///m', 1, 1, now()::timestamp, now()::timestamp
from unnest(['shop.orders', 'shop.customers']) as _(name);
"""

GOOD = """
delete from raw_shop.orders;
delete from raw_shop.customers;
delete from raw_shop.flags;
insert into raw_shop.customers values (1, 'Mina'), (2, 'Jonas');
insert into raw_shop.orders values (10, 1, '5'), (11, 1, '7'), (12, 2, '9');
insert into raw_shop.flags values ('books', false);
"""


@dataclass(frozen=True)
class Shop:
    """The project, its warehouse and its sheet."""

    project: Project
    warehouse: Path
    sheets: GoogleSheetsServer

    @property
    def dags(self) -> Path:
        """The folder of the DAG files."""
        return self.project.folder.parent / "dags"

    def execute(self, sql: str) -> None:
        """Change the raw tables."""
        with closing(duckdb.connect(str(self.warehouse))) as connection:
            connection.execute(sql)

    def query(self, sql: str) -> list[tuple[object, ...]]:
        """Look into the warehouse."""
        with closing(duckdb.connect(str(self.warehouse), read_only=True)) as connection:
            return connection.execute(sql).fetchall()

    def published(self) -> list[list[object]]:
        """What readers of the sheet see."""
        return self.sheets.admin().tab(SHEET, "orders").values

    def environment(self) -> dict[str, str]:
        """What Airflow and dbt need to reach it."""
        return {
            "AIRFLOW_CONN_GOOGLE_SHEETS": json.dumps(self.sheets.airflow_connection()),
            "DUCKDB_PATH": str(self.warehouse),
            "LANDING_URL": (self.warehouse.parent / "landing").as_uri(),
            "TARGET": "dev",
        }


def write_project(folder: Path, files: Mapping[str, str] = FILES) -> Project:
    """Write a dbt project, with this repository's own ``profiles.yml`` and DAG files beside it."""
    project = Project(folder / "dbt_project", folder)
    for name, text in files.items():
        file = project.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    shutil.copy(ROOT / "profiles.yml", folder)
    without = shutil.ignore_patterns("__pycache__", "examples")
    shutil.copytree(ROOT / "dags", folder / "dags", ignore=without)
    project.ensure_manifest()
    return project


def make_shop(folder: Path, sheets: GoogleSheetsServer) -> Shop:
    """Write the project, with data that are as they should be."""
    project = write_project(folder)
    sheets.admin().create(
        "Orders",
        [TabSpec("orders")],
        share={sheets.service_account_key()["client_email"]: "writer"},
        spreadsheet_id=SHEET,
    )
    shop = Shop(project, folder / "warehouse.duckdb", sheets)
    shop.execute(RAW)
    shop.execute(GOOD)
    return shop
