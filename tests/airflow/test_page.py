"""The page "Millrace": what it shows of a real ledger, and to whom.

The check of a session is Airflow's own; ``test_logins.py`` asks a whole Airflow for the page.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Literal

import duckdb
import pytest
from airflow.api_fastapi.app import create_auth_manager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
from airflow.api_fastapi.core_api.security import get_user
from airflow.plugins_manager import get_fastapi_plugins
from fastapi.testclient import TestClient

from millrace.airflow.page.app import PREFIX, docs_address, make_app
from millrace.airflow.page.looking import Looking, Seen, look_at_project
from millrace.airflow.page.view import Links, bars, page, readable
from millrace.status import Line, State
from sheets_standin import GoogleSheetsServer, TabSpec
from tests.e2e.small_project import write_project

pytestmark = pytest.mark.service

PATIENT = partial(Looking, look_at_project, patience=timedelta(minutes=2))
NOW = datetime.now(UTC).replace(microsecond=0)
EVIL = "<script>alert(1)</script>"
FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0.0"
profile: millrace
flags: {send_anonymous_usage_stats: false}
""",
    "models/_shop.yml": """
sources:
  - name: shop
    schema: raw_shop
    config:
      meta: {ingest: {kind: mysql, connection: shop_db, primary_key: [id]}}
    tables:
      - name: orders
        config:
          freshness: {error_after: {count: 36, period: hour}}
          meta: {ingest: {table: shop.orders, cursor: updated_at}}
      - name: customers
        config:
          freshness: {error_after: {count: 36, period: hour}}
          meta: {ingest: {table: shop.customers}}
      - name: visits
        config: {meta: {ingest: {table: shop.visits}}}
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
          spreadsheet: page-orders
          tab: orders
          order_by: [orders]
""",
    "models/orders_summary.sql": "select count(*) as orders from {{ source('shop', 'orders') }}",
}
LEDGER = """
create schema raw_shop;
create table raw_shop._batches (
    table_name varchar, batch_id varchar, interval_start timestamp, interval_end timestamp,
    manifest_url varchar, row_count bigint, byte_count bigint, extracted_at timestamp,
    loaded_at timestamp, verified varchar, is_correction boolean, quarantined bigint,
    schema_changes varchar, salt_id varchar
);
"""


@pytest.fixture(scope="module")
def project(
    tmp_path_factory: pytest.TempPathFactory, google_sheets: GoogleSheetsServer
) -> Iterator[Path]:
    """A project beside Airflow's DAGs, whose ledger has two tables of three; its warehouse."""
    folder = tmp_path_factory.mktemp("page")
    warehouse = folder / "warehouse.duckdb"
    environment = {
        "AIRFLOW_CONN_GOOGLE_SHEETS": json.dumps(google_sheets.airflow_connection()),
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder / "project" / "dags"),
        "DUCKDB_PATH": str(warehouse),
        "TARGET": "dev",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        write_project(folder / "project", FILES)
        _fill(warehouse)
        publish_orders(google_sheets)
        yield warehouse
    google_sheets.admin().delete("page-orders")


def _fill(warehouse: Path) -> None:
    day = timedelta(days=1)
    rows = [
        # Table, interval, rows, when, verified, set aside, what changed.
        ("shop.orders", NOW - 2 * day, NOW - day, 400, NOW - day, "values", None, None),
        ("shop.orders", NOW - day, NOW, 1200, NOW, "values", 3, f"column {EVIL} was added"),
        ("shop.customers", None, None, 70, NOW - 2 * day, "counts", 0, None),
    ]
    with closing(duckdb.connect(str(warehouse))) as connection:
        connection.execute(LEDGER)
        for at, (table, start, end, count, loaded, verified, aside, changes) in enumerate(rows):
            connection.execute(
                "insert into raw_shop._batches values "
                "(?, ?, ?, ?, 'file:///m', ?, 1, ?, ?, ?, false, ?, ?, null)",
                [
                    *(table, f"batch{at}"),
                    *(moment and moment.replace(tzinfo=None) for moment in (start, end)),
                    *(count, loaded.replace(tzinfo=None), loaded.replace(tzinfo=None)),
                    *(verified, aside, changes),
                ],
            )


