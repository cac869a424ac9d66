"""The same raw rows on DuckDB, Redshift and BigQuery: dbt makes the same rows everywhere."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from google.cloud.bigquery import Client, QueryJobConfig

from tests.dbt_project.conftest import RAW_TABLES, Warehouse

if TYPE_CHECKING:
    from pathlib import Path

    from millrace_sandbox.bigquery import BigQuery
    from redshift_standin import RedshiftServer

pytestmark = [pytest.mark.service, pytest.mark.redshift]

Row = tuple[Any, ...]

# A schema of this run's own: the servers are other tests' too.
SCHEMA = f"every_{uuid4().hex[:8]}"
LEDGERS = "".join(
    f"""
create table analytics_raw_{source}._batches (
    table_name varchar, batch_id varchar, interval_start timestamp, interval_end timestamp,
    manifest_url varchar, row_count bigint, byte_count bigint, extracted_at timestamp,
    loaded_at timestamp
);"""
    for source in ("mysql", "google_sheets", "open_meteo")
)
# The example of the weather is off elsewhere.
WEATHER_TABLES = """
create schema analytics_raw_open_meteo;
create table analytics_raw_open_meteo.forecasts (
    city varchar, date date, temperature_2m_max decimal(4, 1), temperature_2m_min decimal(4, 1),
    precipitation_sum decimal(6, 2), _batch_id varchar, _loaded_at timestamp
);
create table analytics_raw_open_meteo.daily_forecasts (
    city varchar, date date, temperature_2m_max decimal(4, 1), temperature_2m_min decimal(4, 1),
    precipitation_sum decimal(6, 2), forecast_on date, _batch_id varchar, _loaded_at timestamp
);
"""
NPS, USERS, TARGETS = "mysql.nps", "mysql.users", "google_sheets.nps_targets"
FORECASTS, DAILY_FORECASTS = "open_meteo.forecasts", "open_meteo.daily_forecasts"

RELATIONS = {
    "{}.nps_summary": "*",
    "{}.nps_monthly_vs_target": "*",
    "{}.fct_nps_responses": "*",
    "{}.fct_nps_responses_daily": "*",
    "{}.pipeline_batches": "*",
    "{}_intermediate.int_nps_responses_deduplicated": "*",
    "{}_intermediate.int_users_plan_periods": "*",
    "{}_intermediate.int_weather_newest_forecasts": "*",
    "{}_snapshots.weather_forecasts_snapshot": (
        "city, forecast_date, temperature_high, dbt_valid_from, dbt_valid_to"
    ),
    "{}_snapshots.nps_responses_snapshot": (
        "nps_response_id, score, comment, is_deleted, dbt_valid_from, dbt_valid_to"
    ),
    "{}_snapshots.users_snapshot": "user_id, plan, country, dbt_valid_from, dbt_valid_to",
    "{}_snapshots.nps_targets_snapshot": (
        "month, segment, target_nps, owner, dbt_valid_from, dbt_valid_to is null as is_open"
    ),
    # What it compares is valid from the time of each build.
    "{}_snapshots.nps_summary_snapshot": (
        "response_date, responses, nps, nps_28d, dbt_valid_to is null as is_open"
    ),
}


@dataclass(frozen=True)
class OnDuckDB(Warehouse):
    """A file of DuckDB's."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "WAREHOUSE_SCHEMA": SCHEMA, "WEATHER": "on"}

    def ddl(self) -> str:
        return (RAW_TABLES + WEATHER_TABLES + LEDGERS).replace("analytics_", f"{SCHEMA}_")


@dataclass(frozen=True)
class OnRedshift(OnDuckDB):
    """Schemas in the Redshift stand-in."""

    server: RedshiftServer = field(kw_only=True)

    @property
    def environment(self) -> dict[str, str]:
        endpoint = self.server.endpoint.environment()
        return {**super().environment, "TARGET": "redshift", **endpoint}

    def query(self, sql: str) -> list[Row]:
        with closing(self.server.endpoint.connect()) as connection:
            connection.autocommit = True
            with closing(connection.cursor()) as cursor:
                cursor.execute(sql)
                return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def execute(self, sql: str) -> None:
        for statement in filter(str.strip, sql.split(";")):
            self.query(statement)


