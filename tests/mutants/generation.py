"""What mutmut can change."""

from __future__ import annotations

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name, mangled_name_from_mutant_name

from tests.mutants.mutants import Mutant
from tests.mutants.rooms import INGESTION, Room


def mutants_of(room: Room) -> list[Mutant]:
    """Every mutant of a room."""
    found = []
    for module in room.modules():
        mutated = mutate_file_contents(str(module), (INGESTION / module).read_text())
        for name in mutated.mutant_names:
            function = mutated.hash_by_function_name[mangled_name_from_mutant_name(name)]
            found.append(Mutant(get_mutant_name(module, name), function))
    return found
