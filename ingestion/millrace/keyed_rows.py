"""What both sides of a comparison by key can do."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from millrace.batch import KeyRange

if TYPE_CHECKING:
    from millrace.checksums.digests import Fingerprints, KeyedDigest


class KeyedRows(Protocol):
    """One side of a comparison: a source's rows, or those that are loaded."""

    def fingerprints(self) -> Fingerprints:
        """The fingerprints of the rows in scope, by bucket."""

    def keyed(self, buckets: Collection[int] | None) -> Iterator[KeyedDigest]:
        """The rows of some buckets, or of all; a row that is there twice comes twice."""

    def blocks(self, piece: KeyRange) -> Mapping[int, int]:
        """The keys of a piece, which are whole numbers, as the bits of each block."""
