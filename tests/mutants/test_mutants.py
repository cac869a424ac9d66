"""The record of the mutation tests, and what they cover; ``make mutants`` runs them."""

from __future__ import annotations

from collections import Counter

from tests.mutants import record
from tests.mutants.mutants import Mutant, in_order
from tests.mutants.record import HOLE, KILLED, NOT_COVERED, SURVIVED, TEXT, TIMED_OUT, Entry
from tests.mutants.rooms import INGESTION, ROOMS, ROOT

MUTANTS = [
    Mutant(f"millrace.object_store.store.x_{function}__mutmut_{number}", function)
    for function in ("read", "write", "check")
    for number in range(1, 30)
]


def entry(mutant: Mutant, verdict: str = SURVIVED, **judged: str) -> Entry:
    return Entry("landing", mutant.name, mutant.function, verdict, **judged)


def test_every_module_of_these_parts_belongs_to_one_room() -> None:
    parts = ("landing", "object_store", "warehouses", "sources", "destinations", "google_sheets")
    modules = Counter(module for room in ROOMS.values() for module in room.modules())
    there = {
        file.relative_to(INGESTION)
        for part in parts
        for file in (INGESTION / "millrace" / part).rglob("*.py")
    }
    assert there - set(modules) == set()
    assert [module for module, rooms in modules.items() if rooms > 1] == []


def test_the_tests_of_every_room_exist() -> None:
    named = {test.partition("::")[0] for room in ROOMS.values() for test in room.tests}
    assert [file for file in named if not (ROOT / file).exists()] == []


def test_a_change_of_one_function_leaves_the_order_of_the_others() -> None:
    changed = [
        Mutant(mutant.name, "changed") if mutant.function == "write" else mutant
        for mutant in MUTANTS
    ]

    def others(mutants: list[Mutant]) -> list[Mutant]:
        return [mutant for mutant in in_order(mutants, 1) if mutant.function in ("read", "check")]

    assert others(changed) == others(MUTANTS)
    assert in_order(MUTANTS, 1) != in_order(MUTANTS, 2)


def test_what_was_tried_of_a_function_that_changed_is_forgotten() -> None:
    elsewhere = Entry("mysql", "millrace.sources.base.x_read__mutmut_1", "old", KILLED)
    entries = [elsewhere, *(entry(mutant) for mutant in MUTANTS)]
    now = [mutant for mutant in MUTANTS if mutant.function != "write"]
    kept = record.of_this_code(entries, "landing", now)
    assert kept == [elsewhere, *(entry(mutant) for mutant in now)]


def test_a_judgement_stays_until_a_test_notices() -> None:
    first, second = MUTANTS[:2]
    entries = [entry(first, kind=TEXT, why="a log line"), entry(second, kind=HOLE)]
    tried = record.with_verdicts(
        entries, "landing", [first, second], {first.name: SURVIVED, second.name: KILLED}
    )
    assert tried == [entry(first, kind=TEXT, why="a log line"), entry(second, KILLED)]


def test_mutants_that_were_not_reached_are_not_in_the_record() -> None:
    assert record.with_verdicts([], "landing", MUTANTS, {MUTANTS[3].name: KILLED}) == [
        entry(MUTANTS[3], KILLED)
    ]


def test_the_record_is_read_as_it_was_written(tmp_path) -> None:
    entries = [entry(MUTANTS[1], KILLED), entry(MUTANTS[9], kind=TEXT, why='says "no", twice')]
    record.write(reversed(entries), tmp_path / "record.csv")
    assert record.read(tmp_path / "record.csv") == entries
    assert record.read(tmp_path / "none.csv") == []


def test_only_judged_mutants_are_left_out_of_the_figure() -> None:
    entries = [
        entry(MUTANTS[0], KILLED),
        entry(MUTANTS[1], TIMED_OUT),
        entry(MUTANTS[2], SURVIVED, kind=TEXT),
        entry(MUTANTS[3], SURVIVED),
        entry(MUTANTS[4], NOT_COVERED, kind=HOLE),
    ]
    _, _, landing, total = record.table(entries, {"landing": 87}).splitlines()
    assert landing == "| landing | 87 | 5 | 1 | 1 | 2 | 1 | 0 | 1 | 0 | 0 | 50% |"
    assert total == landing.replace("landing", "all")


def test_every_judgement_in_the_record_is_of_a_known_kind() -> None:
    entries = record.read()
    assert {one.verdict for one in entries} <= {*record.VERDICTS}
    assert {one.kind for one in entries} <= {"", *record.KINDS}
    assert [one for one in entries if one.kind and (one.is_killed or not one.why)] == []
