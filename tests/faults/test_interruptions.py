"""Whatever is done to a stage at whatever moment: a retry leaves what no fault would have left.

``make faults N=2000`` tries so many; ``make faults SEED=17`` replays one. ``FAULTS_FIRST`` is the
first seed, so that several runs can share the seeds; ``FAULTS_RECORD`` is the file that keeps what
was tried.
"""

from __future__ import annotations

import logging
import os
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.child import BUILD, PUBLISH, Strike
from tests.faults.interruption import Interruption
from tests.faults.record import NOT_MADE_GOOD, Line, keep, keep_points
from tests.faults.world import STAGES, WORLDS

if TYPE_CHECKING:
    from tests.faults.world import World

pytestmark = [pytest.mark.service, pytest.mark.redshift]
log = logging.getLogger(__name__)

RECORD = os.environ.get("FAULTS_RECORD")
_SEED = os.environ.get("FAULTS_SEED")
_COUNT = int(os.environ.get("FAULTS_N", "100")) // len(WORLDS)
_FIRST = int(os.environ.get("FAULTS_FIRST", "0"))
SEEDS = [int(_SEED)] if _SEED else range(_FIRST, _FIRST + _COUNT)


@pytest.mark.parametrize("world", WORLDS, indirect=True)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_that_is_killed_at_any_passage_is_made_good_by_a_retry(
    world: World, stage: str
) -> None:
    # Every one with DuckDB, where a build has many that are alike; more of them are drawn below.
    step = 1 if world.kind == "duckdb" and stage != BUILD else 8
    for passage in range(0, len(world.passages[stage]), step):
        strike(world, Interruption(stage, "SIGKILL", Strike(passage)))


@pytest.mark.parametrize("world", ["duckdb"], indirect=True)
@pytest.mark.parametrize("fault", ["Google: cut", "Google: cut, applied"])
def test_publishing_that_is_cut_at_any_request_is_made_good_by_a_retry(
    world: World, fault: str
) -> None:
    requests = [
        number
        for number, label in enumerate(world.passages[PUBLISH])
        if label.startswith("sheets:")
    ]
    assert requests
    for number in requests:
        strike(world, Interruption(PUBLISH, fault, Strike(number)))


@pytest.mark.parametrize("world", WORLDS, indirect=True)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_stage_that_is_interrupted_is_made_good_by_a_retry(world: World, seed: int) -> None:
    strike(world, Interruption.drawn(world, seed))


def strike(world: World, interruption: Interruption) -> None:
    told = interruption.described(world)
    log.info("%s", told)
    if RECORD and not world.interruptions:
        keep_points(Path(RECORD), world)
    world.interruptions += 1
    try:
        ended = interruption.strikes(world)
    except Exception as error:
        world.is_broken = True
        error.add_note(told)
        _record(Line.of(world, interruption, NOT_MADE_GOOD, traceback.format_exc()))
        raise
    log.info("→ %s", ended)
    _record(Line.of(world, interruption, ended))


def _record(line: Line) -> None:
    if RECORD:
        keep(Path(RECORD), line)
