"""Audits raw tables: against their ledger, their landing, and their source."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from millrace import pii
from millrace.audit.differences import Differences, differing_keys, differing_rows
from millrace.audit.read_rows import ReadRows
from millrace.batch import WHOLE_TABLE, Batch, Interval, loaded_until
from millrace.catalog import OnBadValue, SoftDeletes
from millrace.checksums.columns import Tally
from millrace.checksums.digests import Compared, Key, of_rows
from millrace.deletes import DELETED, marked_as_deleted, refuse_own_name
from millrace.errors import (
    DeclarationError,
    ManifestCorrupt,
    ManifestNotFound,
    PartCorrupt,
    TooFewRows,
)
from millrace.keyed_rows import KeyedRows
from millrace.sources.base import KeyedSource
from millrace.warehouses.base import LedgerRow, LoadedRows

if TYPE_CHECKING:
    from millrace.catalog import IngestTable
    from millrace.manifest import Manifest
    from millrace.pipeline import Pipeline

log = logging.getLogger(__name__)

_DAMAGED = (ManifestNotFound, ManifestCorrupt, PartCorrupt)
# If more of the keys have vanished at once, it is rather the source that is not the right one.
_MAX_VANISHED = 0.5


@dataclass(frozen=True)
class DamagedBatch:
    """A batch that is not as it was loaded.

    Attributes:
        batch_id: Its id in the raw table.
        why: What is the matter, for a person.
        row: Its row in the ledger; None: no batch of the ledger has loaded these rows.
        is_landing: Whether the landing is damaged, and not the raw table.
    """

    batch_id: str
    why: str
    row: LedgerRow | None = None
    is_landing: bool = False


@dataclass(frozen=True)
class Audit:
    """What an audit of a table has found.

    Attributes:
        table: The table.
        interval: The interval that was compared.
        compared: The columns whose values were compared.
        not_compared: The columns whose values were not.
        rows: How many rows the ledger has.
        damaged: The batches that are not as they were loaded.
        differences: The rows that differ from the source's.
    """

    table: IngestTable
    interval: Interval
    compared: Compared
    not_compared: tuple[str, ...]
    rows: int
    damaged: tuple[DamagedBatch, ...]
    differences: Differences

    @property
    def is_equal(self) -> bool:
        """Whether everything is as it should be."""
        return not self.damaged and not self.differences.count


class Auditor:
    """Audits and mends the tables of a project.

    Args:
        pipeline: The project's stages.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def audit(
        self, table: IngestTable, interval: Interval = WHOLE_TABLE, *, deep: bool = False
    ) -> Audit | None:
        """Compare a raw table with its ledger and its source; None: it was never loaded.

        Args:
            table: The table.
            interval: Compare only rows whose cursor lies here, and the batches that touch it.
            deep: Read the landing and the source's rows as well, instead of having the source
                compute: so hashed columns are compared too, and what was landed.

        Raises:
            SourceError, WarehouseError, LandingError: one of them cannot be read.
            TooManyDifferences: more rows differ than could be mended one by one.
            DeclarationError: tables of its kind cannot be audited.
        """
        if not table.options.is_auditable:
            raise DeclarationError(
                f"{table.key} cannot be audited: asked again, a source of the kind "
                f"{table.options.kind} may answer something else.",
                fix="Audit other tables. Each batch was compared with its landing when it was "
                "loaded.",
            )
        ledger = self._ledger(table)
        if not ledger:
            return None
        self._pipeline.refuse_other_salt(table, ledger=ledger)
        scope = _scope(table, interval, ledger)
        touched = [row for row in ledger if _touches(row, interval)]
        compared, left = self.compared(table, deep=deep)
        rows = sum(row.rows for row in touched)
        with (
            self._source(table, compared, scope, deep=deep) as source,
            self._loaded(table, compared, scope) as loaded,
        ):
            doubled = loaded.doubled() if table.options.primary_key else []
            damaged = list(_not_as_loaded(loaded.batch_rows(), ledger, touched, dict(doubled)))
            found = differing_rows(source, loaded, rows, table.key)
        if deep:
            damaged += self._not_as_landed(table, touched)
        self._leave_out_bad(table, compared, scope, found)
        # Of several versions only the current one is compared, and a double is no other version.
        found.doubled = sorted({*found.doubled, *(key for _, key in doubled)})
        return Audit(table, scope, compared, left, rows, tuple(damaged), found)

    def repair(self, audit: Audit, *, deep: bool = False) -> Audit:
        """Mend what an audit has found.

        Damaged batches are loaded from the landing again; if the landing is damaged, they are read
        again. Then the rows that still differ from the source's are landed and loaded, and rows
        that have vanished at the source get a version that is marked as deleted.

        Returns:
            What another audit then finds.

        Raises:
            As ``audit``; and whatever keeps a batch from being landed and loaded.
        """
        table = audit.table
        for damage in audit.damaged:
            self._restore(table, damage)
        again = audit if not audit.damaged else self._audited(table, audit.interval, deep=deep)
        if again.differences.count:
            if table.is_full_refresh:
                self._pipeline.ingest(table)
            else:
                self._correct(table, again.compared, again.interval, again.differences)
            again = self._audited(table, audit.interval, deep=deep)
        return again

    def mark_deletes(self, table: IngestTable) -> LedgerRow | None:
        """Compare the keys of a table that declares ``deletes: keys``, and load what differs.

        Keys that have vanished get a version that is marked as deleted. Keys that the raw table
        lacks, although their rows are not new, are loaded.

        Returns:
            The ledger's row of the correction; None: nothing differs.

        Raises:
            As ``audit``.
            TooFewRows: so many keys have vanished that the source is not believed.
        """
        ledger = self._ledger(table)
        source = self._pipeline.source(table)
        if not ledger:
            return None
        self._pipeline.refuse_other_salt(table, ledger=ledger)
        if not isinstance(source, KeyedSource):
            raise DeclarationError(
                f"{table.key}: `deletes: keys` is for sources that find rows by their keys, and "
                f"the kind {table.options.kind} does not.",
                fix="Leave it out: a table without a cursor is replaced as a whole.",
            )
        scope = _scope(table, WHOLE_TABLE, ledger)
        compared = self.compared(table, deep=False)[0].only_key()
        rows = sum(row.rows for row in ledger)
        with (
            source.by_key(table, compared, scope) as theirs,
            self._loaded(table, compared, WHOLE_TABLE) as ours,
        ):
            found = differing_keys(theirs, ours, compared, rows, table.key)
        _refuse_too_many(table, len(found.vanished), rows)
        return self._correct(table, compared, scope, found)

    def _audited(self, table: IngestTable, interval: Interval, *, deep: bool) -> Audit:
        audit = self.audit(table, interval, deep=deep)
        if audit is None:
            raise ValueError(f"{table.key} has lost its ledger")
        return audit

    def _ledger(self, table: IngestTable) -> Sequence[LedgerRow]:
        return self._pipeline.warehouse.ledgers([table])[table.key]

    def _loaded(
        self, table: IngestTable, compared: Compared, interval: Interval
    ) -> AbstractContextManager[LoadedRows]:
        return self._pipeline.warehouse.by_key(table, compared, interval)

    def _protected(
        self, table: IngestTable, batches: Iterable[pa.RecordBatch]
    ) -> Iterator[pa.RecordBatch]:
        return pii.protect(batches, table, self._pipeline.settings.pii_salt)

    def _found_by_key(self, table: IngestTable, compared: Compared) -> KeyedSource | None:
        """The table's source, if it finds rows by the keys that the raw table has."""
        source = self._pipeline.source(table)
        is_hashed = bool(set(compared.key) & table.pii.keys())
        return source if isinstance(source, KeyedSource) and not is_hashed else None

    @contextmanager
    def _source(
        self, table: IngestTable, compared: Compared, interval: Interval, *, deep: bool
    ) -> Iterator[KeyedRows]:
        """The source's rows: as it computes them by itself, or as they are read."""
        source = self._pipeline.source(table)
        if isinstance(source, KeyedSource) and not deep:
            with source.by_key(table, compared, interval) as rows:
                yield rows
            return

        @contextmanager
        def read() -> Iterator[Iterable[pa.RecordBatch]]:
            as_read = _with_every_row(table)
            with source.extract(as_read, interval, without=table.left_out) as extraction:
                yield self._protected(table, extraction.batches)

        yield ReadRows(read, compared)

    def _leave_out_bad(
        self, table: IngestTable, compared: Compared, interval: Interval, found: Differences
    ) -> None:
        """Leave out what differs only by values that do not fit: their loads have told them."""
        source = self._found_by_key(table, compared)
        wanted = [*found.missing, *found.changed]
        is_told = wanted and table.options.on_bad_value is not OnBadValue.FAIL
        if not is_told or source is None:
            return
        with source.rows_of(table, compared, wanted, interval) as extraction:
            read = self._protected(table, extraction.batches)
            theirs = {row.key: row.digest for batch in read for row in of_rows(batch, compared)}
        with self._loaded(table, compared, WHOLE_TABLE) as loaded:
            batches = loaded.current(found.changed).to_batches() if found.changed else []
            ours = {row.key: row.digest for batch in batches for row in of_rows(batch, compared)}
        found.missing = [key for key in found.missing if key in theirs]
        found.changed = [
            key for key in found.changed if key in theirs and theirs[key] != ours.get(key)
        ]

    def compared(self, table: IngestTable, *, deep: bool) -> tuple[Compared, tuple[str, ...]]:
        """Which columns are compared, and which are not.

        Raises:
            DeclarationError: the key is hashed, and only a deep comparison hashes.
        """
        columns = self._pipeline.source(table).columns(table, without=table.left_out)
        schema = read = pa.schema(
            [pa.field(column.name, column.type) for column in columns if column.type is not None]
        )
        if deep:
            schema = pii.protected_schema(schema, table)
        else:
            schema = pa.schema([field for field in schema if field.name not in table.pii])
        schema = self._pipeline.warehouse.comparable(table, schema)
        key = table.options.primary_key or tuple(schema.names)
        if lost := [name for name in key if name not in schema.names]:
            raise DeclarationError(
                f"{table.key} cannot be compared by its key: {', '.join(lost)} is hashed, or of a "
                "type that the warehouse does not write as the source does.",
                fix="Compare it with `millrace audit --deep`, which reads the whole table.",
            )
        return Compared(key, schema), tuple(name for name in read.names if name not in schema.names)

    def _not_as_landed(
        self, table: IngestTable, ledger: Iterable[LedgerRow]
    ) -> Iterator[DamagedBatch]:
        """Read the parts of each batch, and compare its loaded values with them."""
        for row in ledger:
            try:
                manifest = self._read_parts(row)
            except _DAMAGED as error:
                yield DamagedBatch(row.batch_id, error.message, row, is_landing=True)
                continue
            if manifest.rows != row.rows:
                # A later batch with a lookback has taken over its end.
                continue
            wrong = self._pipeline.warehouse.differing_columns(
                table, manifest, row, self._pipeline.landing
            )
            if wrong:
                why = f"other values than were landed, in the columns {', '.join(wrong)}"
                yield DamagedBatch(row.batch_id, why, row)

    def _read_parts(self, row: LedgerRow) -> Manifest:
        """The manifest of a batch, with the checksums of what its parts hold.

        Raises:
            ManifestNotFound, ManifestCorrupt, PartCorrupt: it is damaged.
        """
        landing = self._pipeline.landing
        manifest = landing.read_manifest(row.manifest_url)
        tally = Tally(manifest.schema)
        for part in manifest.parts:
            with landing.local_copy(part) as path, pq.ParquetFile(path) as file:
                for batch in file.iter_batches():
                    tally.add(batch)
        return replace(manifest, checksums=tally.checksums)

    def _restore(self, table: IngestTable, damage: DamagedBatch) -> None:
        """Load a damaged batch again: from the landing, or else from the source."""
        warehouse, row = self._pipeline.warehouse, damage.row
        if row is None:
            warehouse.discard(table, damage.batch_id)
            return
        try:
            if not damage.is_landing:
                manifest = self._pipeline.landing.read_manifest(row.manifest_url)
                warehouse.load(table, manifest, self._pipeline.landing)
                return
        except _DAMAGED as error:
            log.warning("%s", error.message)
        if row.is_correction:
            # What it corrected is found again.
            warehouse.discard(table, damage.batch_id)
            return
        batch = Batch(table.key, row.interval)
        self._pipeline.load(table, self._pipeline.extract(table, batch))

    def _correct(
        self, table: IngestTable, compared: Compared, interval: Interval, found: Differences
    ) -> LedgerRow | None:
        """Land and load the rows of differing keys; None: there are none."""
        source = self._found_by_key(table, compared)
        if source is None:
            raise DeclarationError(
                f"{table.key}: {found.count:,} rows differ, and they cannot be read by their key.",
                fix=f"Read the whole table again: `millrace reload {table.key}`.",
            )
        now = datetime.now(UTC)
        wanted = [*found.missing, *found.changed]
        with source.rows_of(table, compared, wanted, interval) as extraction:
            schema = pii.protected_schema(extraction.schema, table)
            rows: Iterable[pa.RecordBatch] = self._protected(table, extraction.batches)
            batch = Batch(table.key, corrected_at=now)
            raw_table = self._pipeline.raw_table(table)
            salt_id = pii.salt_id(table, self._pipeline.settings.pii_salt)
            write = partial(self._pipeline.landing.write, raw_table=raw_table, salt_id=salt_id)
            if isinstance(table.options.deletes, SoftDeletes):
                # The source promises to mark what it deletes: what has vanished is only told.
                schema, [rows] = marked_as_deleted(table, schema, [rows])
                manifest = write(batch, schema, rows)
            else:
                refuse_own_name(table, schema)
                vanished = self._vanished(table, compared, found.vanished, schema, now)
                schema = schema.append(DELETED)
                present = (_present(batch, schema) for batch in rows)
                manifest = write(batch, schema, chain(present, vanished))
        if not manifest.rows:
            return None
        row = self._pipeline.warehouse.load(table, manifest, self._pipeline.landing)
        log.info(
            "%s: corrected %s rows, of which %s have vanished at the source",
            *(table.key, f"{row.rows:,}", f"{len(found.vanished):,}"),
        )
        return row

    def _vanished(
        self,
        table: IngestTable,
        compared: Compared,
        keys: Sequence[Key],
        schema: pa.Schema,
        now: datetime,
    ) -> list[pa.RecordBatch]:
        """The last versions of rows, marked as deleted."""
        if not keys:
            return []
        with self._loaded(table, compared, WHOLE_TABLE) as loaded:
            last = loaded.current(keys)
        by_name = {name.lower(): last.column(name) for name in last.column_names}
        columns = [
            by_name[field.name.lower()].cast(field.type)
            if field.name.lower() in by_name
            else pa.nulls(last.num_rows, field.type)
            for field in schema
        ]
        moment = pa.scalar(now.replace(tzinfo=None), DELETED.type)
        deleted = pa.repeat(moment, last.num_rows)
        rows = pa.Table.from_arrays([*columns, deleted], schema=schema.append(DELETED))
        return list(rows.to_batches())


