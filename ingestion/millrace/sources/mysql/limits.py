"""What a table declares that its server may suffer from being read."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_delay, wait_fixed

from millrace.errors import SourceBusy, SourceMismatch, SourceRefused
from millrace.progress import in_time
from millrace.sources.mysql.client import MySQLError
from millrace.sources.mysql.options import Harm
from millrace.sources.mysql.session import Session, lacks_a_right

log = logging.getLogger(__name__)

DEFAULT_STATEMENT_SECONDS = 5.0

# How long a read waits until the server is within the limits again, and how often it looks.
_PATIENCE_SECONDS = 600
_LOOK_SECONDS = 1


class Limits:
    """The limits of one table; asks the server how it is.

    Args:
        harm: What is declared.
        table: The table, for messages.
        sessions: Those that read; the first one also asks.
        holds_snapshot: Whether the read keeps a snapshot open all the time.
    """

    def __init__(
        self, harm: Harm, table: str, *sessions: Session, holds_snapshot: bool = False
    ) -> None:
        self._harm = harm
        self._table = table
        self._sessions = sessions
        self._session = sessions[0]
        self._holds_snapshot = holds_snapshot

    @property
    def statement_seconds(self) -> float:
        """The longest time that a statement may take."""
        return self._harm.max_statement_s or DEFAULT_STATEMENT_SECONDS

    def limit_statements(self, *, can_be_smaller: bool) -> None:
        """Let the server end statements that take too long.

        Args:
            can_be_smaller: Whether less could be asked for instead. If not, only a declared limit
                counts: without one the table could not be read at all.
        """
        is_limited = can_be_smaller or self._harm.max_statement_s is not None
        for session in self._sessions:
            session.limit_statements(self.statement_seconds if is_limited else None)

    def lift(self) -> None:
        """Let statements take longer, because the smallest one takes too long.

        Raises:
            SourceBusy: the table declares how long a statement may take.
        """
        limit = f"{self.statement_seconds:g} s"
        if self._harm.max_statement_s is not None:
            raise SourceBusy(
                f"{self._table}: a statement took longer than the {limit} of `max_statement_s`, "
                "and what it reads cannot be read in smaller pieces.",
                fix="Raise `max_statement_s`, read the table when the server has less to do, or "
                "give it an index that begins with its cursor. Nothing was loaded.",
            )
        log.warning(
            "%s: a statement took longer than %s, and what it reads cannot be read in smaller "
            "pieces: the rest is read by statements that take longer",
            *(self._table, limit),
        )
        for session in self._sessions:
            session.limit_statements(None)

    def check(self) -> None:
        """See that the server tells what the declared limits are about.

        Raises:
            SourceRefused: our account may not see it.
            SourceMismatch: there is no such thing on this server.
        """
        for _ in self._passed():
            pass

    def wait(self) -> None:
        """Wait until the server is within the limits.

        Raises:
            SourceBusy: it does not come back within them, or cannot while this read goes on.
        """
        if self._harm.max_replica_lag_s is None and self._harm.max_history_list is None:
            return
        waiting = Retrying(
            retry=retry_if_result(lambda passed: passed is not None),
            wait=wait_fixed(_LOOK_SECONDS),
            stop=stop_after_delay(_PATIENCE_SECONDS),
            before_sleep=self._tell,
            retry_error_callback=self._give_up,
        )
        waiting(lambda: next(self._passed(), None))

    def _passed(self) -> Iterator[str]:
        """The limits that are passed, for a person."""
        longest = self._harm.max_history_list
        if longest is not None and (length := self._history_list()) > longest:
            passed = (
                f"{length:,} changes are not purged yet, and `max_history_list` allows {longest:,}"
            )
            if self._holds_snapshot:
                raise SourceBusy(
                    f"{self._table}: {passed}. They cannot be purged while the table is read as of "
                    "one moment.",
                    fix="Read it when less is written, raise the limit, or declare "
                    "`as_of_one_moment: false` if its rows may be of different moments. Nothing "
                    "was loaded.",
                )
            yield passed
        furthest = self._harm.max_replica_lag_s
        if furthest is None:
            return
        lag = self._replica_lag()
        if lag is None:
            yield "the server does not replicate at the moment, so its lag is not known"
        elif lag > furthest:
            yield (
                f"the server is {in_time(lag)} behind its primary, and `max_replica_lag_s` allows "
                f"{in_time(furthest)}"
            )

    def _tell(self, state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome:
            log.warning("%s waits: %s", self._table, state.outcome.result())

    def _give_up(self, state: RetryCallState) -> None:
        passed = state.outcome.result() if state.outcome else ""
        raise SourceBusy(
            f"{self._table}: {passed}. That has been so for {in_time(_PATIENCE_SECONDS)}.",
            fix="Look at what else the server does, read the table when it has less to do, or "
            "raise the limit in `harm`. Nothing was loaded.",
        )

    def _history_list(self) -> int:
        """How many changes InnoDB has yet to purge."""
        # MariaDB tells everybody; MySQL has it among the metrics, which take PROCESS.
        told = self._session.rows("SHOW GLOBAL STATUS LIKE 'Innodb_history_list_length'")
        if told:
            return int(str(told[0][1]))
        try:
            found = self._session.rows(
                "SELECT count FROM information_schema.innodb_metrics "
                "WHERE name = 'trx_rseg_history_len' AND status = 'enabled'"
            )
        except MySQLError as error:
            raise self._explained(error, "max_history_list", "PROCESS") from None
        if not found:
            raise SourceMismatch(
                f"{self._table} declares `max_history_list`, and the server does not measure it.",
                fix="SET GLOBAL innodb_monitor_enable = 'trx_rseg_history_len', or take "
                "`max_history_list` out of the declaration.",
            )
        return int(str(found[0][0]))

    def _replica_lag(self) -> float | None:
        """How many seconds the server is behind, at most; None: it does not replicate now."""
        ((version,),) = self._session.rows("SELECT VERSION()")
        is_mariadb = "MariaDB" in str(version)
        right = "SLAVE MONITOR" if is_mariadb else "REPLICATION CLIENT"
        try:
            channels = self._session.records(
                "SHOW ALL SLAVES STATUS" if is_mariadb else "SHOW REPLICA STATUS"
            )
        except MySQLError as error:
            raise self._explained(error, "max_replica_lag_s", right) from None
        if not channels:
            raise SourceMismatch(
                f"{self._table} declares `max_replica_lag_s`, and its server is no replica.",
                fix="Read it from a replica, or take `max_replica_lag_s` out of the declaration.",
            )
        behind = [
            value
            for channel in channels
            for name, value in channel.items()
            if name in ("Seconds_Behind_Source", "Seconds_Behind_Master")
        ]
        return None if None in behind else max(float(str(value)) for value in behind)

    def _explained(self, error: MySQLError, limit: str, right: str) -> Exception:
        if not lacks_a_right(error):
            return error
        return SourceRefused(
            f"{self._table} declares `{limit}`, and the account may not see what it is about: "
            f"{error.text}.",
            fix=f"GRANT {right} ON *.* to that user, or take `{limit}` out of the declaration.",
        )
