"""Whoever adds a snapshot to this project gets dbt's own behaviour, of every kind.

Each kind of snapshot is built by dbt alone, and by dbt with the macros of this project: the same
rows have to come out.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pytest
import yaml
from dbt.artifacts.schemas.run import RunExecutionResult
from dbt.cli.main import dbtRunner

if TYPE_CHECKING:
    from tests.dbt_project.conftest import Warehouse

ROOT = Path(__file__).parents[2]

PROJECT = """
name: scratch
version: "1.0"
profile: scratch
flags: {send_anonymous_usage_stats: false}
"""
SOURCES = """
sources:
  - name: raw
    schema: raw
    tables: [{name: people}, {name: pairs}]
"""
TABLES = """
create schema raw;
create table raw.people (id integer, v varchar(9), updated_at timestamp);
create table raw.pairs (id integer, kind varchar(9), v varchar(9), updated_at timestamp);
"""
CURRENT = "cast('9999-12-31' as timestamp)"
SNAPSHOTS: dict[str, dict[str, Any]] = {
    "by_timestamp": {},
    "by_check": {"strategy": "check", "check_cols": ["v"]},
    "deletes_invalidate": {"hard_deletes": "invalidate"},
    "deletes_invalidate_as_before": {"invalidate_hard_deletes": True},
    "deletes_recorded": {"hard_deletes": "new_record"},
    "open_until_a_date": {"dbt_valid_to_current": CURRENT},
    "open_until_a_date_and_deletes": {
        "dbt_valid_to_current": CURRENT,
        "hard_deletes": "invalidate",
    },
    "other_column_names": {"snapshot_meta_column_names": {"dbt_valid_to": "ended_at"}},
    "key_of_two": {"unique_key": ["id", "kind"]},
    "key_of_two_and_deletes": {"unique_key": ["id", "kind"], "hard_deletes": "invalidate"},
    "key_that_is_an_expression": {"unique_key": "id || '-' || kind"},
}
# A change, a deletion and an arrival; then the deleted row comes back.
DAYS = [
    [(1, "a", "x", 1), (2, "a", "x", 1), (3, "a", "x", 1)],
    [(1, "a", "y", 2), (3, "a", "x", 1), (4, "a", "x", 2)],
    [(1, "a", "y", 2), (2, "a", "z", 3), (3, "a", "x", 1), (4, "a", "x", 2)],
]


@dataclass
class Scratch:
    """A dbt project with a snapshot of each kind, in a DuckDB file of its own."""

    folder: Path
    database: Path
    macros: Path | None = None
    snapshots: dict[str, dict[str, Any]] = field(default_factory=lambda: dict(SNAPSHOTS))

    def make(self) -> None:
        self.execute(TABLES)
        (self.folder / "snapshots").mkdir(parents=True)
        (self.folder / "dbt_project.yml").write_text(PROJECT)
        output = {
            "type": "duckdb",
            "path": str(self.database),
            "schema": "snapshots",
            "threads": 1,
        }
        profiles = {"scratch": {"target": "dev", "outputs": {"dev": output}}}
        (self.folder / "profiles.yml").write_text(yaml.safe_dump(profiles))
        (self.folder / "snapshots" / "_sources.yml").write_text(SOURCES)
        declared = []
        for name, changes in self.snapshots.items():
            table = "pairs" if "kind" in str(changes) else "people"
            config = {"strategy": "timestamp", "updated_at": "updated_at", "unique_key": "id"}
            relation = f"source('raw', '{table}')"
            declared.append({"name": name, "relation": relation, "config": config | changes})
        (self.folder / "snapshots" / "_snapshots.yml").write_text(
            yaml.safe_dump({"snapshots": declared})
        )
        if self.macros:
            shutil.copytree(self.macros, self.folder / "macros")

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        # dbt needs the file closed.
        with duckdb.connect(self.database) as connection:
            return connection.execute(sql).fetchall()

    def take(self, rows: list[tuple[int, str, str, int]]) -> dict[str, str]:
        """Replace the sources by these rows and snapshot them; returns each failure's message."""
        self.execute("delete from raw.people")
        self.execute("delete from raw.pairs")
        for key, kind, value, day in rows:
            for other in ("", "b"):
                time = f"timestamp '2026-01-0{day} 00:00:00'"
                pair = f"{key}, '{kind}{other}', '{value}', {time}"
                self.execute(f"insert into raw.pairs values ({pair})")
            self.execute(f"insert into raw.people values ({key}, '{value}', {time})")
        outcome = dbtRunner().invoke(
            [
                *("--quiet", "snapshot", "--project-dir", str(self.folder)),
                *("--profiles-dir", str(self.folder), "--log-path", str(self.folder / "logs")),
            ]
        )
        assert outcome.exception is None, outcome.exception
        assert isinstance(outcome.result, RunExecutionResult)
        results = outcome.result.results
        return {r.node.name: str(r.message) for r in results if r.status == "error"}

    def versions(self, name: str) -> list[tuple[Any, ...]]:
        """Every version, without the columns that depend on the time of the run."""
        config = self.snapshots[name]
        ended = config.get("snapshot_meta_column_names", {}).get("dbt_valid_to", "dbt_valid_to")
        deleted = "dbt_is_deleted" if config.get("hard_deletes") == "new_record" else "''"
        kind = "kind" if "kind" in str(config) else "''"
        is_open = f"{ended} is null or {ended} >= timestamp '9999-01-01'"
        return self.execute(
            f"select id, {kind}, v, updated_at, {deleted}, {ended} is null, {is_open} "
            f"from snapshots.{name} order by 1, 2, 4, 3, 5, 7"
        )


@pytest.fixture
def scratch(tmp_path: Path) -> Callable[..., Scratch]:
    """Makes scratch projects, each with a DuckDB file."""

    def make(name: str, **options: Any) -> Scratch:
        made = Scratch(tmp_path / name, tmp_path / f"{name}.duckdb", **options)
        made.make()
        return made

    return make


@pytest.mark.nightly
def test_every_other_kind_of_snapshot_is_dbts_own(scratch: Callable[..., Scratch]) -> None:
    plain = scratch("plain")
    ours = scratch("ours", macros=ROOT / "dbt_project" / "macros")
    for day, rows in enumerate(DAYS):
        assert plain.take(rows) == {}
        assert ours.take(rows) == {}
        for name in SNAPSHOTS:
            assert (day, name, ours.versions(name)) == (day, name, plain.versions(name))
    # The comparison is not of empty tables.
    assert len(plain.versions("by_timestamp")) == 6
    assert len(plain.versions("key_of_two")) == 12
    assert {row[4] for row in plain.versions("deletes_recorded")} == {"True", "False"}


def test_the_project_overrides_nothing_of_dbts(warehouse: Warehouse) -> None:
    """No macro of the project has the name of one that dbt, or an adapter, brings."""
    warehouse.dbt("parse")
    macros = warehouse.artifact("manifest.json")["macros"].values()
    ours = {macro["name"] for macro in macros if macro["package_name"] == "millrace"}
    theirs = {macro["name"] for macro in macros if macro["package_name"] != "millrace"}
    assert "net_promoter_score" in ours
    assert {"is_incremental", "get_merge_sql", "default__snapshot_merge_sql"} <= theirs
    # dbt would dispatch `get_merge_sql` to a macro named `redshift__get_merge_sql`.
    dispatched = {name.partition("__")[2] for name in ours}
    assert theirs.isdisjoint(ours | dispatched)
