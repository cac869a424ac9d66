"""What happens when a table changes at its source, as a person sees it: told, refused, mended."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pytest

if TYPE_CHECKING:
    from tests.millrace.conftest import Workspace

pytestmark = pytest.mark.service

ROWS = "SELECT * EXCLUDE (_batch_id, _loaded_at) FROM raw_mysql.nps ORDER BY id"
LEDGER = (
    "SELECT interval_start, interval_end, row_count, loaded_at FROM raw_mysql._batches "
    "WHERE table_name = 'mysql.nps' ORDER BY loaded_at"
)


@pytest.fixture
def loaded(workspace: Workspace) -> Workspace:
    """The table in two batches."""
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    workspace.succeeds("ingest", "mysql.nps", "--from", "2026-10-01", "--to", "2026-10-02")
    return workspace


def add_a_row(workspace: Workspace, values: str) -> None:
    workspace.mysql.execute(f"INSERT INTO nps VALUES ({values})")


# Told by the load


def test_a_new_column_is_added_and_told(
    loaded: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    loaded.mysql.execute("ALTER TABLE nps ADD channel VARCHAR(20)")
    add_a_row(loaded, "4, 8, NULL, '2026-10-02 08:00:00', 'sms'")
    loaded.succeeds("ingest", "mysql.nps")
    assert [row[-1] for row in loaded.raw(ROWS)] == [None, None, None, "sms"]
    (told,) = warnings(caplog)
    assert "mysql.nps has the new column channel (string)" in told


def test_a_dropped_column_stays_and_is_told(
    loaded: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    loaded.mysql.execute("ALTER TABLE nps DROP comment")
    add_a_row(loaded, "4, 8, '2026-10-02 08:00:00'")
    loaded.succeeds("ingest", "mysql.nps")
    assert [row[2] for row in loaded.raw(ROWS)] == ["great", "", None, None]
    (told,) = warnings(caplog)
    assert "mysql.nps no longer has the column comment" in told


def test_a_renamed_column_is_told_as_what_it_is(
    loaded: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    loaded.mysql.execute("ALTER TABLE nps RENAME COLUMN comment TO remark")
    add_a_row(loaded, "4, 8, 'fine', '2026-10-02 08:00:00'")
    loaded.succeeds("ingest", "mysql.nps")
    found = loaded.raw("SELECT comment, remark FROM raw_mysql.nps ORDER BY id")
    assert found == [("great", None), ("", None), (None, None), (None, "fine")]
    assert any("renamed to remark: that is a drop and an add" in text for text in warnings(caplog))


# Refused by the load, and mended by a reload


def test_a_changed_type_is_refused_with_the_command_that_takes_it(loaded: Workspace) -> None:
    loaded.mysql.execute("ALTER TABLE nps MODIFY score VARCHAR(20) NOT NULL")
    add_a_row(loaded, "4, 'high', NULL, '2026-10-02 08:00:00'")
    loaded.refuses(
        "ingest",
        "mysql.nps",
        says=["column score was int16", "is now string", "`millrace reload mysql.nps`"],
    )
    said = loaded.succeeds("reload", "mysql.nps")
    assert "mysql.nps: 4 rows" in said
    assert "in the place of the old table" in said
    scores = [(1, "9"), (2, "3"), (3, "7"), (4, "high")]
    assert loaded.raw("SELECT id, score FROM raw_mysql.nps ORDER BY id") == scores
    loaded.succeeds("ingest", "mysql.nps")
    assert loaded.raw("SELECT id, score FROM raw_mysql.nps ORDER BY id") == scores


def test_frozen_columns_refuse_a_new_one_until_it_is_reloaded(loaded: Workspace) -> None:
    loaded.declare(schema="freeze")
    loaded.mysql.execute("ALTER TABLE nps ADD channel VARCHAR(20)")
    loaded.refuses("ingest", "mysql.nps", says=["channel (string) is new", "`ingest: false`"])
    loaded.succeeds("reload", "mysql.nps")
    assert [len(row) for row in loaded.raw(ROWS)] == [5, 5, 5]
    loaded.succeeds("ingest", "mysql.nps")


def test_a_column_may_evolve(loaded: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    loaded.declare(schema="evolve")
    loaded.mysql.execute("ALTER TABLE nps MODIFY score VARCHAR(20) NOT NULL")
    add_a_row(loaded, "4, 'high', NULL, '2026-10-02 08:00:00'")
    loaded.succeeds("ingest", "mysql.nps")
    assert [row[1] for row in loaded.raw(ROWS)] == ["9", "3", "7", "high"]
    assert any("it is rewritten" in text for text in warnings(caplog))


@pytest.mark.parametrize("key", ["new_columns", "missing_columns"])
def test_a_key_of_earlier_versions_names_the_one_that_replaced_it(
    loaded: Workspace, key: str
) -> None:
    loaded.declare(**{key: "refuse"})
    loaded.refuses("ingest", "mysql.nps", says=[key, "`schema`", "`freeze`"])


# Reload


def test_a_reload_reads_everything_into_one_batch(loaded: Workspace) -> None:
    *_, (_, _, _, last) = loaded.raw(LEDGER)
    loaded.mysql.execute("DELETE FROM nps WHERE id = 1")
    add_a_row(loaded, "4, 8, NULL, '2026-10-02 08:00:00'")
    loaded.succeeds("reload", "mysql.nps")
    assert [row[0] for row in loaded.raw(ROWS)] == [2, 3, 4]
    ((start, end, rows, loaded_at),) = loaded.raw(LEDGER)
    assert (start, rows) == (None, 3)
    assert end > datetime(2026, 10, 2)
    assert loaded_at > last
    loaded.succeeds("ingest", "mysql.nps")
    assert [batch[0] for batch in loaded.raw(LEDGER)] == [None, end]


def test_a_table_that_is_read_whole_is_reloaded_too(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.users")
    workspace.mysql.execute("ALTER TABLE users ADD plan VARCHAR(20), DROP name")
    workspace.change_manifest({"columns": {}}, "users")
    workspace.succeeds("reload", "mysql.users")
    found = workspace.raw(
        "SELECT * EXCLUDE (_batch_id, _loaded_at) FROM raw_mysql.users ORDER BY id"
    )
    assert found == [(1, "ann@example.com", None), (2, "bob@example.com", None)]


def test_a_reload_that_is_refused_changes_nothing(loaded: Workspace) -> None:
    loaded.declare(min_rows=4)
    loaded.refuses("reload", "mysql.nps", says=["mysql.nps has 3 rows", "at least 4"])
    loaded.mysql.execute("ALTER TABLE nps ADD _loaded_at DATETIME")
    loaded.declare(min_rows=None)
    loaded.refuses("reload", "mysql.nps", says=["a column _loaded_at", "through a view"])


def test_a_reload_takes_no_row_away_that_is_loaded(loaded: Workspace) -> None:
    with open_transaction(loaded) as writer:
        writer.execute("UPDATE nps SET comment = 'again', updated_at = '2026-09-30 09:00:00'")
        loaded.refuses("reload", "mysql.nps", says=["closed until 2026-09-30", "take rows away"])
    loaded.succeeds("reload", "mysql.nps")


def test_a_reload_names_its_tables(loaded: Workspace) -> None:
    assert "Missing argument 'TABLE" in loaded.run("reload").err
    loaded.refuses("reload", "mysql.npx", says=["'mysql.npx'"])


# Plan


def test_a_plan_shows_batches_and_changes_and_changes_nothing(
    loaded: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    loaded.mysql.execute("ALTER TABLE nps ADD channel VARCHAR(20), DROP comment")
    before = loaded.warehouse(), sorted(loaded.landing_folder.rglob("*"))
    said = loaded.succeeds("plan")
    nps, added, gone, users, made = said.splitlines()
    assert nps.startswith("mysql.nps: 2026-10-02 00:00:00 to ")
    assert "the new column channel" in added
    assert "no longer has the column comment" in gone
    assert re.fullmatch(r"mysql.users: the whole table, about \d+ rows", users)
    assert made == "  raw_mysql.users is made."
    assert (loaded.warehouse(), sorted(loaded.landing_folder.rglob("*"))) == before
    assert not warnings(caplog)


def test_a_plan_makes_no_warehouse(workspace: Workspace) -> None:
    said = workspace.succeeds("plan", "mysql.nps")
    assert said.startswith("mysql.nps: the beginning to ")
    assert not workspace.warehouse_file.exists()
    assert not list(workspace.landing_folder.glob("*"))


def test_a_plan_says_what_will_be_refused(loaded: Workspace) -> None:
    loaded.mysql.execute("ALTER TABLE nps MODIFY score VARCHAR(20) NOT NULL")
    loaded.refuses("plan", "mysql.nps", says=["is now string", "`millrace reload mysql.nps`"])


def test_a_plan_says_what_holds_a_batch_up(loaded: Workspace) -> None:
    with open_transaction(loaded) as writer:
        writer.execute("INSERT INTO nps VALUES (4, 8, NULL, '2026-10-03 00:00:00')")
        said = loaded.succeeds("plan", "mysql.nps")
        assert "mysql.nps: 2026-10-02 00:00:00 to 2026-10-03 00:00:00" in said
        assert "1 rows of" in said
        assert "written and not committed (keys 4)" in said
        writer.execute("UPDATE nps SET updated_at = '2026-10-02 00:00:00' WHERE id = 4")
        loaded.refuses("plan", "mysql.nps", says=["is not closed", "(keys 4)"])


# Diff


def test_a_diff_shows_the_columns_side_by_side(loaded: Workspace) -> None:
    with duckdb.connect(str(loaded.warehouse_file)) as connection:
        connection.execute("CREATE VIEW stg_nps AS SELECT id AS nps_id, score FROM raw_mysql.nps")
    read_by(loaded, "stg_nps", "select id as nps_id, score from {{ source('mysql', 'nps') }}")
    loaded.change_manifest({"columns": {"id": {}, "reason": {}}})
    loaded.mysql.execute("ALTER TABLE nps ADD channel VARCHAR(20), DROP comment")
    loaded.mysql.execute("ALTER TABLE nps MODIFY score INT NOT NULL, MODIFY updated_at DATETIME(6)")
    said = loaded.succeeds("diff", "mysql.nps")
    assert cells(said, "COLUMN") == ["COLUMN", "SOURCE", "DECLARED", "RAW", "stg_nps", "DIFFERENCE"]
    assert cells(said, "id")[2:] == ["primary key", "DECIMAL(20,0)", "named in its SQL"]
    assert cells(said, "score")[2:] == ["SMALLINT", "SMALLINT", "wider: int16 → int32"]
    assert cells(said, "channel") == ["channel", "varchar(20)", "new"]
    assert cells(said, "comment") == ["comment", "VARCHAR", "not at the source"]
    assert cells(said, "updated_at") == ["updated_at", "datetime(6)", "cursor", "TIMESTAMP"]
    assert cells(said, "reason") == ["reason", "described", "not at the source"]
    assert cells(said, "nps_id") == ["nps_id", "DECIMAL(20,0)"]


def test_a_diff_shows_what_is_left_out_and_makes_no_warehouse(workspace: Workspace) -> None:
    said = workspace.succeeds("diff", "mysql.users")
    assert cells(said, "name") == ["name", "varchar(120)", "pii: drop", "left out"]
    assert cells(said, "email") == ["email", "varchar(255)", "pii: hash"]
    assert not workspace.warehouse_file.exists()


def test_a_diff_of_all_tables_names_what_nobody_has_declared(workspace: Workspace) -> None:
    assert "Not declared" not in workspace.succeeds("diff")
    database = workspace.mysql.name
    workspace.mysql.execute("CREATE TABLE `Order items` (id INT)")
    workspace.mysql.execute("CREATE VIEW best_nps AS SELECT * FROM nps WHERE score = 10")
    told = f"Not declared, at mysql_prod: {database}.best_nps, {database}.Order items"
    assert workspace.succeeds("diff").splitlines()[-1] == told
    assert "Not declared" not in workspace.succeeds("diff", "mysql.nps")


def cells(said: str, name: str) -> list[str]:
    """The cells of the line that begins with a name, without the empty ones."""
    (line,) = (line for line in said.splitlines() if re.match(rf" *{name} ", line))
    return re.split(r"\s{2,}", line.strip())


def read_by(workspace: Workspace, name: str, sql: str) -> None:
    """Let a model read the table, as if dbt had parsed it."""
    manifest: dict[str, Any] = json.loads(workspace.manifest_file.read_text())
    manifest["nodes"][f"model.millrace.{name}"] = {
        "resource_type": "model",
        "name": name,
        "schema": "main",
        "alias": name,
        "raw_code": sql,
        "depends_on": {"nodes": ["source.millrace.mysql.nps"]},
    }
    workspace.manifest_file.write_text(json.dumps(manifest))
    workspace.take_manifest()


@contextmanager
def open_transaction(workspace: Workspace) -> Iterator[Any]:
    """Another client's cursor, whose transaction is rolled back at the end."""
    mysql = workspace.mysql
    client = mysql.server.connect_as_admin(db=mysql.name, charset="utf8mb4", autocommit=False)
    with closing(client), closing(client.cursor()) as cursor:
        yield cursor
        client.rollback()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
