"""What was tried, one line each, and the table of it: ``python -m tests.faults.record FILE``."""

from __future__ import annotations

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.interruption import Interruption
    from tests.faults.world import World


def keep(file: Path, world: World, interruption: Interruption, ended: str) -> None:
    """Add an interruption to the record."""
    line = {
        "warehouse": world.warehouse,
        "stage": interruption.stage,
        "fault": interruption.fault,
        "at": interruption.label(world),
        "ended": ended,
    }
    with file.open("a") as record:
        record.write(json.dumps(line) + "\n")


def table(lines: Iterable[str]) -> str:
    """Markdown: one row per stage and fault, with how often it was tried and how it ended."""
    tried: Mapping[tuple[str, str], Counter[str]] = defaultdict(Counter)
    places: Mapping[tuple[str, str], set[str]] = defaultdict(set)
    for line in lines:
        run = json.loads(line)
        key = run["stage"], run["fault"]
        tried[key][run["ended"]] += 1
        places[key].add(run["at"])
    rows = ["| stage | fault | tried | at how many places | ended |", "|---|---|---|---|---|"]
    for (stage, fault), ends in sorted(tried.items()):
        ended = ", ".join(f"{end} {count:,}" for end, count in ends.most_common())
        places_hit = len(places[stage, fault])
        rows.append(f"| {stage} | {fault} | {ends.total():,} | {places_hit} | {ended} |")
    return "\n".join(rows)


if __name__ == "__main__":
    with Path(sys.argv[1]).open() as record:
        sys.stdout.write(table(record) + "\n")
