"""How rows of a sheet have to move so that each keeps what stands beside it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class RowChange:
    """A change of rows. They are counted from 0, as they are before the change.

    Attributes:
        kind: What happens.
        start: The first row; of an insertion, where the first new row will be.
        end: The row after the last.
        to: Before which row they are moved.
    """

    kind: Literal["insert", "delete", "move"]
    start: int
    end: int
    to: int = 0


def changes(before: Sequence[Hashable], after: Sequence[Hashable]) -> list[RowChange]:
    """The changes that turn rows with these keys into rows with those.

    Args:
        before: The key of each row that is there; some may be there twice.
        after: The key of each row that is to be, each once.

    Returns:
        Changes to apply one after the other. A row whose key stays is neither inserted nor
        deleted. The rows are never all deleted before one is inserted.
    """
    current = list(before)
    wanted, known = set(after), set(before)
    made: list[RowChange] = []
    for at, key in enumerate(after):
        if at < len(current) and current[at] == key:
            continue
        if key not in known:
            _insert(made, at)
            current.insert(at, key)
            continue
        source = current.index(key, at)
        if not any(current[between] in wanted for between in range(at, source)):
            made.append(RowChange("delete", at, source))
            del current[at:source]
        else:
            made.append(RowChange("move", source, source + 1, at))
            current.insert(at, current.pop(source))
    if len(current) > len(after):
        made.append(RowChange("delete", len(after), len(current)))
    return made


def _insert(made: list[RowChange], at: int) -> None:
    """Insert one more row; extend the last change if that inserted the row before."""
    if made and made[-1].kind == "insert" and made[-1].end == at:
        made[-1] = replace(made[-1], end=at + 1)
    else:
        made.append(RowChange("insert", at, at + 1))


def added_rows(made: Sequence[RowChange]) -> int:
    """How many rows more there are after the changes."""
    signs = {"insert": 1, "delete": -1, "move": 0}
    return sum(signs[change.kind] * (change.end - change.start) for change in made)
