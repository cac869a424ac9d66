"""Tables of a PostgreSQL server, streamed as Arrow record batches.

``session`` connects and queries, by a driver that makes Arrow of what the server copies out;
``relation`` describes the table, and ``types`` says how each column is read. ``open_transactions``
finds up to when an interval is closed. ``reading`` reads a table in ``pieces``, so that no
statement takes long.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from millrace.bad_values import Sieve
from millrace.batch import EVERY_KEY, Interval, KeyRange
from millrace.catalog import Cursor, IngestTable
from millrace.checksums.figures import SourceFigures
from millrace.checksums.totals import md5_total
from millrace.cursor import CursorClock
from millrace.errors import DeclarationError, IntervalOpen, SourceMismatch
from millrace.sources.base import Closing, Extraction, SourceColumn
from millrace.sources.declared import of_the_future, refuse_rows_without_a_time
from millrace.sources.pace import Pace
from millrace.sources.postgres.keyed import KeyedTable
from millrace.sources.postgres.limits import Limits
from millrace.sources.postgres.open_transactions import MARGIN, OpenTransaction, look, sees_all
from millrace.sources.postgres.options import PostgresOptions
from millrace.sources.postgres.pieces import (
    CursorValues,
    Cutter,
    Pages,
    moved,
    page_ranges,
)
from millrace.sources.postgres.reading import Selection, schema_of
from millrace.sources.postgres.relation import Relation, readable
from millrace.sources.postgres.session import Server, Session

if TYPE_CHECKING:
    import pyarrow as pa

    from millrace.checksums.digests import Compared, Key
    from millrace.connections import Connection

# Up to so many rows, every value is compared.
_COMPARED_ROWS = 100_000

# The first piece of a read is small: nothing is landed while it is read.
_FIRST_PIECE_BYTES = 4 * 1024 * 1024
_FIRST_PIECE_ROWS = 5_000

# Below a million rows, a range takes longer to prepare than it saves.
_MIN_ROWS_A_RANGE = 1_000_000
_ROWS_A_RANGE = 5_000_000
_MAX_CHOSEN_RANGES = 4

_SHOWN = 5
_FIX = (
    "Correct the value in PostgreSQL, read the table through a view that casts it, or declare "
    "`on_bad_value: null` or `quarantine`."
)


class PostgresSource:
    """A database of a PostgreSQL server.

    Args:
        connection: See ``session.Server``.
    """

    def __init__(self, connection: Connection) -> None:
        self._server = Server(connection)

    def check(self, tables: Sequence[IngestTable] = ()) -> str:
        """Connect, and compare the declared tables with those that are there."""
        with self._server.connected() as session:
            ((version, zone),) = session.rows(
                "SELECT current_setting('server_version'), reset_val FROM pg_settings "
                "WHERE name = 'TimeZone'"
            )
            for table in tables:
                options = _options(table)
                relation = self._relation(session, options)
                relation.columns(table.left_out)
                if options.cursor:
                    relation.clock(session, options.cursor)
                    _refuse_replica(session, table.key, options.cursor)
                Limits(options.harm, table.key, session).check()
            sees = sees_all(session)
        closing = (
            "sees since when transactions are open"
            if sees
            else "does not see since when transactions are open (pg_read_all_stats)"
        )
        return (
            f"PostgreSQL {version} at {self._server.address}, as {self._server.connection.login}; "
            f"its clock is on {zone}; {closing}"
        )

    def closed(self, table: IngestTable, interval: Interval) -> Closing:
        """How much of an interval no transaction can write into any more; see ``Source.closed``.

        Raises:
            IntervalOpen: nothing of it is known to be closed, because transactions are open and
                nobody says since when.
        """
        options = _options(table)
        cursor = _cursor(options)
        with self._server.connected() as session:
            relation = self._relation(session, options)
            clock = relation.clock(session, cursor)
            _refuse_replica(session, table.key, cursor)
            _limits(table, session)
            found = look(session, relation.members)
            now = found.now
            asked = clock.floor(min(interval.end or now, now))
            warnings = _rows_out_of_time(session, relation, cursor, clock, now)
        if cursor.lookback:
            return Closing(asked, now, warnings=warnings)
        end, held_by = now - MARGIN, f"the last {MARGIN.seconds} s are not read yet"
        if cursor.settle and found.unknown:
            end = now - cursor.settle.span
            held_by = _held_by(found.unknown)
        elif found.unknown:
            raise IntervalOpen(
                f"{table.key} is not known to be closed: {_held_by(found.unknown)}. Nobody tells "
                f"'{self._server.connection.login}' since when.",
                fix="GRANT pg_read_all_stats to that user (a prepared transaction has to be "
                "committed or rolled back), or declare `settle`, if no transaction is ever open "
                "for longer. Nothing was loaded, and nothing is lost.",
            )
        oldest = found.oldest
        if oldest and oldest.since and oldest.since < end:
            end = oldest.since
            held_by = f"open since {oldest.since:%Y-%m-%d %H:%M:%S} UTC: {oldest.who}"
        if end >= asked:
            return Closing(asked, now, warnings=warnings)
        is_asked_for = interval.end is not None or end < now - MARGIN
        return Closing(clock.floor(end), now, held_by if is_asked_for else None, warnings)

    def ranges(self, table: IngestTable, interval: Interval) -> tuple[KeyRange, ...]:
        """Ranges of the pages that a table is stored in; see ``Source.ranges``."""
        options = _options(table)
        with self._server.connected() as session:
            relation = self._relation(session, options)
            is_apart = not table.is_as_of_one_moment
            if not _has_pages(relation) or (is_apart and _needs_one_moment(table)):
                return (EVERY_KEY,)
            if _is_found_by_cursor(table, relation, interval):
                # An index finds the rows: to look through pages would take longer.
                return (EVERY_KEY,)
            rows = relation.rows
            count = min(
                options.partitions or min(rows // _ROWS_A_RANGE, _MAX_CHOSEN_RANGES),
                rows // _MIN_ROWS_A_RANGE,
            )
        return page_ranges(relation, count)

    def estimated_rows(self, table: IngestTable, interval: Interval) -> int | None:
        """What the server expects to read, where an index bounds that; see the protocol."""
        options = _options(table)
        with self._server.connected() as session:
            relation = self._relation(session, options)
            is_bounded = interval.start is None or relation.is_indexed(table.cursor_column)
            if relation.is_view or not is_bounded:
                return None
            return relation.estimated_rows(session, _scope(session, relation, options, interval))

    def columns(
        self, table: IngestTable, *, without: frozenset[str] = frozenset()
    ) -> tuple[SourceColumn, ...]:
        """The columns of the table or view; see ``Source.columns``."""
        with self._server.connected() as session:
            relation = self._relation(session, _options(table))
        read = {column.name: column.type for column in relation.columns(without)}
        return tuple(
            SourceColumn(name, described.declared, read.get(name))
            for name, described in relation.types.items()
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
        """Read the rows of an interval; see ``Source.extract``.

        They are read in pieces. Each sees a moment of its own, unless the table is declared to be
        read as of one moment, or has no other way to see each row once.
        """
        options = _options(table)
        with ExitStack() as connections:
            sessions = [connections.enter_context(self._server.connected()) for _ in ranges]
            session = sessions[0]
            relation = self._relation(session, options)
            _refuse_moved(relation, ranges)
            columns = relation.columns(without)
            schema = schema_of(columns)
            _limits(table, session)
            moment = None
            if _needs_one_moment(table):
                moment = connections.enter_context(self._one_moment())
            scope = _scope(session, relation, options, interval)
            if options.cursor and relation.types[options.cursor.column].is_nullable:
                # A row without a time may have been written since the batch was planned.
                _refuse_rows_without_a_time(session, relation, options.cursor, None)
            rows = 0 if relation.is_view else relation.estimated_rows(session, scope)
            figures = _figures(table, interval, relation, rows)
            sieve = Sieve(table, schema, place=str(relation), fix=_FIX, total=figures.total)
            streams: list[Iterator[pa.RecordBatch]] = []
            for session, key_range in zip(sessions, ranges, strict=True):
                limits = Limits(options.harm, table.key, session)
                selection = Selection(
                    session, relation, columns, schema, scope, sieve, figures, limits, moment
                )
                if not _has_pages(relation):
                    streamed = selection.streamed()
                    connections.callback(streamed.close)
                    streams.append(streamed)
                    continue
                cutter: Cutter = Pages(relation.pages, key_range)
                first = _FIRST_PIECE_BYTES // max(relation.page_bytes, 1)
                if _is_found_by_cursor(table, relation, interval):
                    cutter = CursorValues(session, relation, str(table.cursor_column), scope)
                    first = _FIRST_PIECE_ROWS
                ahead = selection.ahead(cutter, Pace(first, limits))
                connections.callback(ahead.close)
                streams.append(selection.of(ahead))
            yield Extraction(
                schema,
                tuple(streams),
                figures,
                sieve,
                expected_rows=rows if figures.is_counted else None,
            )

    @contextmanager
    def by_key(
        self, table: IngestTable, compared: Compared, interval: Interval
    ) -> Iterator[KeyedTable]:
        """A table's rows by their keys; see ``KeyedSource.by_key``."""
        options = _options(table)
        with self._server.connected() as session, self._one_moment() as moment:
            relation = self._relation(session, options)
            scope = _scope(session, relation, options, interval)
            limits = _limits(table, session)
            yield KeyedTable(session, relation, compared, limits, scope, moment)

    @contextmanager
    def rows_of(
        self, table: IngestTable, compared: Compared, keys: Sequence[Key], interval: Interval
    ) -> Iterator[Extraction]:
        """Read rows by their keys; see ``KeyedSource.rows_of``."""
        with self.by_key(table, compared, interval) as rows:
            columns = rows.relation.columns(table.left_out)
            schema = schema_of(columns)
            sieve = Sieve(table, schema, place=str(rows.relation), fix=_FIX)
            figures = SourceFigures()
            selection = Selection(
                rows.session, rows.relation, columns, schema, (), sieve, figures, rows.limits
            )
            chosen = selection.of(map(selection.piece, rows.chosen(keys)))
            yield Extraction(schema, (chosen,), figures, sieve)

    def undeclared(self, tables: Sequence[IngestTable]) -> list[str]:
        """The tables and views that none declares; see ``ListingSource.undeclared``."""
        declared = {_options(table).place for table in tables}
        with self._server.connected() as session:
            return [".".join(place) for place in readable(session) if place not in declared]

    def _relation(self, session: Session, options: PostgresOptions) -> Relation:
        return Relation.find(session, options, self._server.connection.login)

    @contextmanager
    def _one_moment(self) -> Iterator[str]:
        """A snapshot that other sessions can read by, as long as this lasts."""
        with self._server.connected() as session, session.snapshot():
            yield session.exported_snapshot()


