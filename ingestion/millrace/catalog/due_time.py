"""A time of day by which something is promised."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

_WRITTEN = re.compile(r"(\d{1,2}):(\d{2})(?:\s+(\S+))?")
_DAY = timedelta(days=1)


class DueTime(BaseModel):
    """A time of every day, written ``07:00`` or ``07:00 Europe/Berlin``.

    Attributes:
        at: The time of day.
        time_zone: IANA name of the zone that it is meant in. Default: UTC.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    at: time
    time_zone: str = "UTC"

    @model_validator(mode="before")
    @classmethod
    def _is_written_as_text(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 24 * 60:
            # YAML reads 10:30 without quotation marks as a number to the base of 60.
            value = f"{value // 60}:{value % 60:02d}"
        written = _WRITTEN.fullmatch(value.strip()) if isinstance(value, str) else None
        if written is None or int(written[1]) > 23 or int(written[2]) > 59:
            raise ValueError("not a time of day such as '07:00' or '07:00 Europe/Berlin'")
        return {"at": time(int(written[1]), int(written[2])), "time_zone": written[3] or "UTC"}

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            raise ValueError("not a time zone such as America/New_York or UTC") from None
        return value

    def last(self, now: datetime) -> datetime:
        """The last such moment that is not after another, in UTC."""
        today = self._on(now)
        return today if today <= now else self._on(now - _DAY)

    def next(self, now: datetime) -> datetime:
        """The first such moment that is after another, in UTC."""
        today = self._on(now)
        return today if today > now else self._on(now + _DAY)

    def _on(self, day: datetime) -> datetime:
        zone = ZoneInfo(self.time_zone)
        return datetime.combine(day.astimezone(zone).date(), self.at, zone).astimezone(UTC)

    def __str__(self) -> str:
        """As it is written."""
        return f"{self.at:%H:%M} {self.time_zone}"
