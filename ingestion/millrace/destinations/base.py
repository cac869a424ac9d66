"""What every destination can do, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from millrace.catalog import Publication, PublishOptions
from millrace.catalog.kinds import DESTINATIONS, needing
from millrace.connections import Connection

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Published:
    """What readers now see.

    Attributes:
        rows: How many, without the headings.
        columns: Their names, in order.
        tab: The title of what they look at.
        url: Where it is.
        checksum: SHA-256 over the values, as they were read back.
    """

    rows: int
    columns: tuple[str, ...]
    tab: str
    url: str
    checksum: str


class Destination(Protocol):
    """A place that marts are published to."""

    def check(self) -> str:
        """Sign in.

        Returns:
            What was reached, for a person.

        Raises:
            SheetUnavailable: it is not reached, or refuses us.
        """

    def publish(
        self, publication: Publication, rows: pa.Table, *, refreshed: str, warehouse: str
    ) -> Published:
        """Replace what readers see by the rows: whole, or not at all.

        Where it is refused, readers are told that what they see is stale.

        Args:
            publication: What is declared.
            rows: The mart, ordered, with the columns to publish.
            refreshed: When and by which run, for the readers.
            warehouse: Names the warehouse and schema that the rows come from, so that another
                one's publication is not overwritten.

        Raises:
            SheetUnavailable: it is not reached, or refuses us; readers see the old table or,
                where it broke off after the last request, the new one.
            SpreadsheetNotFound: it is not there, or not shared with us.
            PublicationRefused: publishing would lose or overwrite what it must not.
            SheetChanged: somebody keeps changing it while it is written.
        """

    def mark_stale(
        self, publication: Publication, reason: str, *, when: str, warehouse: str
    ) -> None:
        """Tell the readers that what they see is not refreshed, without changing it.

        Nothing is raised: that it could not be told is logged.

        Args:
            publication: What is declared.
            reason: Why, in one line.
            when: Since when and by which run.
            warehouse: As for ``publish``.
        """


@dataclass(frozen=True)
class DestinationKind:
    """A kind of destination, as its distribution registers it (see ``millrace.catalog.kinds``).

    Attributes:
        options: What a publication to it declares.
        open: Opens one, given its credentials; it imports the kind's client library.
        requirement: What brings that library, as pip takes it.
    """

    options: type[PublishOptions]
    open: Callable[[Connection], Destination]
    requirement: str


def open_destination(name: str, connection: Connection) -> Destination:
    """The destination of a kind.

    Raises:
        DeclarationError: there is no such kind.
        NotInstalled: its client library is missing.
    """
    kind: DestinationKind = DESTINATIONS.get(name)
    with needing(kind.requirement, name):
        return kind.open(connection)
