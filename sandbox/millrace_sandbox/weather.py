"""A stand-in for Open-Meteo's forecast: its shape, its errors, and weather of our own making.

A forecast is the weather that will be, and an error that grows with the days until then: so the
forecast for a date is another each day, as real ones are.

    python -m millrace_sandbox.weather 18081
"""

from __future__ import annotations

import math
import random
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from millrace_sandbox.http_server import Asked, Reply, ScriptedServer
from millrace_sandbox.processes import LOOPBACK, SandboxError, Service
from redshift_standin.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from millrace_sandbox.paths import SandboxPaths

PATH = "/v1/forecast"
UNITS = {
    "temperature_2m_max": "°C",
    "temperature_2m_min": "°C",
    "precipitation_sum": "mm",
    "wind_speed_10m_max": "km/h",
}
MOST_DAYS = 16
_USUAL_DAYS = 7


_PORT = 18081
_START_TIMEOUT = 60


class Weather:
    """The stand-in as a service in the background.

    Args:
        paths: The sandbox.
    """

    def __init__(self, paths: SandboxPaths) -> None:
        self._paths = paths
        self._service = Service("open_meteo", paths)
        self._port_file = paths.root / "open_meteo.port"

    @property
    def url(self) -> str:
        """Its URL, without a slash at its end.

        Raises:
            SandboxError: it was never started here.
        """
        try:
            return f"http://{LOOPBACK}:{int(self._port_file.read_text())}"
        except (FileNotFoundError, ValueError):
            raise SandboxError("Open-Meteo's stand-in does not run. Start it.") from None

    @property
    def is_used(self) -> bool:
        """Whether it was ever started in this sandbox."""
        return self._port_file.exists()

    @property
    def status(self) -> str:
        """Whether and where it runs, in one line for a person."""
        if not self.is_running():
            return "stopped"
        return f"running on {self.url}, pid {self._service.pid}"

    def is_running(self) -> bool:
        """Whether its process is alive."""
        return self._service.is_running()

    def start(self) -> None:
        """Start it and wait until it answers; does nothing when it runs already.

        Raises:
            SandboxError: it does not come up; carries the end of its log.
        """
        if self.is_running():
            return
        self._paths.create()
        port = free_port(_PORT)
        self._port_file.write_text(str(port))
        try:
            self._service.start([sys.executable, "-m", "millrace_sandbox.weather", str(port)])
            self._service.wait_until(lambda: _listens(port), _START_TIMEOUT, "answered")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it; does nothing when it does not run."""
        self._service.stop()

    def forget(self) -> None:
        """Stop it, as if it had never been started."""
        self.stop()
        self._port_file.unlink(missing_ok=True)


class WeatherServer(ScriptedServer):
    """Answers as Open-Meteo does.

    Args:
        today: The day on which forecasts are made.
        port: Where it listens; 0: any free port.
    """

    def __init__(self, today: Callable[[], date] | None = None, port: int = 0) -> None:
        super().__init__(self._answer, port)
        self.today = today or _today

    def _answer(self, asked: Asked) -> Reply:
        if asked.path != PATH:
            return _refused("Not Found", 404)
        try:
            return Reply(self._forecast(asked.params))
        except ValueError as problem:
            return _refused(str(problem), 400)

    def _forecast(self, params: Mapping[str, str]) -> dict[str, Any]:
        latitude = _number(params, "latitude", 90)
        longitude = _number(params, "longitude", 180)
        names = [name for name in params.get("daily", "").split(",") if name]
        for name in names:
            if name not in UNITS:
                raise ValueError(f"Data corrupted at path 'daily'. Cannot initialize '{name}'.")
        days = _days(params, self.today())
        place = _Place(latitude, longitude)
        weather = [place.forecast(day, self.today()) for day in days]
        return {
            "latitude": latitude,
            "longitude": longitude,
            "generationtime_ms": 0.1,
            "utc_offset_seconds": 0,
            "timezone": "GMT",
            "timezone_abbreviation": "GMT",
            "elevation": 38.0,
            "daily_units": {"time": "iso8601", **{name: UNITS[name] for name in names}},
            "daily": {
                "time": [str(day) for day in days],
                **{name: [of_day[name] for of_day in weather] for name in names},
            },
        }


@dataclass(frozen=True)
class _Place:
    latitude: float
    longitude: float

    def forecast(self, day: date, made_on: date) -> dict[str, float]:
        """The weather of a day, as it is forecast on another."""
        lead = max(0, (day - made_on).days)
        return self._weather(day, random.Random(f"{self} {day} {made_on}"), error=0.6 * lead)  # noqa: S311

    def _weather(self, day: date, guess: random.Random, error: float) -> dict[str, float]:
        chance = random.Random(f"{self} {day}")  # noqa: S311
        season = math.cos((day.timetuple().tm_yday - 200) / 365.25 * math.tau)
        warmth = 28 - abs(self.latitude) * 0.35
        swing = season * (12 if self.latitude >= 0 else -12)
        high = warmth + swing + chance.gauss(0, 3) + guess.gauss(0, error)
        rain = chance.gauss(-1, 4) + guess.gauss(0, error)
        return {
            "temperature_2m_max": round(high, 1),
            "temperature_2m_min": round(high - 4 - chance.random() * 6, 1),
            "precipitation_sum": round(max(0.0, rain), 2),
            "wind_speed_10m_max": round(5 + chance.random() * 25 + guess.random() * error, 1),
        }


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def _today() -> date:
    return datetime.now(UTC).date()


def _days(params: Mapping[str, str], today: date) -> list[date]:
    if "start_date" in params:
        first, last = (_date(params, name) for name in ("start_date", "end_date"))
        if last < first or (last - today).days >= MOST_DAYS:
            raise ValueError("Parameter 'end_date' is out of allowed range.")
        return [first + timedelta(days=at) for at in range((last - first).days + 1)]
    count = int(_number(params, "forecast_days", MOST_DAYS, str(_USUAL_DAYS)))
    return [today + timedelta(days=at) for at in range(count)]


def _number(params: Mapping[str, str], name: str, most: float, usual: str = "") -> float:
    try:
        value = float(params.get(name, usual))
    except ValueError:
        raise ValueError(f"Parameter '{name}' must be a number.") from None
    if not -most <= value <= most:
        raise ValueError(f"Parameter '{name}' must be in range of {-most} to {most}.")
    return value


def _date(params: Mapping[str, str], name: str) -> date:
    try:
        return date.fromisoformat(params.get(name, ""))
    except ValueError:
        raise ValueError(f"Parameter '{name}' is no date.") from None


def _refused(reason: str, status: int) -> Reply:
    return Reply({"error": True, "reason": reason}, status)


if __name__ == "__main__":
    server = WeatherServer(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(server.url, flush=True)
    server.serve()
