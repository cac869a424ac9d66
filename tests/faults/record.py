"""What was tried, one line each, and the table of it: ``python -m tests.faults.record FILE …``."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.faults.interruption import BY_THE_CLOCK, NOT_REACHED, point, points_to_strike

if TYPE_CHECKING:
    from tests.faults.interruption import Interruption
    from tests.faults.world import World

NOT_MADE_GOOD = "not made good"
POINTS = {
    "mysql": "MySQL",
    "landing": "landing",
    "warehouse": "warehouse",
    "commit": "its COMMIT",
    "dbt": "dbt",
    "sheets": "Google",
    "clock": "any time",
}
"""What is reached at a passage, and how the table calls it."""

_ENDS = {
    "done": "well",
    "refused": "in an error",
    "failed": "in an error",
    "interrupted": "by it",
    "ended": "by it",
    NOT_MADE_GOOD: NOT_MADE_GOOD.upper(),
}


@dataclass(frozen=True)
class Line:
    """One interruption.

    Attributes:
        world: The world's kind.
        stage: The stage.
        fault: The fault's name.
        at: Before or after which passage.
        ended: How the interrupted stage ended; ``not made good``: see ``said``.
        seed: Of a drawn one.
        said: What was wrong.
    """

    world: str
    stage: str
    fault: str
    at: str
    ended: str
    seed: int = 0
    said: str = ""

    @classmethod
    def of(cls, world: World, interruption: Interruption, ended: str, said: str = "") -> Self:
        """The line of an interruption."""
        at = interruption.label(world)
        where = (world.kind, interruption.stage, interruption.fault, at)
        return cls(*where, ended, interruption.seed, said)

    @property
    def point(self) -> str:
        """What it struck; a key of ``POINTS``."""
        return "clock" if self.at == BY_THE_CLOCK else point(self.at.partition(" ")[2])

    @property
    def end(self) -> str:
        """How it ended, in the table's words."""
        return _ENDS[self.ended.partition(":")[0]]


def keep(file: Path, line: Line) -> None:
    """Add a line to the record."""
    with file.open("a") as record:
        record.write(json.dumps(asdict(line)) + "\n")


def keep_points(file: Path, world: World) -> None:
    """Add to the record which fault can strike where, so that the table can name the gaps."""
    with file.open("a") as record:
        record.write(json.dumps({"can strike": sorted(points_to_strike(world))}) + "\n")


def page(record: Iterable[str]) -> str:
    """What was tried, in Markdown: how often each fault struck at each point."""
    read = [json.loads(text) for text in record]
    lines = [Line(**found) for found in read if "can strike" not in found]
    lines = [line for line in lines if line.ended != NOT_REACHED]
    possible = {(fault, at) for found in read for fault, at in found.get("can strike", ())}
    said = [
        f"{len(lines):,} interruptions: {_counted(line.world for line in lines)}.",
        f"By stage: {_counted(line.stage for line in lines)}.",
        f"Not made good by a retry: {sum(line.ended == NOT_MADE_GOOD for line in lines):,}.",
    ]
    header = ["fault", *POINTS.values(), "the stage ended"]
    rows = [header, ["---"] * len(header), *_rows(lines, possible)]
    return "\n".join([*said, "", *(f"| {' | '.join(row)} |" for row in rows)])


def _rows(lines: list[Line], possible: set[tuple[str, str]]) -> list[list[str]]:
    struck = Counter((line.fault, line.point) for line in lines)

    def cell(fault: str, at: str) -> str:
        if struck[fault, at]:
            return f"{struck[fault, at]:,}"
        return "gap" if (fault, at) in possible else "–"

    ends: Mapping[str, Counter[str]] = {
        fault: Counter(line.end for line in lines if line.fault == fault)
        for fault in sorted({line.fault for line in lines}, key=str.lower)
    }
    return [
        [fault, *(cell(fault, at) for at in POINTS), _most_common(ended)]
        for fault, ended in ends.items()
    ]


def _counted(values: Iterable[str]) -> str:
    return _most_common(Counter(values))


def _most_common(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


if __name__ == "__main__":
    texts = [text for name in sys.argv[1:] for text in Path(name).read_text().splitlines()]
    sys.stdout.write(page(texts) + "\n")
