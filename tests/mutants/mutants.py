"""A mutant, and in which order mutants are tried."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One change of one function.

    Attributes:
        name: As mutmut names it: the function and the number of the change in it.
        function: The hash of the function, so that a number is known to mean the same change.
    """

    name: str
    function: str


def in_order(mutants: Iterable[Mutant], seed: int) -> list[Mutant]:
    """The order in which a seed tries them: a change of one function leaves that of the others."""
    return sorted(mutants, key=lambda mutant: _drawn(mutant, seed))


def _drawn(mutant: Mutant, seed: int) -> str:
    return hashlib.sha256(f"{seed} {mutant.name} {mutant.function}".encode()).hexdigest()