def publish_orders(google_sheets: GoogleSheetsServer) -> None:
    """Make the sheet as a publication leaves it."""
    note = f"Refreshed {NOW:%Y-%m-%d %H:%M} UTC, run one\nRecord: " + json.dumps(
        {"publication": "orders_sheet", "tab": "orders", "rows": 1}
    )
    heading = {"value": "orders", "note": note + '\nColumns: {"orders": "integer"}'}
    share: dict[str, Literal["writer"]] = {
        google_sheets.service_account_key()["client_email"]: "writer"
    }
    tabs = [TabSpec("orders", [[heading], [1]])]
    google_sheets.admin().create("Orders", tabs, share, "page-orders")


def client_for(newest: Callable[[], Seen], role: str | None = "VIEWER") -> TestClient:
    """A client of a user with a role; None: one without a session."""
    create_auth_manager()
    app = make_app(newest)
    if role is not None:
        user = SimpleAuthManagerUser(username="ana", role=role or None)
        app.dependency_overrides[get_user] = lambda: user
    return TestClient(app)


def test_the_page_shows_every_table_and_publication(
    project: Path, google_sheets: GoogleSheetsServer, monkeypatch: pytest.MonkeyPatch
):
    docs = {"shop": {"dir": "/nowhere"}}
    monkeypatch.setenv("AIRFLOW__COSMOS__DBT_DOCS_PROJECTS", json.dumps(docs))
    client = client_for(PATIENT().newest)
    answer = client.get("/")
    assert answer.status_code == 200
    text = answer.text
    for shown in (
        "1 of 4 late",
        "shop.customers may be 1 d 12 h old",
        "millrace ingest shop.customers",
        "shop.visits was never loaded; nothing is promised.",
        "1,200",
        "3 set aside",
        "by values",
        f"<title>{NOW:%Y-%m-%d}: 1,200 rows</title>",
        'href="/dags/ingest__shop__orders"',
        'href="/cosmos/shop/dbt_docs_index.html#!/source/source.shop.shop.orders"',
        'href="/cosmos/shop/dbt_docs_index.html#!/exposure/exposure.shop.orders_sheet"',
        f'href="{google_sheets.url}/spreadsheets/d/page-orders/edit"',
        'href="/dags/transform"',
        f"{NOW:%Y-%m-%d %H:%M}",
    ):
        assert shown in text, shown
    assert text.count('<tr class="ill told">') == 1
    assert "&lt;script&gt;" in text
    assert EVIL not in text


def test_nothing_of_the_page_runs_a_script_or_comes_from_elsewhere(project: Path):
    client = client_for(PATIENT().newest)
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'self';")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    for never in ("<script", " style=", " onclick", "src="):
        assert never not in answer.text
    assert 'href="style.css"' in answer.text
    style = client.get("/style.css")
    assert style.headers["Content-Type"].startswith("text/css")
    assert "url(" not in style.text


def test_a_program_gets_the_lines_of_millrace_status(project: Path):
    found = client_for(PATIENT().newest).get("/status.json").json()
    lines = {line["what"]: line for line in found["lines"]}
    assert {name: line["state"] for name, line in lines.items()} == {
        "shop.customers": "ill",
        "shop.orders": "well",
        "shop.visits": "unknown",
        "orders_sheet": "well",
    }
    facts = lines["shop.orders"]["facts"]
    assert (facts["batches"], facts["rows"], facts["verified"]) == (2, 1200, "values")
    assert facts["due_at"] == (NOW + timedelta(hours=36)).isoformat()
    assert [rows for _, rows in facts["rows_by_day"]][-2:] == [400, 1200]
    assert found["problem"] is None


