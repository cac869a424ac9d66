"""The command `millrace`, as a person uses it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from redshift_standin.ports import free_port

if TYPE_CHECKING:
    from redshift_standin.s3 import S3Server
    from tests.millrace.conftest import Workspace
    from tests.millrace.sheets import Workbook

pytestmark = pytest.mark.service

IDS = "SELECT id FROM raw_mysql.nps ORDER BY ALL"
BATCHES = (
    "SELECT interval_start, interval_end, row_count FROM raw_mysql._batches "
    "WHERE table_name = 'mysql.nps' ORDER BY loaded_at"
)
# The ledger keeps times in UTC without a time zone.
OCTOBER = datetime(2026, 10, 1)


def line_of(text: str, word: str) -> list[str]:
    """The cells of the line with a word in it."""
    (line,) = (line for line in text.splitlines() if word in line)
    return re.split(r"\s{2,}", line.strip())


def test_list_shows_what_is_declared_before_anything_is_loaded(workspace: Workspace) -> None:
    said = workspace.succeeds("list")
    assert line_of(said, "mysql.nps") == [
        *("mysql.nps", "mysql", "id", "updated_at", "@daily", "never")
    ]
    assert line_of(said, "mysql.users") == [
        *("mysql.users", "mysql", "id", "full refresh", "@daily", "never")
    ]
    assert not workspace.warehouse_file.exists()


def test_list_shows_each_last_batch(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    workspace.succeeds("ingest", "mysql.nps", "--from", "2026-10-01", "--to", "2026-10-02")
    workspace.succeeds("ingest", "mysql.users")
    said = workspace.succeeds("list")
    _, _, _, _, _, interval, rows, verified, loaded_at = line_of(said, "mysql.nps")
    assert interval == "2026-10-01 00:00:00 to 2026-10-02 00:00:00"
    # Nothing counts the rows of an interval whose cursor has no index.
    assert (rows, verified) == ("1", "no")
    loaded = datetime.fromisoformat(loaded_at).replace(tzinfo=UTC)
    assert datetime.now(UTC) - loaded < timedelta(minutes=5)
    assert line_of(said, "mysql.users")[5:8] == ["the whole table", "2", "values"]


def test_check_says_that_everything_answers(workspace: Workspace) -> None:
    said = workspace.succeeds("check")
    assert "✓ connection mysql_prod" in said
    assert f"✓ landing: {workspace.landing_folder.as_uri()}" in said
    assert f"at {workspace.warehouse_file}" in said
    assert not list(workspace.landing_folder.iterdir())


def test_status_shows_everything_on_one_page(workspace: Workspace) -> None:
    workspace.change_manifest({"freshness": {"error_after": {"count": 36, "period": "hour"}}})
    workspace.succeeds("ingest", "mysql.nps")
    said = workspace.succeeds("status")
    assert line_of(said, "landing")[:2] == ["landing", "well"]
    assert line_of(said, "mysql.nps") == ["mysql.nps", "well", "loaded as promised"]
    # Nobody has said where Airflow is.
    assert re.search(r"\bAirflow +unknown +No connection 'airflow_api'", said)
    assert "→ Set AIRFLOW_CONN_AIRFLOW_API" in said
    assert "watcher: It has never looked at Airflow.\n  → Start it: millrace watch" in said


def test_status_says_for_a_program_what_is_ill_and_what_to_do(workspace: Workspace) -> None:
    workspace.change_manifest({"freshness": {"error_after": {"count": 36, "period": "hour"}}})
    address = f"127.0.0.1:{free_port(0)}"
    workspace.environment.setenv("AIRFLOW_CONN_MYSQL_PROD", f"mysql://u:s3cret@{address}/prod")
    outcome = workspace.run("status", "--json")
    assert outcome.exit_code == 1
    found = json.loads(outcome.out)
    assert found["is_well"] is False
    lines = {line["what"]: line for line in found["lines"]}
    assert {what for what, line in lines.items() if line["state"] == "ill"} == {
        "connection mysql_prod, to read",
        "mysql.nps",
    }
    assert lines["mysql.nps"]["said"] == "mysql.nps was never loaded."
    assert "millrace ingest mysql.nps" in lines["mysql.nps"]["way_out"]
    assert "s3cret" not in outcome.out + outcome.err


def test_check_tries_everything_though_something_fails(workspace: Workspace) -> None:
    address = f"127.0.0.1:{free_port(0)}"
    workspace.environment.setenv("AIRFLOW_CONN_MYSQL_PROD", f"mysql://u:s3cret@{address}/prod")
    workspace.environment.setenv("LANDING_URL", "ftp://bucket")
    outcome = workspace.run("check")
    assert outcome.exit_code == 1
    assert "✗ connection mysql_prod" in outcome.out
    assert address in outcome.out
    assert "✗ landing" in outcome.out
    assert "✓ warehouse" in outcome.out
    assert outcome.errors == 2
    assert "s3cret" not in outcome.out + outcome.err


def test_a_raw_table_is_made_before_its_first_load(workspace: Workspace) -> None:
    said = workspace.succeeds("create", "mysql.nps", "mysql.users")
    assert "mysql.nps: raw_mysql.nps is made, without rows" in said
    assert workspace.raw("select count(*) from raw_mysql.nps") == [(0,)]
    assert "✓ mysql.users: raw_mysql.users was there" in workspace.succeeds("create", "mysql.users")
    # It has the columns of what is landed, so that a load has nothing to tell.
    loaded = workspace.run("ingest")
    assert (loaded.exit_code, loaded.err) == (0, "")
    workspace.mysql.execute("alter table users add column extra int")
    workspace.refuses("create", "mysql.users", says=["extra (int32) is new", "millrace ingest"])


def test_the_first_batch_takes_everything_before_its_end(workspace: Workspace) -> None:
    said = workspace.succeeds("ingest", "mysql.nps", "--from", "2026-09-30", "--to", "2026-10-01")
    assert "mysql.nps: 2 rows" in said
    assert "the beginning to 2026-10-01 00:00:00" in said
    assert workspace.raw(IDS) == [(1,), (2,)]


def test_a_batch_goes_from_the_end_of_the_last_one_until_now(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    workspace.mysql.execute("INSERT INTO nps VALUES (4, 5, 'now', UTC_TIMESTAMP(6))")
    before = workspace.mysql.rows("SELECT UTC_TIMESTAMP(6)")[0][0]
    workspace.succeeds("ingest", "mysql.nps")
    after = workspace.mysql.rows("SELECT UTC_TIMESTAMP(6)")[0][0]
    assert workspace.raw(IDS) == [(1,), (2,), (3,), (4,)]
    _, (start, end, rows) = workspace.raw(BATCHES)
    assert (start, rows) == (OCTOBER, 2)
    assert before <= end <= after

    assert "0 rows" in workspace.succeeds("ingest", "mysql.nps")
    assert workspace.raw(IDS) == [(1,), (2,), (3,), (4,)]
    assert workspace.raw(BATCHES)[-1][0] == end


def test_an_interval_again_leaves_what_it_left_before(workspace: Workspace) -> None:
    day = ("--from", "2026-10-01", "--to", "2026-10-02")
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    for _ in range(2):
        workspace.succeeds("ingest", "mysql.nps", *day)
        assert workspace.raw(IDS) == [(1,), (2,), (3,)]
        assert len(workspace.raw(BATCHES)) == 2


def test_an_interval_takes_the_time_zone_that_is_written(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01T09:00:00+09:00")
    assert workspace.raw(BATCHES) == [(None, OCTOBER, 2)]


def test_all_replaces_the_batches_inside_its_interval(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    workspace.succeeds("ingest", "mysql.nps", "--from", "2026-10-01", "--to", "2026-10-02")
    workspace.mysql.execute("DELETE FROM nps WHERE id = 1")

    workspace.succeeds("ingest", "mysql.nps", "--all")

    assert workspace.raw(IDS) == [(2,), (3,)]
    ((start, _, rows),) = workspace.raw(BATCHES)
    assert (start, rows) == (None, 2)


def test_a_table_without_a_cursor_is_replaced_as_a_whole(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.users")
    workspace.mysql.execute("DELETE FROM users WHERE id = 1")
    said = workspace.succeeds("ingest", "mysql.users", "--from", "2026-10-01")
    assert "mysql.users: 1 rows" in said
    assert "the whole table" in said
    assert workspace.raw("SELECT id FROM raw_mysql.users") == [(2,)]


def test_without_names_every_table_is_ingested(workspace: Workspace) -> None:
    said = workspace.succeeds("ingest")
    assert "✓ mysql.nps: 3 rows" in said
    assert "✓ mysql.users: 2 rows" in said


def test_values_arrive_as_they_were_and_personal_ones_do_not(workspace: Workspace) -> None:
    workspace.succeeds("ingest")
    assert workspace.raw("SELECT id, score, comment FROM raw_mysql.nps ORDER BY id") == [
        *((1, 9, "great"), (2, 3, ""), (3, 7, None))
    ]
    users = workspace.raw("SELECT * EXCLUDE (_batch_id, _loaded_at) FROM raw_mysql.users")
    assert [len(row) for row in users] == [2, 2]
    assert all(re.fullmatch("[0-9a-f]{64}", email) for _, email in users)
    parts = list(workspace.landing_folder.rglob("*.parquet"))
    assert len(parts) == 2
    assert not any(b"example.com" in part.read_bytes() for part in parts)


def test_a_preview_shows_rows_as_they_would_land_and_changes_nothing(workspace: Workspace) -> None:
    said = workspace.succeeds("preview", "mysql.users")
    assert line_of(said, "COLUMN") == ["COLUMN", "TYPE", "ROW 1", "ROW 2"]
    assert line_of(said, "id ") == ["id", "decimal128(20, 0)", "1", "2"]
    assert re.search(r"email +string, hash +[0-9a-f]{27}… +[0-9a-f]{27}…", said), said
    assert "Left out: name." in said
    assert "Ann" not in said
    assert workspace.warehouse() == {}
    assert not workspace.landing_folder.exists()

    said = workspace.succeeds("preview", "mysql.nps", "--rows", "2", "--json")
    assert [json.loads(line) for line in said.splitlines()] == [
        {"id": "1", "score": 9, "comment": "great", "updated_at": "2026-09-30 08:00:00"},
        {"id": "2", "score": 3, "comment": "", "updated_at": "2026-09-30 23:59:59.999999"},
    ]
    workspace.mysql.execute("DELETE FROM nps")
    assert "No rows." in workspace.succeeds("preview", "mysql.nps")


def test_the_same_through_s3(workspace: Workspace, s3_server: S3Server, bucket: str) -> None:
    s3 = s3_server.endpoint
    workspace.environment.setenv("LANDING_URL", f"s3://{bucket}/raw")
    workspace.environment.setenv(
        "AIRFLOW_CONN_AWS_LANDING",
        f"aws://{s3.access_key_id}:{s3.secret_access_key}@/?endpoint_url={s3.endpoint_url}",
    )
    assert f"✓ landing: s3://{bucket}/raw" in workspace.succeeds("check")
    said = workspace.succeeds("--verbose", "ingest")
    assert s3.secret_access_key not in said
    assert workspace.raw(IDS) == [(1,), (2,), (3,)]
    (manifest_url,) = workspace.raw(
        "SELECT manifest_url FROM raw_mysql._batches WHERE table_name = 'mysql.nps'"
    )[0]
    assert manifest_url.startswith(f"s3://{bucket}/raw/mysql/nps/")


def test_verbose_tells_the_steps_and_no_secret(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        outcome = workspace.run("--verbose", "ingest")
    assert "mysql.nps: landed 3 rows" in caplog.text
    assert "mysql.nps: loaded 3 rows" in caplog.text
    assert workspace.mysql.server.reader_password not in caplog.text + outcome.out + outcome.err


@pytest.mark.parametrize(
    ("arguments", "examples"),
    [
        (["--help"], ["millrace check", "millrace list", "millrace ingest mysql.nps"]),
        (["ingest", "--help"], ["millrace ingest mysql.nps --from 2026-10-01 --to 2026-10-02"]),
        (["ingest", "-h"], ["millrace ingest mysql.nps --all"]),
        (["list", "--help"], ["Show every declared source table"]),
        (["check", "--help"], ["say what fails, and why"]),
        (["plan", "--help"], ["millrace plan mysql.nps", "change nothing"]),
        (["diff", "--help"], ["millrace diff mysql.nps", "side by side"]),
        (["connect", "--help"], ["millrace connect mysql_prod mysql://"]),
        (["scaffold", "mysql", "--help"], ["millrace scaffold mysql 'prod.*'"]),
        (["preview", "--help"], ["millrace preview mysql.orders", "change nothing"]),
        (["reload", "--help"], ["millrace reload mysql.nps", "dbt build --full-refresh"]),
    ],
    ids=" ".join,
)
def test_help_shows_examples(
    workspace: Workspace, arguments: list[str], examples: list[str]
) -> None:
    said = workspace.succeeds(*arguments)
    assert all(example in said for example in examples), said


def test_the_warehouse_is_chosen_as_for_dbt(workspace: Workspace) -> None:
    profiles = workspace.root / "profiles.yml"
    text = profiles.read_text()
    block = text[text.index("    dev:\n") : text.index("    redshift:\n")]
    other = block.replace("    dev:\n", "    other:\n").replace("DUCKDB_PATH", "OTHER_PATH")
    profiles.write_text(text.replace(block, block + other))
    workspace.environment.setenv("OTHER_PATH", str(workspace.root / "other.duckdb"))
    said = workspace.succeeds("--target", "other", "check")
    assert f"at {workspace.root / 'other.duckdb'}" in said
    workspace.environment.setenv("DBT_TARGET", "other")
    workspace.succeeds("ingest", "mysql.nps")
    assert not workspace.warehouse_file.exists()


def test_without_names_the_others_are_ingested_though_one_fails(workspace: Workspace) -> None:
    workspace.mysql.execute("DROP TABLE nps")
    outcome = workspace.run("ingest")
    assert outcome.exit_code == 1
    assert "✓ mysql.users: 2 rows" in outcome.out
    assert outcome.errors == 1
    assert "✗ mysql.nps" in outcome.err
    assert outcome.err.rstrip().endswith("1 of 2 failed: mysql.nps")
    assert workspace.raw("SELECT id FROM raw_mysql.users ORDER BY id") == [(1,), (2,)]


def test_every_failure_is_told(workspace: Workspace) -> None:
    workspace.mysql.execute("DROP TABLE nps")
    workspace.mysql.execute("DROP TABLE users")
    outcome = workspace.run("ingest", "mysql.users", "mysql.nps")
    assert outcome.exit_code == 1
    assert outcome.errors == 2
    assert outcome.err.rstrip().endswith("2 of 2 failed: mysql.users, mysql.nps")


def test_a_name_that_is_not_declared_stops_before_anything_is_done(workspace: Workspace) -> None:
    said = workspace.refuses("ingest", "mysql.nps", "mysql.npx", says=["'mysql.npx'"])
    assert "✓" not in said


def test_the_other_marts_are_published_though_one_fails(
    workspace: Workspace, workbook: Workbook
) -> None:
    workspace.succeeds("ingest")
    key = workbook.connection()
    workspace.environment.setenv(
        "AIRFLOW_CONN_GOOGLE_SHEETS",
        json.dumps({"conn_type": key.conn_type, "extra": dict(key.extra)}),
    )
    publish = {"kind": "google_sheet", "connection": "google_sheets", "order_by": ["id"]}
    manifest = json.loads(workspace.manifest_file.read_text())
    for name, mart in (("gone", "nowhere"), ("users", "users")):
        manifest["nodes"][f"model.millrace.{mart}"] = {
            "unique_id": f"model.millrace.{mart}",
            "name": mart,
            "schema": "raw_mysql",
            "alias": mart,
        }
        manifest["exposures"][f"exposure.millrace.{name}"] = {
            "unique_id": f"exposure.millrace.{name}",
            "name": name,
            "original_file_path": "models/exposures.yml",
            "depends_on": {"nodes": [f"model.millrace.{mart}"]},
            "meta": {"publish": publish | {"spreadsheet": workbook.key, "tab": name}},
        }
    workspace.manifest_file.write_text(json.dumps(manifest))
    workspace.take_manifest()
    outcome = workspace.run("publish")
    assert outcome.exit_code == 1
    assert "✓ users: 2 rows" in outcome.out
    assert outcome.errors == 1
    assert outcome.err.rstrip().endswith("1 of 2 failed: gone")


def test_a_new_column_that_looks_personal_is_told_until_it_is_declared(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    workspace.mysql.execute("ALTER TABLE users ADD phone VARCHAR(20)")
    workspace.succeeds("ingest", "mysql.users")
    assert "mysql.users: no `pii` is declared for columns that look personal: phone" in caplog.text
    caplog.clear()
    policies = {"name": "drop", "email": "hash", "phone": "none"}
    columns = {name: {"meta": {"pii": policy}} for name, policy in policies.items()}
    workspace.change_manifest({"columns": columns}, "users")
    workspace.succeeds("ingest", "mysql.users")
    assert "look personal" not in caplog.text
