"""Rows with bad values are set aside by the command, counted and shown, and come back corrected."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from millrace.audit.auditor import Auditor
from millrace.batch import KeyRange, Partition
from millrace.catalog import OnBadValue
from millrace.errors import ValueDoesNotFit
from millrace.manifest import Manifest

if TYPE_CHECKING:
    from tests.millrace.conftest import Database, Workspace

pytestmark = pytest.mark.service

QUARANTINE = "raw_mysql.nps__quarantine"


def spoil(mysql: Database, *keys: int) -> None:
    """Give rows a comment that is not UTF-8."""
    mysql.execute("SET SESSION sql_mode = ''")
    for key in keys:
        mysql.execute(
            f"UPDATE nps SET comment = x'6162EDA080', updated_at = updated_at WHERE id = {key}"
        )


@pytest.fixture
def spoilt(workspace: Workspace) -> Workspace:
    """Three rows, the second with a bad comment, which is to be set aside."""
    spoil(workspace.mysql, 2)
    workspace.declare(on_bad_value="quarantine", verify="values")
    return workspace


def told(workspace: Workspace) -> list[tuple[Any, ...]]:
    return workspace.raw(
        f"SELECT row_key, column_name, reason, value_text FROM {QUARANTINE} ORDER BY ALL"
    )


BAD = ('{"id": 2}', "comment", r"'ab\xed\xa0\x80' is not UTF-8", r"ab\xed\xa0\x80")


def test_by_default_one_bad_value_refuses_the_batch_and_names_the_ways_out(
    workspace: Workspace,
) -> None:
    spoil(workspace.mysql, 2)
    workspace.refuses(
        "ingest",
        "mysql.nps",
        says=["1 value of", "column comment: 'ab", "is not UTF-8", "on_bad_value: null"],
    )


def test_a_row_is_set_aside_counted_and_shown(
    spoilt: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    spoilt.succeeds("ingest", "mysql.nps")
    assert "mysql.nps: column comment: 1 value did not fit; rows set aside" in caplog.text
    assert "mysql.nps: 1 row set aside, in raw_mysql.nps__quarantine" in caplog.text
    assert spoilt.raw("SELECT id FROM raw_mysql.nps ORDER BY id") == [(1,), (3,)]
    assert told(spoilt) == [BAD]
    ledger = "SELECT row_count, quarantined, verified FROM raw_mysql._batches"
    assert spoilt.raw(ledger) == [(2, 1, "values")]
    heading, *lines = (
        line.split() for line in spoilt.succeeds("list").splitlines() if line.strip()
    )
    assert heading[-1] == "QUARANTINED"
    counts = {line[0]: line[-1] for line in lines if line[0].startswith("mysql.")}
    assert counts == {"mysql.nps": "1", "mysql.users": "0"}


def test_nothing_is_shown_where_nothing_is_set_aside(workspace: Workspace) -> None:
    workspace.declare(on_bad_value="quarantine")
    workspace.succeeds("ingest", "mysql.nps")
    assert "QUARANTINED" not in workspace.succeeds("list")
    assert QUARANTINE not in workspace.warehouse()


def test_loading_twice_is_loading_once_and_a_corrected_row_comes_back(spoilt: Workspace) -> None:
    for _ in range(2):
        spoilt.succeeds("ingest", "mysql.nps", "--all")
        assert told(spoilt) == [BAD]
    spoilt.mysql.execute("UPDATE nps SET comment = 'fine', updated_at = updated_at WHERE id = 2")
    spoilt.succeeds("ingest", "mysql.nps", "--all")
    assert told(spoilt) == []
    assert spoilt.raw("SELECT comment FROM raw_mysql.nps WHERE id = 2") == [("fine",)]
    assert spoilt.raw("SELECT quarantined FROM raw_mysql._batches") == [(0,)]


def test_each_interval_has_its_own(spoilt: Workspace) -> None:
    spoil(spoilt.mysql, 3)
    spoilt.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    spoilt.succeeds("ingest", "mysql.nps", "--from", "2026-10-01", "--to", "2026-10-02")
    assert [key for key, *_ in told(spoilt)] == ['{"id": 2}', '{"id": 3}']
    cursors = f"SELECT CAST(row_cursor AS VARCHAR) FROM {QUARANTINE} ORDER BY ALL"
    assert spoilt.raw(cursors) == [("2026-09-30 23:59:59.999999",), ("2026-10-01 00:00:00",)]
    assert spoilt.raw("SELECT id FROM raw_mysql.nps") == [(1,)]
    spoil_no_more = "UPDATE nps SET comment = NULL, updated_at = updated_at"
    spoilt.mysql.execute(spoil_no_more)
    spoilt.succeeds("ingest", "mysql.nps", "--from", "2026-10-01", "--to", "2026-10-02")
    assert [key for key, *_ in told(spoilt)] == ['{"id": 2}']


def test_a_reload_sets_aside_too(spoilt: Workspace) -> None:
    spoilt.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    spoil(spoilt.mysql, 1)
    spoilt.succeeds("reload", "mysql.nps")
    assert [key for key, *_ in told(spoilt)] == ['{"id": 1}', '{"id": 2}']
    assert spoilt.raw("SELECT id FROM raw_mysql.nps") == [(3,)]


def test_a_table_of_nothing_but_bad_rows_has_too_few(spoilt: Workspace) -> None:
    spoil(spoilt.mysql, 1, 2, 3)
    spoilt.declare(cursor=None)
    spoilt.refuses("ingest", "mysql.nps", says=["has 0 rows", "at least 1 are expected"])
    spoilt.declare(min_rows=0)
    spoilt.succeeds("ingest", "mysql.nps")
    assert len(told(spoilt)) == 3


def test_a_value_becomes_null_and_is_told(
    workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(workspace.mysql, 2)
    workspace.declare(on_bad_value="null", verify="values")
    workspace.succeeds("ingest", "mysql.nps")
    assert "mysql.nps: column comment: 1 value did not fit; landed as NULL" in caplog.text
    assert workspace.raw("SELECT comment FROM raw_mysql.nps WHERE id = 2") == [(None,)]
    assert QUARANTINE not in workspace.warehouse()


def test_a_word_that_yaml_reads_as_nothing_is_taken(workspace: Workspace) -> None:
    text = workspace.sources_file.read_text()
    assert "cursor: updated_at}" in text
    workspace.sources_file.write_text(
        text.replace("cursor: updated_at}", "cursor: updated_at, on_bad_value: null}")
    )
    project = workspace.pipeline.project
    project.ensure_manifest()
    options = workspace.pipeline.catalog.table("mysql.nps").options
    assert options.on_bad_value is OnBadValue.NULL
    assert type(options).model_validate(options.model_dump()) == options
    other = workspace.pipeline.catalog.table("mysql.users").options
    assert other.on_bad_value is OnBadValue.FAIL


def test_keys_are_hashed_and_personal_values_are_not_shown(spoilt: Workspace) -> None:
    spoilt.change_manifest(
        {
            "columns": {
                "id": {"meta": {"pii": "hash"}},
                "comment": {"meta": {"pii": "mask"}},
            }
        }
    )
    spoilt.succeeds("ingest", "mysql.nps")
    ((key, column, reason, value),) = told(spoilt)
    assert (column, reason, value) == (
        "comment",
        "a personal value that does not fit string",
        "***",
    )
    (hashed,) = spoilt.raw("SELECT id FROM raw_mysql.nps LIMIT 1")[0]
    assert len(key) == len(f'{{"id": "{hashed}"}}')


def partitions(workspace: Workspace) -> tuple[Any, Any, list[Partition]]:
    """Three ranges of the keys, as workers would read them."""
    pipeline = workspace.pipeline
    table = pipeline.catalog.table("mysql.nps")
    batch = pipeline.plan(table)
    assert batch is not None
    attempt = pipeline.landing.new_attempt(batch)
    bounds: list[tuple[str, ...] | None] = [None, ("1",), ("2",), None]
    ranges = [KeyRange(*pair) for pair in pairwise(bounds)]
    return pipeline, table, [Partition(batch, (of,), attempt) for of in ranges]


def test_partitions_and_streams_set_aside_together(spoilt: Workspace) -> None:
    spoil(spoilt.mysql, 3)
    pipeline, table, parts = partitions(spoilt)
    urls = [pipeline.extract_partition(table, part).url for part in parts]
    merged = pipeline.merge(table, parts, urls)
    assert (merged.rows, merged.quarantined, len(merged.quarantine)) == (1, 2, 2)
    assert Manifest.from_json(merged.to_json(), merged.url) == merged
    assert pipeline.load(table, merged).quarantined == 2
    by_partitions = told(spoilt)
    # The same in one process, as three streams.
    several = Partition(parts[0].batch, tuple(part.ranges[0] for part in parts))
    landed = pipeline.extract_partition(table, several)
    assert (landed.rows, landed.quarantined, len(landed.quarantine)) == (1, 2, 1)
    pipeline.load(table, landed)
    assert told(spoilt) == by_partitions


def test_too_many_rows_refuse_the_batch(spoilt: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(spoilt.mysql, 3)
    monkeypatch.setattr("millrace.bad_values.MOST_ROWS", 1)
    says = ["more than 1 rows", "column comment", "on_bad_value: null"]
    spoilt.refuses("ingest", "mysql.nps", says=says)
    # Each range has one: together they are too many.
    monkeypatch.setattr("millrace.pipeline.MOST_ROWS", 1)
    pipeline, table, parts = partitions(spoilt)
    urls = [pipeline.extract_partition(table, part).url for part in parts]
    with pytest.raises(ValueDoesNotFit, match="would be set aside"):
        pipeline.merge(table, parts, urls)


def test_a_manifest_of_an_earlier_version_has_nothing_set_aside(spoilt: Workspace) -> None:
    pipeline = spoilt.pipeline
    table = pipeline.catalog.table("mysql.nps")
    batch = pipeline.plan(table)
    assert batch is not None
    manifest = pipeline.extract(table, batch)
    assert manifest.quarantined == 1
    value = json.loads(manifest.to_json())
    del value["quarantine"]
    old = Manifest.from_json(json.dumps(value), manifest.url)
    assert old == replace(manifest, quarantined=0, quarantine=())


def test_what_was_set_aside_lies_beside_the_other_parts(spoilt: Workspace) -> None:
    spoilt.succeeds("ingest", "mysql.nps")
    (manifest,) = spoilt.landing_folder.rglob("manifest.json")
    names = {path.name for path in Path(manifest).parent.iterdir()}
    assert names == {"manifest.json", "part-00000.parquet", "quarantine-00000.parquet"}


@pytest.mark.parametrize("deep", [False, True], ids=["as computed", "as read"])
@pytest.mark.parametrize("policy", ["null", "quarantine"])
def test_an_audit_finds_what_differs_and_not_what_was_told_to_be_bad(
    workspace: Workspace, policy: str, *, deep: bool
) -> None:
    workspace.declare(on_bad_value=policy)
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    # Of row 1, an earlier version is loaded, which fits.
    spoil(workspace.mysql, 1, 3)
    workspace.mysql.execute("UPDATE nps SET updated_at = '2026-10-01 01:00:00' WHERE id = 1")
    workspace.succeeds("ingest", "mysql.nps")
    auditor = Auditor(workspace.pipeline)
    table = workspace.pipeline.catalog.table("mysql.nps")
    found = auditor.audit(table, deep=deep)
    assert found is not None
    assert found.is_equal, found
    workspace.raw("UPDATE raw_mysql.nps SET score = 1 WHERE id = 2")
    found = auditor.audit(table, deep=deep)
    assert found is not None
    assert found.differences.by_kind == {
        "missing": [],
        "vanished": [],
        "changed": [("2",)],
        "doubled": [],
    }
    assert auditor.repair(found, deep=deep).is_equal
