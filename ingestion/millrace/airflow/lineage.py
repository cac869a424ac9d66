"""Which node of a dbt project reads which, and so which node waits for which test."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property


class Lineage:
    """The nodes of a dbt project and what each of them reads.

    Args:
        parents: The ids of what a node reads, by its own id: ``model.…``, ``test.…``, ``source.…``.
    """

    def __init__(self, parents: Mapping[str, Sequence[str]]) -> None:
        self._parents = parents
        self._ancestors: dict[str, frozenset[str]] = {}

    def source(self, key: str) -> str:
        """The id of a source table, by ``<source>.<table>``."""
        (found,) = (n for n in self._parents if n.startswith("source.") and n.endswith(f".{key}"))
        return found

    def has_source(self, key: str) -> bool:
        """Whether dbt declares a source table of that key."""
        return any(n.startswith("source.") and n.endswith(f".{key}") for n in self._parents)

    def ancestors(self, node: str) -> frozenset[str]:
        """Everything upstream of a node."""
        if node not in self._ancestors:
            parents = [parent for parent in self._parents.get(node, ()) if parent != node]
            self._ancestors[node] = frozenset(parents).union(*map(self.ancestors, parents))
        return self._ancestors[node]

    def descendants(self, node: str) -> set[str]:
        """Everything downstream of a node."""
        return {other for other in self._parents if node in self.ancestors(other)}

    @cached_property
    def tests(self) -> dict[tuple[str, ...], list[str]]:
        """The tests, by what they read."""
        found = defaultdict(list)
        for node, parents in self._parents.items():
            if node.startswith("test."):
                found[tuple(sorted(set(parents)))].append(node)
        return dict(found)

    def first_after(self, tested: Sequence[str]) -> Iterator[str]:
        """The nodes that wait for a test: those downstream of everything that the test reads.

        Args:
            tested: What the test reads; a test that reads nothing comes before everything.

        Yields:
            Only the first node on each path: what is downstream of it waits anyway.
        """
        for node, parents in self._parents.items():
            if self._waits(node, tested) and not any(self._waits(p, tested) for p in parents):
                yield node

    def tests_before(self, node: str) -> Iterator[str]:
        """The tests that a node waits for, at any distance."""
        for tested, tests in self.tests.items():
            if self._waits(node, tested):
                yield from tests

    def _waits(self, node: str, tested: Sequence[str]) -> bool:
        return not node.startswith(("test.", "source.")) and self.ancestors(node).issuperset(tested)
