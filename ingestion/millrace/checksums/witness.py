"""Sees what is read and what is landed, and compares it with what the source says."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pyarrow as pa

from millrace.checksums.columns import Checksums, Tally, differing, together
from millrace.checksums.figures import SourceFigures
from millrace.checksums.totals import crc32_total
from millrace.errors import ValuesDiffer


class Witness:
    """Of one extraction; without the source's checksums it lets everything pass unseen.

    Args:
        table: What is read, for messages.
        source: What the source computes by itself of the rows that are read.
        schema: Of what is read.
        protected: The columns that are landed with other values than they are read.
    """

    def __init__(
        self, table: str, source: SourceFigures, schema: pa.Schema, protected: Collection[str]
    ) -> None:
        self._table = table
        self._source = source
        self._schema = schema
        self._protected = protected
        self._read: list[Tally] = []
        # In the manifest's own checksum, whatever the source computes.
        self._unprotected: list[Tally] = []
        self._landed: list[Tally] = []

    def reading(self, stream: Iterable[pa.RecordBatch]) -> Iterable[pa.RecordBatch]:
        """See what is read; each stream may be read by a thread of its own."""
        if not self._source.is_compared:
            return stream
        in_manifest = Tally(self._schema)
        self._unprotected.append(in_manifest)
        if self._source.total is crc32_total:
            self._read.append(in_manifest)
            return in_manifest.passing(stream)
        as_source = Tally(self._schema, total=self._source.total)
        self._read.append(as_source)
        return as_source.passing(in_manifest.passing(stream))

    def landing(
        self, stream: Iterable[pa.RecordBatch], schema: pa.Schema
    ) -> Iterable[pa.RecordBatch]:
        """See what is landed of it."""
        if not self._source.is_compared or not self._protected:
            return stream
        tally = Tally(schema, self._protected)
        self._landed.append(tally)
        return tally.passing(stream)

    def refuse_differences(self, beside: Checksums | None = None) -> None:
        """See that what was read is what the source has.

        Args:
            beside: The checksums of what was read and kept away from ``reading``.

        Raises:
            ValuesDiffer: it is not; names the columns.
        """
        if self._source.checksums is None or not self._read:
            return
        seen: list[Checksums] = [tally.checksums for tally in self._read]
        found = together([*seen, beside] if beside else seen)
        if names := differing(self._source.checksums, found):
            raise ValuesDiffer(
                f"{self._table}: what was read differs from what the source computes of the same "
                f"rows, in the columns {', '.join(names)}.",
                fix="Ingest the batch again. If it stays so, something between here and the server "
                "changes values (a proxy, a setting): tell us, or declare `verify: counts`. The "
                "warehouse keeps what it has.",
            )

    def checksums(self) -> Checksums | None:
        """Of what was landed."""
        if not self._read:
            return None
        landed = together([tally.checksums for tally in self._unprotected])
        if self._landed:
            landed |= together([tally.checksums for tally in self._landed])
        return landed
