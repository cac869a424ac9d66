"""Mutation tests: ``python -m tests.mutants run|control|show|table``; ``make mutants`` runs them.

They change one thing in one function at a time, and see whether a test of its room notices.
Which were tried, and how they ended, is kept in ``record.csv``, and a run goes on from there.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from tests.mutants import record, workshop
from tests.mutants.generation import mutants_of
from tests.mutants.mutants import Mutant, in_order
from tests.mutants.plugin import CONTROL
from tests.mutants.rooms import ROOMS


def main() -> None:
    """Do what the command line asks for."""
    arguments = _parser().parse_args()
    if arguments.command == "run":
        _run(arguments.room or list(ROOMS), arguments.n, arguments.seed, arguments.again)
    elif arguments.command == "control":
        _control(arguments.room or list(ROOMS))
    elif arguments.command == "show":
        _show(arguments.room, arguments.again)
    else:
        existing = {name: len(mutants_of(room)) for name, room in ROOMS.items()}
        _say(record.table(record.read(), existing))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="try mutants that were not tried yet")
    run.add_argument("room", nargs="*", type=_room, help="default: every room")
    run.add_argument("-n", type=int, default=30, help="how many of each room; default: 30")
    run.add_argument("--seed", type=int, default=1, help="which come first; default: 1")
    run.add_argument("--again", choices=record.VERDICTS, help="instead, those that ended like this")
    control = commands.add_parser("control", help="see that no test fails without a mutation")
    control.add_argument("room", nargs="*", type=_room, help="default: every room")
    show = commands.add_parser("show", help="show what the mutants change that no test noticed")
    show.add_argument("room", nargs="*", type=_room, help="default: every room")
    show.add_argument("--again", action="store_true", help="those too that were judged already")
    commands.add_parser("table", help="write the figures of all rooms, in Markdown")
    return parser


def _room(name: str) -> str:
    if name not in ROOMS:
        raise argparse.ArgumentTypeError(f"there is no room {name!r}. Rooms: {', '.join(ROOMS)}")
    return name


def _run(rooms: Sequence[str], count: int, seed: int, again: str | None) -> None:
    with workshop.services() as environment:
        for room in rooms:
            mutants = mutants_of(ROOMS[room])
            entries = record.of_this_code(record.read(), room, mutants)
            chosen = _chosen(entries, mutants, count, seed, again)
            if not chosen:
                continue
            began = time.monotonic()
            try:
                workshop.try_out(room, [mutant.name for mutant in chosen], environment)
            finally:
                # Read anew: somebody may have judged survivors meanwhile.
                entries = record.of_this_code(record.read(), room, mutants)
                ended = workshop.verdicts(room)
                record.write(record.with_verdicts(entries, room, chosen, ended))
            took = time.monotonic() - began
            _say(f"{room}: {len(chosen)} mutants in {took:.0f} s, {took / len(chosen):.1f} s each")


def _control(rooms: Sequence[str]) -> None:
    """Try a mutant of each function, turned off: whatever fails then is no mutant's doing."""
    with workshop.services() as environment:
        for room in rooms:
            first = [m.name for m in mutants_of(ROOMS[room]) if m.name.endswith("__mutmut_1")]
            workshop.try_out(room, first, environment | {CONTROL: "1"})
            ended = workshop.verdicts(room)
            passed = (record.SURVIVED, record.NOT_COVERED)
            failed = [name for name in first if ended.get(name) not in passed]
            if failed:
                sys.exit(f"{room}: tests fail without a mutation: {', '.join(failed)}")


def _chosen(
    entries: Sequence[record.Entry],
    mutants: Sequence[Mutant],
    count: int,
    seed: int,
    again: str | None,
) -> list[Mutant]:
    """The first that were not tried yet, or all that ended in a certain way."""
    tried = {entry.mutant: entry.verdict for entry in entries}
    if again:
        return [mutant for mutant in mutants if tried.get(mutant.name) == again]
    return [mutant for mutant in in_order(mutants, seed) if mutant.name not in tried][:count]


def _show(rooms: Sequence[str], judged_too: bool) -> None:
    for entry in record.read():
        if entry.is_killed or (rooms and entry.room not in rooms):
            continue
        if judged_too or not entry.kind:
            _say(workshop.difference(entry.room, entry.mutant))


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
