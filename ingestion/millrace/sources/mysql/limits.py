"""What a table declares that its MySQL server may suffer from being read."""

from __future__ import annotations

from collections.abc import Iterator

from millrace.errors import SourceBusy, SourceMismatch, SourceRefused
from millrace.sources import limits
from millrace.sources.limits import lag_passed
from millrace.sources.mysql.client import MySQLError
from millrace.sources.mysql.options import MySQLHarm
from millrace.sources.mysql.session import Session, lacks_a_right


class Limits(limits.Limits):
    """The limits of one table; asks the server how it is.

    Args:
        harm: What is declared.
        table: The table, for messages.
        sessions: Those that read; the first one also asks.
        holds_snapshot: Whether the read keeps a snapshot open all the time.
    """

    def __init__(
        self, harm: MySQLHarm, table: str, *sessions: Session, holds_snapshot: bool = False
    ) -> None:
        super().__init__(harm, table)
        self._harm = harm
        self._sessions = sessions
        self._session = sessions[0]
        self._holds_snapshot = holds_snapshot

    def _limit(self, seconds: float | None) -> None:
        for session in self._sessions:
            session.limit_statements(seconds)

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
        if behind := lag_passed(furthest, self._replica_lag()):
            yield behind

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
