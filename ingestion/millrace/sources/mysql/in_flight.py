"""Which rows of an interval are in flight: written by transactions that are not committed yet.

A transaction writes ``updated_at`` now and commits later. A reader that comes in between, and takes
the interval for complete, never sees the row. Two looks find such rows: one at READ UNCOMMITTED
sees what open transactions have written, and the other sees what is committed. A row that only the
first sees is in flight. Both need no right beyond SELECT. Neither sees a statement that has begun
but not written yet: an account with PROCESS finds it in the list of processes, and without PROCESS
Millrace waits until it must have written.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain

from millrace.sources.mysql.client import MySQLError
from millrace.sources.mysql.pieces import Pieces
from millrace.sources.mysql.ranges import Condition, where_clause
from millrace.sources.mysql.session import Session, lacks_a_right
from millrace.sources.mysql.types import quote

# The two looks are compared by checksums of this many parts, and row by row where these differ.
_PARTS = 1024
_ROWS_AT_ONCE = 200_000
_LIST_ATTEMPTS = 5
_LIST_IDLE_SECONDS = 0.15
_LONGEST_SECONDS = 10 * 365 * 24 * 3600
# Statements that write no row with the current time, and may run for hours.
_READS = re.compile(
    r"(?:/\*.*?\*/|[\s(])*(?:SELECT|SHOW|DESC|EXPLAIN|SET|USE|COMMIT|ROLLBACK|BEGIN|START|ANALYZE"
    r"|CHECK|CHECKSUM|OPTIMIZE|KILL|FLUSH|LOCK|UNLOCK|CREATE|DROP|TRUNCATE|RENAME|GRANT|REVOKE)\b",
    re.IGNORECASE | re.DOTALL,
)
_IDLE = frozenset({"Sleep", "Daemon", "Binlog Dump", "Binlog Dump GTID"})


@dataclass(frozen=True)
class Writers:
    """What other connections are doing, as far as the account may see it.

    Attributes:
        may_be_seen: Whether the account may see this at all, which takes PROCESS.
        is_fresh: Whether the list of transactions is current; an old one may lack some.
        oldest: How long the oldest statement that may write has been running, if there is one.
        transactions: Open transactions that have written something, for a person.
    """

    may_be_seen: bool
    is_fresh: bool = False
    oldest: timedelta | None = None
    transactions: tuple[str, ...] = ()
    statement: str | None = None


@dataclass(frozen=True)
class InFlight:
    """A row that is written and not committed.

    Attributes:
        key: Its key, as text.
        cursor: Its cursor's value.
    """

    key: tuple[str, ...]
    cursor: datetime


Processes = dict[str, tuple[str | None, ...]]
"""What ``SHOW FULL PROCESSLIST`` says of each connection, by its id."""


def processes_of(session: Session) -> Processes:
    """The connections to the server, as far as the account may see them."""
    return {str(row[0]): row for row in session.rows("SHOW FULL PROCESSLIST")}


def writers(processes: Processes, newcomer: Session) -> Writers:
    """Look at the transactions and statements of the server.

    Args:
        processes: The connections, which must be looked up first: a statement that is done by then
            has written, so the list of transactions shows it.
        newcomer: A session that was opened after that.
    """
    try:
        is_fresh, open_ones = _open_transactions(newcomer)
    except MySQLError as error:
        if not lacks_a_right(error):
            raise
        return Writers(may_be_seen=False)
    running = [
        row
        for row in processes.values()
        if row[4] not in _IDLE and row[5] is not None and not _READS.match(row[7] or "")
    ]
    oldest = max(running, key=_seconds, default=None)
    return Writers(
        may_be_seen=True,
        is_fresh=is_fresh,
        # Whole seconds: the server truncates both times, so one may be missing.
        oldest=None if oldest is None else timedelta(seconds=_seconds(oldest) + 1),
        transactions=tuple(_described(str(id_), started, processes) for id_, started in open_ones),
        statement=None if oldest is None else _connection(oldest),
    )


def _open_transactions(session: Session) -> tuple[bool, list[tuple[str | None, str | None]]]:
    """Whether the server's list is current, and who has written something: id and start.

    The server rebuilds the list only if nobody has read it for a tenth of a second, so somebody who
    reads it all the time keeps an old one alive. A list that shows this very session was made after
    the session was opened.
    """
    session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")
    is_fresh = False
    try:
        ((own,),) = session.rows("SELECT CONNECTION_ID()")
        for attempt in range(_LIST_ATTEMPTS):
            if attempt:
                time.sleep(_LIST_IDLE_SECONDS)
            listed = session.rows(
                "SELECT trx_mysql_thread_id, trx_started, trx_rows_modified "
                "FROM information_schema.innodb_trx ORDER BY trx_started"
            )
            is_fresh = any(id_ == own for id_, *_ in listed)
            if is_fresh:
                break
    finally:
        session.run("COMMIT")
    return is_fresh, [
        (id_, started)
        for id_, started, modified in listed
        # A prepared transaction has no connection, and may count no rows after a restart.
        if id_ != own and (modified != "0" or id_ == "0")
    ]


class Look:
    """Compares what is written with what is committed.

    Args:
        dirty: A session; it is set to READ UNCOMMITTED.
        committed: Another one; it starts a transaction.
        relation: The table's quoted name.
        key: The columns that identify a row.
        cursor: The cursor column.
    """

    def __init__(
        self, dirty: Session, committed: Session, relation: str, key: Sequence[str], cursor: str
    ) -> None:
        self._dirty = dirty
        self._committed = committed
        self._relation = relation
        self._columns = ", ".join(quote(name) for name in (*key, cursor))
        self._part = f"CRC32(CONCAT_WS('|', {self._columns}))"

    def in_flight(self, interval: Sequence[Condition], pieces: Pieces) -> list[InFlight]:
        """Rows of an interval that are written and not committed, oldest first.

        Args:
            interval: The interval.
            pieces: Its rows, piece by piece.
        """
        self._dirty.run("SET SESSION TRANSACTION ISOLATION LEVEL READ UNCOMMITTED")
        found = chain.from_iterable(
            pieces.each(lambda inside: self._compared([*interval, *inside]))
        )
        return sorted(found, key=lambda row: row.cursor)

    def _compared(self, chosen: Sequence[Condition]) -> list[InFlight]:
        """Look at some rows twice.

        The look at what is committed comes second: a row that is committed in between is in both.
        """
        written = self._checksums(self._dirty, chosen)
        found: list[InFlight] = []
        with self._committed.snapshot():
            committed = self._checksums(self._committed, chosen)
            differing = [
                (part, rows)
                for part, (rows, checksum) in written.items()
                if committed.get(part) != (rows, checksum)
            ]
            for parts in _grouped(differing):
                rows = self._rows(self._dirty, chosen, parts)
                found.extend(
                    InFlight(tuple(map(str, key)), datetime.fromisoformat(str(cursor)))
                    for *key, cursor in rows - self._rows(self._committed, chosen, parts)
                )
        return found

    def _checksums(
        self, session: Session, interval: Sequence[Condition]
    ) -> dict[str, tuple[int, str]]:
        where, arguments = where_clause(interval)
        rows = session.rows(
            f"SELECT part %% {_PARTS} AS piece, COUNT(*), SUM(part) FROM "
            f"(SELECT {self._part} AS part FROM {self._relation}{where}) AS look GROUP BY piece",
            arguments,
        )
        return {str(part): (int(str(count)), str(checksum)) for part, count, checksum in rows}

    def _rows(
        self, session: Session, interval: Sequence[Condition], parts: Sequence[str]
    ) -> set[tuple[str | None, ...]]:
        chosen = Condition(f"{self._part} %% {_PARTS} IN ({', '.join(parts)})")
        where, arguments = where_clause([*interval, chosen])
        return set(session.rows(f"SELECT {self._columns} FROM {self._relation}{where}", arguments))


def _grouped(parts: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Group the parts: only the rows of one group are in memory at the same time."""
    group: list[str] = []
    size = 0
    for part, rows in parts:
        if group and size + rows > _ROWS_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(part)
        size += rows
    if group:
        yield group


def _seconds(process: tuple[str | None, ...]) -> int:
    """How long a statement has been running; 0 if its session has set a clock of its own."""
    seconds = int(str(process[5]))
    return seconds if 0 <= seconds < _LONGEST_SECONDS else 0


def _described(id_: str, started: str | None, processes: Processes) -> str:
    process = processes.get(id_)
    if process is None:
        return f"a prepared transaction, open since {started}"
    return f"{_connection(process)}, open since {started}"


def _connection(process: tuple[str | None, ...]) -> str:
    return f"connection {process[0]} ({process[1]} from {process[2]})"
