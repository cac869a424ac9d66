"""Texts with places for the times of an interval: ``{start}``, ``{end:%Y-%m-%d}``, ``{city}``.

Only names in braces are such places, so a parameter may hold JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from millrace.errors import DeclarationError

OF_INTERVAL = ("start", "end", "last")
"""Names that only a table with a cursor has."""

MOMENTS = (*OF_INTERVAL, "now")

_TICK = timedelta(microseconds=1)
_PLACE = re.compile(
    r"\{(?P<name>[A-Za-z_]\w*)(?P<shift>[+-]\d{1,5}[smhd])?(?::(?P<form>[^{}]*))?\}"
)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True)
class Values:
    """What the places of a text stand for.

    Attributes:
        now: When the extraction began, in UTC.
        start: The interval's start, in UTC; None: the table has no interval.
        end: Its end, in UTC.
        zone: In which times are written.
        others: Other values by name.
    """

    now: datetime
    start: datetime | None = None
    end: datetime | None = None
    zone: tzinfo = UTC
    others: Mapping[str, str] = field(default_factory=dict)

    def render(self, text: str) -> str:
        """A text with its places filled in.

        Raises:
            DeclarationError: it has a place that stands for nothing here, or for a time beyond the
                years 1 to 9999.
        """
        return _PLACE.sub(self._fill, text)

    def _fill(self, place: re.Match[str]) -> str:
        name = place["name"]
        if name in self.others:
            return self.others[name]
        # The last moment of a half-open interval lies before its end.
        last = self.end - _TICK if self.end else None
        moments = {"start": self.start, "end": self.end, "last": last, "now": self.now}
        moment = moments.get(name)
        if moment is None:
            raise _wrong(place, "stands for nothing here")
        try:
            shifted = moment + _shift(place["shift"])
        except OverflowError:
            raise _wrong(place, "lies beyond the years 1 to 9999") from None
        return _written(shifted, place["form"] or "", self.zone)


def _wrong(place: re.Match[str], problem: str) -> DeclarationError:
    return DeclarationError(
        f"{place[0]} {problem}.", fix="Correct it in the declaration, or ingest another interval."
    )


def problems(text: str, others: frozenset[str]) -> Iterator[str]:
    """What is wrong with the places of a text.

    Args:
        text: The text.
        others: The names that it may use besides the moments.
    """
    for place in _PLACE.finditer(text):
        if place["name"] not in MOMENTS and place["name"] not in others:
            known = ", ".join(f"{{{name}}}" for name in (*MOMENTS, *sorted(others)))
            yield f"{place[0]} stands for nothing; there are {known}"
        elif place["name"] in others and (place["shift"] or place["form"]):
            yield f"{place[0]}: only times have a format"


def names(text: str) -> set[str]:
    """The names of a text's places."""
    return {place["name"] for place in _PLACE.finditer(text)}


def _shift(text: str | None) -> timedelta:
    return timedelta(**{_UNITS[text[-1]]: int(text[:-1])}) if text else timedelta()


def _written(moment: datetime, form: str, zone: tzinfo) -> str:
    if form == "unix":
        return str(int(moment.timestamp()))
    if form == "unix_ms":
        return str(int(moment.timestamp()) * 1000 + moment.microsecond // 1000)
    local = moment.astimezone(zone)
    if form:
        return local.strftime(form)
    return local.isoformat().replace("+00:00", "Z")
