"""What every destination can do, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from millrace.catalog import Publication, PublishOptions
from millrace.catalog.kinds import DESTINATIONS, needing
from millrace.connections import Connection
from millrace.datasets import Dataset, service

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Published:
    """The table that readers now see.

    Attributes:
        rows: Number of rows, without the headings.
        columns: Names of the columns, in order.
        tab: Title of the tab that the table is in.
        url: Address of the tab.
        checksum: SHA-256 over the values, as they were read back.
    """

    rows: int
    columns: tuple[str, ...]
    tab: str
    url: str
    checksum: str


@dataclass(frozen=True)
class Shown:
    """What readers see in one place of a published table.

    Attributes:
        place: Names it, e.g. ``nps_summary!C12``.
        column: The mart's column.
        row: Which of the mart's rows, from 0.
        refreshed: When the table was published and by which run, as its readers are told.
    """

    place: str
    column: str
    row: int
    refreshed: str


class Destination(Protocol):
    """A place that marts are published to."""

    def check(self) -> str:
        """Sign in.

        Returns:
            What was reached, for a person.

        Raises:
            SheetUnavailable: it cannot be reached, or is busy.
            SheetRefused: it refuses our key.
        """

    def publish(
        self,
        publication: Publication,
        rows: pa.Table,
        *,
        refreshed: str,
        warehouse: str,
        loaded: str = "",
    ) -> Published:
        """Replace the table that readers see: all of it, or nothing.

        If publishing is refused, readers are told that their table is stale.

        Args:
            publication: The declaration.
            rows: The mart, ordered, with the columns to publish.
            refreshed: When and by which run, for the readers.
            warehouse: Names the warehouse and schema that the rows come from, so that another
                one's publication is not overwritten.
            loaded: What the warehouse was loaded with by then, for the readers.

        Raises:
            SheetUnavailable: it cannot be reached, or is busy. Readers see the old table or, if
                the connection broke after the last request, the new one.
            SheetRefused: it refuses our key.
            SpreadsheetNotFound: the spreadsheet is not there, or not shared with us.
            PublicationRefused: publishing would lose or overwrite what it must not.
            SheetChanged: somebody keeps changing the table while it is written.
        """

    def shown(
        self, publication: Publication, rows: pa.Table, cell: str, *, warehouse: str
    ) -> Shown:
        """Tell which value of the mart readers see in a cell.

        Args:
            publication: The declaration.
            rows: The mart as it is now, as for ``publish``.
            cell: Names the cell in the destination's own way: in a sheet, ``C12``.
            warehouse: As for ``publish``.

        Raises:
            CellNotPublished: it is no published cell, or shows what the mart does not have now.
            SheetUnavailable: it cannot be reached, or is busy.
            SheetRefused: it refuses our key.
            SpreadsheetNotFound: the spreadsheet is not there, or not shared with us.
        """

    def link(self, publication: Publication) -> str:
        """The address at which people open what is published; it asks nobody.

        Args:
            publication: The declaration.

        Raises:
            SpreadsheetNotFound: what is declared names no spreadsheet.
        """

    def published_at(self, publication: Publication, *, warehouse: str) -> datetime | None:
        """When the table that readers see was published, in UTC, to the minute; None: never.

        Args:
            publication: The declaration.
            warehouse: As for ``publish``.

        Raises:
            SheetUnavailable: it cannot be reached, or is busy.
            SheetRefused: it refuses our key.
            SpreadsheetNotFound: the spreadsheet is not there, or not shared with us.
        """

    def mark_stale(
        self, publication: Publication, reason: str, *, when: str, warehouse: str
    ) -> None:
        """Tell the readers that their table was not refreshed, and leave the table as it is.

        A failure to do so is logged, not raised.

        Args:
            publication: The declaration.
            reason: Why, in one line.
            when: Since when and by which run.
            warehouse: As for ``publish``.
        """


def _by_name(publication: Publication, connection: Connection) -> Dataset:
    return Dataset(service(publication.options.kind, connection), publication.name)


@dataclass(frozen=True)
class DestinationKind:
    """A kind of destination, as its distribution registers it (see ``millrace.catalog.kinds``).

    Attributes:
        options: The model of the options that a publication to it declares.
        open: Opens one, given its credentials; it imports the kind's client library.
        requirement: What pip has to install to bring that library.
        dataset: What a publication is called outside, given its credentials; default: by its
            server and its name.
    """

    options: type[PublishOptions]
    open: Callable[[Connection], Destination]
    requirement: str
    dataset: Callable[[Publication, Connection], Dataset] = _by_name


def published_dataset(publication: Publication, connection: Connection) -> Dataset:
    """What a published table is called outside.

    Args:
        publication: The declaration.
        connection: The destination's credentials.

    Raises:
        DeclarationError: there is no such kind of destination.
    """
    kind: DestinationKind = DESTINATIONS.get(publication.options.kind)
    return kind.dataset(publication, connection)


def open_destination(name: str, connection: Connection) -> Destination:
    """Open the destination of a kind.

    Raises:
        DeclarationError: there is no such kind.
        NotInstalled: its client library is missing.
    """
    kind: DestinationKind = DESTINATIONS.get(name)
    with needing(kind.requirement, name):
        return kind.open(connection)
