"""A warehouse with its landing, for the tests that every warehouse passes and for its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import obstore
import pyarrow as pa

from millrace.batch import Batch, Interval
from millrace.catalog import IngestTable
from millrace.landing.landing import Landing
from millrace.manifest import Manifest, Part
from millrace.warehouses.base import LedgerRow
from millrace.warehouses.sql import SqlWarehouse, quote, raw
from tests.millrace.tables import batches_of, declared

DAY = datetime(2026, 10, 1, tzinfo=UTC)
INTERVAL = Interval(DAY, DAY + timedelta(days=1))


@dataclass
class Place:
    """A warehouse with a landing that it can reach, and a raw table of its own."""

    warehouse: SqlWarehouse
    landing: Landing
    table: IngestTable

    def with_options(self, **options: Any) -> Place:
        return Place(
            self.warehouse,
            self.landing,
            replace(declared(**options), schema=self.table.schema),
        )

    def land(self, data: pa.Table, interval: Interval = INTERVAL, **options: Any) -> Manifest:
        batch = Batch("mysql.nps", interval)
        return self.landing.write(batch, data.schema, batches_of(data), **options)

    def load(self, data: pa.Table, interval: Interval = INTERVAL) -> LedgerRow:
        return self.load_manifest(self.land(data, interval))

    def load_manifest(self, manifest: Manifest) -> LedgerRow:
        return self.warehouse.load(self.table, manifest, self.landing)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.warehouse._session() as session:
            return [tuple(row) for row in session.run(sql)]

    def rows(self, *names: str) -> list[tuple[Any, ...]]:
        columns = ", ".join(map(quote, names or ("id",)))
        found = self.query(f"SELECT {columns} FROM {raw(self.table)}")
        return sorted(found, key=repr)

    def everything(self) -> list[tuple[Any, ...]]:
        """Raw rows, the ledger and the columns: all that a failed load must leave as it was."""
        raw_rows = self.query(f"SELECT id, _batch_id, _loaded_at FROM {raw(self.table)}")
        ledger = self.query(
            f"SELECT batch_id, row_count, loaded_at FROM {quote(self.table.schema)}._batches"
        )
        columns = self.query(
            "SELECT column_name, data_type FROM information_schema.columns "
            f"WHERE table_schema = '{self.table.schema}'"
        )
        return sorted([*raw_rows, *ledger, *columns], key=repr)

    def put(self, part: Part, body: bytes) -> None:
        """Overwrite a landed part, as nothing of ours does."""
        obstore.put(self.landing._store, self._path(part), body)

    def rewrite(self, manifest: Manifest) -> None:
        """Put a manifest in the place of the one that was landed."""
        path = manifest.url.removeprefix(f"{self.landing.url}/")
        obstore.put(self.landing._store, path, manifest.to_json().encode())

    def remove(self, part: Part) -> None:
        obstore.delete(self.landing._store, self._path(part))

    def _path(self, part: Part) -> str:
        return part.url.removeprefix(f"{self.landing.url}/")


def ids(*values: int, **columns: Any) -> pa.Table:
    """Rows with these ids."""
    return pa.table({"id": pa.array(values, pa.int32()), **columns})
