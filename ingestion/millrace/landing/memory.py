"""The memory settings of a process that extracts; its entry point applies them."""

from __future__ import annotations

import pyarrow as pa


def keep_no_freed_memory() -> None:
    """Let Arrow return freed memory: its own pool would keep it, a seventh of all memory here."""
    pa.set_memory_pool(pa.system_memory_pool())
