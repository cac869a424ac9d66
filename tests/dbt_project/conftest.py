"""A warehouse with raw tables, and dbt to build in it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from dbt.artifacts.schemas.run import RunExecutionResult
from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt_common.events.base_types import EventMsg

ROOT = Path(__file__).parents[2]

RAW_TABLES = """
create schema analytics_raw_mysql;
create table analytics_raw_mysql.nps (
    id decimal(20, 0), user_id decimal(20, 0), score smallint, comment varchar, channel varchar,
    created_at timestamp, updated_at timestamp, deleted_at timestamp,
    _batch_id varchar, _loaded_at timestamp
);
create table analytics_raw_mysql.users (
    id decimal(20, 0), email varchar, country varchar, plan varchar, is_active smallint,
    signed_up_at timestamp, updated_at timestamp, _batch_id varchar, _loaded_at timestamp
);
create schema analytics_raw_google_sheets;
create table analytics_raw_google_sheets.nps_targets (
    month date, segment varchar, target_nps decimal(5, 2), owner varchar,
    _batch_id varchar, _loaded_at timestamp
);
"""
# A ledger that always agrees with the raw tables.
LEDGERS = """
create view analytics_raw_mysql._batches as
select
    table_name, _batch_id as batch_id, cast(null as timestamp) as interval_start,
    cast(null as timestamp) as interval_end, 's3://landing/manifest.json' as manifest_url,
    count(*) as row_count, cast(1 as bigint) as byte_count, max(_loaded_at) as extracted_at,
    max(_loaded_at) as loaded_at
from (
    select 'mysql.nps' as table_name, _batch_id, _loaded_at from analytics_raw_mysql.nps
    union all
    select 'mysql.users', _batch_id, _loaded_at from analytics_raw_mysql.users
) as loaded
group by all;
create view analytics_raw_google_sheets._batches as
select
    'google_sheets.nps_targets' as table_name, _batch_id as batch_id,
    cast(null as timestamp) as interval_start, cast(null as timestamp) as interval_end,
    's3://landing/manifest.json' as manifest_url, count(*) as row_count,
    cast(1 as bigint) as byte_count, max(_loaded_at) as extracted_at,
    max(_loaded_at) as loaded_at
from analytics_raw_google_sheets.nps_targets
group by all;
"""

FAILED = {"error", "fail", "runtime error"}


@dataclass(frozen=True)
class Warehouse:
    """A DuckDB file with empty raw tables, and the dbt project over it."""

    database: Path
    target: Path
    project: Path = ROOT / "dbt_project"

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make dbt build in it."""
        return {"TARGET": "dev", "DUCKDB_PATH": str(self.database)}

    def dbt(self, *arguments: str, on_event: Callable[[EventMsg], None] | None = None) -> None:
        """Runs dbt as its command line would, in this process; a failure fails the test."""
        outcome = self._invoke(arguments, on_event)
        if not outcome.success:
            results = getattr(outcome.result, "results", [])
            failures = [f"{r.node.name}: {r.message}" for r in results if r.status in FAILED]
            told = outcome.exception or "\n".join(failures)
            pytest.fail(f"dbt {' '.join(arguments)}: {told}")

    def failed_tests(self, *arguments: str) -> set[str]:
        """Runs the data tests and returns the names of those that fail or warn."""
        outcome = self._invoke(("test", "--exclude-resource-type", "unit_test", *arguments))
        if outcome.exception:
            pytest.fail(f"dbt test: {outcome.exception}")
        assert isinstance(outcome.result, RunExecutionResult)
        return {r.node.name for r in outcome.result.results if r.status in FAILED | {"warn"}}

    def _invoke(
        self, arguments: Sequence[str], on_event: Callable[[EventMsg], None] | None = None
    ) -> dbtRunnerResult:
        runner = dbtRunner(callbacks=[on_event] if on_event else [])
        with pytest.MonkeyPatch.context() as environment:
            environment.delenv("WAREHOUSE_SCHEMA", raising=False)
            for name, value in self.environment.items():
                environment.setenv(name, value)
            return runner.invoke(
                [
                    "--quiet",
                    *arguments,
                    *("--project-dir", str(self.project), "--profiles-dir", str(ROOT)),
                    *("--target-path", str(self.target), "--log-path", str(self.target / "logs")),
                ]
            )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Runs a statement and returns its rows."""
        with duckdb.connect(self.database) as connection:
            return connection.sql(sql).fetchall()

    def execute(self, sql: str) -> None:
        """Runs statements that return nothing."""
        with duckdb.connect(self.database) as connection:
            connection.execute(sql)

    def artifact(self, name: str) -> dict[str, Any]:
        """Reads what dbt wrote about its last invocation."""
        artifact: dict[str, Any] = json.loads((self.target / name).read_text())
        return artifact


@pytest.fixture(scope="session")
def dbt_target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One target folder for all tests, so that dbt parses the project only when it must."""
    return tmp_path_factory.mktemp("dbt")


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory, dbt_target: Path) -> Warehouse:
    warehouse = Warehouse(tmp_path_factory.mktemp("warehouse") / "millrace.duckdb", dbt_target)
    warehouse.execute(RAW_TABLES + LEDGERS)
    return warehouse
