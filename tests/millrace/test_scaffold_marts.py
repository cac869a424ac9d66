"""`millrace scaffold google_sheet`, `mart` and `publish`: from one sheet to another one."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millrace.errors import MillraceError, ProjectError, SourceMismatch
from millrace.google_sheets.client import SheetCell
from millrace.scaffold.marts import MartScaffold
from millrace.sources.google_sheets.description import described
from millrace.sources.google_sheets.source import GoogleSheetSource
from sheets_standin import TabSpec
from tests.millrace.sheets import Workbook
from tests.millrace.shop import open_shop

if TYPE_CHECKING:
    from sheets_standin import GoogleSheetsServer
    from tests.millrace.conftest import Database

PROJECT = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
profile: millrace
flags: {send_anonymous_usage_stats: false}
"""
}
TARGETS = TabSpec(
    "Targets 2026",
    [
        ["What sales should reach", None, None],
        ["Month", "Segment", "Target (€)", "Share", "Sure?", "Postcode", "Remark"],
        [date(2026, 9, 1), "free", Decimal("1200.5"), 1, True, "08001", None],
        [date(2026, 9, 1), "team", Decimal(80), 2, False, "08001", "check"],
        [date(2026, 10, 1), "free", Decimal("1300.25"), 2, True, "8003", None],
    ],
)


