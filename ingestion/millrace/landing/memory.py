"""What a process that extracts does about its memory; whoever starts one calls it."""

from __future__ import annotations

import pyarrow as pa


def keep_no_freed_memory() -> None:
    """Let Arrow give back what it frees: its own pool keeps it, a seventh of all memory here."""
    pa.set_memory_pool(pa.system_memory_pool())