def _present(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    nothing = pa.nulls(batch.num_rows, DELETED.type)
    return pa.RecordBatch.from_arrays([*batch.columns, nothing], schema=schema)


def _with_every_row(table: IngestTable) -> IngestTable:
    """The table as it is read to be compared: with the rows that a load sets aside.

    Without them, an earlier version that is loaded would look like one of a deleted row. A table
    that is read whole has no earlier versions.
    """
    options = table.options
    if options.on_bad_value is not OnBadValue.QUARANTINE or table.is_full_refresh:
        return table
    return replace(table, options=options.model_copy(update={"on_bad_value": OnBadValue.NULL}))


def _scope(table: IngestTable, interval: Interval, ledger: Sequence[LedgerRow]) -> Interval:
    """What of an interval is loaded without a gap."""
    if table.is_full_refresh:
        return WHOLE_TABLE
    until = loaded_until(row.covers for row in ledger if not row.is_correction)
    ends = [end for end in (until, interval.end) if end is not None]
    return Interval(interval.start, min(ends, default=None))


def _touches(row: LedgerRow, interval: Interval) -> bool:
    """Whether a batch has rows of an interval; a correction may have any."""
    begins = interval.end is None or row.start is None or row.start < interval.end
    ends = interval.start is None or row.end is None or row.end > interval.start
    return begins and ends


def _not_as_loaded(
    counts: Mapping[str, int],
    ledger: Sequence[LedgerRow],
    touched: Sequence[LedgerRow],
    doubled: Mapping[str, Key],
) -> Iterator[DamagedBatch]:
    """The batches that have other rows than the ledger says."""
    for row in touched:
        count = counts.get(row.batch_id, 0)
        if count != row.rows:
            why = f"{count:,} rows in the raw table; the ledger says {row.rows:,}"
            yield DamagedBatch(row.batch_id, why, row)
        elif row.batch_id in doubled:
            why = f"the key {', '.join(doubled[row.batch_id])} is there more than once"
            yield DamagedBatch(row.batch_id, why, row)
    for batch_id in sorted(counts.keys() - {row.batch_id for row in ledger}):
        why = f"{counts[batch_id]:,} rows that no batch of the ledger has loaded"
        yield DamagedBatch(batch_id, why)


def _refuse_too_many(table: IngestTable, vanished: int, rows: int) -> None:
    share = 1 - (table.options.min_row_ratio or 1 - _MAX_VANISHED)
    if vanished > max(share * rows, 1):
        raise TooFewRows(
            f"{table.key}: of {rows:,} loaded rows, {vanished:,} have vanished at the source: more "
            f"than {share:.0%}.",
            fix="Look at the source. If so many are really gone, lower `min_row_ratio` for one "
            "run. Nothing was marked as deleted.",
        )
