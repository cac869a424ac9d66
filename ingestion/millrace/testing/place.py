"""A warehouse with its landing, and batches to load into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import obstore
import pyarrow as pa

from millrace.bad_values import RECORDS, SetAside
from millrace.batch import Batch, Interval
from millrace.catalog import Cursor, IngestOptions, IngestTable, Pii
from millrace.checksums.digests import Compared, KeyedDigest, of_rows
from millrace.landing.landing import Landing
from millrace.manifest import Manifest, Part
from millrace.warehouses.base import LedgerRow, Warehouse, quarantine_of
from millrace.warehouses.reading import SqlReader

DAY = datetime(2026, 10, 1, tzinfo=UTC)
NEXT_DAY = DAY + timedelta(days=1)
INTERVAL = Interval(DAY, NEXT_DAY)


@dataclass
class Place:
    """A warehouse with a landing that it can reach, and a raw table of its own."""

    warehouse: SqlReader
    landing: Landing
    table: IngestTable

    def with_options(self, **options: Any) -> Place:
        """The same place, for a table with other keys in its ingest block."""
        return replace(self, table=replace(declared(**options), schema=self.table.schema))

    def land(
        self,
        data: pa.Table,
        interval: Interval = INTERVAL,
        *,
        batch: Batch | None = None,
        **options: Any,
    ) -> Manifest:
        """Land a batch; default: of this table."""
        batch = batch or Batch("mysql.nps", interval)
        return self.landing.write(batch, data.schema, batches_of(data), **options)

    def load(self, data: pa.Table, interval: Interval = INTERVAL) -> LedgerRow:
        """Land a batch and load it."""
        return self.load_manifest(self.land(data, interval))

    def reload(self, data: pa.Table, interval: Interval = INTERVAL) -> LedgerRow:
        """Land a batch and load it in the place of all others."""
        return self.warehouse.reload(self.table, self.land(data, interval), self.landing)

    def load_manifest(self, manifest: Manifest) -> LedgerRow:
        """Load what was landed."""
        return self.warehouse.load(self.table, manifest, self.landing)

    def quote(self, identifier: str) -> str:
        """An identifier as the warehouse quotes it."""
        return self.warehouse._dialect(self.table).quote(identifier)

    def raw(self, table: IngestTable | None = None) -> str:
        """The quoted name of a raw table; default: this one's."""
        return self.warehouse._dialect(self.table).raw(table or self.table)

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Query the warehouse."""
        with self.warehouse._session() as session:
            return [tuple(row) for row in session.run(sql)]

    def rows(self, *names: str) -> list[tuple[Any, ...]]:
        """The raw rows, in order; without names, their ids."""
        columns = ", ".join(map(self.quote, names or ("id",)))
        found = self.query(f"SELECT {columns} FROM {self.raw()}")
        return sorted(found, key=repr)

    def quarantined(self) -> list[tuple[Any, ...]]:
        """The key and the batch of each record of what was set aside, in order."""
        place = self.raw(quarantine_of(self.table))
        return sorted(self.query(f"SELECT row_key, _batch_id FROM {place}"))

    def everything(self) -> list[tuple[Any, ...]]:
        """Raw rows, the ledger and the columns: all that a failed load must leave as it was."""
        raw_rows = self.query(f"SELECT id, _batch_id, _loaded_at FROM {self.raw()}")
        ledger = self.query(
            f"SELECT batch_id, row_count, loaded_at FROM {self.quote(self.table.schema)}._batches"
        )
        columns = [
            (relation, *column)
            for relation in self.relations()
            for column in self.warehouse.columns(self.table.schema, relation).items()
        ]
        return sorted([*raw_rows, *ledger, *columns], key=repr)

    def relations(self) -> set[str]:
        """The names of the tables and views in the raw table's schema."""
        found = self.query(
            "SELECT table_name FROM information_schema.tables "
            f"WHERE table_schema = '{self.table.schema}'"
        )
        return {name for (name,) in found}

    def put(self, part: Part, body: bytes) -> None:
        """Overwrite a landed part, which Millrace itself never does."""
        obstore.put(self.landing._store, self._path(part), body)

    def rewrite(self, manifest: Manifest) -> None:
        """Put a manifest in the place of the one that was landed."""
        path = manifest.url.removeprefix(f"{self.landing.url}/")
        obstore.put(self.landing._store, path, manifest.to_json().encode())

    def remove(self, part: Part) -> None:
        """Delete a landed part."""
        obstore.delete(self.landing._store, self._path(part))

    def _path(self, part: Part) -> str:
        return part.url.removeprefix(f"{self.landing.url}/")


def ids(*values: int, **columns: Any) -> pa.Table:
    """Rows with these ids."""
    return pa.table({"id": pa.array(values, pa.int32()), **columns})


def aside(*keys: str, at: datetime = DAY) -> SetAside:
    """Rows with these keys, as they are set aside for one bad value each."""
    record = {
        "row_cursor": at.replace(tzinfo=None),
        "column_name": "note",
        "reason": "is not UTF-8",
        "value_text": "\\xff",
    }
    records = [{"row_key": key, **record} for key in keys]
    return SetAside(len(keys), pa.Table.from_pylist(records, RECORDS))


def declared(
    *,
    cursor: str | dict[str, Any] | None = "updated_at",
    pii: dict[str, Pii] | None = None,
    **options: Any,
) -> IngestTable:
    """The declaration of a table ``mysql.nps`` with the key ``id``.

    Args:
        cursor: Its cursor; None: it is read whole.
        pii: Policy by column name.
        options: Other keys of its ingest block.
    """
    block = {"column": cursor} if isinstance(cursor, str) else cursor
    checked = Cursor.model_validate(block) if block else None
    return IngestTable(
        source="mysql",
        name="nps",
        schema="raw_mysql",
        identifier="nps",
        options=IngestOptions(
            kind="mysql",
            connection="mysql_prod",
            primary_key=("id",),
            cursor=checked,
            **options,
        ),
        pii=pii or {},
        file="models/staging/mysql/_mysql__sources.yml",
    )


def comparable(schema: pa.Schema, *key: str) -> Compared:
    """All columns that have a text, to be compared by a key."""
    return Compared(key, pa.schema([one for one in schema if not pa.types.is_floating(one.type)]))


def digests_of(rows: pa.Table, *key: str) -> list[KeyedDigest]:
    """The digests of rows, by their key (default: ``id``), in order."""
    compared = comparable(rows.schema, *key or ("id",))
    found = [one for batch in batches_of(rows) for one in of_rows(batch, compared)]
    return sorted(found, key=repr)


def ledger(warehouse: Warehouse, table: IngestTable) -> Sequence[LedgerRow]:
    """What a warehouse has recorded of a table, oldest load first."""
    return warehouse.ledgers([table])[table.key]


def batches_of(rows: pa.Table, size: int = 1000) -> list[pa.RecordBatch]:
    """Rows as record batches of at most that many rows."""
    return list(rows.combine_chunks().to_batches(max_chunksize=size))
