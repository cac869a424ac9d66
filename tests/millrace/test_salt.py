"""Another salt, by the steps in docs/operations.md: no hash of the old one is left anywhere."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from millrace.batch import Batch
from millrace.errors import SettingError
from millrace.landing.landing import Landing
from tests.millrace.shop import TARGETS, Shop, open_shop

if TYPE_CHECKING:
    from tests.millrace.conftest import Database

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[2]
# The names are those of the example project, and of the steps.
FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
profile: millrace
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
        columns: [{name: email, config: {meta: {pii: hash}}}]
      - name: orders
        config: {meta: {ingest: {table: orders, primary_key: [id], cursor: updated_at}}}
        columns: [{name: email, config: {meta: {pii: hash}}}]
""",
    "models/int_orders.sql": """
{{ config(materialized='incremental', unique_key='id') }}
select * from {{ source('mysql', 'orders') }}
{% if is_incremental() %} where _loaded_at > (select max(_loaded_at) from {{ this }}) {% endif %}
""",
    "models/stg_users.sql": """
select id as user_id, email as email_hash, updated_at from {{ source('mysql', 'users') }}
""",
    "snapshots/_snapshots.yml": """
snapshots:
  - name: users_snapshot
    relation: ref('stg_users')
    config: {unique_key: user_id, strategy: check, check_cols: [email_hash]}
""",
}
OLD, NEW = "the old salt", "the new salt"


def hashed(name: str, salt: str) -> str:
    return hmac.digest(salt.encode(), f"{name}@example.com".encode(), hashlib.sha256).hex()


def steps() -> list[str]:
    """The SQL of the page, in its order."""
    page = (ROOT / "docs" / "operations.md").read_text()
    (section,) = re.findall(r"^## Another salt\n(.*?)^## ", page, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"```sql\n(.*?)```", section, re.DOTALL)
    return [statement.strip() for block in blocks for statement in block.split(";")[:-1]]


@pytest.fixture(params=TARGETS)
def shop(request: pytest.FixtureRequest, mysql: Database, tmp_path: Path) -> Shop:
    shop = open_shop(request, mysql, tmp_path, FILES, WAREHOUSE_SCHEMA="analytics")
    for schema in ("analytics", "analytics_raw_mysql", "analytics_snapshots"):
        # Of the test before, on the stand-in that all tests share.
        shop.query(f"drop schema if exists {schema} cascade")
    return shop


def test_another_salt_is_refused_until_the_table_is_read_anew(shop: Shop, mysql: Database) -> None:
    mysql.execute("CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(99), updated_at DATETIME)")
    mysql.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, email VARCHAR(99), updated_at DATETIME NOT NULL)"
    )
    mysql.insert("users", [(1, "ann@example.com", "2026-09-30")])
    mysql.insert("orders", [(1, "ann@example.com", "2026-09-30 01:00:00")])
    shop.run("millrace", "ingest", MILLRACE_PII_SALT=OLD)
    loaded = shop.query("select _batch_id, email from analytics_raw_mysql.users")
    mysql.insert("orders", [(2, "bob@example.com", "2026-10-01 02:00:00")])
    for command in (
        ("ingest", "mysql.users"),
        ("ingest", "mysql.orders"),
        ("ingest", "mysql.orders", "--all"),
        ("reload", "mysql.orders"),
        ("audit", "mysql.orders", "--repair"),
    ):
        with pytest.raises(AssertionError) as refused:
            shop.run("millrace", *command, MILLRACE_PII_SALT=NEW)
        table = command[1]
        assert f"{table} is loaded with hashes of another salt" in str(refused.value)
        assert f"millrace reload {table} --new-salt" in str(refused.value)
    assert shop.query("select _batch_id, email from analytics_raw_mysql.users") == loaded
    assert shop.query("select id from analytics_raw_mysql.orders") == [(1,)]

    shop.run("millrace", "reload", "mysql.orders", "--new-salt", MILLRACE_PII_SALT=NEW)
    mysql.insert("orders", [(3, "ann@example.com", "2026-10-01 03:00:00")])
    shop.run("millrace", "ingest", "mysql.orders", "--all", MILLRACE_PII_SALT=NEW)

    ann, bob = hashed("ann", NEW), hashed("bob", NEW)
    orders = shop.query("select id, email from analytics_raw_mysql.orders order by id")
    assert orders == [(1, ann), (2, bob), (3, ann)]


def test_workers_with_different_salts_land_nothing(tmp_path: Path) -> None:
    rows = pa.table({"email": ["a hash"]})
    landing = Landing(tmp_path.as_uri(), None)
    batch = Batch("mysql.users")
    attempt = landing.new_attempt(batch)
    manifests = [
        landing.write(batch, rows.schema, iter(rows.to_batches()), attempt=attempt, salt_id=salt)
        for salt in ("1" * 16, "2" * 16)
    ]
    with pytest.raises(SettingError, match=r"users was hashed with different salts"):
        landing.merge(attempt, manifests)


@pytest.mark.nightly
def test_no_hash_of_the_old_salt_is_left(shop: Shop, mysql: Database) -> None:
    mysql.execute("CREATE TABLE users (id INT PRIMARY KEY, email VARCHAR(99), updated_at DATETIME)")
    mysql.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY, email VARCHAR(99), updated_at DATETIME NOT NULL)"
    )
    for number, name in enumerate(("ann", "bob", "cid"), 1):
        mysql.insert("users", [(number, f"{name}@example.com", "2026-09-30")])
        mysql.insert("orders", [(number, f"{name}@example.com", f"2026-09-30 0{number}:00:00")])
    for end in ("2026-09-30T02:30", "2026-10-01"):
        shop.run("millrace", "ingest", "mysql.orders", "--to", end, MILLRACE_PII_SALT=OLD)
    shop.run("millrace", "ingest", "mysql.users", MILLRACE_PII_SALT=OLD)
    shop.run("dbt", "build")
    # Bob changes his address, and Cid leaves: the snapshot remembers both.
    mysql.execute(
        "UPDATE users SET email = 'rob@example.com', updated_at = '2026-10-02' WHERE id = 2"
    )
    mysql.execute("DELETE FROM users WHERE id = 3")
    mysql.execute("DELETE FROM orders WHERE id = 3")
    shop.run("millrace", "ingest", MILLRACE_PII_SALT=OLD)
    shop.run("dbt", "build")

    keep, renew, forget, drop = steps()
    shop.query(keep)
    for table in ("mysql.users", "mysql.orders"):
        shop.run("millrace", "reload", table, "--new-salt", MILLRACE_PII_SALT=NEW)
    for statement in (renew, forget, drop):
        shop.query(statement)
    shop.run("dbt", "build", "--full-refresh")

    ann, bob, rob = (hashed(name, NEW) for name in ("ann", "bob", "rob"))
    users = shop.query("select id, email from analytics_raw_mysql.users")
    assert sorted(users) == [(1, ann), (2, rob)]
    for orders in ("analytics_raw_mysql.orders", "analytics.int_orders"):
        assert sorted(shop.query(f"select id, email from {orders}")) == [(1, ann), (2, bob)]
    versions = shop.query("select user_id, email_hash from analytics_snapshots.users_snapshot")
    # Nobody has the addresses of before any more, so their hashes cannot be made again.
    expected = [(1, ann), (2, rob), (2, None), (3, None)]
    assert sorted(versions, key=repr) == sorted(expected, key=repr)
