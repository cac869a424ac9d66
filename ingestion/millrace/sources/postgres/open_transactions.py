"""Since when transactions are open that may still write rows into an interval.

A transaction writes ``now()``, which is the time at which it began, and commits later: whoever
reads in between does not see the row. So an interval is closed up to the start of the oldest
transaction that is open. Those that begin later write later times, and those that have ended by
then are seen by the reads that follow.

Everybody sees which transactions are open, but only an account with the rights of
``pg_read_all_stats`` sees since when those of others are. Without it, Millrace waits a little for
those that it does not know to end.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_delay, wait_fixed

from millrace.sources.postgres.session import APPLICATION, Session

MARGIN = timedelta(seconds=2)
"""A transaction takes its time a moment before it is listed; the server may be busy in between."""

_PATIENCE_SECONDS = 10
_LOOK_SECONDS = 0.1

# Programs that only read, however long they take.
_READERS = (APPLICATION, "pg_dump")
_OPEN = f"""
SELECT a.pid, a.usename::text, a.application_name, host(a.client_addr), a.xact_start, l.id,
    a.backend_xid IS NOT NULL
FROM pg_stat_activity a
JOIN (
    SELECT pid, MIN(virtualtransaction) AS id FROM pg_locks
    WHERE locktype = 'virtualxid' AND mode = 'ExclusiveLock' AND granted GROUP BY pid
) l ON l.pid = a.pid
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
    -- Those of the server itself, such as autovacuum, are nobody's.
    AND a.usesysid IS NOT NULL AND COALESCE(a.backend_type, '') NOT IN ('walsender')
    AND a.application_name NOT IN {_READERS!r}
ORDER BY a.xact_start NULLS LAST
"""
# A prepared transaction writes nothing any more: only what it has written matters.
_PREPARED = """
SELECT p.gid, p.owner::text, p.prepared FROM pg_prepared_xacts p
WHERE p.database = current_database() AND EXISTS (
    -- Its locks are of no process.
    SELECT FROM pg_locks own JOIN pg_locks l ON l.virtualtransaction = own.virtualtransaction
    WHERE own.transactionid = p.transaction AND own.pid IS NULL AND l.pid IS NULL
    AND l.relation = ANY ($1::oid[]) AND l.mode = 'RowExclusiveLock'
)
ORDER BY p.prepared
"""


@dataclass(frozen=True)
class OpenTransaction:
    """A transaction that may still write into a table, or has written what nobody sees yet.

    Attributes:
        who: What it is, for a person.
        since: When it began; None: that is not known.
    """

    who: str
    since: datetime | None


@dataclass(frozen=True)
class Look:
    """What was open when we looked.

    Attributes:
        now: The server's clock just before.
        transactions: The open transactions, the oldest first, those of unknown age last.
    """

    now: datetime
    transactions: tuple[OpenTransaction, ...]

    @property
    def oldest(self) -> OpenTransaction | None:
        """The one that began first, of those whose beginning is known."""
        known = (found for found in self.transactions if found.since is not None)
        return next(known, None)

    @property
    def unknown(self) -> tuple[OpenTransaction, ...]:
        """Those that may have begun at any time."""
        return tuple(found for found in self.transactions if found.since is None)


def sees_all(session: Session) -> bool:
    """Whether the account sees since when the transactions of others are open."""
    ((sees,),) = session.rows(
        "SELECT pg_has_role('pg_read_all_stats', 'USAGE') OR current_setting('is_superuser') = 'on'"
    )
    return bool(sees)


def look(session: Session, members: str) -> Look:
    """Look at the transactions that are open; waits a little for those of unknown age to end.

    Args:
        session: The session to use; it must not be in a transaction.
        members: The ids of the table and its partitions, as an array's text.
    """
    # First the clock: whatever is not listed after it has ended, or begins later.
    ((now,),) = session.rows("SELECT clock_timestamp()")
    found = _listed(session)
    hidden = {id_ for id_, transaction in found.items() if transaction.since is None}
    still = _awaited(session, hidden) if hidden else frozenset[str]()
    open_ones = [
        transaction
        for id_, transaction in found.items()
        if transaction.since is not None or id_ in still
    ]
    return Look(now.astimezone(UTC), (*open_ones, *_prepared(session, members)))


def _listed(session: Session) -> dict[str, OpenTransaction]:
    return {
        str(id_): OpenTransaction(_described(pid, user, application, host, has_written), since)
        for pid, user, application, host, since, id_, has_written in session.rows(_OPEN)
    }


def _described(
    pid: int, user: str, application: str | None, host: str | None, has_written: bool
) -> str:
    program = f", {application}" if application else ""
    written = "" if has_written else ", which has written nothing yet"
    return f"connection {pid} ({user} from {host or 'this server'}{program}){written}"


def _awaited(session: Session, hidden: Collection[str]) -> frozenset[str]:
    """Those of some transactions that are still open after a while."""

    def still() -> frozenset[str]:
        return frozenset(hidden) & _listed(session).keys()

    def give_up(state: RetryCallState) -> frozenset[str]:
        return state.outcome.result() if state.outcome else frozenset(hidden)

    waiting = Retrying(
        retry=retry_if_result(bool),
        wait=wait_fixed(_LOOK_SECONDS),
        stop=stop_after_delay(_PATIENCE_SECONDS),
        retry_error_callback=give_up,
    )
    found: frozenset[str] = waiting(still)
    return found


def _prepared(session: Session, members: str) -> list[OpenTransaction]:
    """Prepared transactions that have written into the table; when they began, nobody says."""
    return [
        OpenTransaction(f"the prepared transaction '{gid}' of {owner}, since {prepared}", None)
        for gid, owner, prepared in session.rows(_PREPARED, (members,))
    ]