@dataclass(frozen=True)
class OnBigQuery(OnRedshift):
    """Datasets in the BigQuery emulator."""

    server: BigQuery = field(kw_only=True)  # type: ignore[assignment]

    def ddl(self) -> str:
        """The raw tables in the types that Millrace gives them in BigQuery."""
        ddl = super().ddl().replace("varchar", "string")
        return re.sub(r"\b(created|updated|deleted|signed_up)_at timestamp", r"\1_at datetime", ddl)

    @property
    def environment(self) -> dict[str, str]:
        endpoint = self.server.endpoint.environment()
        return {**super().environment, "TARGET": "bigquery", **endpoint}

    def query(self, sql: str) -> list[Row]:
        with closing(self.server.endpoint.connect()) as client:
            return [tuple(row) for row in client.query_and_wait(sql)]


@dataclass
class Source:
    """Rows as Millrace loads them, from a seed: edits, deletions and versions that come late."""

    seed: random.Random = field(default_factory=partial(random.Random, 1))
    loads: int = 0

    def load(self, table: str, rows: Sequence[Row]) -> Iterator[tuple[str, list[Row]]]:
        """The rows of one load with its batch, and the ledger's row."""
        self.loads += 1
        batch, loaded_at = f"batch-{self.loads}", datetime(2026, 3, 1) + timedelta(days=self.loads)
        source = table.partition(".")[0]
        yield table, [(*row, batch, loaded_at) for row in rows]
        ledger = (table, batch, None, None, f"s3://landing/{batch}", len(rows), 1)
        yield f"{source}._batches", [(*ledger, loaded_at, loaded_at)]

    def responses(self, first: int, last: int, version: int) -> list[Row]:
        """Versions of responses; those of a higher number come later, save for every fifth one."""
        return [self.response(number, version) for number in range(first, last)]

    def response(self, number: int, version: int) -> Row:
        given = datetime(2026, 1, 1, 23, 59, 59, 999_999) + timedelta(hours=11 * number)
        changed = given + timedelta(days=version if number % 5 else -version)
        is_deleted = version > 0 and number % 7 == 0
        return (
            number,
            # Of the users 1 to 9, two are unknown.
            1 + number % 9,
            self.seed.randint(0, 10),
            self.seed.choice([None, "", "최고예요 🎉", "fine"]),
            self.seed.choice(["email", "in_app", "sms"]),
            given,
            changed,
            changed if is_deleted else None,
        )

    def users(self, day: int) -> list[Row]:
        """Users 1 to 7: each load gives some of them another plan."""
        return [
            (
                number,
                "a" * 64,
                self.seed.choice(["KR", "DE", None]),
                self.seed.choice(["free", "team", "business", None]),
                number % 2,
                datetime(2025, 1, 1),
                datetime(2026, 1, 1) + timedelta(days=day),
            )
            for number in range(1, 8)
        ]

    def targets(self, months: Sequence[int]) -> list[Row]:
        return [
            (date(2026, month, 1), segment, Decimal(self.seed.randint(-9999, 9999)) / 100, owner)
            for month in months
            for segment, owner in (("free", "Ada"), ("team", None), ("business", "지우 🎯"))
        ]

    def forecasts(self, day: int) -> list[Row]:
        """Seven days of forecasts for two cities, each day another."""
        first = date(2026, 3, 1) + timedelta(days=day)
        return [
            (
                city,
                first + timedelta(days=ahead),
                Decimal(self.seed.randint(-99, 399)) / 10,
                None if ahead == 6 else Decimal(self.seed.randint(-199, 99)) / 10,
                Decimal(self.seed.randint(0, 9999)) / 100,
            )
            for city in ("Berlin", "Seoul")
            for ahead in range(7)
        ]

    def weather(self, day: int) -> Iterator[tuple[str, list[Row]]]:
        """A day's forecasts, in both tables."""
        forecasts = self.forecasts(day)
        yield from self.load(FORECASTS, forecasts)
        made_on = date(2026, 2, 28) + timedelta(days=day)
        yield from self.load(DAILY_FORECASTS, [(*row, made_on) for row in forecasts])


def literal(value: object) -> str:
    """A value as all three warehouses read it."""
    if value is None:
        return "null"
    return str(value) if isinstance(value, int | Decimal) else f"'{value}'"


def insert(warehouse: Warehouse, rows: Iterator[tuple[str, list[Row]]]) -> None:
    for table, values in rows:
        source, _, name = table.partition(".")
        listed = ", ".join(f"({', '.join(map(literal, row))})" for row in values)
        warehouse.execute(f"insert into {SCHEMA}_raw_{source}.{name} values {listed}")


@dataclass(frozen=True)
class Built:
    """Each warehouse after a first build, and a second with an increment.

    Attributes:
        created: The statement by which the first build made a table in BigQuery.
    """

    warehouses: Mapping[str, OnDuckDB]
    created: str


