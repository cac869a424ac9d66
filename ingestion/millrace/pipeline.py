"""The two verbs: ``ingest`` carries a table in, ``publish`` carries a mart out.

To ingest, a batch is planned, extracted and landed, and loaded. Airflow runs the three as tasks of
their own, so that a failed load does not read the source again; the command line runs ``ingest``.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pyarrow as pa

from millrace import pii
from millrace.bad_values import MOST_ROWS, UNLIMITED, Sieve, counted, too_many
from millrace.batch import (
    FINGERPRINT_LENGTH,
    NAME_LENGTH,
    WHOLE_TABLE,
    Batch,
    DeliveredFile,
    Interval,
    Partition,
    loaded_until,
)
from millrace.catalog import Catalog, IngestTable, OnBadValue, Publication, load_catalog
from millrace.catalog.kinds import WAREHOUSES
from millrace.certificates import told_loads
from millrace.checksums.figures import SourceFigures
from millrace.checksums.witness import Witness
from millrace.comparison import ComparedColumn, Sides, side_by_side
from millrace.connections import Connection, Resolver, in_environment
from millrace.dbt.project import Project
from millrace.deletes import marked_as_deleted
from millrace.destinations.base import Destination, Published, open_destination
from millrace.errors import (
    ConnectionNotFound,
    IntervalOpen,
    ManifestCorrupt,
    RelationNotFound,
    RowsMissing,
    SettingError,
    SourceError,
    SourceMismatch,
    TooFewRows,
)
from millrace.landing.landing import Landing
from millrace.landing.sweep import OLD, Loaded, Rules, Sweep
from millrace.landing.sweep import plan as plan_sweep
from millrace.manifest import Manifest
from millrace.progress import Progress
from millrace.settings import Settings
from millrace.sources.base import (
    Extraction,
    FileSource,
    ListingSource,
    Source,
    SourceColumn,
    open_source,
)
from millrace.warehouses.base import (
    LedgerRow,
    Warehouse,
    WarehouseKind,
    open_warehouse,
    quarantine_of,
)
from millrace.warehouses.evolution import plan_evolution
from millrace.warehouses.loads import replaces

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)

# As many as the narrowest ledger can name.
MOST_FILES = 65_535 // FINGERPRINT_LENGTH


@dataclass(frozen=True)
class Outlook:
    """What the next run of a table would do.

    Attributes:
        batch: The batch that it would load; None: nothing can be new.
        expected_rows: About how many rows that is, if the source knows without reading them.
        told: What a person should know of the batch and of changed columns.
    """

    batch: Batch | None
    expected_rows: int | None
    told: tuple[str, ...]


@dataclass(frozen=True)
class Pipeline:
    """The stages of one project, opened as they are needed.

    Attributes:
        project: The dbt project that declares everything.
        settings: The settings.
        connection: Finds credentials.
    """

    project: Project
    settings: Settings
    connection: Resolver = field(repr=False)

    @classmethod
    def find(cls, settings: Settings, start: Path | None = None, **options: str | None) -> Pipeline:
        """The pipeline of a folder's project, with the connections of the environment.

        Args:
            settings: The settings.
            start: Where to look for the project; default: the working directory.
            options: ``project_dir``, ``profiles_dir`` and ``target``; see ``Project.find``.

        Raises:
            ProjectError: there is no project, or several.
        """
        project = Project.find(start, settings.dbt, **options)
        return cls(project, settings, in_environment(settings.environ))

    @cached_property
    def catalog(self) -> Catalog:
        """What the project declares."""
        return load_catalog(self.project.manifest_path)

    @cached_property
    def warehouse(self) -> Warehouse:
        """The warehouse of the dbt target."""
        known = self.project.known_credentials()
        credentials = known or self.project.credentials()
        warehouse = open_warehouse(credentials, self.project.root, self.settings)
        if not known:
            enough = WAREHOUSES.get(credentials.type).enough
            self.project.keep_credentials(credentials, enough)
        return warehouse

    @cached_property
    def landing(self) -> Landing:
        """The landing that the settings name.

        Raises:
            SettingError: they name none, or nothing that is a landing.
            LandingRefused: it cannot be opened.
        """
        url = self.settings.landing_url
        if not url:
            raise SettingError(
                "LANDING_URL is not set.",
                fix="Set LANDING_URL to s3://bucket/prefix, gs://bucket/prefix or file:///folder.",
            )
        is_bucket = url.startswith(("s3://", "gs://"))
        return Landing(url, self._landing_connection() if is_bucket else None)

    def source(self, table: IngestTable) -> Source:
        """The source that a table is read from; all steps of a batch ask the same one."""
        kind, connection = table.options.kind, table.options.connection
        if (kind, connection) not in self._sources:
            self._sources[kind, connection] = open_source(kind, self.connection(connection))
        return self._sources[kind, connection]

    def raw_table(self, table: IngestTable) -> str:
        """Names a raw table among those of all environments that share a landing."""
        return f"{self.catalog.warehouse} {table.schema}.{table.identifier}"

    def destination(self, publication: Publication) -> Destination:
        """Where a mart is published to."""
        options = publication.options
        return open_destination(options.kind, self.connection(options.connection))

    def plan(
        self,
        table: IngestTable,
        interval: Interval | None = None,
        *,
        whole: bool = False,
        tell: Callable[[str], None] | None = None,
    ) -> Batch | None:
        """Decide what the next batch of a table is.

        Args:
            table: The table.
            interval: The interval that is asked for; default: what is not loaded yet.
            whole: Refuse an interval that is not closed, instead of ending the batch earlier.
            tell: Called with each thing that a person should know; default: it is logged.

        Returns:
            Without a cursor, the whole table. Otherwise an interval that no transaction can write
            into any more. It leaves no gap: it begins at the ledger's first gap, unless all that
            is asked for is loaded already. None if nothing can be new.

        Raises:
            SourceError: the source cannot be read, differs from what is declared, or no longer has
                what the batch would replace.
            IntervalOpen: transactions can still write into it.
        """
        tell = tell or partial(log.warning, "%s")
        if table.is_full_refresh:
            return Batch(table.key, WHOLE_TABLE)
        ledger = self._ledger(table)
        loaded = loaded_until(row.covers for row in ledger)
        asked = interval or Interval(loaded)
        start = _without_a_gap(table, asked, loaded)
        _refuse_to_forget(table, start, loaded)
        closing = self.source(table).closed(table, Interval(start, asked.end))
        for warning in closing.warnings:
            tell(warning)
        if interval and interval.start and interval.start >= closing.now:
            raise SourceError(
                f"{table.key}: {interval} starts after now, which is "
                f"{closing.now:%Y-%m-%d %H:%M:%S} UTC by the clock of its source.",
                fix="Name an interval that has begun, or none, for what is not loaded yet.",
            )
        is_empty = start is not None and closing.end <= start
        if closing.held_by is None:
            batch = None if is_empty else Batch(table.key, Interval(start, closing.end))
            source = self.source(table)
            if batch is None or not isinstance(source, FileSource):
                return batch
            return _of_files(table, batch, asked, source.files(table), ledger, tell)
        if whole or is_empty:
            raise IntervalOpen(
                f"{table.key} is not closed until {asked.end or 'now'}: {closing.held_by}.",
                fix="Wait until it is committed, or end that connection; then try again. "
                "Nothing was loaded, and nothing is lost.",
            )
        tell(f"{table.key} is read until {closing.end} for now: {closing.held_by}")
        return Batch(table.key, Interval(start, closing.end))

    def extract(
        self, table: IngestTable, batch: Batch, progress: Progress | None = None
    ) -> Manifest:
        """Read a batch from its source and land it.

        A large one is read by several connections at the same time.

        Raises:
            SourceError: the source cannot be read, or differs from what is declared.
            TooFewRows: fewer rows than the declaration allows; nothing is committed.
            LandingError: the landing cannot be written.
        """
        ranges = self.source(table).ranges(table, batch.interval)
        return self.extract_partition(table, Partition(batch, ranges), progress)

    def partitions(self, table: IngestTable, batch: Batch) -> list[Partition]:
        """Split a batch into partitions, which workers extract.

        The ranges of an interval may be read at different times, because an edit in between moves
        a row into the next interval. What must be read as of one moment is read by one worker.
        """
        ranges = self.source(table).ranges(table, batch.interval)
        if table.is_as_of_one_moment or len(ranges) == 1:
            return [Partition(batch, ranges)]
        attempt = self.landing.new_attempt(batch)
        return [Partition(batch, (key_range,), attempt) for key_range in ranges]

    def extract_partition(
        self, table: IngestTable, partition: Partition, progress: Progress | None = None
    ) -> Manifest:
        """Read a partition of a batch and land it.

        Raises:
            As ``extract``; one of several partitions may have any number of rows.
        """
        batch = partition.batch
        with self._extraction(table, partition) as extraction:
            sieve = extraction.sieve or Sieve(table, extraction.schema)
            schema = pii.protected_schema(extraction.schema, table)
            _refuse_odd_names(table, schema)
            salt = self.settings.pii_salt
            protected = table.pii.keys() - table.left_out
            witness = Witness(table.key, extraction.figures, extraction.schema, protected)
            first, *others = self._within_limits(table, sieve, extraction.streams)
            streams = [
                witness.landing(pii.protect(witness.reading(stream), table, salt), schema)
                for stream in (pii.watched(first, table), *others)
            ]
            schema, streams = marked_as_deleted(table, schema, streams)
            figures = extraction.figures
            manifest = self.landing.write(
                batch,
                schema,
                *streams,
                attempt=partition.attempt,
                before_commit=partial(_refuse_rows, table, partition, figures, witness, sieve),
                progress=progress,
                expected_rows=extraction.expected_rows,
                is_counted=figures.is_counted,
                checksums=witness.checksums,
                set_aside=lambda: sieve.set_aside(partial(_protected_key, table, salt)),
                raw_table=self.raw_table(table),
                salt_id=pii.salt_id(table, salt),
            )
        for text in sieve.told():
            log.warning("%s", text)
        log.info(
            "%s: landed %s rows, %s bytes: %s",
            *(table.key, f"{manifest.rows:,}", f"{manifest.size:,}", manifest.url),
        )
        return manifest

    def _extraction(
        self, table: IngestTable, partition: Partition
    ) -> AbstractContextManager[Extraction]:
        source, batch = self.source(table), partition.batch
        if isinstance(source, FileSource):
            return source.extract_files(table, batch.files, without=table.left_out)
        return source.extract(
            table, batch.interval, without=table.left_out, ranges=partition.ranges
        )

    def merge(
        self, table: IngestTable, partitions: Sequence[Partition], manifest_urls: Sequence[str]
    ) -> Manifest:
        """Commit a batch whose partitions have been landed.

        Args:
            table: The table.
            partitions: What ``partitions`` returned.
            manifest_urls: The URL of each partition's manifest.

        Raises:
            TooFewRows: together, fewer rows than the declaration allows; nothing is committed.
            ValueDoesNotFit: together, too many rows were set aside.
            LandingError: the landing cannot be read or written.
            SchemaConflict: the table's columns changed in between.
        """
        batch, attempt = partitions[0].batch, partitions[0].attempt
        if len(set(manifest_urls)) != len(partitions):
            raise ManifestCorrupt(
                f"{batch} was read in {len(partitions)} partitions, and {len(set(manifest_urls))} "
                "of them have been landed.",
                fix="Extract the others, or ingest the batch again.",
            )
        manifests = [self.landing.read_manifest(url) for url in manifest_urls]
        for manifest in manifests:
            manifest.refuse_other_batch(batch)
        if attempt is None:
            return manifests[0]
        if sum(manifest.quarantined for manifest in manifests) > MOST_ROWS:
            raise too_many(table)
        return self.landing.merge(attempt, manifests, partial(_refuse_too_few, table, batch))

    def create(self, table: IngestTable) -> bool:
        """Make a table's raw table with the columns that its source has, and no rows.

        Returns:
            Whether it was missing.

        Raises:
            SourceError: the source cannot be read, or differs from what is declared.
            SchemaConflict: it is there with other columns.
        """
        columns = self._incoming(table, self._columns(table))
        _refuse_odd_names(table, columns)
        columns, _ = marked_as_deleted(table, columns, [])
        return self.warehouse.create(table, columns)

    def load(self, table: IngestTable, manifest: Manifest) -> LedgerRow:
        """Load what was landed.

        Args:
            table: The table.
            manifest: What ``extract`` or ``merge`` has returned.

        Raises:
            LandingError: a part is missing or damaged, or the manifest is another table's.
            TooFewRows: fewer rows than the declaration allows.
            SettingError: its columns were hashed with another salt than what is loaded.
            WarehouseError: the warehouse refuses it; it is as it was before.
        """
        self._refuse(table, manifest)
        row = self.warehouse.load(table, manifest, self.landing)
        log.info("%s: loaded %s rows of %s", table.key, f"{row.rows:,}", manifest.batch.interval)
        _tell_quarantined(table, row)
        return row

    def ingest(
        self,
        table: IngestTable,
        interval: Interval | None = None,
        progress: Progress | None = None,
    ) -> LedgerRow | None:
        """Plan, extract and load one batch of a table; None: nothing can be new."""
        batch = self.plan(table, interval)
        if batch is None:
            return None
        return self.load(table, self.extract(table, batch, progress))

    def plan_reload(self, table: IngestTable, *, new_salt: bool = False) -> Batch:
        """Decide what a reload of a table reads: all of it, up to the last moment that is closed.

        Args:
            table: The table.
            new_salt: Whether what is loaded may have been hashed with another salt.

        Raises:
            SettingError: it was.
            SourceError: the source cannot be read, or differs from what is declared.
            IntervalOpen: that moment lies before what is loaded already.
        """
        if not new_salt:
            self.refuse_other_salt(table)
        # Only an interval with a start can be empty.
        batch = cast("Batch", self.plan(table, WHOLE_TABLE))
        if until := self._loaded_beyond(table, batch):
            raise IntervalOpen(
                f"{table.key} is closed until {batch.interval.end} only, and loaded until {until}: "
                "a reload now would take rows away.",
                fix="Wait until the open transactions are committed, then try again. Nothing was "
                "changed.",
            )
        return batch

    def replace(
        self, table: IngestTable, manifest: Manifest, *, new_salt: bool = False
    ) -> LedgerRow:
        """Load what was landed into a new raw table, which replaces the old one.

        Args:
            table: The table.
            manifest: What ``extract`` or ``merge`` has returned for ``plan_reload``'s batch.
            new_salt: As for ``plan_reload``.

        Raises:
            As ``load``; the warehouse is as it was before.
        """
        self._refuse(table, manifest, new_salt=new_salt)
        until = self._loaded_beyond(table, manifest.batch)
        row = self.warehouse.reload(table, manifest, self.landing)
        log.info("%s: reloaded %s rows", table.key, f"{row.rows:,}")
        _tell_quarantined(table, row)
        if until:
            log.warning(
                "%s was loaded until %s meanwhile, and its new raw table ends at %s: the next "
                "ingestion reads the rest again.",
                *(table.key, until, row.end),
            )
        return row

    def reload(
        self, table: IngestTable, progress: Progress | None = None, *, new_salt: bool = False
    ) -> LedgerRow:
        """Read a whole table, and put it in the place of its raw table.

        Args:
            table: The table.
            progress: Called with the rows and bytes so far.
            new_salt: Whether what is loaded may have been hashed with another salt.
        """
        batch = self.plan_reload(table, new_salt=new_salt)
        manifest = self.extract(table, batch, progress)
        return self.replace(table, manifest, new_salt=new_salt)

    def refuse_other_salt(
        self,
        table: IngestTable,
        salt_id: str | None = None,
        ledger: Sequence[LedgerRow] | None = None,
    ) -> None:
        """Refuse to hash a table's columns, or to compare them, with another salt than before.

        The same e-mail would get another hash, and nothing would say so: joins would lose their
        rows, and a snapshot would take every row for changed.

        Args:
            table: The table.
            salt_id: Of the salt that was used; default: of that in the settings.
            ledger: The table's ledger; default: read now.

        Raises:
            SettingError: it is another one.
        """
        used = salt_id or pii.salt_id(table, self.settings.pii_salt)
        if used is None:
            return
        if ledger is None:
            ledger = self.warehouse.ledgers([table])[table.key]
        if all(row.salt_id in (None, used) for row in ledger):
            return
        raise SettingError(
            f"{table.key} is loaded with hashes of another salt than MILLRACE_PII_SALT: the same "
            "value would get another hash, and not join.",
            fix="Set the salt that was set before. If it is to change, follow docs/operations.md, "
            f"'Another salt', which reads the table anew: millrace reload {table.key} --new-salt.",
        )

    def outlook(self, table: IngestTable) -> Outlook:
        """What the next run of a table would do; nothing is changed.

        Raises:
            SourceError: the source cannot be read, or differs from what is declared.
            IntervalOpen: transactions hold it up, so it would load nothing.
            SchemaConflict: the warehouse would refuse the columns.
        """
        told: list[str] = []
        batch = self.plan(table, tell=told.append)
        incoming = self._incoming(table, self._columns(table))
        existing = self.warehouse.raw_types(table)
        if not existing:
            told.append(f"{table.schema}.{table.identifier} is made.")
        told.extend(plan_evolution(table, existing, incoming).told)
        source = self.source(table)
        rows = source.estimated_rows(table, batch.interval) if batch else None
        return Outlook(batch, rows, tuple(told))

    def compare(self, table: IngestTable) -> list[ComparedColumn]:
        """The table's columns at the source, declared, in the raw table and in the dbt models.

        Raises:
            SourceError: the source cannot be read, or differs from what is declared.
        """
        columns = self._columns(table)
        return side_by_side(
            Sides(
                table,
                columns,
                self._incoming(table, columns),
                self.warehouse.raw_types(table),
                self.warehouse.columns(table.schema, table.identifier),
                [
                    (model, self.warehouse.columns(model.schema, model.identifier))
                    for model in self.catalog.readers.get(table.key, ())
                ],
            )
        )

    def undeclared(self) -> dict[str, list[str]]:
        """What databases have that is not declared, by the id of the connection.

        Raises:
            SourceError: a source cannot be read.
        """
        declared: dict[tuple[str, str], list[IngestTable]] = {}
        for table in self.catalog.tables:
            of_source = table.options.kind, table.options.connection
            declared.setdefault(of_source, []).append(table)
        found = {
            connection: source.undeclared(tables)
            for (_, connection), tables in declared.items()
            if isinstance(source := self.source(tables[0]), ListingSource)
        }
        return {connection: places for connection, places in found.items() if places}

    def preview(self, table: IngestTable, rows: int) -> pa.Table:
        """The first rows of a table as they would land; nothing is landed.

        Args:
            table: The table.
            rows: How many at most. They come in the order of the primary key where a source reads
                by it.

        Raises:
            As ``extract``.
        """
        # Nothing is compared, because the rows are not read to their end.
        read = replace(table, options=table.options.model_copy(update={"verify": "off"}))
        with self.source(table).extract(read, WHOLE_TABLE, without=table.left_out) as extraction:
            sieve = extraction.sieve or Sieve(table, extraction.schema)
            (stream,) = self._within_limits(table, sieve, extraction.streams)
            salt = self.settings.pii_salt
            protected = pii.protect(pii.watched(stream, table), table, salt)
            schema = pii.protected_schema(extraction.schema, table)
            schema, (marked,) = marked_as_deleted(table, schema, [protected])
            taken: list[pa.RecordBatch] = []
            missing = rows
            for batch in marked:
                taken.append(batch.slice(0, missing))
                missing -= taken[-1].num_rows
                if not missing:
                    break
        for text in sieve.told():
            log.warning("%s", text)
        return pa.Table.from_batches(taken, schema)

    def plan_sweep(self, older_than: timedelta = OLD, *, loaded: bool = False) -> Sweep:
        """Find the landed attempts and unfinished uploads that nobody needs; nothing is changed.

        Args:
            older_than: From which age on a committed attempt is swept.
            loaded: Whether to sweep old attempts that the ledger names, too.

        Raises:
            SettingError: the age is too short.
            LandingError: the landing cannot be listed.
            WarehouseError: the ledgers cannot be read.
        """
        tables = self.catalog.tables

        def loaded_now() -> dict[str, Loaded]:
            ledgers = self.warehouse.ledgers(tables)
            return {table.key: self._loaded(table, ledgers[table.key]) for table in tables}

        rules = Rules(datetime.now(UTC), older_than, loaded)
        return plan_sweep(self.landing, [table.key for table in tables], loaded_now, rules)

    def _loaded(self, table: IngestTable, ledger: Sequence[LedgerRow]) -> Loaded:
        return Loaded.of(self.raw_table(table), (row.manifest_url for row in ledger))

    def _within_limits(
        self, table: IngestTable, sieve: Sieve, streams: Sequence[Iterator[pa.RecordBatch]]
    ) -> list[Iterable[pa.RecordBatch]]:
        """The streams without the values that the warehouse cannot hold."""
        if table.options.on_bad_value is OnBadValue.FAIL:
            return list(streams)
        # Of its kind, because the target's credentials take seconds to read.
        kind: WarehouseKind | None = WAREHOUSES.find(self.catalog.warehouse)
        limits = kind.limits if kind else UNLIMITED
        return [sieve.within(limits, stream) for stream in streams]

    def _columns(self, table: IngestTable) -> Sequence[SourceColumn]:
        return self.source(table).columns(table, without=table.left_out)

    def _incoming(self, table: IngestTable, columns: Sequence[SourceColumn]) -> pa.Schema:
        """The columns as they are landed."""
        read = [(column.name, column.type) for column in columns if column.type is not None]
        return pii.protected_schema(pa.schema(read), table)

    def _loaded_beyond(self, table: IngestTable, batch: Batch) -> datetime | None:
        """Until when a table is loaded, if that is later than the end of a batch."""
        ends = [row.covers.end for row in self._ledger(table)]
        until = max((end for end in ends if end is not None), default=None)
        end = batch.interval.end
        return until if until is not None and end is not None and end < until else None

    def origin(self, publication: Publication) -> str:
        """Names the warehouse and schema of a mart: nobody else's table is overwritten."""
        return f"{self.warehouse.name}, {publication.schema}"

    def publish(self, publication: Publication, run: str) -> Published:
        """Read a mart from the warehouse and publish it.

        Args:
            publication: The declaration.
            run: Names the run that publishes, for the readers.

        Raises:
            WarehouseError: the mart cannot be read.
            SheetError: it cannot be published; readers see what they saw before.
        """
        options = publication.options
        destination = self.destination(publication)
        refreshed = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {run}"
        origin = self.origin(publication)
        try:
            rows = self.warehouse.read(
                publication.schema, publication.identifier, options.columns, options.order_by
            )
        except RelationNotFound as error:
            destination.mark_stale(publication, error.message, when=refreshed, warehouse=origin)
            raise
        ledgers = self.warehouse.ledgers([self.catalog.table(key) for key in publication.tables])
        published = destination.publish(
            publication,
            rows,
            refreshed=refreshed,
            warehouse=origin,
            loaded=told_loads(ledgers),
        )
        log.info("%s: published %s rows", publication.name, f"{published.rows:,}")
        return published

    def published_at(self, publication: Publication) -> datetime | None:
        """When a mart was published last, in UTC, to the minute; None: never.

        Raises:
            SheetError: the sheet cannot be read.
        """
        destination = self.destination(publication)
        return destination.published_at(publication, warehouse=self.origin(publication))

    def _refuse(self, table: IngestTable, manifest: Manifest, *, new_salt: bool = False) -> None:
        """Refuse a manifest that is another table's, or has too few rows or another salt."""
        batch = manifest.batch
        manifest.refuse_other_batch(Batch(table.key, batch.interval, files=batch.files))
        _refuse_too_few(table, manifest.batch, manifest.rows)
        self._refuse_shrinking(table, manifest)
        if not new_salt:
            self.refuse_other_salt(table, manifest.salt_id)

    def _refuse_shrinking(self, table: IngestTable, manifest: Manifest) -> None:
        ratio = table.options.min_row_ratio
        if ratio is None or not table.is_full_refresh:
            return
        before = next((row.rows for row in reversed(self._ledger(table))), 0)
        least = math.ceil(ratio * before)
        if manifest.rows < least:
            raise TooFewRows(
                f"{table.key} has {manifest.rows:,} rows; the last load had {before:,}, and "
                f"min_row_ratio {ratio:g} asks for {least:,} at least.",
                fix="Look at the source. If so few are right, lower or remove `min_row_ratio` for "
                "one load. The warehouse keeps what it has.",
            )

    @cached_property
    def _sources(self) -> dict[tuple[str, str], Source]:
        return {}

    def _ledger(self, table: IngestTable) -> Sequence[LedgerRow]:
        """A table's batches without corrections, which cover no interval."""
        rows = self.warehouse.ledgers([table])[table.key]
        return [row for row in rows if not row.is_correction]

    def _landing_connection(self) -> Connection | None:
        """None if there is none: then boto3 or google-auth looks for credentials by itself."""
        try:
            return self.connection(self.settings.landing_connection)
        except ConnectionNotFound:
            return None


