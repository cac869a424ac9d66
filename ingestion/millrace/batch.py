"""A batch: one table and a half-open interval of its cursor column, and how it is split."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any


@dataclass(frozen=True)
class Interval:
    """A half-open interval ``[start, end)`` in UTC; ``None`` leaves that side open.

    Raises:
        ValueError: a bound without a time zone, or bounds in the wrong order.
    """

    start: datetime | None = None
    end: datetime | None = None

    def __post_init__(self) -> None:
        for bound in (self.start, self.end):
            if bound is not None and bound.tzinfo is None:
                raise ValueError(f"an interval's bounds carry a time zone; {bound} has none")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"an interval ends after it starts; {self.start} ≥ {self.end}")

    def contains(self, other: Interval) -> bool:
        """Whether every moment of the other interval is in this one."""
        starts = self.start is None or (other.start is not None and self.start <= other.start)
        ends = self.end is None or (other.end is not None and other.end <= self.end)
        return starts and ends

    @property
    def slug(self) -> str:
        """The interval as one path component, e.g. ``20261001T000000Z_20261002T000000Z``."""
        if self.start is None and self.end is None:
            return "full"
        start = "beginning" if self.start is None else _slug(self.start)
        end = "now" if self.end is None else _slug(self.end)
        return f"{start}_{end}"

    def __str__(self) -> str:
        if self.start is None and self.end is None:
            return "the whole table"
        start = "the beginning" if self.start is None else _text(self.start)
        end = "now" if self.end is None else _text(self.end)
        return f"{start} to {end}"


WHOLE_TABLE = Interval()


def loaded_until(intervals: Iterable[Interval]) -> datetime | None:
    """The moment up to which the intervals cover everything from the beginning, without a gap.

    Returns:
        None if the beginning itself is missing. The interval of a whole table has no end, so it
        does not count.
    """
    until = None
    for interval in _by_start(intervals):
        if interval.start is not None and (until is None or interval.start > until):
            break
        if interval.end is not None and (until is None or interval.end > until):
            until = interval.end
    return until


def gaps(intervals: Iterable[Interval]) -> list[Interval]:
    """The intervals that are missing between the beginning and the last end, oldest first."""
    missing: list[Interval] = []
    until: datetime | None = None
    for interval in _by_start(intervals):
        if interval.end is None:
            continue
        if interval.start is not None and (until is None or interval.start > until):
            missing.append(Interval(until, interval.start))
        until = interval.end if until is None else max(until, interval.end)
    return missing


def _by_start(intervals: Iterable[Interval]) -> list[Interval]:
    earliest = datetime.min.replace(tzinfo=UTC)
    return sorted(intervals, key=lambda interval: interval.start or earliest)


NAME_LENGTH = 6
"""Characters of a file's fingerprint that all its deliveries share."""

FINGERPRINT_LENGTH = 2 * NAME_LENGTH
"""Characters of a file's fingerprint."""


@dataclass(frozen=True)
class DeliveredFile:
    """A file as somebody has delivered it: written again, it is another one.

    Attributes:
        name: Its name at its source.
        version: What tells it from the same file with other content: S3's ETag.
        size: In bytes.
        delivered_at: When it was written, in UTC.
    """

    name: str
    version: str
    size: int
    delivered_at: datetime

    @property
    def fingerprint(self) -> str:
        """Tells this delivery from all others of its table; it begins with the file's own."""
        delivery = f"{self.name}\0{self.version}\0{self.delivered_at.isoformat()}"
        return f"{_digest(self.name)}{_digest(delivery)}"

    def to_json(self) -> list[Any]:
        """The file as plain JSON."""
        return [self.name, self.version, self.size, self.delivered_at.isoformat()]

    @classmethod
    def from_json(cls, value: list[Any]) -> DeliveredFile:
        """Read what ``to_json`` wrote."""
        name, version, size, delivered_at = value
        return cls(name, version, size, datetime.fromisoformat(delivered_at))


