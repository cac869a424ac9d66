"""Two environments, such as dev and prod, in one database: they never meet each other's loads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from millrace.catalog import load_catalog
from millrace.dbt.project import Project
from tests.millrace.shop import TARGETS, Shop, open_shop

if TYPE_CHECKING:
    from tests.millrace.conftest import Database

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[2]
FILES = {
    "dbt_project.yml": "name: shop\nversion: '1.0.0'\nprofile: millrace\n",
    "models/_shop.yml": """
sources:
  - name: mysql
    schema: "{{ target.schema }}_raw_mysql"
    config: {meta: {ingest: {kind: mysql, connection: mysql_prod}}}
    tables:
      - name: orders
        config: {meta: {ingest: {table: orders, primary_key: [id], cursor: updated_at}}}
""",
    "models/orders_count.sql": """
{{ config(materialized='table') }}
select count(*) as orders from {{ source('mysql', 'orders') }}
""",
}


def test_the_examples_environments_share_no_schema(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schemas = []
    for environment in ("analytics", "dev_ann"):
        monkeypatch.setenv("WAREHOUSE_SCHEMA", environment)
        target_path = str(tmp_path / environment)
        project = Project(ROOT / "dbt_project", ROOT, target="dev", target_path=target_path)
        project.ensure_manifest()
        tables = load_catalog(project.manifest_path).tables
        schemas.append({table.schema for table in tables})
        assert all(schema.startswith(f"{environment}_raw_") for schema in schemas[-1])
    assert len(schemas[0]) == 2
    assert not schemas[0] & schemas[1]


@pytest.fixture(params=TARGETS)
def shop(request: pytest.FixtureRequest, mysql: Database, tmp_path: Path) -> Shop:
    return open_shop(request, mysql, tmp_path, FILES)


@pytest.mark.nightly
def test_what_dev_loads_prod_never_meets(shop: Shop, mysql: Database) -> None:
    """They share the database, the landing and the source; dev loads later, other rows, again."""
    prod, dev = (f"{name}_{uuid4().hex[:8]}" for name in ("prod", "dev"))
    mysql.execute("CREATE TABLE orders (id INT PRIMARY KEY, updated_at DATETIME NOT NULL)")
    mysql.insert("orders", [(1, "2026-09-30 08:00:00"), (2, "2026-10-01 08:00:00")])
    shop.run("millrace", "ingest", "mysql.orders", "--to", "2026-10-01", WAREHOUSE_SCHEMA=prod)
    shop.run("dbt", "build", WAREHOUSE_SCHEMA=prod)
    before = everything(shop, prod)
    assert "never" in shop.run("millrace", "list", WAREHOUSE_SCHEMA=dev)
    shop.run("millrace", "ingest", WAREHOUSE_SCHEMA=dev)
    shop.run("millrace", "ingest", "mysql.orders", "--all", WAREHOUSE_SCHEMA=dev)
    shop.run("dbt", "build", WAREHOUSE_SCHEMA=dev)
    assert everything(shop, prod) == before
    ids = "select id from {}_raw_mysql.orders order by id"
    assert shop.query(ids.format(prod)) == [(1,)]
    assert shop.query(ids.format(dev)) == [(1,), (2,)]
    # Each continues where it was itself.
    shop.run("millrace", "ingest", WAREHOUSE_SCHEMA=prod)
    shop.run("dbt", "build", WAREHOUSE_SCHEMA=prod)
    assert shop.query(ids.format(prod)) == [(1,), (2,)]
    assert shop.query(f"select orders from {prod}.orders_count") == [(2,)]


def everything(shop: Shop, schema: str) -> list[list[tuple[Any, ...]]]:
    tables = (
        f"{schema}_raw_mysql.orders",
        f"{schema}_raw_mysql._batches",
        f"{schema}.orders_count",
    )
    return [shop.query(f"select * from {table} order by 1") for table in tables]
