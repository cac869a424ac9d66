"""Names with quotes, Jinja, path parts and line breaks: quoted everywhere, or refused at once."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import ANY

import pytest
from rich.console import Console

from millrace.batch import WHOLE_TABLE, Interval
from millrace.errors import MillraceError, SpreadsheetNotFound
from millrace.google_sheets.client import spreadsheet_key
from millrace.terminal import print_error, visible
from millrace.warehouses.expressions import quote
from sheets_standin import GoogleSheetsServer, TabSpec
from tests.millrace.sheets import Workbook
from tests.millrace.shop import TARGETS, Shop, open_shop

if TYPE_CHECKING:
    from millrace.testing import Place
    from tests.millrace.conftest import Database, Workspace

ODD = (
    "we`ird",
    'quo"ted',
    "apo'strophe",
    "{{ jinja }}",
    "{% raw %}",
    "{# note",
    "../../up",
    "%s",
    "%(x)s",
    "50%",
    "what?",
    "$1",
    ":name",
    "semi;colon",
    "dash--ed",
    "/* star",
    "back\\slash",
    "[red]",
    "☃ snow",
    "sélect",
    "select",
)
"""Names that some language on the way takes for more than a name."""


def backticked(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def make_odd_columns(mysql: Database, table: str) -> None:
    """A table with a column of each name, which hold the numbers of their places."""
    columns = ", ".join(f"{backticked(name)} INT" for name in ODD)
    mysql.execute(f"CREATE TABLE {backticked(table)} (id INT PRIMARY KEY, {columns})")
    places = ", ".join(str(place) for place in range(len(ODD)))
    mysql.execute(f"INSERT INTO {backticked(table)} VALUES (1, {places})")


ROW = (1, *range(len(ODD)))


# From MySQL through the landing into both warehouses


@pytest.mark.service
def test_columns_of_any_name_arrive_in_duckdb(workspace: Workspace) -> None:
    make_odd_columns(workspace.mysql, "odd")
    workspace.declare("users", table="odd")
    workspace.change_manifest({"columns": {}}, "users")
    workspace.succeeds("ingest", "mysql.users")
    workspace.mysql.execute("UPDATE odd SET `%s` = 100")
    # A type that widens is another statement for each column.
    for name in ODD:
        workspace.mysql.execute(f"ALTER TABLE odd MODIFY {backticked(name)} BIGINT")
    workspace.mysql.execute('ALTER TABLE odd ADD `ne"w ? %s` INT DEFAULT 5')
    workspace.succeeds("ingest", "mysql.users")
    names = ", ".join(map(quote, ("id", *ODD, 'ne"w ? %s')))
    changed = tuple(100 if name == "%s" else place for place, name in enumerate(ODD))
    assert workspace.raw(f"SELECT {names} FROM raw_mysql.users") == [(1, *changed, 5)]


@pytest.mark.service
@pytest.mark.redshift
def test_columns_of_any_name_arrive_in_redshift(mysql: Database, redshift_place: Place) -> None:
    make_odd_columns(mysql, "odd")
    redshift_place.load(mysql.extract(mysql.table("odd")))
    for name in ODD:
        mysql.execute(f"ALTER TABLE odd MODIFY {backticked(name)} BIGINT")
    redshift_place.load(mysql.extract(mysql.table("odd")))
    assert redshift_place.rows("id", *ODD) == [ROW]


@pytest.mark.service
@pytest.mark.parametrize("name", ["line\nbreak", "a\tb", "\x1b[2J", "a\u2028b"])
def test_a_column_whose_name_cannot_be_printed_is_refused(workspace: Workspace, name: str) -> None:
    workspace.mysql.execute(f"ALTER TABLE nps ADD {backticked(name)} INT")
    says = [f"the column {name!r}", "`ingest: false`"]
    workspace.refuses("ingest", "mysql.nps", says=says)
    assert not list(workspace.landing_folder.rglob("*.*"))
    workspace.change_manifest({"columns": {name: {"meta": {"ingest": False}}}})
    workspace.succeeds("ingest", "mysql.nps")


@pytest.mark.service
@pytest.mark.both_servers
@pytest.mark.parametrize("name", [name for name in ODD if not set(".`") & set(name)])
def test_a_table_of_any_name_is_read(mysql: Database, name: str) -> None:
    mysql.execute(f"CREATE TABLE {backticked(name)} (id INT PRIMARY KEY)")
    mysql.execute(f"INSERT INTO {backticked(name)} VALUES (7)")
    assert mysql.extract(mysql.table(name)).to_pylist() == [{"id": 7}]


@pytest.mark.service
@pytest.mark.both_servers
def test_a_database_of_any_name_is_read(mysql: Database) -> None:
    name = 'da"ta {{ x }} %s /☃'
    account = f"'{mysql.server.reader_user}'@'{mysql.server.host}'"
    # In a grant, % and _ of a database's name are wildcards.
    granted = backticked(name.replace("%", "\\%").replace("_", "\\_"))
    mysql.execute(f"CREATE DATABASE {backticked(name)}")
    try:
        mysql.execute(f"CREATE TABLE {backticked(name)}.t (id INT PRIMARY KEY)")
        mysql.execute(f"GRANT SELECT ON {granted}.* TO {account}")
        assert mysql.extract(mysql.table(f"{name}.t")).num_rows == 0
        mysql.execute(f"REVOKE SELECT ON {granted}.* FROM {account}")
    finally:
        mysql.execute(f"DROP DATABASE {backticked(name)}")


@pytest.mark.service
@pytest.mark.both_servers
@pytest.mark.parametrize("name", ODD)
def test_a_key_and_a_cursor_of_any_name_are_used(mysql: Database, name: str) -> None:
    cursor = f"{name} at"
    mysql.execute(
        f"CREATE TABLE t ({backticked(name)} INT PRIMARY KEY, "
        f"{backticked(cursor)} DATETIME NOT NULL, INDEX ({backticked(cursor)}))"
    )
    mysql.execute("INSERT INTO t VALUES (1, '2026-09-30 08:00:00'), (2, '2026-09-30 09:00:00')")
    table = mysql.table("t", primary_key=(name,), cursor=cursor)
    source = mysql.source()
    closing = source.closed(table, WHOLE_TABLE)
    assert source.ranges(table, Interval(None, closing.end))
    rows = mysql.extract(table, Interval(None, closing.end)).to_pylist()
    assert rows == [
        {name: 1, cursor: datetime(2026, 9, 30, 8)},
        {name: 2, cursor: datetime(2026, 9, 30, 9)},
    ]


# What cannot be quoted is refused


@pytest.mark.parametrize(
    "name",
    [
        *("", "a b", "a?fields=x", "a#b", "%2e%2e", "a\nb", "..", "{{ key }}", "☃"),
        *("../../drive/v3/files", "https://evil.example/spreadsheets/e/abc"),
        *("https://docs.google.com/spreadsheets/d/", "https://x/?key=a/../../b"),
    ],
)
def test_what_is_no_spreadsheet_never_becomes_an_address(name: str) -> None:
    with pytest.raises(SpreadsheetNotFound, match="neither the URL of a spreadsheet nor its key"):
        spreadsheet_key(name)


# On a terminal


def test_what_steers_a_terminal_is_written_out() -> None:
    assert visible("a\x1b[31mb\r\nc\u202ed") == "a\\x1b[31mb\\r\\nc\\u202ed"
    assert visible("Größe ☃ [red] ~") == "Größe ☃ [red] ~"


def test_an_error_shows_a_name_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    error = MillraceError("The tab '[/red]\x1b[2J' is\n  gone.", fix="Look for [bold].")
    print_error(error, Console(highlight=False))
    assert capsys.readouterr().out.splitlines() == [
        "Error: The tab '[/red]\\x1b[2J' is",
        "  gone.",
        "  → Look for [bold].",
    ]


# Through dbt to a sheet and back

TAB = 'Bob\'s {{ x }} ../ %s "q" [/red] 😀'
SCHEMA = "raw {{ x }} %s 'q' ../ ☃"
IDENTIFIER = "{% odd %}; --"


def files(workbook: Workbook) -> dict[str, str]:
    """A project with odd names of a schema, a table, tabs and columns."""
    sources = [
        {
            "name": "mysql",
            "schema": _verbatim(SCHEMA),
            "config": {"meta": {"ingest": {"kind": "mysql", "connection": "mysql_prod"}}},
            "tables": [
                {
                    "name": "odd",
                    "identifier": _verbatim(IDENTIFIER),
                    "config": {"meta": {"ingest": {"table": "odd", "primary_key": ["id"]}}},
                    "columns": [{"name": "id", "data_tests": ["unique"]}],
                }
            ],
        },
        {
            "name": "sheets",
            "schema": "raw_sheets",
            "config": {
                "meta": {
                    "ingest": {
                        "kind": "google_sheet",
                        "connection": "google_sheets",
                        "spreadsheet": workbook.key,
                        "tab": _verbatim(f"in {TAB}"),
                        "columns": {"id": "integer", "note": "string"},
                    }
                }
            },
            "tables": [{"name": "notes", "config": {"meta": {"ingest": {"primary_key": "id"}}}}],
        },
    ]
    exposures = [
        {
            "name": "odd_sheet",
            "type": "dashboard",
            "owner": {"name": "Data team", "email": "data@example.com"},
            "depends_on": ["ref('odd_mart')"],
            "config": {
                "meta": {
                    "publish": {
                        "kind": "google_sheet",
                        "connection": "google_sheets",
                        "spreadsheet": workbook.key,
                        "tab": _verbatim(f"out {TAB}"),
                        "order_by": ["id"],
                    }
                }
            },
        }
    ]
    return {
        "dbt_project.yml": _json({"name": "odd", "version": "1.0.0", "profile": "millrace"}),
        "models/_odd.yml": _json({"sources": sources, "exposures": exposures}),
        "models/odd_mart.sql": (
            "{{ config(materialized='table') }} select odd.*, notes.note "
            "from {{ source('mysql', 'odd') }} as odd "
            "join {{ source('sheets', 'notes') }} as notes on notes.id = odd.id"
        ),
    }


def _json(value: object) -> str:
    """YAML, too: without the pairs of escapes that JSON has for a sign beyond 16 bits."""
    return json.dumps(value, ensure_ascii=False)


def _verbatim(text: str) -> str:
    """A text that dbt shall not render."""
    return "".join(f"{{{{ '{sign}' }}}}" if sign in "{}%" else sign for sign in text)


@pytest.fixture
def odd_workbook(google_sheets: GoogleSheetsServer) -> Workbook:
    return Workbook(google_sheets, TabSpec(f"in {TAB}", [["id", "note"], [1, "{{ a note }} %s"]]))


@pytest.fixture(params=TARGETS)
def odd_shop(
    request: pytest.FixtureRequest, mysql: Database, odd_workbook: Workbook, tmp_path: Path
) -> Shop:
    connection = json.dumps(odd_workbook.server.airflow_connection())
    return open_shop(
        request, mysql, tmp_path, files(odd_workbook), AIRFLOW_CONN_GOOGLE_SHEETS=connection
    )


@pytest.mark.service
def test_odd_names_go_all_the_way(mysql: Database, odd_workbook: Workbook, odd_shop: Shop) -> None:
    make_odd_columns(mysql, "odd")
    odd_shop.run("millrace", "ingest")
    odd_shop.run("dbt", "build")
    odd_shop.run("millrace", "publish")
    assert f"out {TAB}" in odd_shop.run("millrace", "list")
    assert odd_workbook.read(f"out {TAB}") == [
        ["id", *ODD, "_batch_id", "_loaded_at", "note"],
        [*ROW, "full", ANY, "{{ a note }} %s"],
    ]
