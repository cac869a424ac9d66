"""Which mutants were tried, how they ended, and what was judged of those that no test noticed."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.mutants.mutants import Mutant

FILE = Path(__file__).with_name("record.csv")

KILLED, TIMED_OUT, SURVIVED, NOT_COVERED = "killed", "timed out", "survived", "not covered"
VERDICTS = (KILLED, TIMED_OUT, SURVIVED, NOT_COVERED)

# What may be judged of a mutant that was not killed. All but the last are no fault of the tests.
EQUIVALENT, TEXT, TUNING, CHECKED, HOLE = "equivalent", "text", "tuning", "checked", "hole"
KINDS = {
    EQUIVALENT: "nothing that can be observed differs",
    TEXT: "only the words of a message or a log line differ",
    TUNING: "only speed, memory, or how long something waits differs",
    CHECKED: "`make check` refuses it: mypy or ruff",
    HOLE: "a test is missing",
}
_NO_FAULTS = (EQUIVALENT, TEXT, TUNING, CHECKED)


@dataclass(frozen=True)
class Entry:
    """One mutant that was tried.

    Attributes:
        room: The room of its module.
        mutant: Its name.
        function: The hash of the mutated function.
        verdict: One of ``VERDICTS``.
        kind: One of ``KINDS``, where somebody judged it.
        why: The reason for that, in a few words.
    """

    room: str
    mutant: str
    function: str
    verdict: str
    kind: str = ""
    why: str = ""

    @property
    def is_killed(self) -> bool:
        """Whether the tests noticed: they failed, or did not come to an end."""
        return self.verdict in (KILLED, TIMED_OUT)

    @property
    def counts(self) -> bool:
        """Whether a test should notice."""
        return self.is_killed or self.kind not in _NO_FAULTS


def read(file: Path = FILE) -> list[Entry]:
    """All entries; none if nothing was tried yet."""
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        return [Entry(**row) for row in csv.DictReader(lines)]


def write(entries: Iterable[Entry], file: Path = FILE) -> None:
    """Replace the record, at once: who reads it meanwhile gets the old one or the new one."""
    draft = file.with_suffix(".new")
    with draft.open("w", newline="") as lines:
        rows = csv.writer(lines, lineterminator="\n")
        rows.writerow(field.name for field in fields(Entry))
        rows.writerows(astuple(entry) for entry in sorted(entries, key=_place))
    draft.replace(file)


def _place(entry: Entry) -> tuple[str, str, int]:
    function, _, number = entry.mutant.rpartition("_")
    return entry.room, function, int(number)


def of_this_code(entries: Iterable[Entry], room: str, mutants: Iterable[Mutant]) -> list[Entry]:
    """The entries without those of the room whose function has changed since."""
    current = {(mutant.name, mutant.function) for mutant in mutants}
    return [
        entry
        for entry in entries
        if entry.room != room or (entry.mutant, entry.function) in current
    ]


def with_verdicts(
    entries: Sequence[Entry],
    room: str,
    tried: Sequence[Mutant],
    verdicts: Mapping[str, str],
) -> list[Entry]:
    """The entries with the new verdicts; what was judged of a survivor stays."""
    merged = {entry.mutant: entry for entry in entries}
    for mutant in tried:
        if verdict := verdicts.get(mutant.name):
            before = merged.get(mutant.name) or Entry(room, mutant.name, mutant.function, verdict)
            judged = {} if verdict == SURVIVED else {"kind": "", "why": ""}
            merged[mutant.name] = replace(before, verdict=verdict, **judged)
    return list(merged.values())


def table(entries: Sequence[Entry], existing: Mapping[str, int]) -> str:
    """The figures of each room, in Markdown.

    Args:
        entries: What was tried.
        existing: How many mutants each room has.
    """
    head = ["room", "mutants", "tried", *VERDICTS, *_NO_FAULTS, "killed of the rest"]
    rows = [head, ["---"] * len(head)]
    for room, count in existing.items():
        rows.append([room, f"{count:,}", *_figures([e for e in entries if e.room == room])])
    rows.append(["all", f"{sum(existing.values()):,}", *_figures(entries)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _figures(entries: Sequence[Entry]) -> list[str]:
    verdicts = Counter(entry.verdict for entry in entries)
    kinds = Counter(entry.kind for entry in entries if not entry.is_killed)
    counted = [entry for entry in entries if entry.counts]
    killed = sum(entry.is_killed for entry in counted)
    return [
        f"{len(entries):,}",
        *(f"{verdicts[verdict]:,}" for verdict in VERDICTS),
        *(f"{kinds[kind]:,}" for kind in _NO_FAULTS),
        f"{killed / len(counted):.0%}" if counted else "–",
    ]
