"""A table of an HTTP API, read page by page."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from millrace.bad_values import Sieve
from millrace.batch import EVERY_KEY, WHOLE_TABLE, Interval, KeyRange
from millrace.catalog import Cursor, IngestTable
from millrace.checksums.columns import Tally
from millrace.checksums.figures import SourceFigures
from millrace.cursor import DAY, CursorClock
from millrace.errors import DeclarationError, SourceError
from millrace.sources.base import Closing, Extraction, SourceColumn
from millrace.sources.http.answers import Answer, Cell, Layout, Whereabouts, keys_of, read_answer
from millrace.sources.http.client import Api, Request
from millrace.sources.http.options import HttpOptions
from millrace.sources.http.paging import Paging, told_paths
from millrace.sources.http.reading import Bounds, Columns, Digest, Neighbours, chunks
from millrace.sources.json_values import arrow_type, json_text
from millrace.sources.templates import Values

if TYPE_CHECKING:
    import pyarrow as pa

    from millrace.connections import Connection

log = logging.getLogger(__name__)

_FIX = (
    "Correct it at the source, or the column's type in the declaration, or declare "
    "`on_bad_value: null` or `quarantine`. The raw table keeps what it has."
)


class HttpSource:
    """An HTTP API that serves tables as JSON.

    Args:
        connection: See ``address.Address.of``.
        sleep: Waits for so many seconds: between requests, and before one is sent again.
    """

    def __init__(self, connection: Connection, sleep: Callable[[float], None] = time.sleep) -> None:
        self._api = Api(connection, sleep)

    def check(self, tables: Sequence[IngestTable] = ()) -> str:
        """Ask for the first page of each table, or for the address alone if there are none."""
        if not tables:
            return self._api.check()
        for table in tables:
            self._first_row(table)
        return f"{self._api.address.origin}{self._api.address.path}/"

    def closed(self, table: IngestTable, interval: Interval) -> Closing:
        """How much of an interval is final, by what the table declares; see ``Source.closed``.

        An API does not tell its time, so this is by our own clock.
        """
        options = _options(table)
        cursor = _cursor(options)
        clock = _clock(options, cursor)
        now = datetime.now(UTC)
        asked = clock.floor(min(interval.end or now, now))
        _refuse_too_late(table, options, asked, now)
        if cursor.settle is None:
            return Closing(asked, now)
        final = clock.floor(now - cursor.settle.span)
        if asked <= final:
            return Closing(asked, now)
        seconds = cursor.settle.span.total_seconds()
        return Closing(final, now, f"rows of the last {seconds:g} s may still come (`settle`)")

    def ranges(self, table: IngestTable, interval: Interval) -> tuple[KeyRange, ...]:
        """Pages are read one after another."""
        return (EVERY_KEY,)

    def estimated_rows(self, table: IngestTable, interval: Interval) -> int | None:
        """An API does not say before it is read."""
        return None

    def columns(
        self, table: IngestTable, *, without: frozenset[str] = frozenset()
    ) -> tuple[SourceColumn, ...]:
        """The declared columns, and the others of the first row, which are not read."""
        options = _options(table)
        found = self._first_row(table)
        declared = tuple(
            SourceColumn(name, column.type, None if name in without else arrow_type(column.type))
            for name, column in options.columns.items()
        )
        used = {(column.path or (name,))[0] for name, column in options.columns.items()}
        others = {name: value for name, value in found.items() if name not in used}
        return declared + tuple(
            SourceColumn(name, _json_type(value), None)
            for name, value in others.items()
            if name not in options.columns
        )

    @contextmanager
    def extract(
        self,
        table: IngestTable,
        interval: Interval,
        *,
        without: frozenset[str] = frozenset(),
        ranges: Sequence[KeyRange] = (EVERY_KEY,),
    ) -> Iterator[Extraction]:
        """Read all pages; see ``Source.extract``."""
        options = _options(table)
        now = datetime.now(UTC)
        if options.cursor is not None and interval != WHOLE_TABLE:
            _refuse_too_late(table, options, interval.end or now, now)
        reads = self._reads(table, interval, now)
        columns = Columns(table, without)
        sieve = Sieve(table, columns.schema, fix=_FIX)
        is_compared = options.verify in (None, "values")
        figures = SourceFigures(is_counted=True, is_compared=is_compared)
        # What is not there is found out before anything is landed.
        first = reads[0].answer() if reads else None
        batches = self._batches(reads, first, columns, sieve, figures)
        try:
            yield Extraction(columns.schema, (batches,), figures, sieve)
        finally:
            batches.close()
            if first:
                first.body.close()

    def _reads(self, table: IngestTable, interval: Interval, now: datetime) -> list[_Read]:
        """What is read for an interval: once, or once for each set of values."""
        options = _options(table)
        start = end = bounds = None
        zone: Any = UTC
        if options.cursor is not None:
            clock = _clock(options, options.cursor)
            start, end, zone = interval.start or options.since, interval.end or now, clock.zone
            if start is not None and start >= end:
                return []
            column = options.cursor.column
            type_ = arrow_type(options.columns[column].type)
            bounds = Bounds.of(column, type_, interval, clock)
        return [
            _Read(
                self._api,
                table,
                Values(
                    now, start, end, zone, {name: _text(value) for name, value in given.items()}
                ),
                bounds,
            )
            for given in options.each or ({},)
        ]

    def _batches(
        self,
        reads: Sequence[_Read],
        first: Answer | None,
        columns: Columns,
        sieve: Sieve,
        figures: SourceFigures,
    ) -> Generator[pa.RecordBatch]:
        for batch, misfits in chain.from_iterable(
            read.batches(columns, first if number == 0 else None)
            for number, read in enumerate(reads)
        ):
            figures.add(batch.num_rows, _checksums(batch) if figures.is_compared else None)
            kept = sieve.sift(batch, misfits)
            if kept.num_rows:
                yield kept

    def _first_row(self, table: IngestTable) -> Mapping[str, Any]:
        """Read the first page, and see whether it is as declared; returns its first row."""
        options = _options(table)
        now = datetime.now(UTC)
        recent = Interval(now - timedelta(days=1), now) if options.cursor else WHOLE_TABLE
        reads = self._reads(table, recent, now)
        if not reads:
            return {}
        answer = reads[0].answer()
        try:
            for _ in answer.rows:
                break
            answer.body.seek(0)
            return keys_of(answer.body, reads[0].layout)
        finally:
            answer.body.close()


@dataclass(frozen=True)
class _Read:
    """One endpoint, read with one set of values.

    Attributes:
        api: The API.
        table: The declaration.
        values: What the places in its texts stand for.
        bounds: Which times of the cursor are read; None: all.
    """

    api: Api
    table: IngestTable
    values: Values
    bounds: Bounds | None

    @property
    def options(self) -> HttpOptions:
        return _options(self.table)

    @property
    def layout(self) -> Layout:
        cells = [
            Cell(name, column.path or (name,), column.optional)
            for name, column in self.options.columns.items()
            if column.value is None
        ]
        return Layout(
            self.where,
            cells,
            self.options.rows or (),
            self.options.shape,
            told_paths(self.options.pages),
        )

    @property
    def where(self) -> str:
        return f"{self.table.key} ({self.api.address.origin}{self.request.url})"

    @property
    def request(self) -> Request:
        """The request for all of it."""
        quoted = {name: quote(text, safe="") for name, text in self.values.others.items()}
        in_path = Values(
            self.values.now, self.values.start, self.values.end, self.values.zone, quoted
        )
        params = {name: self._filled(value) for name, value in self.options.params.items()}
        return Request(in_path.render(self.options.endpoint), params)

    def answer(self, request: Request | None = None) -> Answer:
        """Send a request; default: the one for the first page."""
        rate = self.options.rate
        return self.api.get(
            request or self._paging().first,
            partial(_read, layout=self.layout),
            timeout_s=self.options.timeout_s,
            spacing_s=rate.spacing_s if rate else 0,
        )

    def batches(
        self, columns: Columns, first: Answer | None
    ) -> Iterator[tuple[pa.RecordBatch, list[Any]]]:
        """All pages as record batches, each with its misfits."""
        paging = self._paging()
        layout = self.layout
        names = [cell.name for cell in layout.cells]
        made = {
            name: self.values.render(column.value)
            for name, column in self.options.columns.items()
            if column.value is not None
        }
        identity = dict.fromkeys([*self.options.primary_key, self.table.cursor_column or ""])
        names_of_key = [name for name in identity if name]
        is_personal = bool(self.table.pii.keys() & set(names_of_key))
        neighbours = Neighbours(self.where, names_of_key, is_personal=is_personal)
        answer: Answer | None = first or self.answer(paging.first)
        while answer is not None:
            digest = Digest()
            with answer.body:
                for chunk in chunks(answer.rows):
                    if self.options.pages:
                        digest.add(chunk)
                    batch, misfits, keys = columns.record_batch(chunk, names, made, self.bounds)
                    neighbours.add(keys)
                    if batch.num_rows:
                        yield batch, misfits
            following = paging.after(answer.told, answer.here, digest.rows, digest.value)
            neighbours.turn()
            answer = self.answer(following) if following else None

    def _paging(self) -> Paging:
        return Paging(self.options.pages, self.request, self.where)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        return self.values.render(value) if isinstance(value, str) else _text(value)


def _read(body: Any, here: Whereabouts, *, layout: Layout) -> Answer:
    return read_answer(body, here, layout)


def _options(table: IngestTable) -> HttpOptions:
    options = table.options
    if not isinstance(options, HttpOptions):
        raise DeclarationError(f"{table.key} is no HTTP API.", fix="Set its `kind` to http.")
    return options


def _cursor(options: HttpOptions) -> Cursor:
    if options.cursor is None:
        raise ValueError("a table without a cursor has no intervals")
    return options.cursor


def _clock(options: HttpOptions, cursor: Cursor) -> CursorClock:
    zone = ZoneInfo(cursor.time_zone) if cursor.time_zone else UTC
    if options.columns[cursor.column].type == "date":
        return CursorClock(zone, DAY)
    return CursorClock(zone)


def _refuse_too_late(
    table: IngestTable, options: HttpOptions, end: datetime, now: datetime
) -> None:
    """Refuse an interval about which the API would tell how things are now."""
    limit = options.readable_for
    if limit is not None and now - end > limit.span:
        raise SourceError(
            f"{table.key}: the interval up to {end:%Y-%m-%d %H:%M} UTC can no longer be read: the "
            f"API tells how things are now, and that is `readable_for` {limit.count} "
            f"{limit.period}{'' if limit.count == 1 else 's'} only.",
            fix="Ingest a newer interval, or none, for what is not loaded yet. What was not read "
            "in time is lost at the source.",
        )


def _checksums(batch: pa.RecordBatch) -> Any:
    tally = Tally(batch.schema)
    tally.add(batch)
    return tally.checksums


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _json_type(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "boolean", type(None): "null"}
    return kinds.get(type(value), "number")
