"""How far a long piece of work has come, in words."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int, int | None], None]
"""Called with the rows and bytes landed so far, and an estimate of all rows if there is one."""


def describe(rows: int, size: int, expected_rows: int | None, seconds: float) -> str:
    """A line for a terminal or a log.

    Args:
        rows: Done so far.
        size: Bytes done so far.
        expected_rows: About how many rows there are, where that is known.
        seconds: Taken so far.

    Returns:
        For example ``1,200,000 rows, 800,000 rows/s, 24.1 MB, about 4 s left``.
    """
    rate = rows / seconds if seconds > 0 else 0
    said = [f"{rows:,} rows", f"{rate:,.0f} rows/s", in_bytes(size)]
    # An estimate that was exceeded says nothing more.
    if rate and expected_rows and expected_rows > rows:
        said.append(f"about {in_time((expected_rows - rows) / rate)} left")
    return ", ".join(said)


def in_bytes(size: float) -> str:
    """A size for a person, e.g. ``24.1 MB``."""
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def in_time(seconds: float) -> str:
    """A duration for a person, e.g. ``2 min 5 s``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
