"""The kinds of sources, warehouses and destinations, as installed distributions register them.

A kind is an entry point. Its name is the one that a declaration or a dbt profile uses; its object
holds the kind's options and opens it. There is no other list of kinds, so a distribution of your
own can add one:

    [project.entry-points."millrace.sources"]
    oracle = "my_package.oracle:KIND"

The object's module is imported when a declaration is read, and so whenever Airflow parses a DAG
file. It must not import a client library.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from millrace.errors import DeclarationError, NotInstalled


@dataclass(frozen=True)
class Kinds:
    """The kinds of one group of entry points.

    Attributes:
        group: The group.
        what: The word for one of them in messages.
    """

    group: str
    what: str

    def names(self) -> list[str]:
        """The names of the kinds, sorted."""
        return sorted(_registered(self.group))

    def find(self, name: str) -> Any | None:
        """The object of the kind with this name; None if there is none."""
        found = _registered(self.group).get(name)
        return found.load() if found else None

    def get(self, name: str) -> Any:
        """The object of the kind with this name.

        Raises:
            DeclarationError: there is none.
        """
        kind = self.find(name)
        if kind is None:
            raise DeclarationError(
                f"There is no {self.what} kind '{name}'.", fix=f"Kinds: {', '.join(self.names())}."
            )
        return kind


SOURCES = Kinds("millrace.sources", "source")
"""Each object is a ``SourceKind``."""

WAREHOUSES = Kinds("millrace.warehouses", "warehouse")
"""Each object is a ``WarehouseKind``; its name is the type of dbt's adapter."""

DESTINATIONS = Kinds("millrace.destinations", "destination")
"""Each object is a ``DestinationKind``."""


@contextmanager
def needing(requirement: str, kind: str) -> Iterator[None]:
    """Say what to install if a kind's client library is missing.

    Args:
        requirement: What pip has to install to bring the library, such as ``millrace[mysql]``.
        kind: The kind, for the message.

    Raises:
        NotInstalled: it is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"The kind {kind} needs the Python package {error.name}, which is not installed.",
            fix=f"pip install '{requirement}'",
        ) from error


@cache
def _registered(group: str) -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=group)}