def test_nobody_gets_anything_without_a_session_or_a_right():
    def newest() -> Seen:
        raise AssertionError("nobody may look")

    for path in ("/", "/status.json"):
        assert client_for(newest, role=None).get(path).status_code == 401
        assert client_for(newest, role="").get(path).status_code == 403
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client_for(newest, role="ADMIN").get(path).status_code == 404


def test_everybody_sees_what_their_dags_load():
    lines = tuple(Line(name, State.WELL) for name in ("shop.orders", "shop.customers"))
    seen = Seen(NOW, "shop", lines, (Line("orders_sheet", State.WELL),))
    part = readable(seen, {"ingest__shop__orders"})
    assert [line.what for line in (*part.tables, *part.publications)] == ["shop.orders"]
    assert readable(seen, {"transform"}).publications == seen.publications
    assert "nothing here that you may see" in page(readable(seen, ()), Links(), NOW)


def test_a_name_is_text_and_part_of_an_address():
    seen = Seen(NOW, EVIL, (Line(f'a."{EVIL}', State.ILL, EVIL, EVIL),), ())
    text = page(seen, Links("/air", "/docs"), NOW)
    assert "<script" not in text
    assert 'href="/air/dags/ingest__a__%22%3Cscript%3E' in text


def test_a_warehouse_that_refuses_is_told_on_the_page(
    project: Path,
):
    looking = PATIENT(keeps=timedelta(0))
    client = client_for(looking.newest)
    assert "by values" in client.get("/").text
    aside = project.rename(project.with_name("aside"))
    project.write_text("no database")
    try:
        answer = client.get("/")
    finally:
        aside.replace(project)
    assert answer.status_code == 200
    assert "cannot be opened" in answer.text
    # What was known stays.
    assert "Below is what was known before" in answer.text
    assert "by values" in answer.text


def test_a_project_that_is_not_there_is_told_on_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / ".git").mkdir()
    (tmp_path / "dags").mkdir()
    monkeypatch.setenv("AIRFLOW__CORE__DAGS_FOLDER", str(tmp_path / "dags"))
    answer = client_for(PATIENT().newest).get("/")
    assert answer.status_code == 200
    assert "There is no dbt project in" in answer.text


def test_a_warehouse_that_does_not_answer_keeps_nobody_waiting():
    may_answer, looks = threading.Event(), []

    def look() -> Seen:
        looks.append(may_answer.wait(60))
        return Seen(NOW, "shop", (Line("shop.orders", State.WELL),))

    looking = Looking(look, patience=timedelta(milliseconds=10))
    client = client_for(looking.newest)
    for _ in range(3):
        assert "has not answered within" in client.get("/").text
    may_answer.set()
    patient = Looking(look)
    assert "shop.orders" in client_for(patient.newest).get("/").text
    # One look for all who asked the first.
    assert len(looks) == 2


def test_a_look_that_breaks_is_no_error_of_the_server():
    def look() -> Seen:
        raise ZeroDivisionError("secret")

    answer = client_for(Looking(look).newest).get("/")
    assert answer.status_code == 200
    assert "log says why" in answer.text
    assert "secret" not in answer.text


def test_a_day_with_few_rows_has_a_bar():
    days = [(date(2026, 11, day), rows) for day, rows in ((1, 0), (2, 1), (3, 1_000_000))]
    assert [bar.height for bar in bars(days)] == [0, 1, 24]
    assert [bar.height for bar in bars([(date(2026, 11, 1), 0)])] == [0]


def test_airflow_knows_the_page():
    apps, _ = get_fastapi_plugins()
    assert PREFIX in [app["url_prefix"] for app in apps]


@pytest.mark.parametrize("value", ["", "{", "[]", "{}"])
def test_docs_that_are_not_set_have_no_address(value: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRFLOW__COSMOS__DBT_DOCS_PROJECTS", value)
    assert docs_address() == ""
