"""An audit finds exactly the rows that differ, and its repair mends just those."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from millrace.airflow import AirflowProject, audit_dag
from millrace.audit.auditor import Audit, Auditor
from millrace.batch import Interval
from tests.millrace.conftest import Workspace

pytestmark = pytest.mark.service

START = datetime(2026, 9, 1)
ROWS = 10_000
CURRENT = """
SELECT id, score, comment, updated_at FROM (
    SELECT * FROM raw_mysql.nps
    QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY updated_at DESC, _loaded_at DESC) = 1
)
WHERE _deleted_at IS NULL ORDER BY id
"""
SOURCE = "SELECT id, score, comment, updated_at FROM nps ORDER BY id"


def row(key: int, score: int = 5) -> tuple[int, int, str, datetime]:
    """A row that was edited in its turn in September."""
    return key, score, f"comment {key}", START + timedelta(minutes=4 * (key % ROWS))


@pytest.fixture
def loaded(workspace: Workspace) -> Workspace:
    """Ten thousand rows in three batches."""
    workspace.mysql.execute("DELETE FROM nps")
    workspace.mysql.insert("nps", [row(key) for key in range(1, ROWS + 1)])
    for start, end in (("08-01", "09-10"), ("09-10", "09-20"), ("09-20", "10-01")):
        workspace.succeeds("ingest", "mysql.nps", "--from", f"2026-{start}", "--to", f"2026-{end}")
    return workspace


def audit(workspace: Workspace, *, table: str = "mysql.nps", deep: bool = False) -> Audit:
    pipeline = workspace.pipeline
    found = Auditor(pipeline).audit(pipeline.catalog.table(table), deep=deep)
    assert found is not None
    return found


def keys(numbers: Iterable[int]) -> list[tuple[str, ...]]:
    return sorted((str(number),) for number in numbers)


def test_nothing_differs_where_nothing_was_changed(loaded: Workspace) -> None:
    said = loaded.succeeds("audit", "mysql.nps")
    assert "mysql.nps: 10,000 rows are equal to the source's" in said
    assert audit(loaded).compared.schema.names == ["id", "score", "comment", "updated_at"]


@pytest.mark.both_servers
def test_a_thousand_changes_are_found_and_mended(loaded: Workspace) -> None:
    chosen = random.Random(7).sample(range(1, ROWS + 1), 1000)  # noqa: S311 no secret
    by_hand, lost, doubled, deleted, edited = (chosen[at::5] for at in range(5))
    late = list(range(ROWS + 1, ROWS + 101))

    def listed(some: list[int]) -> str:
        return f"({', '.join(map(str, some))})"

    loaded.raw(f"UPDATE raw_mysql.nps SET score = score + 1 WHERE id IN {listed(by_hand)}")
    loaded.raw(f"DELETE FROM raw_mysql.nps WHERE id IN {listed(lost)}")
    loaded.raw(
        f"INSERT INTO raw_mysql.nps SELECT * FROM raw_mysql.nps WHERE id IN {listed(doubled)}"
    )
    loaded.mysql.execute(f"DELETE FROM nps WHERE id IN {listed(deleted)}")
    loaded.mysql.execute(f"UPDATE nps SET comment = NULL WHERE id IN {listed(edited)}")
    loaded.mysql.insert("nps", [row(key) for key in late])

    found = audit(loaded).differences

    assert sorted(found.changed) == keys([*by_hand, *edited])
    assert sorted(found.missing) == keys([*lost, *late])
    assert sorted(found.vanished) == keys(deleted)
    assert sorted(found.doubled) == keys(doubled)
    outcome = loaded.run("audit", "mysql.nps", "--repair")
    assert outcome.exit_code == 0, outcome
    assert "differing: 1,100" in outcome.out
    assert "are now equal" in outcome.out
    assert loaded.raw(CURRENT) == loaded.mysql.rows(SOURCE)
    assert audit(loaded).is_equal


# What was landed


@pytest.mark.parametrize("damage", ["a part is gone", "a bit is flipped", "no manifest"])
def test_a_damaged_landing_is_found_by_a_deep_audit_and_landed_again(
    workspace: Workspace, damage: str
) -> None:
    workspace.succeeds("ingest", "mysql.nps")
    [part] = workspace.landing_folder.rglob("*.parquet")
    if damage == "a part is gone":
        part.unlink()
    elif damage == "no manifest":
        (part.parent / "manifest.json").unlink()
    else:
        body = bytearray(part.read_bytes())
        body[len(body) // 2] ^= 1
        part.write_bytes(body)
    assert audit(workspace).is_equal
    [batch] = audit(workspace, deep=True).damaged
    assert batch.is_landing
    workspace.succeeds("audit", "mysql.nps", "--deep", "--repair")
    assert audit(workspace, deep=True).is_equal
    assert len(workspace.raw(CURRENT.replace("WHERE _deleted_at IS NULL", ""))) == 3


def test_an_old_version_that_was_changed_by_hand_is_found_by_a_deep_audit(
    workspace: Workspace,
) -> None:
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    workspace.mysql.execute("UPDATE nps SET score = 1, updated_at = '2026-10-02' WHERE id = 1")
    workspace.succeeds("ingest", "mysql.nps")
    workspace.raw("UPDATE raw_mysql.nps SET score = 8 WHERE id = 1 AND score = 9")
    assert audit(workspace).is_equal
    [batch] = audit(workspace, deep=True).damaged
    assert "in the columns score" in batch.why
    workspace.succeeds("audit", "mysql.nps", "--deep", "--repair")
    scores = workspace.raw("SELECT score FROM raw_mysql.nps WHERE id = 1 ORDER BY updated_at")
    assert scores == [(9,), (1,)]


def test_rows_of_no_batch_are_found_and_removed(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.nps")
    workspace.raw(
        "INSERT INTO raw_mysql.nps SELECT * REPLACE (99 AS id, 'by hand' AS _batch_id) "
        "FROM raw_mysql.nps WHERE id = 1"
    )
    workspace.succeeds("audit", "mysql.nps", "--repair")
    assert workspace.raw("SELECT id FROM raw_mysql.nps ORDER BY id") == [(1,), (2,), (3,)]


# Other kinds of tables


def test_hashed_columns_are_compared_by_a_deep_audit(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.users")
    workspace.raw("UPDATE raw_mysql.users SET email = 'x' WHERE id = 2")
    shallow = audit(workspace, table="mysql.users")
    assert (shallow.is_equal, shallow.not_compared) == (True, ("email",))
    deep = audit(workspace, table="mysql.users", deep=True)
    assert deep.differences.changed == [("2",)]
    # A whole table is mended by loading it again.
    workspace.succeeds("audit", "mysql.users", "--deep", "--repair")
    assert audit(workspace, table="mysql.users", deep=True).is_equal


def test_a_table_without_a_key_is_compared_by_whole_rows(workspace: Workspace) -> None:
    workspace.declare("users", primary_key=[])
    workspace.mysql.execute("ALTER TABLE users DROP PRIMARY KEY")
    workspace.mysql.execute("INSERT INTO users SELECT * FROM users WHERE id = 1")
    workspace.succeeds("ingest", "mysql.users")
    assert audit(workspace, table="mysql.users").is_equal
    workspace.mysql.execute("DELETE FROM users WHERE id = 1 LIMIT 1")
    assert audit(workspace, table="mysql.users").differences.doubled == [("1",)]


def test_a_key_that_is_hashed_is_compared_by_a_deep_audit_alone(workspace: Workspace) -> None:
    workspace.declare("users", primary_key=["id", "email"])
    workspace.mysql.execute("ALTER TABLE users DROP PRIMARY KEY, ADD PRIMARY KEY (id, email)")
    workspace.succeeds("ingest", "mysql.users")
    workspace.refuses("audit", "mysql.users", says=["email is hashed", "audit --deep"])
    workspace.mysql.execute("DELETE FROM users WHERE id = 1")
    said = workspace.run("audit", "mysql.users", "--deep").out
    assert "vanished" in said
    assert "ann@example.com" not in said


def test_rows_that_are_not_loaded_yet_do_not_differ(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.nps", "--to", "2026-10-01")
    workspace.mysql.execute("UPDATE nps SET score = 1, updated_at = '2026-10-05' WHERE id = 1")
    assert audit(workspace).is_equal


def test_an_audit_of_what_was_never_loaded_says_so(workspace: Workspace) -> None:
    assert "mysql.nps: never loaded" in workspace.succeeds("audit", "mysql.nps")


def test_a_difference_is_an_exit_code(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.nps")
    workspace.mysql.execute("DELETE FROM nps WHERE id = 3")
    outcome = workspace.run("audit")
    assert outcome.exit_code == 1
    assert re.search(r"vanished +1 +3 +in the raw table, no longer at the source", outcome.out)


@pytest.mark.parametrize("repair", [False, True])
def test_airflow_audits_a_table_and_fails_if_it_differs(
    workspace: Workspace, repair: bool, caplog: pytest.LogCaptureFixture
) -> None:
    project = AirflowProject(workspace.root / "dbt_project")
    workspace.environment.setattr(AirflowProject, "pipeline", lambda _: workspace.pipeline)

    def run() -> int:
        audit = audit_dag(project, repair=repair).get_task("mysql__nps")
        return int(audit.python_callable())  # type: ignore[union-attr]

    with pytest.raises(AirflowSkipException):
        run()
    workspace.succeeds("ingest", "mysql.nps")
    assert run() == 3
    workspace.mysql.execute("DELETE FROM nps WHERE id = 3")
    if repair:
        assert run() == 4
    else:
        with pytest.raises(SystemExit, match="1 rows are vanished"):
            run()
        assert "of 3 rows, 1 differ" in caplog.text


def test_an_interval_is_audited_by_itself(workspace: Workspace) -> None:
    workspace.succeeds("ingest", "mysql.nps")
    workspace.mysql.execute("UPDATE nps SET score = 0")
    pipeline = workspace.pipeline
    table = pipeline.catalog.table("mysql.nps")
    found = Auditor(pipeline).audit(table, Interval(datetime(2026, 10, 1, tzinfo=UTC)))
    assert found is not None
    assert found.differences.changed == [("3",)]
