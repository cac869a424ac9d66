"""Which attempts nobody needs any more, and their removal.

An attempt is judged by three things: whether it was committed, whether the ledger names it, and how
long ago its last object was written. What is not recognised as an attempt is left alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from itertools import chain

from millrace.errors import ManifestCorrupt, ManifestNotFound, SettingError
from millrace.landing.landing import MANIFEST_NAME, Landing
from millrace.landing.objects import Stored, Upload
from millrace.progress import in_bytes

AT_WORK = timedelta(days=2)
"""An attempt or an upload may be being written until its last object is this old.

A part is written every few seconds or minutes, and a task ends within hours; even somebody who
clears the task of a run the day after finds what its other tasks have landed.
"""

OLD = timedelta(days=30)
"""From when on a committed attempt is swept if the ledger does not name it, by default."""

# <source>/<table>/<interval>/<attempt>/…
_ATTEMPT_DEPTH = 4
_ATTEMPT = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")


class Verdict(Enum):
    """What becomes of an attempt, and why."""

    UNCOMMITTED = ("never committed", True)
    UNLOADED = ("committed, not in the ledger", True)
    LOADED = ("in the ledger", True)
    UNFINISHED = ("never committed, may be being written", False)
    NAMED = ("in the ledger", False)
    YOUNG = ("committed, not in the ledger, not old", False)
    FOREIGN = ("landed for another raw table, or by an older version", False)
    LEDGERLESS = ("committed, and the ledger has no batch of the table", False)

    @property
    def reason(self) -> str:
        """Why, in words."""
        return str(self.value[0])

    @property
    def is_swept(self) -> bool:
        """Whether the attempt is removed."""
        return bool(self.value[1])


@dataclass(frozen=True)
class Attempt:
    """What one attempt at a batch has left.

    Attributes:
        table: ``<source>.<table>``.
        path: Its path below the landing.
        objects: Its objects, at least one.
    """

    table: str
    path: str
    objects: tuple[Stored, ...]

    @property
    def is_committed(self) -> bool:
        """Whether its manifest was written."""
        return any(found.path == f"{self.path}/{MANIFEST_NAME}" for found in self.objects)

    @property
    def size(self) -> int:
        """Bytes over all objects."""
        return sum(found.size for found in self.objects)

    @property
    def changed_at(self) -> datetime:
        """When the last of its objects was written, in UTC."""
        return max(found.changed_at for found in self.objects)


@dataclass(frozen=True)
class Loaded:
    """What this environment has loaded of a table.

    Attributes:
        raw_table: As in the manifests of its attempts.
        paths: The attempts in its ledger.
    """

    raw_table: str
    paths: frozenset[str]

    @classmethod
    def of(cls, raw_table: str, manifest_urls: Iterable[str]) -> Loaded:
        """From the ledger's URLs, whose beginning does not count: the landing may have moved."""
        names = (url.split("/")[-_ATTEMPT_DEPTH - 1 : -1] for url in manifest_urls)
        return cls(raw_table, frozenset(map("/".join, names)))


@dataclass(frozen=True)
class Judged:
    """An attempt with its verdict."""

    attempt: Attempt
    verdict: Verdict


@dataclass(frozen=True)
class Sweep:
    """What a sweep would do, or has done.

    Attributes:
        judged: Every attempt of the declared tables.
        uploads: The unfinished uploads that are aborted.
    """

    judged: tuple[Judged, ...]
    uploads: tuple[Upload, ...]

    @property
    def swept(self) -> list[Attempt]:
        """The attempts that are removed."""
        return [one.attempt for one in self.judged if one.verdict.is_swept]

    def __str__(self) -> str:
        size = in_bytes(sum(attempt.size for attempt in self.swept))
        return f"attempts: {len(self.swept)} ({size}); unfinished uploads: {len(self.uploads)}"


@dataclass(frozen=True)
class Rules:
    """When an attempt is swept.

    Attributes:
        now: The time, in UTC.
        older_than: From which age on a committed attempt is.
        loaded: Whether that goes for attempts in the ledger, too: they are read again only to
            repair a raw table, which can be done from the source.

    Raises:
        SettingError: ``older_than`` is so short that it may be an attempt at work.
    """

    now: datetime
    older_than: timedelta = OLD
    loaded: bool = False

    def __post_init__(self) -> None:
        if self.older_than < AT_WORK:
            raise SettingError(
                f"Attempts cannot be swept when they are younger than {AT_WORK.days} days: they "
                "may be being written or loaded.",
                fix=f"Name an age of {AT_WORK.days} days or more.",
            )


