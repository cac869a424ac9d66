"""What every warehouse can do, and how the one of a dbt target is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel

from millrace.bad_values import UNLIMITED, Limits
from millrace.batch import FINGERPRINT_LENGTH, WHOLE_TABLE, Interval
from millrace.catalog import IngestTable
from millrace.catalog.kinds import WAREHOUSES, needing
from millrace.datasets import service
from millrace.errors import ProjectError
from millrace.keyed_rows import KeyedRows
from millrace.manifest import Manifest, Part
from millrace.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from millrace.checksums.digests import Compared, Key

BATCH_COLUMN = "_batch_id"
LOADED_COLUMN = "_loaded_at"
LEDGER = "_batches"
# The interval's end is by the source's clock, the time of reading by ours.
_CLOCKS_DIFFER = timedelta(minutes=5)


class Landed(Protocol):
    """Where the parts of a landed batch are kept."""

    def local_copy(self, part: Part) -> AbstractContextManager[Path]:
        """A part as a local file, checked, for as long as it is needed.

        Raises:
            PartCorrupt: it is missing, or is not what was landed.
        """

    def verify(self, manifest: Manifest) -> None:
        """Check, without reading the parts, that the manifest and its parts are what was landed.

        Called before and after a warehouse reads the parts by itself.

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
        manifest_url: The manifest that was loaded.
        rows: Number of rows.
        size: Size of the parts, in bytes.
        extracted_at: When the source was read, in UTC.
        loaded_at: When the load committed, in UTC; grows from load to load of one table.
        verified: How source, landing and raw table were compared: ``values`` or ``counts``; None:
            not at all, or by a version that did not say.
        is_correction: Whether the batch holds single rows that were found to differ from the
            source's, and no interval.
        quarantined: Number of rows that were set aside; None: loaded by a version without that.
        schema_changes: How its columns differed from the raw table's and what became of that, a
            line for each; None: not at all, or loaded by a version that did not say.
        salt_id: Tells the salt that its columns were hashed with from others; None: no column was
            hashed, or loaded by a version that did not say.
        files: The fingerprints of the files whose rows it holds, one after another; None: it is of
            no files.
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
    verified: str | None = None
    is_correction: bool | None = None
    quarantined: int | None = None
    schema_changes: str | None = None
    salt_id: str | None = None
    files: str | None = None

    @property
    def taken(self) -> frozenset[str]:
        """The fingerprints of the files whose rows it holds."""
        files, length = self.files or "", FINGERPRINT_LENGTH
        return frozenset(files[at : at + length] for at in range(0, len(files), length))

    @property
    def interval(self) -> Interval:
        """The interval of the table's cursor; without bounds, the whole table."""
        return Interval(self.start, self.end)

    @property
    def reaches(self) -> datetime:
        """Up to when this load has the table's data, in UTC."""
        return self.end or self.extracted_at

    @property
    def covers(self) -> Interval:
        """The part of the interval that was read: what came after the reading is not in it."""
        if self.end is None or self.end <= self.extracted_at + _CLOCKS_DIFFER:
            return self.interval
        read_until = self.extracted_at - _CLOCKS_DIFFER
        is_nothing = self.start is not None and self.start >= read_until
        return WHOLE_TABLE if is_nothing else Interval(self.start, read_until)


class LoadedRows(KeyedRows, Protocol):
    """The current version of each row of a raw table, by its key."""

    def current(self, keys: Sequence[Key]) -> pa.Table:
        """The rows with these keys, without Millrace's own columns."""

    def doubled(self) -> Sequence[tuple[str, Key]]:
        """The keys that one batch has loaded more than once, each with the batch's id."""

    def batch_rows(self) -> Mapping[str, int]:
        """How many rows each batch has in the raw table, by the batch's id."""


Passed = Callable[[str], None]
"""Called with a step of a check that works, for a person."""


def ignored(step: str) -> None:
    """A ``Passed`` that tells nobody."""