def _without_a_gap(table: IngestTable, asked: Interval, loaded: datetime | None) -> datetime | None:
    """Where a batch must begin so that nothing after the loaded time is left out."""
    if loaded is None or asked.start is None:
        return None
    if asked.end is not None and asked.end <= loaded:
        # An old interval is loaded again.
        return asked.start
    start = min(asked.start, loaded)
    lookback = table.options.cursor and table.options.cursor.lookback
    return start - lookback.span if lookback else start


def _refuse_to_forget(table: IngestTable, start: datetime | None, loaded: datetime | None) -> None:
    """Refuse to replace what is loaded and can no longer be read."""
    since = table.options.readable_since(datetime.now(UTC))
    if loaded is None or since is None:
        return
    if start is None or start < min(loaded, since):
        raise SourceError(
            f"{table.key} is loaded until {loaded:%Y-%m-%d %H:%M} UTC, and its source only tells "
            "how things are now: reading older intervals again would lose what it told then.",
            fix="Ingest what is not loaded yet: name no interval. The raw table keeps what it has.",
        )


def _of_files(
    table: IngestTable,
    batch: Batch,
    asked: Interval,
    files: Sequence[DeliveredFile],
    ledger: Sequence[LedgerRow],
    tell: Callable[[str], None],
) -> Batch | None:
    """The batch of the files that no other batch has taken; None if there are none.

    Args:
        table: The table.
        batch: The batch, for its interval.
        asked: The interval that was asked for.
        files: All files that are there, oldest first.
        ledger: What is loaded.
        tell: Called with what a person should know.

    Raises:
        SourceError: a file whose rows it would replace is gone.
        SourceMismatch: there never was a file.
    """
    if not files and not ledger:
        raise SourceMismatch(
            f"{table.key}: no file is there of those that its declaration names.",
            fix="Correct `files` in the declaration, or wait for the first delivery.",
        )
    again = frozenset[str]().union(*(row.taken for row in ledger if replaces(batch, row)))
    taken = frozenset[str]().union(*(row.taken for row in ledger if not replaces(batch, row)))
    if gone := len(_names(again) - _names(file.fingerprint for file in files)):
        raise SourceError(
            f"{table.key}: {counted(gone, 'file')} that {'is' if gone == 1 else 'are'} loaded from "
            f"{batch.interval} {'is' if gone == 1 else 'are'} gone from the source: reading it "
            "again would lose the rows.",
            fix="Name no interval: what is not loaded yet is taken. The raw table keeps what it "
            "has.",
        )
    new = [
        file
        for file in files
        if file.fingerprint not in taken
        and (asked.end is None or file.delivered_at < asked.end or file.fingerprint in again)
    ]
    if len(new) > MOST_FILES:
        tell(
            f"{table.key}: {len(new):,} files are new; the {MOST_FILES:,} that came first are "
            "taken now, the others by the next ingestions."
        )
    return replace(batch, files=tuple(new[:MOST_FILES])) if new else None