def _needs_one_moment(table: IngestTable) -> bool:
    """Whether pieces that see different moments could have a row twice, or not at all.

    An edited row is stored elsewhere. With a cursor, its edit also takes it out of the interval;
    not so where an application sets the cursor by a clock of its own.
    """
    cursor = table.options.cursor
    return table.is_as_of_one_moment or cursor is None or cursor.lookback is not None


def _has_pages(relation: Relation) -> bool:
    return relation.has_pages and not relation.is_view


def _is_found_by_cursor(table: IngestTable, relation: Relation, interval: Interval) -> bool:
    """Whether an index finds the rows of an interval, which are few among those of the table."""
    return interval.start is not None and relation.is_indexed(table.cursor_column)


def _refuse_moved(relation: Relation, ranges: Sequence[KeyRange]) -> None:
    for key_range in ranges:
        for mark in (key_range.after, key_range.through):
            if mark is not None and mark[1] != relation.stored:
                raise moved(relation)


def _limits(table: IngestTable, session: Session) -> Limits:
    """What a table declares, once its server suffers no more than that."""
    limits = Limits(_options(table).harm, table.key, session)
    limits.check()
    limits.wait()
    # What is asked before the read is asked at once.
    limits.limit_statements(can_be_smaller=False)
    return limits


def _scope(
    session: Session, relation: Relation, options: PostgresOptions, interval: Interval
) -> list[str]:
    clock = relation.clock(session, options.cursor) if options.cursor else None
    return relation.interval(options.cursor, clock, interval)