def tables(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {node["name"]: node["meta"]["ingest"] for node in manifest["sources"].values()}


@pytest.mark.service
@pytest.mark.nightly
def test_from_a_sheet_to_a_mart_to_a_sheet_nothing_is_written_by_hand(
    request: pytest.FixtureRequest,
    mysql: Database,
    tmp_path: Path,
    google_sheets: GoogleSheetsServer,
) -> None:
    mysql.execute(
        "CREATE TABLE orders (id INT, part INT, amount DECIMAL(9,2), gone_at DATETIME, "
        "updated_at DATETIME(6) NOT NULL, PRIMARY KEY (id, part), KEY (updated_at))"
    )
    mysql.insert("orders", [(1, 1, 5, None, "2026-09-01"), (1, 2, 6, None, "2026-09-02")])
    book = Workbook(google_sheets, TARGETS, TabSpec("Empty"), TabSpec("shown"))
    request.param = "dev"
    connection = book.connection()
    shop = open_shop(
        request,
        mysql,
        tmp_path,
        PROJECT,
        AIRFLOW_CONN_GOOGLE_SHEETS=json.dumps(
            {"conn_type": connection.conn_type, "extra": dict(connection.extra)}
        ),
        MILLRACE_PII_SALT="a salt",
    )
    said = shop.run("millrace", "scaffold", "google_sheet", book.key, "--dry-run")
    assert "Nothing was changed." in said
    assert "targets_2026" in said
    url = f"https://docs.google.com/spreadsheets/d/{book.key}/edit"
    shop.run("millrace", "scaffold", "google_sheet", url, "Targets 2026")
    assert "everything is declared" in shop.run("millrace", "scaffold", "google_sheet", book.key)
    shop.run("millrace", "scaffold", "mysql", "orders")
    shop.run("millrace", "scaffold", "mart", "goals", "stg_google_sheets__targets_2026")
    shop.run("millrace", "scaffold", "mart", "orders", "stg_mysql__orders")
    shop.run("millrace", "scaffold", "publish", "orders", book.key, "--tab", "shown")
    manifest = json.loads(shop.project.manifest_path.read_text())
    assert tables(manifest)["targets_2026"] == {
        "spreadsheet": url,
        "tab": "Targets 2026",
        "columns": {
            "month": "date",
            "segment": "string",
            "target": "decimal(12,2)",
            "share": "integer",
            "sure": "boolean",
            "postcode": "string",
            "remark": "string",
        },
        "primary_key": ["month", "segment"],
    }
    shop.run("millrace", "ingest")
    assert "newest_version_wins_in_int_orders_deduplicated" in shop.run("dbt", "build")
    assert shop.query("select count(*), sum(target) from analytics.goals") == [
        (3, Decimal("2580.75"))
    ]
    # Of each order the newest version counts, whichever comes last.
    mysql.execute("UPDATE orders SET amount = 7, updated_at = NOW(6) WHERE part = 1")
    mysql.execute("INSERT INTO orders VALUES (2, 1, 8, NULL, NOW(6))")
    shop.run("millrace", "ingest", "mysql.orders")
    shop.run("dbt", "build")
    shop.run("millrace", "publish", "orders_sheet")
    shown = [row[:3] for row in book.admin.tab(book.key, "shown").formatted]
    assert shown == [
        ["order_id", "part", "amount"],
        ["1", "1", "7.00"], ["1", "2", "6.00"], ["2", "1", "8.00"],
    ]  # fmt: skip

    marts = MartScaffold(shop.project)
    for wrong, refused in (
        (lambda: marts.mart("orders", "stg_mysql__orders"), "has a model orders already"),
        (lambda: marts.mart("Orders!", "stg_mysql__orders"), "cannot be called"),
        (lambda: marts.mart("more", "stg_mysql__order"), "has no model stg_mysql__order"),
        (lambda: marts.publication("orders", "x", None, "c"), "has an exposure orders_sheet"),
        (lambda: marts.publication("nobody", "x", None, "c"), "has no model nobody"),
    ):
        with pytest.raises(ProjectError, match=refused):
            wrong()
    # The model between would be written over one that a person wrote.
    (shop.project.folder / "models/int_more_deduplicated.sql").write_text("select 1 as id")
    (shop.project.folder / "models/bare.sql").write_text("select 1 as id")
    shop.project.parse()
    for bare in (MartScaffold(shop.project),):
        with pytest.raises(ProjectError, match="no columns in a YAML file"):
            bare.mart("more", "bare")
        with pytest.raises(ProjectError, match="have no order"):
            bare.publication("bare", "x", None, "c")
        with pytest.raises(ProjectError, match="has a model int_more_deduplicated already"):
            bare.mart("more", "stg_mysql__orders")


@pytest.mark.service
def test_a_sheet_that_cannot_be_declared_says_why(google_sheets: GoogleSheetsServer) -> None:
    book = Workbook(google_sheets, TabSpec("twice", [["Month", "month"], [1, 2]]), TabSpec("none"))
    source = GoogleSheetSource(book.connection())
    with pytest.raises(SourceMismatch, match="several columns are called month"):
        source.describe_tabs(book.key)
    with pytest.raises(SourceMismatch, match="no tab 'absent'") as refused:
        source.describe_tabs(book.key, ["absent"])
    assert "twice, none" in str(refused.value.fix)
    assert source.describe_tabs(book.key, ["none"]) == []
    with pytest.raises(MillraceError):
        source.describe_tabs("not-there")


PERCENT = {"type": "PERCENT", "pattern": "0.0%"}
MONEY = {"type": "CURRENCY", "pattern": '"€"#,##0.00'}
DAY = {"type": "DATE", "pattern": "yyyy-mm-dd"}
TIME = {"type": "DATE_TIME", "pattern": "yyyy-mm-dd hh:mm"}


@pytest.mark.parametrize(
    ("values", "number_format", "type_"),
    [
        ([1, 2], None, "integer"),
        ([1, None], None, "integer"),
        ([1.5, 2], None, "decimal(12,1)"),
        ([0.1 + 0.2], None, "decimal(12,1)"),
        ([1200], MONEY, "decimal(12,2)"),
        ([123456789012.25], None, "decimal(14,2)"),
        ([1e-9, 2], None, "double"),
        ([1e15, 0.5], None, "double"),
        ([0.25, 1], PERCENT, "percent"),
        ([46000, 46001], DAY, "date"),
        ([46000.5, 46001], TIME, "datetime"),
        (["2026-10-01", "2026-10-02"], None, "date"),
        ([True, False], None, "boolean"),
        (["007", "8"], None, "string"),
        (["a", 1], None, "string"),
        ([None, None], None, "string"),
    ],
)
def test_a_column_has_the_type_that_all_its_values_have(
    values: list[Any], number_format: dict[str, str] | None, type_: str
) -> None:
    cells = [[SheetCell("Value")], *([SheetCell(one, "", number_format or {})] for one in values)]
    found = described([*cells, [SheetCell()]], "key", "key!tab", "tab")
    assert found is not None
    assert found.options["columns"] == {"value": type_}


def test_headings_are_found_under_titles_and_no_key_is_made_up() -> None:
    def row(*values: Any) -> list[SheetCell]:
        return [SheetCell(value) for value in values]

    found = described(
        [row("A", "plan"), [], row("A", "B", "C"), row("x", "y", "z"), row("x", "y", "z")],
        *("key", "key!tab", "tab"),
    )
    assert found is not None
    assert found.options["header_row"] == 3
    assert found.key == ()
    assert described([], "key", "key!tab", "tab") is None
