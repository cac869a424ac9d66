"""How large the pieces are that a table is read in: each takes about a second."""

from __future__ import annotations

from millrace.sources.limits import Limits

PIECE_BYTES = 16 * 1024 * 1024
"""The size of a piece that is kept in memory until it is landed."""

# Long enough to make what a piece costs besides its rows small, and short enough to harm nobody.
_SECONDS = 1.0
# How far below the limit of a statement a piece is meant to stay.
_SHARE_OF_LIMIT = 0.4
_GROWTH = 4
_FEWEST_ROWS = 100


class Pace:
    """How many rows a piece should have.

    Args:
        rows: Of the first piece.
        limits: What the table declares.
    """

    def __init__(self, rows: int, limits: Limits) -> None:
        self.rows = max(rows, _FEWEST_ROWS)
        self._seconds = min(_SECONDS, _SHARE_OF_LIMIT * limits.statement_seconds)

    def learn(self, rows: int, seconds: float, size: int) -> None:
        """Learn from a piece.

        Args:
            rows: About how many rows it had.
            seconds: How long it took.
            size: How large what was read of it is, in bytes; 0 if that does not matter.
        """
        if rows < self.rows // _GROWTH and seconds < self._seconds:
            # The end of a range: it says little.
            return
        by_time = rows * self._seconds / max(seconds, 1e-6)
        by_size = rows * PIECE_BYTES / max(size, 1)
        self.rows = max(_FEWEST_ROWS, int(min(by_time, by_size, rows * _GROWTH)))

    def slow_down(self, rows: int) -> None:
        """Ask for half the rows, because so many were too many."""
        self.rows = max(1, rows // 2)
