"""What tables, folders and sheets are called for others: by OpenLineage's rules."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from millrace.catalog import IngestTable, Publication
from millrace.connections import Connection
from millrace.datasets import Dataset, folder
from millrace.destinations.base import published_dataset
from millrace.destinations.google_sheets.options import GoogleSheetPublishOptions
from millrace.sources.base import Source, SourceKind, source_dataset
from millrace.sources.mysql.options import MySQLOptions
from millrace.warehouses.base import warehouse_namespace

KEY = "1aBcD_efGhIjKlMnOpQrStUvWxYz0123456789abcdef"


def table(of: str) -> IngestTable:
    options = MySQLOptions(kind="mysql", connection="mysql_prod", schedule="@daily", table=of)
    return IngestTable("mysql", "orders", "raw", "orders", options)


@pytest.mark.parametrize(
    ("of", "connection", "name"),
    [
        (
            "shop.orders",
            Connection("c", "mysql", host="db.example.com"),
            Dataset("mysql://db.example.com:3306", "shop.orders"),
        ),
        (
            "orders",
            Connection("c", "mysql", host="db", port=3307, schema="shop"),
            Dataset("mysql://db:3307", "shop.orders"),
        ),
    ],
)
def test_a_table_of_mysql_is_named_by_its_server_and_its_database(
    of: str, connection: Connection, name: Dataset
) -> None:
    assert source_dataset(table(of), connection) == name


def test_a_kind_without_a_rule_of_its_own_is_named_by_its_server_and_its_key() -> None:
    def never(connection: Connection) -> Source:
        raise NotImplementedError

    other = SourceKind(options=MySQLOptions, open=never, requirement="")
    found = other.dataset(table("orders"), Connection("c", "mysql", host="api.example.com"))
    assert found == Dataset("mysql://api.example.com", "mysql.orders")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://landing/raw", Dataset("s3://landing", "raw/mysql/orders")),
        ("s3://landing", Dataset("s3://landing", "mysql/orders")),
        ("file:///var/lib/a%20b", Dataset("file", "/var/lib/a b/mysql/orders")),
    ],
)
def test_a_landing_is_a_folder_of_a_bucket_or_of_a_disk(url: str, name: Dataset) -> None:
    assert folder(url, "mysql/orders") == name


@pytest.mark.parametrize(
    ("credentials", "namespace"),
    [
        (
            {"host": "nps.c0ffee.eu-central-1.redshift.amazonaws.com"},
            "redshift://nps.eu-central-1:5439",
        ),
        (
            {"host": "nps.123456789012.eu-west-1.redshift-serverless.amazonaws.com"},
            "redshift://nps.eu-west-1:5439",
        ),
        ({"host": "127.0.0.1"}, "redshift://127.0.0.1:5439"),
    ],
)
def test_a_cluster_is_named_by_its_name_and_region(
    credentials: dict[str, Any], namespace: str
) -> None:
    target = SimpleNamespace(type="redshift", port=5439, **credentials)
    assert warehouse_namespace(target, Path()) == namespace


def test_duckdb_is_its_file(tmp_path: Path) -> None:
    def named(path: str) -> str:
        return warehouse_namespace(SimpleNamespace(type="duckdb", path=path), tmp_path)

    assert named("w.duckdb") == f"duckdb://{tmp_path / 'w.duckdb'}"
    assert named("md:shop") == "duckdb://md:shop"


@pytest.mark.parametrize("spreadsheet", [KEY, f"https://docs.google.com/spreadsheets/d/{KEY}/edit"])
def test_a_sheet_has_one_name_however_it_is_declared(spreadsheet: str) -> None:
    options = GoogleSheetPublishOptions(
        kind="google_sheet",
        connection="google_sheets",
        spreadsheet=spreadsheet,
        tab="Summary",
        order_by=("month",),
    )
    publication = Publication("sheet", "mart", "analytics", "mart", options)
    named = published_dataset(publication, Connection("c", "google_cloud_platform"))
    assert named == Dataset("google_sheets", f"{KEY}.Summary")
