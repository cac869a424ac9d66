"""Rows that vanish at their source are marked, whatever their keys are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from millrace.airflow import AirflowProject
from millrace.airflow.ingest import ingest_dag
from millrace.audit.auditor import Auditor
from tests.millrace.conftest import Workspace

pytestmark = pytest.mark.service

START = datetime(2026, 9, 1)
CASES = 2_500
ALIVE = """
SELECT {key}, score FROM (
    SELECT * FROM raw_mysql.nps
    QUALIFY ROW_NUMBER() OVER (PARTITION BY {key} ORDER BY updated_at DESC, _loaded_at DESC) = 1
)
WHERE _deleted_at IS NULL ORDER BY ALL
"""
KEYS: dict[str, tuple[str, Any]] = {
    "id BIGINT": ("id", lambda number: f"{number - CASES}"),
    "id BIGINT UNSIGNED": ("id", lambda number: f"{2**63 + 7 * number}"),
    "id VARCHAR(40) COLLATE utf8mb4_general_ci": ("id", lambda number: f"'key {number}'"),
    "a SMALLINT, b BINARY(4)": ("a, b", lambda number: f"{number % 9}, x'{number:08x}'"),
}


class Fate:
    """What happens to rows at the source, in statements for many of them at once."""

    def __init__(self, workspace: Workspace, names: str, literal: Any) -> None:
        self.mysql, self.names, self.literal = workspace.mysql, names, literal

    def insert(self, numbers: Sequence[int], day: int, score: int) -> None:
        """Rows whose cursor says that they were written on that day."""
        at = START + timedelta(days=day)
        rows = ", ".join(f"({self.literal(number)}, {score}, '{at}')" for number in numbers)
        self.mysql.execute(f"INSERT INTO nps ({self.names}, score, updated_at) VALUES {rows}")

    def change(self, what: str, numbers: Sequence[int], change: str = "") -> None:
        keys = ", ".join(f"({self.literal(number)})" for number in numbers)
        self.mysql.execute(f"{what} nps {change} WHERE ({self.names}) IN ({keys})")


@pytest.mark.both_servers
@pytest.mark.parametrize(("columns", "key"), list(KEYS.items()), ids=[*KEYS])
def test_ten_thousand_fates_end_as_at_the_source(
    workspace: Workspace, columns: str, key: tuple[str, Any]
) -> None:
    names, literal = key
    workspace.mysql.execute("DROP TABLE nps")
    workspace.mysql.execute(
        f"CREATE TABLE nps ({columns}, score INT, updated_at DATETIME(6), PRIMARY KEY ({names}))"
    )
    workspace.declare(primary_key=names.split(", "), deletes="keys")
    fate = Fate(workspace, names, literal)
    numbers = random.Random(3).sample(range(1, 2 * CASES), CASES)  # noqa: S311 no secret
    deleted, again, long_before, elsewhere, edited, late, *_ = (numbers[at::8] for at in range(8))
    fate.insert(numbers, 1, 5)
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-09-03")
    assert workspace.raw("SELECT COUNT(*) FROM raw_mysql.nps") == [(CASES,)]

    fate.change("DELETE FROM", [*deleted, *again, *long_before])
    fate.change("UPDATE", edited, "SET score = 6, updated_at = '2026-09-03'")
    if "VARCHAR" in columns:
        # Another key, but for the collation, and an edit that the cursor does not show.
        fate.change("UPDATE", elsewhere, "SET id = UPPER(id)")
    workspace.succeeds("ingest", "mysql.nps", "--from", "2026-09-03", "--to", "2026-09-05")
    rows = workspace.mysql.rows(f"SELECT {names}, score FROM nps")
    assert alive(workspace, names) == sorted(rows)

    # Some come again, some of them as they were long before.
    fate.insert(again, 5, 7)
    fate.insert(long_before, 0, 8)
    fate.insert([number + 2 * CASES for number in late], 0, 9)
    workspace.succeeds("ingest", "mysql.nps", "--from", "2026-09-05", "--to", "2026-09-08")
    rows = workspace.mysql.rows(f"SELECT {names}, score FROM nps")
    assert alive(workspace, names) == sorted(rows)
    ledger = dict(workspace.raw("SELECT batch_id, row_count FROM raw_mysql._batches"))
    counted = dict(workspace.raw("SELECT _batch_id, COUNT(*) FROM raw_mysql.nps GROUP BY 1"))
    assert {batch: count for batch, count in ledger.items() if count} == counted
    # Nothing is left to do.
    pipeline = workspace.pipeline
    assert Auditor(pipeline).mark_deletes(pipeline.catalog.table("mysql.nps")) is None


def alive(workspace: Workspace, names: str) -> list[tuple[Any, ...]]:
    return sorted(
        tuple(int(value) if not isinstance(value, str | bytes) else value for value in row)
        for row in workspace.raw(ALIVE.format(key=names))
    )


def test_a_vanished_row_is_one_more_version_with_its_last_values(workspace: Workspace) -> None:
    workspace.declare(deletes="keys")
    workspace.succeeds("ingest", "mysql.nps")
    workspace.mysql.execute("DELETE FROM nps WHERE id = 2")
    assert "1 rows corrected by their keys" in workspace.succeeds("ingest", "mysql.nps")
    rows = workspace.raw("SELECT score, _deleted_at IS NULL FROM raw_mysql.nps WHERE id = 2")
    assert sorted(rows) == [(3, False), (3, True)]


def test_airflow_marks_what_vanished_and_skips_if_nothing_did(workspace: Workspace) -> None:
    workspace.declare(deletes="keys")
    workspace.succeeds("ingest", "mysql.nps")
    workspace.environment.setattr(AirflowProject, "pipeline", lambda _: workspace.pipeline)
    project = AirflowProject(workspace.root / "dbt_project")
    dag = ingest_dag(project, workspace.pipeline.catalog.table("mysql.nps"))
    mark_deletes = dag.get_task("mark_deletes").python_callable  # type: ignore[union-attr]
    (raw,) = dag.get_task("mark_deletes").outlets
    events = {raw: SimpleNamespace(extra={})}
    with pytest.raises(AirflowSkipException):
        mark_deletes(outlet_events=events)
    assert events[raw].extra == {}
    workspace.mysql.execute("DELETE FROM nps WHERE id = 2")
    assert mark_deletes(outlet_events=events) == 1
    # Nothing of columns: for a watcher, what the last load said of them still holds.
    assert events[raw].extra == {"rows": 1, "start": None, "end": None}


def test_a_source_that_has_lost_most_of_its_keys_is_not_believed(workspace: Workspace) -> None:
    workspace.declare(deletes="keys")
    workspace.succeeds("ingest", "mysql.nps")
    workspace.mysql.execute("DELETE FROM nps WHERE id > 1")
    outcome = workspace.run("ingest", "mysql.nps")
    assert outcome.exit_code == 1
    assert "of 3 loaded rows, 2 have vanished" in outcome.err
    assert workspace.raw("SELECT COUNT(*) FROM raw_mysql.nps") == [(3,)]


def test_deletes_by_keys_need_a_key_and_a_cursor(workspace: Workspace) -> None:
    workspace.declare("users", deletes="keys")
    workspace.refuses("list", says=["deletes: keys", "primary_key and a cursor"])


@pytest.mark.parametrize(
    ("mark", "literal", "expected"),
    [
        ("DATETIME", "'2026-09-30 12:00:00'", datetime(2026, 9, 30, 12)),
        ("DATE", "'2026-09-30'", datetime(2026, 9, 30)),
        ("TINYINT(1)", "1", datetime(2026, 9, 30, 8)),
        ("BIT(1)", "1", datetime(2026, 9, 30, 8)),
    ],
)
def test_a_soft_delete_is_marked_by_the_declared_column(
    workspace: Workspace, mark: str, literal: str, expected: datetime
) -> None:
    workspace.declare(deletes={"soft": "gone"})
    workspace.mysql.execute(f"ALTER TABLE nps ADD gone {mark} NULL")
    workspace.mysql.execute(f"UPDATE nps SET gone = {literal} WHERE id = 1")
    workspace.succeeds("ingest", "mysql.nps")
    rows = workspace.raw("SELECT id, _deleted_at FROM raw_mysql.nps ORDER BY id")
    assert rows == [(1, expected), (2, None), (3, None)]
    workspace.succeeds("audit", "mysql.nps")


def test_a_soft_delete_by_a_column_that_is_no_mark_is_refused(workspace: Workspace) -> None:
    workspace.declare(deletes={"soft": "comment"})
    workspace.refuses("ingest", "mysql.nps", says=["no column comment that could mark"])
