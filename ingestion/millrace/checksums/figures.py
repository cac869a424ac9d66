"""What a source itself says of the rows that are read from it."""

from __future__ import annotations

from threading import Lock

from millrace.checksums.columns import Checksums, Total, together
from millrace.checksums.totals import crc32_total


class SourceFigures:
    """The number of rows and the checksums of their columns, as the source computes them.

    A source that is read in pieces adds those of each piece, so they are complete once all rows
    have been read. Several threads may add at the same time.

    Args:
        is_counted: Whether the source counts the rows.
        is_compared: Whether it computes the checksums of their columns.
        total: Which checksum it computes; default: CRC-32, as in manifests.
    """

    def __init__(
        self,
        *,
        is_counted: bool = False,
        is_compared: bool = False,
        total: Total = crc32_total,
    ) -> None:
        self.is_counted = is_counted
        self.is_compared = is_compared
        self.total = total
        self._lock = Lock()
        self._rows = 0
        self._checksums: Checksums | None = None

    @property
    def rows(self) -> int | None:
        """How many rows there are so far; None: they are not counted."""
        return self._rows if self.is_counted else None

    @property
    def checksums(self) -> Checksums | None:
        """Those of the columns so far; None: there are none."""
        return self._checksums

    def add(self, rows: int, checksums: Checksums | None = None) -> None:
        """Add what the source says of some more rows."""
        with self._lock:
            self._rows += rows
            if checksums is not None:
                before = self._checksums
                self._checksums = together([before, checksums]) if before else checksums
