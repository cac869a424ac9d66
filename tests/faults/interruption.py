"""One interruption: a stage, a fault, a moment; then a retry, and a look at everything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from tests.faults.child import BUILD, Strike, When
from tests.faults.faults import FAULTS, possible
from tests.faults.world import PATIENCE, STAGES, Attempt

if TYPE_CHECKING:
    from tests.faults.world import World

BY_THE_CLOCK = "by the clock"
NOT_REACHED = "not reached"
"""How an interruption ends that was none: this time the stage did not pass there."""

# Of the moments, those that come by the clock instead of at a passage.
_CLOCK_SHARE = 0.2
# By the beginning of a fault's name: what its passages are called. After the last, it meets nobody.
_REACHED = {
    "MySQL": ("mysql:",),
    "S3": ("landing:",),
    "Redshift": ("warehouse:", "dbt:"),
    "Google": ("sheets:",),
}


@dataclass(frozen=True)
class Interruption:
    """What is done to a stage, and when.

    Attributes:
        stage: The stage.
        fault: The fault's name.
        strike: At which passage; None: after so many seconds.
        seconds: See ``strike``.
        seed: Of what else is left to chance.
    """

    stage: str
    fault: str
    strike: Strike | None = None
    seconds: float = 0
    seed: int = 0

    @classmethod
    def drawn(cls, world: World, seed: int) -> Interruption:
        """The one that a seed stands for, in a world whose passages are known."""
        random = Random(f"{world.kind} {seed}")
        stage = random.choices(STAGES, (6, 3, 2, 1, 2))[0]
        fault = random.choice(possible(world, stage))
        if random.random() < _CLOCK_SHARE:
            return cls(stage, fault, seconds=random.uniform(0, world.seconds[stage]), seed=seed)
        passage = _drawn_passage(random, fault, world.passages[stage])
        when: When = random.choice(("before", "after"))
        return cls(stage, fault, Strike(passage, when), seed=seed)

    def label(self, world: World) -> str:
        """What the passage is called where it strikes."""
        if self.strike is None:
            return BY_THE_CLOCK
        passages = world.passages[self.stage]
        at = self.strike.passage
        label = passages[at] if at < len(passages) else "a passage"
        return f"{self.strike.when} {label}"

    def described(self, world: World) -> str:
        """For a person."""
        number = f", passage {self.strike.passage}" if self.strike else f" ({self.seconds:.3f} s)"
        return f"{self.stage}: {self.fault} {self.label(world)}{number}"

    def strikes(self, world: World) -> str:
        """Do it, try again, and look at everything.

        Returns:
            How the interrupted stage ended.

        Raises:
            AssertionError: it was not as it has to be.
        """
        random, fault = Random(self.seed), FAULTS[self.fault]
        world.change(random)
        try:
            with Attempt(world, self.stage, self.strike) as attempt:
                timeout = self.seconds if self.strike is None else PATIENCE
                # By the clock nothing waits: the time-out is the moment.
                is_struck = attempt.reaches_strike(timeout) or self.strike is None
                if is_struck:
                    if attempt.process.is_alive():
                        fault.begin(world, attempt, random)
                    attempt.go_on()
                outcome = attempt.outcome()
        finally:
            world.heal()
        if outcome is None:
            # Ctrl-C may come before the stage has begun.
            may_end = fault.ends_process or fault.ends_in_error
            assert may_end, f"it ended without a word: {attempt.process.exitcode}"
            ended = "ended"
        elif outcome.kind == "failed":
            # Airflow tries dbt again by rules of its own; a later run builds all the same.
            assert self.stage == BUILD, outcome.said
            assert fault.needs, outcome.said
            ended = "failed"
        elif outcome.kind == "crashed":
            assert fault.ends_in_error, outcome.said
            assert "KeyboardInterrupt" in outcome.said, outcome.said
            ended = "interrupted"
        elif outcome.kind == "refused":
            assert outcome.may_pass or fault.is_refusal, (
                f"Airflow would not try again: {outcome.said}"
            )
            ended = f"refused: {outcome.said.partition(':')[0]}"
        else:
            ended = "done"
        world.carry(self.stage)
        world.check(self.stage)
        return ended if is_struck else NOT_REACHED


def point(label: str) -> str:
    """What a passage reaches: ``mysql``, ``landing``, ``warehouse``, ``commit``, ``dbt``, …"""
    reached, _, what = label.partition(": ")
    return "commit" if what == "COMMIT" else reached


def points_to_strike(world: World) -> set[tuple[str, str]]:
    """Each fault that is possible in a world, with each point at which it may meet somebody."""
    return {
        (fault, point(label))
        for stage in STAGES
        for fault in possible(world, stage)
        for label in _until_it_matters(fault, world.passages[stage])
    }


def _drawn_passage(random: Random, fault: str, passages: Sequence[str]) -> int:
    """A passage of a point: drawn at once, nearly all would be statements to MySQL."""
    points = [point(label) for label in _until_it_matters(fault, passages)]
    drawn = random.choice(sorted(set(points)))
    return random.choice([at for at, reached in enumerate(points) if reached == drawn])


def _until_it_matters(fault: str, passages: Sequence[str]) -> Sequence[str]:
    reached = _REACHED.get(fault.partition(":")[0], ("",))
    last = max(at for at, label in enumerate(passages) if label.startswith(reached))
    return passages[: last + 1]