MODEL = "models/intermediate/int_nps_responses_deduplicated.sql"


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, redshift: RedshiftServer, bigquery: BigQuery
) -> Built:
    root: Path = tmp_path_factory.mktemp("warehouses")
    warehouses = {
        "duckdb": OnDuckDB(root / "millrace.duckdb", root / "duckdb"),
        "redshift": OnRedshift(root, root / "redshift", server=redshift),
        "bigquery": OnBigQuery(root, root / "bigquery", server=bigquery),
    }
    for name, warehouse in warehouses.items():
        warehouse.execute(warehouse.ddl())
        source = Source()
        insert(warehouse, source.load(USERS, source.users(0)))
        insert(warehouse, source.load(TARGETS, source.targets([1, 2])))
        insert(warehouse, source.load(NPS, source.responses(1, 120, version=0)))
        insert(warehouse, source.weather(0))
        # The other two run all the tests elsewhere.
        untested = ("--exclude-resource-type", "test", "unit_test")
        warehouse.dbt("build", *(() if name == "bigquery" else untested))
        created = (warehouse.target / "run" / "millrace" / MODEL).read_text()
        for table in (USERS, TARGETS, FORECASTS):
            schema, _, identifier = table.partition(".")
            warehouse.execute(f"delete from {SCHEMA}_raw_{schema}.{identifier} where true")
        insert(warehouse, source.load(USERS, source.users(40)))
        insert(warehouse, source.load(TARGETS, source.targets([2, 3])))
        insert(warehouse, source.load(NPS, source.responses(60, 160, version=1)))
        insert(warehouse, source.weather(1))
        warehouse.dbt("build", *untested)
    return Built(warehouses, created)


def same_everywhere(value: object) -> object:
    """A value without what a client adds: a time zone, zeros behind the point."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, Decimal) or (isinstance(value, int) and not isinstance(value, bool)):
        return f"{Decimal(value).normalize():f}"
    return value


@pytest.mark.parametrize("relation", RELATIONS)
def test_every_warehouse_holds_the_same_rows(built: Built, relation: str) -> None:
    query = f"select {RELATIONS[relation]} from {relation.format(SCHEMA)}"
    found = {
        name: sorted((tuple(map(same_everywhere, row)) for row in warehouse.query(query)), key=repr)
        for name, warehouse in built.warehouses.items()
    }
    assert len(found["duckdb"]) > 5
    assert found["redshift"] == found["duckdb"]
    assert found["bigquery"] == found["duckdb"]


def test_bigquery_is_told_how_to_store_a_table_and_what_to_leave_out(built: Built) -> None:
    """The emulator keeps no partitions of such a table, so this looks at the statements."""
    assert "partition by timestamp_trunc(_loaded_at, month)" in built.created
    assert "cluster by nps_response_id" in built.created
    compiled = built.warehouses["bigquery"].target / "compiled" / "millrace" / MODEL
    assert "where _loaded_at > cast('2026-03-04 00:00:00+00' as timestamp)" in compiled.read_text()


def test_the_jobs_of_a_build_in_bigquery_say_what_they_were_for(
    built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator keeps no labels of queries, so this looks at the requests."""
    ask = Client.query
    labels: list[str | None] = []

    def asked(client: Client, query: str, job_config: QueryJobConfig, **named: Any) -> Any:
        labels.append(job_config.labels.get("node_id"))
        return ask(client, query, job_config=job_config, **named)

    monkeypatch.setattr(Client, "query", asked)
    built.warehouses["bigquery"].dbt("run", "--select", "nps_monthly_vs_target")
    assert "model_millrace_nps_monthly_vs_target" in labels


@pytest.mark.parametrize(
    ("schema", "table", "shape"),
    [
        (
            "{}_intermediate",
            "int_nps_responses_deduplicated",
            ("KEY(nps_response_id)", "nps_response_id"),
        ),
        ("{}_snapshots", "nps_responses_snapshot", ("KEY(nps_response_id)", "nps_response_id")),
        ("{}", "nps_summary", ("ALL", "response_date")),
    ],
)
def test_redshift_spreads_and_sorts_a_table_as_declared(
    built: Built, schema: str, table: str, shape: Row
) -> None:
    rows = built.warehouses["redshift"].query(
        "select diststyle, sortkey1 from svv_table_info "
        f"where \"schema\" = '{schema.format(SCHEMA)}' and \"table\" = '{table}'"
    )
    assert rows == [shape]
