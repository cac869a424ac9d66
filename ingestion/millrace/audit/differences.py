"""Finds the rows that differ between a source and a raw table.

Both sides compute a fingerprint of each bucket of keys. Only of the buckets that differ are the
keys themselves moved, with a digest of each row. Keys that are whole numbers need neither: which of
32 numbers in a row are there are the bits of one number, so hardly a byte is moved for a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from millrace.checksums.digests import (
    Compared,
    Fingerprints,
    Key,
    KeyedDigest,
    differing_buckets,
    keys_of_block,
)
from millrace.errors import TooManyDifferences
from millrace.keyed_rows import KeyedRows
from millrace.sources.base import SourceRows

# So few rows are compared one by one at once.
_FEW_ROWS = 50_000
# About so many rows of differing buckets are in memory at a time, on each side.
_ROWS_AT_A_TIME = 200_000
MAX_DIFFERENCES = 100_000


@dataclass
class Differences:
    """The keys of the rows that differ.

    Attributes:
        missing: The source has them, the raw table does not.
        vanished: The raw table has them, the source does not.
        changed: Both have them, with other values.
        doubled: The raw table has them more than once.
    """

    missing: list[Key] = field(default_factory=list)
    vanished: list[Key] = field(default_factory=list)
    changed: list[Key] = field(default_factory=list)
    doubled: list[Key] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(len(keys) for keys in self.by_kind.values())

    @property
    def by_kind(self) -> Mapping[str, list[Key]]:
        """The keys, by what is the matter with them."""
        return {
            "missing": self.missing,
            "vanished": self.vanished,
            "changed": self.changed,
            "doubled": self.doubled,
        }


def differing_rows(
    source: KeyedRows, loaded: KeyedRows, expected_rows: int, table: str
) -> Differences:
    """Compare all rows by value.

    Args:
        source: The source's rows.
        loaded: The raw table's.
        expected_rows: About how many there are.
        table: What is compared, for messages.

    Raises:
        TooManyDifferences: more rows differ than could be mended one by one.
    """
    found = Differences()
    for buckets in _buckets(source, loaded, expected_rows):
        _compare(source.keyed(buckets), loaded.keyed(buckets), found)
        if found.count > MAX_DIFFERENCES:
            raise TooManyDifferences(
                f"{table}: more than {MAX_DIFFERENCES:,} rows differ from their source.",
                fix=f"Read the whole table again: `millrace reload {table}`.",
            )
    return found


def differing_keys(
    source: SourceRows, loaded: KeyedRows, compared: Compared, expected_rows: int, table: str
) -> Differences:
    """Compare only which keys are there; a key that is missing may be one that is not loaded yet.

    Args:
        source: The source's rows.
        loaded: The raw table's.
        compared: The key.
        expected_rows: About how many rows there are.
        table: What is compared, for messages.

    Raises:
        As ``differing_rows``.
    """
    if compared.whole_key is None:
        return differing_rows(source, loaded, expected_rows, table)
    found = Differences()
    for piece in source.pieces:
        ours, theirs = loaded.blocks(piece), source.blocks(piece)
        for block in ours.keys() | theirs.keys():
            here, there = ours.get(block, 0), theirs.get(block, 0)
            found.vanished.extend(keys_of_block(block, here & ~there))
            found.missing.extend(keys_of_block(block, there & ~here))
    return found


def _buckets(
    source: KeyedRows, loaded: KeyedRows, expected_rows: int
) -> Iterator[Sequence[int] | None]:
    """The buckets to look into, some at a time; None: all of them at once."""
    if expected_rows <= _FEW_ROWS:
        yield None
        return
    theirs, ours = source.fingerprints(), loaded.fingerprints()
    yield from _some_at_a_time(differing_buckets(theirs, ours), theirs, ours)


def _some_at_a_time(
    buckets: Iterable[int], theirs: Fingerprints, ours: Fingerprints
) -> Iterator[list[int]]:
    some: list[int] = []
    rows = 0
    for bucket in buckets:
        some.append(bucket)
        rows += max(side[bucket].rows for side in (theirs, ours) if bucket in side)
        if rows >= _ROWS_AT_A_TIME:
            yield some
            some, rows = [], 0
    if some:
        yield some


def _compare(
    source: Iterable[KeyedDigest], loaded: Iterable[KeyedDigest], found: Differences
) -> None:
    there, here = _Side(source), _Side(loaded)
    for key, row in there.rows.items():
        if not row.is_in_scope:
            # It was edited since: the next batch brings it.
            continue
        if here.times[key] < there.times[key]:
            found.missing.append(key)
        elif here.rows[key].digest != row.digest:
            found.changed.append(key)
    found.vanished.extend(here.rows.keys() - there.rows.keys())
    found.doubled.extend(key for key in here.rows if here.times[key] > there.times[key] > 0)


class _Side:
    """Rows by their keys, and how often each is there: without a primary key, rows may be alike."""

    def __init__(self, rows: Iterable[KeyedDigest]) -> None:
        self.rows: dict[Key, KeyedDigest] = {}
        self.times: Counter[Key] = Counter()
        for row in rows:
            self.rows[row.key] = row
            self.times[row.key] += 1