@dataclass(frozen=True)
class Batch:
    """The rows that are extracted, landed and loaded as one unit.

    Attributes:
        table: ``<source>.<table>`` as dbt declares it, e.g. ``mysql.nps``.
        interval: The interval of the table's cursor; ``WHOLE_TABLE`` for a full refresh.
        corrected_at: When loaded rows were found to differ from the source's, in UTC; None: the
            batch is no correction, but holds every row of its interval.
        files: The files whose rows it holds, for a table of files; the interval then says when
            they were looked for.
    """

    table: str
    interval: Interval = WHOLE_TABLE
    corrected_at: datetime | None = None
    files: tuple[DeliveredFile, ...] = ()

    @property
    def id(self) -> str:
        """Names the batch's rows in the raw table and in the ledger."""
        if self.corrected_at is not None:
            return f"correction_{_slug(self.corrected_at)}"
        return self.interval.slug

    def __str__(self) -> str:
        what = "a correction" if self.corrected_at else self.interval
        return f"{self.table}, {what}"

    def to_json(self) -> dict[str, Any]:
        """The batch as plain JSON: what Airflow's tasks hand each other."""
        start, end = self.interval.start, self.interval.end
        value: dict[str, Any] = {
            "table": self.table,
            "start": start.isoformat() if start else None,
            "end": end.isoformat() if end else None,
        }
        if self.corrected_at:
            value["corrected_at"] = self.corrected_at.isoformat()
        if self.files:
            value["files"] = [file.to_json() for file in self.files]
        return value

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Batch:
        """Read what ``to_json`` wrote."""
        return cls(
            table=str(value["table"]),
            interval=Interval(parse_time(value["start"]), parse_time(value["end"])),
            corrected_at=parse_time(value.get("corrected_at")),
            files=tuple(map(DeliveredFile.from_json, value.get("files", ()))),
        )


@dataclass(frozen=True)
class KeyRange:
    """The rows whose primary key lies in ``(after, through]``; ``None`` leaves that side open.

    Attributes:
        after: Values of the key's leading columns, in the source's own text.
        through: Likewise.
    """

    after: tuple[str, ...] | None = None
    through: tuple[str, ...] | None = None

    def __str__(self) -> str:
        after = "the first" if self.after is None else f"after {', '.join(self.after)}"
        through = "the last" if self.through is None else ", ".join(self.through)
        return f"keys from {after} to {through}"


EVERY_KEY = KeyRange()


@dataclass(frozen=True)
class Partition:
    """The part of a batch that one worker extracts.

    Attributes:
        batch: The batch that it is a part of.
        ranges: The keys that it reads, each on a connection of its own, as of one moment.
        attempt: The landing's prefix that all partitions of the batch share; None if there is
            only this partition.
    """

    batch: Batch
    ranges: tuple[KeyRange, ...] = (EVERY_KEY,)
    attempt: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The partition as plain JSON: what Airflow's tasks hand each other."""
        return {
            "batch": self.batch.to_json(),
            "ranges": [[key_range.after, key_range.through] for key_range in self.ranges],
            "attempt": self.attempt,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Partition:
        """Read what ``to_json`` wrote."""
        ranges = ((after and tuple(after), upto and tuple(upto)) for after, upto in value["ranges"])
        return cls(
            batch=Batch.from_json(value["batch"]),
            ranges=tuple(KeyRange(after, through) for after, through in ranges),
            attempt=value["attempt"],
        )


def _digest(text: str) -> str:
    return urlsafe_b64encode(blake2b(text.encode()).digest())[:NAME_LENGTH].decode()


def parse_time(text: str | None) -> datetime | None:
    """Parse ISO 8601 as an aware UTC time; a time without a zone is UTC.

    Raises:
        ValueError: not ISO 8601.
    """
    if text is None:
        return None
    value = datetime.fromisoformat(text)
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _slug(time: datetime) -> str:
    form = "%Y%m%dT%H%M%S.%fZ" if time.microsecond else "%Y%m%dT%H%M%SZ"
    return time.astimezone(UTC).strftime(form)


def _text(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