def attempts_of(landing: Landing, table: str) -> list[Attempt]:
    """The attempts at batches of a table (``<source>.<table>``), in the order of their paths."""
    found: dict[str, list[Stored]] = defaultdict(list)
    for stored in landing.objects.below(_folder(table)):
        names = stored.path.split("/")
        if len(names) > _ATTEMPT_DEPTH and _ATTEMPT.fullmatch(names[_ATTEMPT_DEPTH - 1]):
            found["/".join(names[:_ATTEMPT_DEPTH])].append(stored)
    return [Attempt(table, path, tuple(found[path])) for path in sorted(found)]


def left_uploads(landing: Landing, table: str, now: datetime) -> list[Upload]:
    """The uploads of a table that nobody continues."""
    uploads = landing.objects.uploads(_folder(table))
    return [upload for upload in uploads if upload.began_at < now - AT_WORK]


def plan(
    landing: Landing,
    tables: Sequence[str],
    loaded: Callable[[], Mapping[str, Loaded]],
    rules: Rules,
) -> Sweep:
    """Find what nobody needs any more; nothing is changed.

    Args:
        landing: The landing.
        tables: The tables to look at (``<source>.<table>``).
        loaded: Says what is loaded of each. Called when the landing has been listed, so that what
            is loaded in between is known.
        rules: When an attempt is swept.

    Raises:
        LandingError: the landing cannot be listed.
    """
    attempts = [attempt for table in tables for attempt in attempts_of(landing, table)]
    known = loaded()
    judged = (
        Judged(attempt, _verdict(landing, attempt, known[attempt.table], rules))
        for attempt in attempts
    )
    uploads = (left_uploads(landing, table, rules.now) for table in tables)
    return Sweep(tuple(judged), tuple(chain.from_iterable(uploads)))


def summary(sweep: Sweep) -> list[tuple[str, ...]]:
    """A line for each table and verdict.

    Returns:
        Table, number of attempts, of files, their size, when the last of them was written, whether
        they are swept, and why.
    """
    groups: dict[tuple[str, Verdict], list[Attempt]] = defaultdict(list)
    for one in sweep.judged:
        groups[one.attempt.table, one.verdict].append(one.attempt)
    return [
        (
            table,
            f"{len(attempts):,}",
            f"{sum(len(attempt.objects) for attempt in attempts):,}",
            in_bytes(sum(attempt.size for attempt in attempts)),
            f"{max(attempt.changed_at for attempt in attempts):%Y-%m-%d %H:%M}",
            "yes" if verdict.is_swept else "no",
            verdict.reason,
        )
        for (table, verdict), attempts in groups.items()
    ]


def carry_out(landing: Landing, sweep: Sweep) -> None:
    """Remove what a sweep has found.

    The manifests of an attempt go first. So whoever loads it meanwhile is told that it was never
    committed, and if this is interrupted, the next sweep removes the rest.

    Raises:
        LandingError: the landing fails, or the account may not delete or abort.
    """
    for attempt in sweep.swept:
        paths = [found.path for found in attempt.objects]
        manifests = [path for path in paths if path.endswith(f"/{MANIFEST_NAME}")]
        for some in (manifests, [path for path in paths if path not in manifests]):
            if some:
                landing.objects.delete(some)
    landing.objects.abort(sweep.uploads)


def _verdict(landing: Landing, attempt: Attempt, loaded: Loaded, rules: Rules) -> Verdict:
    age = rules.now - attempt.changed_at
    if attempt.path in loaded.paths:
        return Verdict.LOADED if rules.loaded and age > rules.older_than else Verdict.NAMED
    if not attempt.is_committed:
        return Verdict.UNCOMMITTED if age > AT_WORK else Verdict.UNFINISHED
    if age <= rules.older_than:
        return Verdict.YOUNG
    # An empty ledger is more likely the wrong warehouse than a table of which nothing was loaded.
    if not loaded.paths:
        return Verdict.LEDGERLESS
    is_ours = _raw_table(landing, attempt) == loaded.raw_table
    return Verdict.UNLOADED if is_ours else Verdict.FOREIGN


def _raw_table(landing: Landing, attempt: Attempt) -> str | None:
    """The raw table that an attempt was landed for; None: it does not say."""
    try:
        return landing.read_manifest(f"{landing.url}/{attempt.path}/{MANIFEST_NAME}").raw_table
    except (ManifestCorrupt, ManifestNotFound):
        return None


def _folder(table: str) -> str:
    return table.replace(".", "/", 1)
