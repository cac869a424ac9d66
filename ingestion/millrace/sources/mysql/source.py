"""Tables of a MySQL or MariaDB server, streamed as Arrow record batches.

``session`` connects and queries, ``relation`` describes the table, and ``in_flight`` finds the rows
that are written and not committed yet. ``result`` and ``rows`` turn a large result into Arrow as
the server sends it, and ``ranges`` splits a large table for several connections. ``reading`` reads
it in ``pieces``, so that no statement takes long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from millrace.bad_values import Sieve
from millrace.batch import EVERY_KEY, Interval, KeyRange
from millrace.catalog import Cursor, IngestTable
from millrace.checksums.figures import SourceFigures
from millrace.cursor import CursorClock
from millrace.errors import DeclarationError, SourceMismatch, SourceRefused
from millrace.progress import in_time
from millrace.sources.base import Closing, Extraction, FoundTable, SourceColumn
from millrace.sources.declared import of_the_future, refuse_rows_without_a_time
from millrace.sources.mysql.client import MySQLError
from millrace.sources.mysql.description import describe, undeclared
from millrace.sources.mysql.in_flight import InFlight, Look, Writers, processes_of, writers
from millrace.sources.mysql.keyed import KeyedTable
from millrace.sources.mysql.limits import Limits
from millrace.sources.mysql.options import MySQLOptions
from millrace.sources.mysql.pieces import Pieces
from millrace.sources.mysql.ranges import (
    Condition,
    in_range,
    split,
    splittable,
)
from millrace.sources.mysql.reading import Selection
from millrace.sources.mysql.relation import Relation
from millrace.sources.mysql.rows import schema_of
from millrace.sources.mysql.session import Server, Session, lacks_a_right_there
from millrace.sources.mysql.types import quote
from millrace.sources.pace import Pace

if TYPE_CHECKING:
    from millrace.checksums.digests import Compared, Key
    from millrace.connections import Connection

log = logging.getLogger(__name__)

# Up to so many rows, comparing every value takes at most a quarter of the extraction.
_COMPARED_ROWS = 100_000

# The first piece of a read is small: nothing is landed while it is read.
_FIRST_PIECE_BYTES = 4 * 1024 * 1024
_USUAL_ROW_BYTES = 1024
# Where a piece is only looked at, not read.
_FIRST_KEYS = 200_000

# A snapshot that was open for so long is told.
_LONG_SNAPSHOT_SECONDS = 60

# Below a million rows, a range takes longer to prepare than it saves.
_MIN_ROWS_A_RANGE = 1_000_000
_ROWS_A_RANGE = 5_000_000
_MAX_CHOSEN_RANGES = 4
_LOCK_SECONDS = 2
_LOCK_ATTEMPTS = 10
_LOCK_WAIT_TIMEOUT = 1205

# How long a statement may run, besides waiting for locks, before it writes its first row.
_SETTLE_BEYOND_LOCKS = timedelta(seconds=10)
# The server's list of transactions is younger than this, if it is fresh.
_LIST_AGE = timedelta(seconds=5)
_SHOWN_KEYS = 5
_FIX = (
    "Correct the value in MySQL, read the table through a view that casts it, or declare "
    "`on_bad_value: null` or `quarantine`."
)


class MySQLSource:
    """A MySQL or MariaDB server.

    Args:
        connection: See ``session.Server``.
    """

    def __init__(self, connection: Connection) -> None:
        self._server = Server(connection)
        # The tables that were looked up to plan a batch, until the batch is read.
        self._relations: dict[str, Relation] = {}

    def check(self, tables: Sequence[IngestTable] = ()) -> str:
        """Connect, and compare the declared tables with those that are there."""
        with self._server.connected() as session:
            ((version, zone, system),) = session.rows(
                "SELECT VERSION(), @@global.time_zone, @@system_time_zone"
            )
            for table in tables:
                options = _options(table)
                relation = self._relation(session, options)
                relation.columns(table.left_out)
                if options.cursor:
                    relation.clock(session, options.cursor)
                Limits(options.harm, table.key, session).check()
            sees = writers(processes_of(session), session).may_be_seen
        clock = system if zone == "SYSTEM" else zone
        closing = "sees open transactions" if sees else "does not see open transactions (PROCESS)"
        return (
            f"MySQL {version} at {self._server.address}, as {self._server.connection.login}; "
            f"its clock is on {clock}; {closing}"
        )

    def closed(self, table: IngestTable, interval: Interval) -> Closing:
        """How much of an interval no transaction can write into any more; see ``Source.closed``."""
        options = _options(table)
        cursor = _cursor(options)
        with ExitStack() as connections:
            session = connections.enter_context(self._server.connected())
            relation = self._relations[table.key] = self._relation(session, options)
            clock = relation.clock(session, cursor)
            ((text,),) = session.rows("SELECT UTC_TIMESTAMP(6)")
            now = datetime.fromisoformat(str(text)).replace(tzinfo=UTC)
            asked = clock.floor(min(interval.end or now, now))
            limits = _limits(table, session)
            warnings = _rows_out_of_time(session, relation, cursor, clock, now, limits)
            if cursor.lookback:
                return Closing(asked, now, warnings=warnings)
            processes = processes_of(session)
            dirty = connections.enter_context(self._server.connected())
            others = writers(processes, dirty)
            end, held_by = self._before_statements(session, cursor, others, now, asked)
            end = clock.floor(end)
            if interval.start is not None and end <= interval.start:
                return Closing(end, now, held_by, warnings)
            since = interval.start
            if others.is_fresh and not others.transactions:
                since = max(since, end - _LIST_AGE) if since else end - _LIST_AGE
            looked_at = Interval(since, end)
            scope = relation.interval(cursor, clock, looked_at)
            limits = Limits(options.harm, table.key, session, dirty)
            pieces = Pieces.of(
                session,
                relation,
                scope,
                limits,
                Pace(_FIRST_KEYS, limits),
                cursor=_cut_by(table, looked_at, relation),
            )
            look = Look(dirty, session, relation.quoted, options.primary_key, cursor.column)
            rows = look.in_flight(scope, pieces)
            if rows:
                end = min(end, clock.floor(clock.earliest(rows[0].cursor)))
                held_by = self._holders(table, relation, rows, others)
            return Closing(end, now, held_by, warnings)

    def _relation(self, session: Session, options: MySQLOptions) -> Relation:
        """Look a declared table up."""
        relation = Relation.find(session, options.table, self._server.connection)
        relation.check_key(options.primary_key)
        return relation

    def _before_statements(
        self, session: Session, cursor: Cursor, others: Writers, now: datetime, asked: datetime
    ) -> tuple[datetime, str | None]:
        """The time before all statements that may still write, and what holds up the rest."""
        if others.may_be_seen:
            if others.oldest is None or now - others.oldest >= asked:
                return asked, None
            return now - others.oldest, f"{others.statement} is in the middle of a statement"
        settle = cursor.settle.span if cursor.settle else _settle(session)
        if now - settle >= asked:
            return asked, None
        return now - settle, (
            f"'{self._server.connection.login}' does not see which statements are running, so "
            f"the last {settle.total_seconds():g} s are not read yet (GRANT PROCESS ON *.* helps)"
        )

    def _holders(
        self, table: IngestTable, relation: Relation, rows: Sequence[InFlight], others: Writers
    ) -> str:
        what = f"{len(rows):,} rows of {relation} are written and not committed"
        if not set(table.options.primary_key) & table.pii.keys():
            keys = ["/".join(row.key) for row in rows[:_SHOWN_KEYS]]
            what += f" (keys {', '.join(keys)}{', …' if len(rows) > _SHOWN_KEYS else ''})"
        if not others.may_be_seen:
            return f"{what}; to see by whom, grant PROCESS to '{self._server.connection.login}'"
        return f"{what}; open: {'; '.join(others.transactions[:_SHOWN_KEYS]) or 'since just now'}"

    def ranges(self, table: IngestTable, interval: Interval) -> tuple[KeyRange, ...]:
        """Ranges of the primary key, of a million rows or more; see ``Source.ranges``."""
        options = _options(table)
        with self._server.connected() as session:
            relation = self._relations.get(table.key) or self._relation(session, options)
            self._relations[table.key] = relation
            if relation.is_view:
                return (EVERY_KEY,)
            taken = _interval(session, relation, options.cursor, interval)
            rows = relation.estimated_rows(session, taken)
            count = min(
                options.partitions or min(rows // _ROWS_A_RANGE, _MAX_CHOSEN_RANGES),
                rows // _MIN_ROWS_A_RANGE,
            )
            is_asked_for = options.partitions is not None or not table.is_as_of_one_moment
            if count > 1 and not is_asked_for and not self._may_lock(relation):
                return (EVERY_KEY,)
            # Airflow and its logs see the boundaries, so they must hold no personal data.
            key = takewhile(lambda column: column.name not in table.pii, relation.key)
            return split(session, relation.quoted, tuple(key), count)

    def estimated_rows(self, table: IngestTable, interval: Interval) -> int | None:
        """What the server expects to read, where an index bounds that; see the protocol."""
        options = _options(table)
        with self._server.connected() as session:
            relation = self._relation(session, options)
            is_bounded = interval.start is None or relation.is_indexed(table.cursor_column)
            if relation.is_view or not is_bounded:
                return None
            taken = _interval(session, relation, options.cursor, interval)
            return relation.estimated_rows(session, taken)

    def columns(
        self, table: IngestTable, *, without: frozenset[str] = frozenset()
    ) -> tuple[SourceColumn, ...]:
        """The columns of the table or view; see ``Source.columns``."""
        with self._server.connected() as session:
            relation = self._relation(session, _options(table))
        read = {column.name: column.type for column in relation.columns(without)}
        return tuple(
            SourceColumn(name, str(column_type), read.get(name))
            for name, (_, column_type, *_) in relation.types.items()
        )

    def describe(self, patterns: Sequence[str]) -> list[FoundTable]:
        """What the server knows of its tables; see ``DescribingSource.describe``."""
        with self._server.connected() as session:
            return describe(session, self._server.connection, patterns)

    def undeclared(self, tables: Sequence[IngestTable]) -> list[str]:
        """The tables and views that none declares; see ``ListingSource.undeclared``."""
        declared = [_options(table).table for table in tables]
        with self._server.connected() as session:
            return undeclared(session, self._server.connection, declared)

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
        read as of one moment.
        """
        options = _options(table)
        with ExitStack() as connections:
            sessions = [connections.enter_context(self._server.connected()) for _ in ranges]
            session = sessions[0]
            known = self._relations.pop(table.key, None)
            relation = known or self._relation(session, options)
            columns = relation.columns(without)
            schema = schema_of(columns)
            sieve = Sieve(table, schema, place=str(relation), fix=_FIX)
            limits = _limits(table, session)
            if table.is_as_of_one_moment:
                connections.enter_context(self._one_moment(table, sessions, relation))
            interval_taken = _interval(session, relation, options.cursor, interval)
            if options.cursor and relation.column(options.cursor.column).is_nullable:
                # A row without a time may have been written since the batch was planned.
                nulls, zeros, _ = _out_of_time(session, relation, options.cursor, None, limits)
                without_a_time = _without_a_time(nulls, zeros)
                refuse_rows_without_a_time(relation, options.cursor, without_a_time, "MySQL")
            # To explain a view takes rights on what it reads.
            rows = 0 if relation.is_view else relation.estimated_rows(session, interval_taken)
            figures = _figures(table, interval, relation, rows)
            streams = []
            for session, key_range in zip(sessions, ranges, strict=True):
                limits = Limits(
                    options.harm, table.key, session, holds_snapshot=table.is_as_of_one_moment
                )
                selection = Selection(
                    session,
                    relation,
                    columns,
                    schema,
                    interval_taken,
                    sieve,
                    figures,
                    limits,
                    is_in_snapshot=table.is_as_of_one_moment,
                )
                if not _is_cut(table, relation):
                    scope = [*interval_taken, *in_range(relation.key, key_range)]
                    streams.append(replace(selection, scope=scope).streamed())
                    continue
                pieces = Pieces.of(
                    session,
                    relation,
                    interval_taken,
                    limits,
                    Pace(_FIRST_PIECE_BYTES // (relation.row_bytes or _USUAL_ROW_BYTES), limits),
                    key_range=key_range,
                    cursor=_cut_by(table, interval, relation) if key_range == EVERY_KEY else None,
                )
                ahead = selection.in_pieces(pieces)
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
        with self._server.connected() as session:
            relation = self._relation(session, options)
            scope = _interval(session, relation, options.cursor, interval)
            yield KeyedTable(session, relation, compared, _limits(table, session), scope)

    @contextmanager
    def rows_of(
        self, table: IngestTable, compared: Compared, keys: Sequence[Key], interval: Interval
    ) -> Iterator[Extraction]:
        """Read rows by their keys; see ``KeyedSource.rows_of``."""
        with self.by_key(table, compared, interval) as rows:
            columns = rows.relation.columns(table.left_out)
            schema = schema_of(columns)
            sieve = Sieve(table, schema, place=str(rows.relation), fix=_FIX)
            selection = Selection(
                rows.session,
                rows.relation,
                columns,
                schema,
                (),
                sieve,
                SourceFigures(),
                rows.limits,
                is_in_snapshot=False,
            )
            chosen = selection.of(map(selection.piece, rows.chosen(keys)))
            yield Extraction(schema, (chosen,), selection.figures, sieve)

    @contextmanager
    def _one_moment(
        self, table: IngestTable, sessions: Sequence[Session], relation: Relation
    ) -> Iterator[None]:
        """A transaction in each session, so that all of them see the same rows.

        Snapshots that are started one after another differ in what was committed in between. So a
        read lock on the table holds writers up for the milliseconds that this takes.
        """
        with ExitStack() as held:
            if len(sessions) > 1:
                held.enter_context(self._locked(relation))
            for session in sessions:
                session.start_snapshot()
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        if seconds > _LONG_SNAPSHOT_SECONDS:
            log.warning(
                "%s was read as of one moment, so MySQL had to keep what changed meanwhile for %s",
                *(table.key, in_time(seconds)),
            )

    @contextmanager
    def _locked(self, relation: Relation) -> Iterator[None]:
        """Keep writers out of a table.

        Raises:
            SourceRefused: our account may not lock it.
        """
        with self._server.connected() as session:
            session.run(f"SET SESSION lock_wait_timeout = {_LOCK_SECONDS}")
            for attempt in Retrying(
                # A wait for the lock holds up the writers behind it: rather ask several times.
                retry=retry_if_exception(_is_lock_timeout),
                stop=stop_after_attempt(_LOCK_ATTEMPTS),
                wait=wait_random(0, 2),
                reraise=True,
            ):
                with attempt:
                    self._lock(session, relation)
            yield
            session.run("UNLOCK TABLES")

    def _lock(self, session: Session, relation: Relation) -> None:
        try:
            session.run(f"LOCK TABLES {relation.quoted} READ")
        except MySQLError as error:
            if not lacks_a_right_there(error):
                raise
            raise SourceRefused(
                f"MySQL at {self._server.address} does not let '{self._server.connection.login}' "
                f"lock {relation}, which several connections need to see it as of one moment.",
                fix=f"GRANT LOCK TABLES ON {quote(relation.database)}.* to that user, or declare "
                "`partitions: 1`.",
            ) from None

    def _may_lock(self, relation: Relation) -> bool:
        try:
            with self._locked(relation):
                return True
        except SourceRefused:
            log.info("%s is read by one connection: LOCK TABLES is not granted", relation)
            return False


def _limits(table: IngestTable, *sessions: Session) -> Limits:
    """What a table declares, once its server suffers no more than that."""
    limits = Limits(_options(table).harm, table.key, *sessions)
    limits.check()
    limits.wait()
    return limits


def _is_cut(table: IngestTable, relation: Relation) -> bool:
    """Whether a table is read in pieces."""
    # Without snapshots, only a single statement sees one moment.
    sees_enough = relation.is_transactional or not table.is_as_of_one_moment
    return bool(splittable(relation.key)) and sees_enough


def _cut_by(table: IngestTable, interval: Interval, relation: Relation) -> str | None:
    """The cursor, if its index finds the rows of an interval; None: the primary key has to do."""
    if interval.start is None or not relation.is_indexed(table.cursor_column):
        return None
    return table.cursor_column


def _interval(
    session: Session, relation: Relation, cursor: Cursor | None, interval: Interval
) -> list[Condition]:
    clock = relation.clock(session, cursor) if cursor else None
    return relation.interval(cursor, clock, interval)


def _figures(
    table: IngestTable, interval: Interval, relation: Relation, rows: int
) -> SourceFigures:
    """What the server computes of the rows that are read, which are about so many."""
    verify = table.options.verify
    is_counted = _is_counted(table, interval, relation)
    is_compared = verify == "values" or (verify is None and rows <= _COMPARED_ROWS)
    return SourceFigures(is_counted=is_counted, is_compared=is_counted and is_compared)


def _is_counted(table: IngestTable, interval: Interval, relation: Relation) -> bool:
    """Whether the server counts what is read, as of the same moment.

    Raises:
        SourceMismatch: the values are to be compared, and the table has no such moment.
    """
    verify = table.options.verify
    if verify == "values" and not relation.is_transactional:
        raise SourceMismatch(
            f"{relation} has no snapshot that several statements see, so its values cannot be "
            "compared with what is read.",
            fix="Declare `verify: off`, or convert the table to InnoDB.",
        )
    if verify == "values":
        return True
    # Nothing is counted where that costs another scan, or would see another moment.
    return (
        verify != "off"
        and relation.is_transactional
        and (interval.start is None or relation.is_indexed(table.cursor_column))
    )


def _settle(session: Session) -> timedelta:
    """How long a statement may wait for locks, and a little more."""
    ((seconds,),) = session.rows("SELECT @@global.innodb_lock_wait_timeout")
    return timedelta(seconds=int(str(seconds))) + _SETTLE_BEYOND_LOCKS


def _out_of_time(
    session: Session, relation: Relation, cursor: Cursor, now: datetime | None, limits: Limits
) -> tuple[int, int, int]:
    """Count the rows that are in no interval; see ``Relation.rows_out_of_time``."""
    if relation.is_indexed(cursor.column):
        return relation.rows_out_of_time(session, cursor, now)
    pieces = Pieces.of(session, relation, (), limits, Pace(_FIRST_KEYS, limits))
    counts = pieces.each(partial(relation.rows_out_of_time, session, cursor, now))
    nulls, zeros, future = (sum(kind) for kind in zip(*counts, strict=True))
    return nulls, zeros, future


def _rows_out_of_time(
    session: Session,
    relation: Relation,
    cursor: Cursor,
    clock: CursorClock,
    now: datetime,
    limits: Limits,
) -> tuple[str, ...]:
    """Refuse rows without a time; returns a warning if there are rows of the future."""
    _, shown = clock.bounds(Interval(None, now))
    nulls, zeros, future = _out_of_time(session, relation, cursor, shown, limits)
    refuse_rows_without_a_time(relation, cursor, _without_a_time(nulls, zeros), "MySQL")
    return of_the_future(relation, cursor, future)


def _without_a_time(nulls: int, zeros: int) -> list[tuple[int, str]]:
    return [(nulls, "NULL"), (zeros, "zero (0000-00-00)")]


def _cursor(options: MySQLOptions) -> Cursor:
    if options.cursor is None:
        raise ValueError("a table without a cursor has no intervals")
    return options.cursor


def _options(table: IngestTable) -> MySQLOptions:
    if not isinstance(table.options, MySQLOptions):
        raise DeclarationError(f"{table.key} is not a MySQL table.", fix="Set its `kind` to mysql.")
    return table.options


def _is_lock_timeout(error: BaseException) -> bool:
    return isinstance(error, MySQLError) and error.number == _LOCK_WAIT_TIMEOUT