def _figures(
    table: IngestTable, interval: Interval, relation: Relation, rows: int
) -> SourceFigures:
    """What the server computes of the rows that are read, which are about so many."""
    verify = table.options.verify
    # Nothing is counted where that costs another scan of rows that are not read.
    is_bounded = interval.start is None or relation.is_indexed(table.cursor_column)
    is_counted = verify == "values" or (verify != "off" and is_bounded and not relation.is_view)
    is_compared = verify == "values" or (verify is None and rows <= _COMPARED_ROWS)
    return SourceFigures(
        is_counted=is_counted, is_compared=is_counted and is_compared, total=md5_total
    )


def _refuse_replica(session: Session, key: str, cursor: Cursor) -> None:
    """Refuse a replica, which does not know what is open at its primary."""
    ((is_replica,),) = session.rows("SELECT pg_is_in_recovery()")
    if is_replica and not cursor.lookback:
        raise SourceMismatch(
            f"{key} is read from a replica, which does not know what transactions are open at its "
            "primary.",
            fix="Declare a lookback longer than any transaction and any lag: `cursor: {column: "
            f"{cursor.column}, lookback: {{count: 1, period: hour}}}}`; or read the primary.",
        )


def _held_by(transactions: Sequence[OpenTransaction]) -> str:
    shown = "; ".join(found.who for found in transactions[:_SHOWN])
    return f"{shown}{'; …' if len(transactions) > _SHOWN else ''}"


def _rows_out_of_time(
    session: Session, relation: Relation, cursor: Cursor, clock: CursorClock, now: datetime
) -> tuple[str, ...]:
    """Refuse rows without a time; returns a warning if there are rows of the future."""
    _, shown = clock.bounds(Interval(None, now))
    future = _refuse_rows_without_a_time(session, relation, cursor, shown)
    return of_the_future(relation, cursor, future)


def _refuse_rows_without_a_time(
    session: Session, relation: Relation, cursor: Cursor, now: datetime | None
) -> int:
    """Refuse rows that no interval would take; returns how many lie in the future."""
    nulls, misfits, future = relation.rows_out_of_time(session, cursor, now)
    counts = [(nulls, "NULL"), (misfits, "not between the years 1 and 9999")]
    refuse_rows_without_a_time(relation, cursor, counts, "PostgreSQL")
    return future


def _cursor(options: PostgresOptions) -> Cursor:
    if options.cursor is None:
        raise ValueError("a table without a cursor has no intervals")
    return options.cursor


def _options(table: IngestTable) -> PostgresOptions:
    if not isinstance(table.options, PostgresOptions):
        raise DeclarationError(
            f"{table.key} is not a PostgreSQL table.", fix="Set its `kind` to postgres."
        )
    return table.options
