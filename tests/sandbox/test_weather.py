"""Open-Meteo's stand-in: its answers, and the service in the background."""

from datetime import date

import httpx
import pytest

from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import SandboxError
from millrace_sandbox.weather import Weather, WeatherServer

PLACE = "latitude=37.57&longitude=126.98"
DAILY = "daily=temperature_2m_max,precipitation_sum"


def asked(url, query):
    return httpx.get(f"{url}/v1/forecast?{query}", timeout=10).json()


@pytest.fixture(scope="module")
def server():
    today = date(2026, 11, 27)
    with WeatherServer(lambda: today) as started:
        yield started


def test_a_forecast_has_the_shape_of_open_meteo(server):
    found = asked(server.url, f"{PLACE}&{DAILY}")
    assert found["daily_units"] == {
        "time": "iso8601",
        "temperature_2m_max": "°C",
        "precipitation_sum": "mm",
    }
    assert found["daily"]["time"] == [f"2026-11-{day}" for day in (27, 28, 29, 30)] + [
        f"2026-12-0{day}" for day in (1, 2, 3)
    ]
    assert {len(values) for values in found["daily"].values()} == {7}
    assert found["daily"] == asked(server.url, f"{PLACE}&{DAILY}")["daily"]


def test_days_may_be_named(server):
    found = asked(server.url, f"{PLACE}&{DAILY}&start_date=2026-11-20&end_date=2026-11-21")
    assert found["daily"]["time"] == ["2026-11-20", "2026-11-21"]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (f"longitude=1&{DAILY}", "latitude"),
        (f"latitude=91&longitude=1&{DAILY}", "latitude"),
        (f"{PLACE}&daily=warmth", "warmth"),
        (f"{PLACE}&{DAILY}&forecast_days=17", "forecast_days"),
        (f"{PLACE}&{DAILY}&start_date=2026-11-28&end_date=2026-11-27", "end_date"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_a_reason(server, query, says):
    told = asked(server.url, query)
    assert told["error"] is True
    assert says in told["reason"]


@pytest.mark.service
def test_the_service_starts_stops_and_is_forgotten(tmp_path):
    weather = Weather(SandboxPaths(tmp_path))
    assert (weather.is_used, weather.status) == (False, "stopped")
    weather.start()
    try:
        assert len(asked(weather.url, f"{PLACE}&{DAILY}")["daily"]["time"]) == 7
        assert weather.url in weather.status
        weather.start()
    finally:
        weather.stop()
    assert (weather.is_used, weather.is_running()) == (True, False)
    weather.forget()
    assert not weather.is_used
    with pytest.raises(SandboxError, match="does not run"):
        _ = weather.url
