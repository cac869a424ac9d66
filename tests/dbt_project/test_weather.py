"""The weather example, off unless WEATHER=on: from the API's stand-in to the snapshot."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from millrace.batch import Interval
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace_sandbox.http_server import Fault
from millrace_sandbox.weather import WeatherServer
from tests.dbt_project.conftest import Warehouse

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
DAY = timedelta(days=1)
WHOLE, BY_DAY = "open_meteo.forecasts", "open_meteo.daily_forecasts"


@dataclass(frozen=True)
class WeatherProject(Warehouse):
    """The project with the example switched on, and an empty warehouse."""

    url: str = ""

    @property
    def environment(self) -> dict[str, str]:
        connection = {"conn_type": "http", "host": self.url}
        return {
            **super().environment,
            "WEATHER": "on",
            "AIRFLOW_CONN_OPEN_METEO": json.dumps(connection),
            "LANDING_URL": (self.database.parent / "landing").as_uri(),
        }

    def pipeline(self) -> Pipeline:
        """The pipeline of this environment alone."""
        settings = Settings.read({**self.environment, "DBT_TARGET_PATH": str(self.target)})
        return Pipeline.find(settings, self.project)


@dataclass
class Weather:
    """The stand-in, and the day on which it makes its forecasts."""

    server: WeatherServer
    project: WeatherProject
    today: date = TODAY.date()

    def arrive(self, end: datetime) -> None:
        """Ingest both tables at the end of a day, and build what reads them."""
        self.today = end.date()
        carrier = self.project.pipeline()
        for key, interval in ((WHOLE, None), (BY_DAY, Interval(end - DAY, end))):
            carrier.ingest(carrier.catalog.table(key), interval)
        models = "int_weather_newest_forecasts weather_forecasts_snapshot".split()
        self.project.dbt("build", "--select", *(f"+{name}" for name in models))

    def asked(self) -> list[dict[str, Any]]:
        return [dict(asked.params) for asked in self.server.asked]


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weather]:
    """Two days of forecasts, of which the first arrives through a server that is busy once."""
    folder: Path = tmp_path_factory.mktemp("weather")
    with WeatherServer(lambda: weather.today) as server:
        project = WeatherProject(folder / "weather.duckdb", folder / "target", url=server.url)
        weather = Weather(server, project)
        with pytest.MonkeyPatch.context() as environment:
            for name, value in project.environment.items():
                environment.setenv(name, value)
            server.faults.extend([Fault("status", 429, retry_after="0"), Fault("truncate")])
            project.dbt("parse")
            weather.arrive(TODAY - DAY)
            weather.arrive(TODAY)
            yield weather


def test_both_tables_have_seven_days_of_every_city(two_days: Weather) -> None:
    counted = "select count(*), count(distinct city), count(distinct date) from {}"
    raw = "analytics_raw_open_meteo"
    assert two_days.project.query(counted.format(f"{raw}.forecasts")) == [(14, 2, 7)]
    assert two_days.project.query(counted.format(f"{raw}.daily_forecasts")) == [(28, 2, 8)]
    assert {asked["latitude"] for asked in two_days.asked()} == {"52.52", "37.57"}


def test_the_newest_forecast_of_each_date_is_what_the_whole_table_has(two_days: Weather) -> None:
    columns = "city, forecast_date, temperature_high, temperature_low, precipitation_mm"
    newest = "analytics_intermediate.int_weather_newest_forecasts"
    whole = two_days.project.query(
        f"select {columns} from analytics_staging.stg_open_meteo__forecasts order by all"
    )
    today = (TODAY - DAY).date()
    kept = two_days.project.query(
        f"select {columns} from {newest} where forecast_on = '{today}' order by all"
    )
    assert kept == whole
    # The date that is past keeps its last forecast.
    past = two_days.project.query(f"select forecast_date from {newest} except select forecast_date "
                                  "from analytics_staging.stg_open_meteo__forecasts")
    assert past == [(today,)]


def test_the_snapshot_keeps_what_was_forecast_when(two_days: Weather) -> None:
    versions = two_days.project.query(
        "select forecast_date, count(*), count(*) filter (dbt_valid_to is null) "
        "from analytics_snapshots.weather_forecasts_snapshot where city = 'Seoul' "
        "group by 1 order by 1"
    )
    first = (TODAY - DAY).date()
    # The day that is past and the one that came last were forecast once; the others twice.
    assert versions == [
        (first + at * DAY, 1 if at in (0, 7) else 2, 1) for at in range(8)
    ]
    forecast_twice = two_days.project.query(
        "select temperature_high from analytics_snapshots.weather_forecasts_snapshot "
        f"where city = 'Seoul' and forecast_date = '{TODAY.date()}' order by dbt_valid_from"
    )
    by_day = two_days.project.query(
        "select temperature_high from analytics_staging.stg_open_meteo__daily_forecasts "
        f"where city = 'Seoul' and forecast_date = '{TODAY.date()}' order by forecast_on"
    )
    assert forecast_twice == by_day


def test_a_day_that_comes_again_changes_nothing(two_days: Weather) -> None:
    newest = "select * exclude (_loaded_at) from analytics_intermediate.int_weather_newest_forecasts"
    before = two_days.project.query(f"{newest} order by all")
    two_days.arrive(TODAY)
    assert two_days.project.query(f"{newest} order by all") == before


def test_the_example_is_described_as_the_rest(two_days: Weather) -> None:
    nodes = two_days.project.artifact("manifest.json")["nodes"].values()
    described = {
        (node["schema"], node["name"], name)
        for node in nodes
        if node["resource_type"] in {"model", "snapshot"}
        for name, column in node["columns"].items()
        if column["description"]
    }
    built = two_days.project.query(
        "select table_schema, table_name, column_name from information_schema.columns"
        " where table_schema like 'analytics%' and table_schema not like 'analytics_raw%'"
    )
    assert built
    assert set(built) <= described
