"""What every SQL warehouse does alike to read what is loaded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any

import pyarrow as pa

from millrace.batch import Interval
from millrace.catalog import IngestTable
from millrace.checksums.columns import Checksums, differing
from millrace.checksums.digests import Compared
from millrace.manifest import Manifest
from millrace.warehouses.base import Landed, LedgerRow, Passed, ignored
from millrace.warehouses.dialect import Dialect
from millrace.warehouses.raw_rows import RawRows, Session


class SqlReader(ABC):
    """The part of a warehouse that reads its raw tables with SQL."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A name that no other warehouse has; see ``Warehouse.name``."""

    @abstractmethod
    def check(self, passed: Passed = ignored) -> str:
        """Connect; see ``Warehouse.check``."""

    @abstractmethod
    def read(
        self, schema: str, identifier: str, columns: Sequence[str] | None, order_by: Sequence[str]
    ) -> pa.Table:
        """The rows of a mart; see ``Warehouse.read``."""

    @abstractmethod
    def columns(self, schema: str, identifier: str) -> Mapping[str, str]:
        """The columns of a relation; see ``Warehouse.columns``."""

    @abstractmethod
    def ledgers(self, tables: Sequence[IngestTable]) -> Mapping[str, list[LedgerRow]]:
        """The ledgers of tables; see ``Warehouse.ledgers``."""

    @abstractmethod
    def create(self, table: IngestTable, columns: pa.Schema) -> bool:
        """Make a raw table without rows; see ``Warehouse.create``."""

    @abstractmethod
    def load(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch; see ``Warehouse.load``."""

    @abstractmethod
    def reload(self, table: IngestTable, manifest: Manifest, landed: Landed) -> LedgerRow:
        """Load a landed batch in the place of all others; see ``Warehouse.reload``."""

    @abstractmethod
    def discard(self, table: IngestTable, batch_id: str) -> None:
        """Delete a batch; see ``Warehouse.discard``."""

    def raw_types(self, table: IngestTable) -> Mapping[str, pa.DataType]:
        """The raw table's columns; see ``Warehouse.raw_types``."""
        with self._session() as session:
            return self._columns(session, table)

    def comparable(self, table: IngestTable, schema: pa.Schema) -> pa.Schema:
        """Which columns can be compared; see ``Warehouse.comparable``."""
        types = {name.lower(): type_ for name, type_ in self.raw_types(table).items()}
        dialect = self._dialect(table)
        return pa.schema(
            [
                field
                for field in schema
                if _writes_alike(types.get(field.name.lower()), field.type)
                and dialect.text(field) is not None
            ]
        )

    @contextmanager
    def by_key(
        self, table: IngestTable, compared: Compared, interval: Interval
    ) -> Iterator[RawRows]:
        """The current rows by key; see ``Warehouse.by_key``."""
        with self._session() as session:
            types = self._columns(session, table)
            dialect = self._dialect(table)
            yield RawRows(session, dialect, table, types, compared, interval)

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a query; see ``Warehouse.query``."""
        with self._session() as session:
            return session.run(statement)

    def differing_columns(
        self, table: IngestTable, manifest: Manifest, row: LedgerRow, landed: Landed
    ) -> list[str]:
        """Compare a loaded batch with what was landed; see ``Warehouse.differing_columns``."""
        with self._session() as session:
            there = {name.lower() for name in self._columns(session, table)}
            columns = [name for name in manifest.schema.names if name.lower() in there]
            checksums = self._checksums(session, table, manifest, columns, row.loaded_at, landed)
        return differing(*checksums)

    @abstractmethod
    def _dialect(self, table: IngestTable) -> Dialect:
        """How the warehouse writes what SQL leaves open."""

    @abstractmethod
    def _session(self) -> AbstractContextManager[Session]:
        """Connect; errors of the client become Millrace's."""

    @abstractmethod
    def _columns(self, session: Any, table: IngestTable) -> dict[str, pa.DataType]:
        """The raw table's columns without Millrace's own; none where there is no table."""

    @abstractmethod
    def _checksums(
        self,
        session: Any,
        table: IngestTable,
        manifest: Manifest,
        columns: Sequence[str],
        loaded_at: datetime,
        landed: Landed,
    ) -> tuple[Checksums, Checksums]:
        """The checksums that were landed, and those of what this load has inserted.

        Both are of the same kind, and of the manifest's types. A column that the warehouse cannot
        compute a checksum of is left out, or has no total.
        """


def _writes_alike(loaded: pa.DataType | None, read: pa.DataType) -> bool:
    """Whether the raw table's type writes a value's text as the source's does."""
    if loaded is None or loaded == read:
        return loaded is not None
    scales = [
        0 if pa.types.is_integer(one) else one.scale if pa.types.is_decimal(one) else None
        for one in (loaded, read)
    ]
    return scales[0] is not None and scales[0] == scales[1]