def _names(fingerprints: Iterable[str]) -> set[str]:
    return {fingerprint[:NAME_LENGTH] for fingerprint in fingerprints}


def _refuse_odd_names(table: IngestTable, schema: pa.Schema) -> None:
    """Refuse names of columns that Redshift cannot have, wherever the landing is loaded."""
    for name in schema.names:
        if not name.isprintable():
            raise SourceMismatch(
                f"{table.key} has the column {name!r}, whose name has a line break or another sign "
                "that cannot be printed.",
                fix="Leave it out (`ingest: false`), or read the table through a view that renames "
                "it.",
            )


def _protected_key(table: IngestTable, salt: str | None, keys: pa.RecordBatch) -> pa.RecordBatch:
    """The columns of a key as they are landed."""
    personal = {name: of for name, of in table.pii.items() if name in keys.schema.names}
    return next(pii.protect([keys], replace(table, pii=personal), salt))


def _tell_quarantined(table: IngestTable, row: LedgerRow) -> None:
    if row.quarantined:
        rows, aside = counted(row.quarantined, "row"), quarantine_of(table).identifier
        log.warning("%s: %s set aside, in %s.%s", table.key, rows, table.schema, aside)


def _refuse_rows(
    table: IngestTable,
    partition: Partition,
    figures: SourceFigures,
    witness: Witness,
    sieve: Sieve,
    rows: int,
) -> None:
    """Refuse to commit a landing that lacks rows."""
    batch, counted = partition.batch, figures.rows
    read = rows + sieve.rows
    if counted is not None and read != counted:
        raise RowsMissing(
            f"{table.key}: {read:,} rows were read for {batch.interval}; the source itself counts "
            f"{counted:,}.",
            fix="Ingest the batch again. If it stays so, something between here and the server "
            "changes results (a proxy, a setting). The warehouse keeps what it has.",
        )
    witness.refuse_differences(beside=sieve.checksums)
    if not partition.attempt:
        _refuse_too_few(table, batch, rows)


def _refuse_too_few(table: IngestTable, batch: Batch, rows: int) -> None:
    if rows < table.min_rows:
        raise TooFewRows(
            f"{table.key} has {rows:,} rows for {batch.interval}; "
            f"at least {table.min_rows:,} are expected.",
            fix="Look at the source. If so few are right, declare `min_rows: "
            f"{rows}` for the table. The warehouse keeps what it has.",
        )
