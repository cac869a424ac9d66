"""What users get wrong on the command line: they get one clear error, and nothing changes."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from millrace.batch import Batch, Interval, Partition
from millrace.catalog import IngestTable
from millrace.errors import (
    ManifestCorrupt,
    ManifestNotFound,
    PartCorrupt,
    ProjectError,
    TooFewRows,
)
from millrace.settings import Settings
from millrace.warehouses.base import open_warehouse
from redshift_standin.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from millrace.manifest import Manifest
    from redshift_standin import S3Endpoint
    from redshift_standin.s3 import S3Server
    from tests.millrace.conftest import Workspace

pytestmark = pytest.mark.service

UNTIL_OCTOBER = ("--to", "2026-10-01")
SECRET = "s3cret-in-the-connection"


@pytest.fixture
def loaded(workspace: Workspace) -> Workspace:
    """A workspace whose warehouse has something to lose."""
    workspace.succeeds("ingest", "mysql.nps", *UNTIL_OCTOBER)
    workspace.succeeds("ingest", "mysql.users")
    assert workspace.warehouse()
    return workspace


def landing_on_s3(workspace: Workspace, s3: S3Endpoint, url: str, **changes: str) -> None:
    credentials = {
        "login": s3.access_key_id,
        "password": s3.secret_access_key,
        "endpoint": s3.endpoint_url,
        **changes,
    }
    workspace.environment.setenv("LANDING_URL", url)
    workspace.environment.setenv(
        "AIRFLOW_CONN_AWS_LANDING",
        '{{"conn_type": "aws", "login": "{login}", "password": "{password}", '
        '"extra": {{"endpoint_url": "{endpoint}"}}}}'.format(**credentials),
    )


# MySQL


def test_a_wrong_password(loaded: Workspace) -> None:
    server = loaded.mysql.server
    loaded.environment.setenv(
        "AIRFLOW_CONN_MYSQL_PROD",
        f"mysql://{server.reader_user}:{SECRET}@{server.host}:{server.port}/{loaded.mysql.name}",
    )
    said = loaded.refuses(
        "ingest",
        "mysql.nps",
        says=[f"{server.host}:{server.port}", server.reader_user, "password in 'mysql_prod'"],
    )
    assert SECRET not in said


def test_mysql_is_down(loaded: Workspace) -> None:
    port = free_port(0)
    loaded.environment.setenv(
        "AIRFLOW_CONN_MYSQL_PROD", f"mysql://u:{SECRET}@127.0.0.1:{port}/prod"
    )
    said = loaded.refuses(
        "ingest", "mysql.nps", says=[f"127.0.0.1:{port}", "Check that the server runs"]
    )
    assert SECRET not in said


def test_a_missing_table(loaded: Workspace) -> None:
    loaded.declare(table="npss")
    loaded.refuses(
        "ingest",
        "mysql.nps",
        says=[f"no table {loaded.mysql.name}.npss", "Correct `table` in the declaration"],
    )


def test_a_missing_cursor_column(loaded: Workspace) -> None:
    loaded.declare(cursor="changed_at")
    loaded.refuses(
        "ingest", "mysql.nps", says=["no column 'changed_at'", "its cursor", "updated_at"]
    )


def test_a_missing_key_column(loaded: Workspace) -> None:
    loaded.declare(primary_key=["nps_id"])
    loaded.refuses("ingest", "mysql.nps", says=["no column 'nps_id'", "primary_key", "id, score"])


def test_a_table_without_its_declared_key(loaded: Workspace) -> None:
    loaded.declare(primary_key=["score"])
    loaded.refuses(
        "ingest", "mysql.nps", says=["no primary key or unique index on (score)", "its keys: id"]
    )


def test_a_table_that_is_empty(loaded: Workspace) -> None:
    loaded.mysql.execute("DELETE FROM users")
    loaded.refuses("ingest", "mysql.users", says=["mysql.users has 0 rows", "min_rows: 0"])


def test_a_table_that_may_be_empty(loaded: Workspace) -> None:
    loaded.mysql.execute("DELETE FROM users")
    loaded.declare("users", min_rows=0)
    assert "0 rows" in loaded.succeeds("ingest", "mysql.users")
    assert loaded.raw("SELECT count(*) FROM raw_mysql.users") == [(0,)]


def test_an_interval_without_rows_is_no_error(loaded: Workspace) -> None:
    loaded.succeeds("ingest", "mysql.nps", "--from", "2026-10-01", "--to", "2026-11-01")
    rows = loaded.warehouse()["raw_mysql.nps"]
    said = loaded.succeeds("ingest", "mysql.nps", "--from", "2026-11-01", "--to", "2026-11-02")
    assert "0 rows" in said
    assert loaded.warehouse()["raw_mysql.nps"] == rows


def test_an_interval_without_rows_where_one_is_expected(loaded: Workspace) -> None:
    loaded.succeeds("ingest", "mysql.nps", "--from", "2026-10-01", "--to", "2026-11-01")
    loaded.declare(min_rows=1)
    loaded.refuses(
        *("ingest", "mysql.nps", "--from", "2026-11-01", "--to", "2026-11-02"),
        says=["mysql.nps has 0 rows for 2026-11-01 00:00:00", "at least 1", "min_rows: 0"],
    )


def test_a_misspelt_column_to_drop(loaded: Workspace) -> None:
    loaded.change_manifest({"columns": {"nmae": {"meta": {"pii": "drop"}}}}, "users")
    loaded.refuses("ingest", "mysql.users", says=["no column 'nmae'", "pii: drop", "email, name"])


def test_a_misspelt_column_to_leave_out(loaded: Workspace) -> None:
    loaded.change_manifest({"columns": {"emial": {"meta": {"ingest": False}}}}, "users")
    loaded.refuses(
        "ingest", "mysql.users", says=["no column 'emial'", "ingest: false", "email, name"]
    )


# The landing


def test_a_bucket_that_does_not_exist(loaded: Workspace, s3_server: S3Server) -> None:
    landing_on_s3(loaded, s3_server.endpoint, "s3://nowhere/raw")
    loaded.refuses(
        "ingest", "mysql.nps", says=["The bucket 'nowhere'", "does not exist", "aws s3 mb"]
    )


@pytest.mark.parametrize("changes", [{"password": SECRET}, {"login": "AKIANOBODY"}], ids=str)
def test_keys_that_s3_refuses(
    loaded: Workspace, s3_server: S3Server, bucket: str, changes: dict[str, str]
) -> None:
    landing_on_s3(loaded, s3_server.endpoint, f"s3://{bucket}/raw", **changes)
    said = loaded.refuses(
        "ingest",
        "mysql.nps",
        says=[f"s3://{bucket}/raw", "refuses these credentials", "aws_landing"],
    )
    assert SECRET not in said
    assert s3_server.endpoint.secret_access_key not in said


def test_s3_is_down(loaded: Workspace, s3_server: S3Server) -> None:
    down = f"http://127.0.0.1:{free_port(0)}"
    landing_on_s3(loaded, s3_server.endpoint, "s3://bucket/raw", endpoint=down)
    said = loaded.refuses(
        "ingest", "mysql.nps", says=["s3://bucket/raw cannot be used", down, "Check LANDING_URL"]
    )
    assert s3_server.endpoint.secret_access_key not in said


def test_no_landing(loaded: Workspace) -> None:
    loaded.environment.delenv("LANDING_URL")
    loaded.refuses("ingest", "mysql.nps", says=["LANDING_URL is not set", "s3://bucket/prefix"])


@pytest.mark.parametrize("url", ["az://bucket/raw", "bucket", "s3://", "gs://", "file://"])
def test_a_landing_of_no_known_kind(loaded: Workspace, url: str) -> None:
    loaded.environment.setenv("LANDING_URL", url)
    loaded.refuses(
        "ingest", "mysql.nps", says=[f"'{url}", "neither s3://bucket/prefix, gs://bucket/prefix"]
    )


def test_a_landing_folder_that_is_a_file(loaded: Workspace) -> None:
    file = loaded.root / "file"
    file.write_text("")
    loaded.environment.setenv("LANDING_URL", file.as_uri())
    loaded.refuses("ingest", "mysql.nps", says=[str(file), "LANDING_URL"])


def truncate(part: Path) -> None:
    os.truncate(part, part.stat().st_size // 2)


def alter(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (truncate, "bytes; its manifest says"),
        (alter, "its checksum differs"),
        (Path.unlink, "is gone, though its manifest names it"),
    ],
)
def test_a_damaged_part_changes_nothing(
    loaded: Workspace, damage: Callable[[Path], None], complaint: str
) -> None:
    manifest = landed(loaded)
    part = Path(manifest.parts[0].url.removeprefix("file://"))
    damage(part)
    before = loaded.warehouse()
    with pytest.raises(PartCorrupt, match=complaint) as refused:
        load(loaded, manifest)
    assert manifest.parts[0].url in refused.value.message
    assert "Ingest the batch again" in refused.value.fix
    assert loaded.warehouse() == before


@pytest.mark.parametrize("content", [None, '{"entries": ['], ids=["missing", "truncated"])
def test_a_batch_without_its_manifest_changes_nothing(
    loaded: Workspace, content: str | None
) -> None:
    manifest = landed(loaded)
    file = Path(manifest.url.removeprefix("file://"))
    file.unlink()
    if content:
        file.write_text(content)
    before = loaded.warehouse()
    error = ManifestCorrupt if content else ManifestNotFound
    with pytest.raises(error, match="manifest") as refused:
        load(loaded, manifest)
    assert "Ingest the batch again" in refused.value.fix
    assert loaded.warehouse() == before


@pytest.mark.parametrize(
    ("table", "end", "says"),
    [
        ("users", datetime(2026, 10, 2, tzinfo=UTC), "is of mysql.nps"),
        ("nps", datetime(2026, 10, 3, tzinfo=UTC), "to 2026-10-02 00:00:00, and mysql.nps"),
    ],
    ids=["another table's", "another interval's"],
)
def test_a_manifest_of_another_batch_changes_nothing(
    loaded: Workspace, table: str, end: datetime, says: str
) -> None:
    manifest = landed(loaded)
    before = loaded.warehouse()
    declared = loaded.pipeline.catalog.table(f"mysql.{table}")
    planned = Batch(declared.key, Interval(None, end))
    with pytest.raises(ManifestCorrupt, match=says) as refused:
        merge(loaded, declared, planned, manifest.url)
    assert manifest.url in refused.value.message
    assert loaded.warehouse() == before


def test_a_manifest_without_rows_does_not_empty_a_whole_table(loaded: Workspace) -> None:
    pipeline = loaded.pipeline
    users = pipeline.catalog.table("mysql.users")
    batch = Batch(users.key)
    manifest = replace(pipeline.extract(users, batch), parts=())
    Path(manifest.url.removeprefix("file://")).write_text(manifest.to_json())
    before = loaded.warehouse()
    with pytest.raises(TooFewRows, match="0 rows"):
        pipeline.load(users, merge(loaded, users, batch, manifest.url))
    assert loaded.warehouse() == before


def merge(workspace: Workspace, table: IngestTable, batch: Batch, url: str) -> Manifest:
    """The manifest as the task that loads it gets it: read back from the landing."""
    return workspace.pipeline.merge(table, [Partition(batch)], [url])


def load(workspace: Workspace, manifest: Manifest) -> None:
    table = workspace.pipeline.catalog.table("mysql.nps")
    workspace.pipeline.load(table, merge(workspace, table, manifest.batch, manifest.url))


def landed(workspace: Workspace) -> Manifest:
    """A batch that waits to be loaded."""
    pipeline = workspace.pipeline
    batch = Batch("mysql.nps", Interval(None, datetime(2026, 10, 2, tzinfo=UTC)))
    return pipeline.extract(pipeline.catalog.table("mysql.nps"), batch)


# The warehouse


@contextmanager
def held(file: Path) -> Iterator[int]:
    """Let another process hold a DuckDB file during the block; gives its pid."""
    code = (
        "import duckdb, sys; connection = duckdb.connect(sys.argv[1]); "
        "print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        yield holder.pid
        holder.kill()


def test_a_warehouse_that_another_process_holds(loaded: Workspace) -> None:
    before = loaded.warehouse()
    with held(loaded.warehouse_file) as pid:
        outcome = loaded.run("ingest", "mysql.nps")
    assert outcome.exit_code == 1
    assert outcome.errors == 1
    assert f"process {pid}" in outcome.err
    assert str(loaded.warehouse_file) in outcome.err
    assert "Wait until it is done" in outcome.err
    assert loaded.warehouse() == before


@pytest.mark.parametrize("path", ["nowhere/w.duckdb", "/nowhere/w.duckdb"])
def test_a_warehouse_in_a_folder_that_is_not_there_is_not_made(
    workspace: Workspace, path: str
) -> None:
    workspace.environment.setenv("DUCKDB_PATH", path)
    outcome = workspace.run("ingest", "mysql.nps")
    assert outcome.exit_code == 1
    assert "There is no folder" in outcome.err
    assert "profiles.yml" in outcome.err
    assert not (workspace.root / "nowhere").exists()


def test_a_file_that_is_no_warehouse(workspace: Workspace) -> None:
    content = b"id,score\n1,9\n" * 1000
    workspace.warehouse_file.write_bytes(content)
    outcome = workspace.run("ingest", "mysql.nps")
    assert outcome.exit_code == 1
    assert outcome.errors == 1
    assert str(workspace.warehouse_file) in outcome.err
    assert "profiles.yml" in outcome.err
    assert workspace.warehouse_file.read_bytes() == content


def test_a_target_without_a_loader(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="'snowflake'") as refused:
        open_warehouse(SimpleNamespace(type="snowflake"), tmp_path, Settings())
    assert "--target" in refused.value.fix


def test_a_target_without_credentials(loaded: Workspace) -> None:
    loaded.environment.setenv("TARGET", "bigquery")
    # Nobody asks whether this machine is Google's.
    loaded.environment.setenv("NO_GCE_CHECK", "true")
    loaded.refuses("ingest", "mysql.nps", says=["credentials", "profiles.yml"])


def test_a_target_that_the_profile_lacks(loaded: Workspace) -> None:
    loaded.environment.setenv("TARGET", "prod")
    loaded.refuses("ingest", "mysql.nps", says=["profiles.yml", "'prod'"])


# The project and its manifest


def test_a_stale_manifest_is_parsed_again_by_itself(loaded: Workspace) -> None:
    text = loaded.sources_file.read_text()
    loaded.sources_file.write_text(text.replace("cursor: updated_at", "cursor: created_at"))
    loaded.refuses("ingest", "mysql.nps", says=["no column 'created_at'"])


def test_a_stale_manifest_whose_project_no_longer_parses(loaded: Workspace) -> None:
    loaded.sources_file.write_text("sources: [")
    said = loaded.refuses("ingest", "mysql.nps", says=["dbt cannot parse", "sources.yml"])
    assert "Correct what dbt names" in said


def test_a_missing_manifest_is_parsed_by_itself(loaded: Workspace) -> None:
    loaded.manifest_file.unlink()
    loaded.succeeds("list")
    assert loaded.manifest_file.exists()


@pytest.mark.parametrize("content", ["", "{", "{}", None], ids=["", "{", "{}", "another dbt's"])
def test_a_manifest_that_is_none_is_parsed_again_by_itself(
    loaded: Workspace, content: str | None
) -> None:
    text = loaded.manifest_file.read_text()
    others = text.replace("dbt/manifest/v12.json", "dbt/manifest/v11.json").replace("nps", "npx")
    loaded.manifest_file.write_text(others if content is None else content)
    assert "mysql.nps" in loaded.succeeds("list")


def test_a_declaration_that_is_deleted_is_no_longer_ingested(loaded: Workspace) -> None:
    text = loaded.sources_file.read_text()
    loaded.sources_file.write_text(text[: text.index("      - name: users")])
    os.utime(loaded.sources_file, (1, 1))
    loaded.refuses("ingest", "mysql.users", says=["No source table 'mysql.users'"])


def test_no_project(loaded: Workspace, tmp_path: Path) -> None:
    loaded.environment.chdir(tmp_path)
    loaded.refuses("ingest", "mysql.nps", says=["no dbt project", "DBT_PROJECT_DIR"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cursr": "updated_at"}, ["unknown key 'cursr'", "Did you mean 'cursor'?"]),
        ({"table": None}, ["lacks the key 'table'"]),
        ({"primary_key": None}, ["lacks the key 'primary_key'"]),
        ({"primary_key": []}, ["primary_key"]),
        ({"kind": "mysq"}, ["kind is 'mysq'", "Did you mean 'mysql'?"]),
        ({"min_rows": -1}, ["min_rows", "-1"]),
        ({"min_rows": "many"}, ["min_rows", "many"]),
        ({"cursor": ["updated_at"]}, ["cursor"]),
        ({"schema": "frozen"}, ["schema", "'frozen'"]),
    ],
    ids=str,
)
def test_a_typo_in_a_declaration(
    loaded: Workspace, changes: dict[str, Any], says: list[str]
) -> None:
    loaded.declare(**changes)
    # Another table's command finds the typo too, before anything runs.
    loaded.refuses(
        *("ingest", "mysql.users"),
        says=["models/sources.yml", "mysql.nps", "meta.ingest", *says],
    )


def test_an_ingest_block_that_is_no_block(loaded: Workspace) -> None:
    loaded.change_manifest({"meta": {"ingest": True}})
    loaded.refuses("ingest", "mysql.users", says=["models/sources.yml", "meta.ingest is True"])


def test_an_unknown_pii_policy(loaded: Workspace) -> None:
    loaded.change_manifest({"columns": {"email": {"meta": {"pii": "hsah"}}}}, "users")
    loaded.refuses(
        *("ingest", "mysql.nps"),
        says=["mysql.users: column email", "'hsah'", "Did you mean 'hash'?"],
    )


def test_a_policy_for_a_column_that_is_not_there(loaded: Workspace) -> None:
    loaded.change_manifest({"columns": {"mail": {"meta": {"pii": "hash"}}}}, "users")
    loaded.refuses(
        *("ingest", "mysql.users"), says=["column mail has a pii policy", "id, email, name"]
    )


def test_a_hash_without_a_salt(loaded: Workspace) -> None:
    loaded.environment.delenv("MILLRACE_PII_SALT")
    loaded.refuses("ingest", "mysql.users", says=["MILLRACE_PII_SALT is not set", "mysql.users"])


# Connections


def test_no_connection(loaded: Workspace) -> None:
    loaded.environment.delenv("AIRFLOW_CONN_MYSQL_PROD")
    loaded.refuses(
        *("ingest", "mysql.nps"),
        says=["no connection 'mysql_prod'", "AIRFLOW_CONN_MYSQL_PROD", "mysql://user:password@"],
    )


@pytest.mark.parametrize(
    "text",
    [
        f"mysql://user:{SECRET}@host:port/prod",
        f"//user:{SECRET}@host/prod",
        f'{{"password": "{SECRET}"',
        f'{{"password": "{SECRET}"}}',
        f'{{"conn_type": "mysql", "password": "{SECRET}", "extra": "{{"}}',
        f"mysql://user:{SECRET}/with/slashes@host/prod",
        f"mysql://user:{SECRET}@[host/prod",
    ],
)
def test_a_connection_that_cannot_be_read_keeps_its_secret(loaded: Workspace, text: str) -> None:
    loaded.environment.setenv("AIRFLOW_CONN_MYSQL_PROD", text)
    said = loaded.refuses(
        *("ingest", "mysql.nps"), says=["'mysql_prod' cannot be read", "AIRFLOW_CONN_MYSQL_PROD"]
    )
    assert SECRET not in said


# The command line


def test_an_unknown_table(loaded: Workspace) -> None:
    loaded.refuses(
        "ingest", "mysql.npss", says=["'mysql.npss'", "Did you mean 'mysql.nps'?", "mysql.users"]
    )


@pytest.mark.parametrize("end", ["2026-10-01", "2026-09-30"])
def test_an_interval_that_ends_before_it_starts(loaded: Workspace, end: str) -> None:
    loaded.refuses(
        *("ingest", "mysql.nps", "--from", "2026-10-01", "--to", end),
        says=["--from must be before --to"],
    )


def test_an_interval_that_starts_after_now(loaded: Workspace) -> None:
    loaded.refuses("ingest", "mysql.nps", "--from", "2999-01-01", says=["starts after now"])


def test_a_batch_that_shall_end_in_the_future_ends_now(loaded: Workspace) -> None:
    loaded.succeeds("ingest", "mysql.nps", "--from", "2026-10-01", "--to", "2999-01-01")
    loaded.mysql.execute("INSERT INTO nps VALUES (77, 5, 'later', UTC_TIMESTAMP(6))")
    assert "mysql.nps: 1 rows" in loaded.succeeds("ingest", "mysql.nps")


@pytest.mark.parametrize("time", ["yesterday", "2026-13-01", ""])
def test_a_time_that_is_none(loaded: Workspace, time: str) -> None:
    loaded.refuses(
        "ingest", "mysql.nps", "--from", time, says=[f"'{time}' is not a time", "2026-10-01T06:30"]
    )


def test_everything_and_an_interval(loaded: Workspace) -> None:
    loaded.refuses(
        "ingest", "mysql.nps", "--all", "--from", "2026-10-01", says=["leave out --from and --to"]
    )


def test_the_command_itself_shows_no_stack_trace(workspace: Workspace) -> None:
    workspace.environment.delenv("LANDING_URL")
    done = subprocess.run(
        [Path(sys.executable).with_name("millrace"), "ingest", "mysql.nps"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("Error: LANDING_URL is not set.\n  → Set LANDING_URL to ")
