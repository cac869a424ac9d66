"""What every warehouse can do, and how the one of a dbt target is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from millrace.batch import WHOLE_TABLE, Interval
from millrace.catalog import IngestTable
from millrace.catalog.kinds import WAREHOUSES, needing
from millrace.errors import ProjectError
from millrace.manifest import Manifest, Part
from millrace.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_COLUMN = "_batch_id"
LOADED_COLUMN = "_loaded_at"
LEDGER = "_batches"
# The interval's end is by the source's clock, the time of reading by ours.
_CLOCKS_DIFFER = timedelta(minutes=5)


class Landed(Protocol):
    """Where the parts of a batch wait."""

    def local_copy(self, part: Part) -> AbstractContextManager[Path]:
        """A part as a local file, checked, for as long as it is needed.

        Raises:
            PartCorrupt: it is missing, or is not what was landed.
        """

    def verify(self, manifest: Manifest) -> None:
        """See, without reading the parts, that manifest and parts are what was landed.

        For a warehouse that reads them by itself: before it does, and after.

        Raises:
            ManifestCorrupt: the manifest was replaced.
            PartCorrupt: a part is missing or was replaced.
        """


@dataclass(frozen=True)
class LedgerRow:
    """One loaded batch, as the ledger keeps it.

    Attributes:
        table: ``<source>.<table>``.
        batch_id: Names the batch's rows in the raw table.
        start: Start of the interval, in UTC; None: from the beginning.
        end: End of the interval, in UTC; None for a whole table.
        manifest_url: What was loaded.
        rows: How many.
        size: Of the parts, in bytes.
        extracted_at: When the source was read, in UTC.
        loaded_at: When the load committed, in UTC; grows from load to load of one table.
    """

    table: str
    batch_id: str
    start: datetime | None
    end: datetime | None
    manifest_url: str
    rows: int
    size: int
    extracted_at: datetime
    loaded_at: datetime

    @property
    def interval(self) -> Interval:
        """Of the table's cursor; the whole table where it has no bounds."""
        return Interval(self.start, self.end)

    @property
    def covers(self) -> Interval:
        """What of the interval was read: nothing beyond the moment of reading was there yet."""
        if self.end is None or self.end <= self.extracted_at + _CLOCKS_DIFFER:
            return self.interval
        read_until = self.extracted_at - _CLOCKS_DIFFER
        is_nothing = self.start is not None and self.start >= read_until
        return WHOLE_TABLE if is_nothing else Interval(self.start, read_until)


class Warehouse(Protocol):
    """A database with raw tables and a ledger."""

    @property
    def name(self) -> str:
        """What no other warehouse is called, and what readers of a publication may see."""

    def check(self) -> str:
        """Connect.

        Returns:
            What was reached, for a person.

        Raises:
            WarehouseUnavailable: it is down, locked, or refuses us.
        """

    def ledgers(self, tables: Sequence[IngestTable]) -> Mapping[str, list[LedgerRow]]:
        """The ledgers of tables by their keys, oldest load first; empty before the first load.

        Raises:
            WarehouseUnavailable: it is down, locked, or refuses us.
        """

    def load(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch: once or twice makes no difference.

        In one transaction: the raw table is made or widened, the rows of the batches that lie
        inside this one's interval (its own earlier load among them) deleted, the parts inserted,
        the ledger's row written in their place and the count compared.

        Returns:
            The ledger's new row.

        Raises:
            WarehouseUnavailable: it is down, locked, or refuses us.
            SchemaConflict: the batch does not fit the raw table without losing something.
            CountMismatch: other rows arrived than the manifest promises.
            LandingError: a part cannot be read, or is not what was landed.
        """

    def read(
        self, schema: str, identifier: str, columns: Sequence[str] | None, order_by: Sequence[str]
    ) -> pa.Table:
        """The rows of a mart, in memory: for what people look at.

        Args:
            schema: The mart's schema.
            identifier: Its name there.
            columns: Which columns, in this order; None: all.
            order_by: Columns that order the rows, NULLs last.

        Raises:
            WarehouseUnavailable: it is down, locked, or refuses us.
            RelationNotFound: there is no such mart, or no such column in it.
        """


@dataclass(frozen=True)
class WarehouseKind:
    """A kind of warehouse, as its distribution registers it (see ``millrace.catalog.kinds``).

    Attributes:
        open: Opens one, given what dbt's adapter holds of the target, the folder that relative
            paths of ``profiles.yml`` start from, and the settings; it imports the client library.
        requirement: What brings that library, as pip takes it.
        table_options: What an ingest block may say under the kind's name; None: nothing.
    """

    open: Callable[[Any, Path, Settings], Warehouse]
    requirement: str
    table_options: type[BaseModel] | None = None


def open_warehouse(credentials: Any, root: Path, settings: Settings) -> Warehouse:
    """The warehouse of a dbt target.

    Args:
        credentials: What dbt's adapter holds of the target.
        root: The folder that relative paths of ``profiles.yml`` start from.
        settings: The settings.

    Raises:
        ProjectError: no installed distribution loads into that type of target.
        NotInstalled: its client library is missing.
    """
    kind: WarehouseKind | None = WAREHOUSES.find(credentials.type)
    if kind is None:
        raise ProjectError(
            f"Millrace cannot load into the dbt target's warehouse '{credentials.type}' yet.",
            fix=f"Choose a target (`--target`) of another type: {', '.join(WAREHOUSES.names())}.",
        )
    with needing(kind.requirement, credentials.type):
        return kind.open(credentials, root, settings)
