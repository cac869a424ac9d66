"""The rows of a source that computes nothing by itself, or of columns that only Millrace hashes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

import pyarrow as pa

from millrace.batch import KeyRange
from millrace.checksums.digests import (
    Compared,
    Fingerprint,
    KeyedDigest,
    bucket_of,
    in_block,
    of_rows,
)

Read = Callable[[], AbstractContextManager[Iterable[pa.RecordBatch]]]
"""Reads the rows as they are landed, once more for each call."""


class ReadRows:
    """Rows that are read to be compared; see ``checksums.digests.KeyedRows``.

    Args:
        read: Reads them.
        compared: Which columns are compared.
    """

    def __init__(self, read: Read, compared: Compared) -> None:
        self._read = read
        self._compared = compared

    def fingerprints(self) -> dict[int, Fingerprint]:
        """The fingerprints of the rows, by bucket."""
        found: dict[int, Fingerprint] = {}
        for row in self.keyed(None):
            bucket = bucket_of(row.key, self._compared)
            found[bucket] = found.get(bucket, Fingerprint()) + Fingerprint(1, row.digest)
        return found

    def keyed(self, buckets: Collection[int] | None) -> Iterator[KeyedDigest]:
        """The rows of some buckets, or of all."""
        chosen = None if buckets is None else frozenset(buckets)
        with self._read() as batches:
            for batch in batches:
                for row in of_rows(batch, self._compared):
                    if chosen is None or bucket_of(row.key, self._compared) in chosen:
                        yield row

    def blocks(self, piece: KeyRange) -> Mapping[int, int]:
        """The keys as the bits of each block; the piece is every key."""
        found: dict[int, int] = {}
        for row in self.keyed(None):
            block, bit = in_block(int(row.key[0]))
            found[block] = found.get(block, 0) | bit
        return found