class Warehouse(Protocol):
    """A database with raw tables and a ledger."""

    @property
    def name(self) -> str:
        """A name that no other warehouse has, and that readers of a publication may see."""

    def check(self, passed: Passed = ignored) -> str:
        """Connect, and try what a load needs as far as that does no harm.

        Args:
            passed: Called with each step that works, where there is more than one.

        Returns:
            What was reached, for a person.

        Raises:
            WarehouseUnavailable: it is down or locked.
            WarehouseRefused: it refuses our account.
        """

    def ledgers(self, tables: Sequence[IngestTable]) -> Mapping[str, list[LedgerRow]]:
        """The ledgers of tables by their keys, oldest load first; empty before the first load.

        Raises:
            WarehouseUnavailable: it is down or locked.
            WarehouseRefused: it refuses our account.
        """

    def raw_types(self, table: IngestTable) -> Mapping[str, pa.DataType]:
        """The raw table's columns without Millrace's own; none before the first load.

        Raises:
            WarehouseUnavailable: it is down or locked.
            WarehouseRefused: it refuses our account.
            SchemaConflict: a column is of a type that Millrace does not make.
        """

    def columns(self, schema: str, identifier: str) -> Mapping[str, str]:
        """The columns of a table or view, in order, with their types in the warehouse's own words.

        Returns:
            No columns if there is no such relation.

        Raises:
            WarehouseUnavailable: it is down or locked.
            WarehouseRefused: it refuses our account.
        """

    def create(self, table: IngestTable, columns: pa.Schema) -> bool:
        """Make a raw table without rows, and its ledger, before the first load.

        Args:
            table: The table.
            columns: Its columns as they are landed, without Millrace's own.

        Returns:
            Whether the raw table was missing. If it is there already, it stays as it is.

        Raises:
            WarehouseUnavailable: it is down or locked.
            WarehouseRefused: it refuses our account.
            SchemaConflict: it is there with other columns, or Millrace did not make it.
        """

    def load(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch; loading it twice has the same result as loading it once.

        One transaction deletes the rows of the batches that lie inside this one's interval (its own
        earlier load among them), changes the raw table's columns as the declaration allows, inserts
        the parts, compares the count, and replaces those batches in the ledger with this one. What
        has changed in the columns is logged as a warning. Rows that were set aside go to the table
        ``<raw table>__quarantine``, and leave it with their batch.

        Returns:
            The ledger's new row.

        Raises:
            WarehouseUnavailable: it is down or locked.
            WarehouseRefused: it refuses our account.
            SchemaConflict: the batch does not fit the raw table without losing something.
            CountMismatch: not as many rows arrived as the manifest promises.
            LandingError: a part cannot be read, or is not what was landed.
        """

    def reload(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch into a new raw table, which then replaces the old one.

        One transaction makes the new table with the batch's columns, inserts the parts, compares
        the count, puts the new table in the place of the old one, and replaces all batches of the
        table in the ledger with this one. Views that this drops are logged as a warning.

        Returns:
            The ledger's new row.

        Raises:
            As ``load``; a ``SchemaConflict`` is then a raw table that Millrace did not make, or
            a column that no raw table can have.
        """

    def comparable(self, table: IngestTable, schema: pa.Schema) -> pa.Schema:
        """Which of a source's columns can be compared with the raw table's.

        Args:
            table: The table.
            schema: The source's columns.

        Returns:
            Those that the raw table has with a type that writes the same texts.

        Raises:
            As ``raw_types``.
        """

    def by_key(
        self, table: IngestTable, compared: Compared, interval: Interval
    ) -> AbstractContextManager[LoadedRows]:
        """The current version of each loaded row, by its key.

        Args:
            table: The table, which has been loaded.
            compared: Which columns are compared.
            interval: The interval of the cursor that is compared.

        Raises:
            As ``raw_types``.
        """

    def differing_columns(
        self, table: IngestTable, manifest: Manifest, row: LedgerRow, landed: Landed
    ) -> Sequence[str]:
        """The columns in which a loaded batch has other values than were landed.

        Args:
            table: The table.
            manifest: What was landed, with its checksums.
            row: The batch's row in the ledger.
            landed: Where its parts are.

        Raises:
            As ``load``.
        """

    def discard(self, table: IngestTable, batch_id: str) -> None:
        """Delete a batch from the raw table and from the ledger.

        Raises:
            WarehouseUnavailable: it is down or locked.
            WarehouseRefused: it refuses our account.
        """

    def read(
        self, schema: str, identifier: str, columns: Sequence[str] | None, order_by: Sequence[str]
    ) -> pa.Table:
        """Read the rows of a mart into memory, which suits marts that people look at.

        Args:
            schema: The mart's schema.
            identifier: Its name there.
            columns: Which columns, in this order; None: all.
            order_by: Columns that order the rows, NULLs last.

        Raises:
            WarehouseUnavailable: it is down or locked.
            WarehouseRefused: it refuses our account.
            RelationNotFound: there is no such mart, or no such column in it.
        """

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a query in the warehouse's own SQL, which changes nothing.

        Raises:
            WarehouseUnavailable: it is down or locked.
            WarehouseRefused: it refuses our account.
            WarehouseError: it refuses the query.
        """


WRITERS = 4
"""How many tasks write to a warehouse at a time, unless its kind says otherwise."""


def _by_server(credentials: Any, root: Path) -> str:
    return service(credentials.type, credentials)


@dataclass(frozen=True)
class WarehouseKind:
    """A kind of warehouse, as its distribution registers it (see ``millrace.catalog.kinds``).

    Attributes:
        open: Opens one, given the target's credentials from dbt's adapter, the folder that relative
            paths of ``profiles.yml`` start from, and the settings; it imports the client library.
        requirement: What pip has to install to bring that library.
        table_options: The model of what an ingest block may declare under the kind's name, if
            anything.
        limits: How long the values are that it holds.
        writers: How many tasks may write to it at a time: the slots of its pool in Airflow.
        enough: The credentials that ``open`` asks for, if none of them is a secret: they are kept
            for the next command. Empty: nothing is kept.
        namespace: What the warehouse is called outside, given what ``open`` is given but the
            settings; default: by its server.
    """

    open: Callable[[Any, Path, Settings], Warehouse]
    requirement: str
    table_options: type[BaseModel] | None = None
    limits: Limits = UNLIMITED
    writers: int = WRITERS
    enough: Sequence[str] = ()
    namespace: Callable[[Any, Path], str] = _by_server


def warehouse_namespace(credentials: Any, root: Path) -> str:
    """What the warehouse of a dbt target is called outside.

    Args:
        credentials: The target's credentials, as dbt's adapter holds them.
        root: The folder that relative paths of ``profiles.yml`` start from.
    """
    kind: WarehouseKind | None = WAREHOUSES.find(credentials.type)
    return kind.namespace(credentials, root) if kind else _by_server(credentials, root)


def quarantine_of(table: IngestTable) -> IngestTable:
    """The table beside a raw table with the rows that were set aside, as if it were a raw table."""
    return replace(table, identifier=f"{table.identifier}__quarantine")


def open_warehouse(credentials: Any, root: Path, settings: Settings) -> Warehouse:
    """Open the warehouse of a dbt target.

    Args:
        credentials: The target's credentials, as dbt's adapter holds them.
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
