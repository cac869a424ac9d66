"""What a table declares that its PostgreSQL server may suffer from being read."""

from __future__ import annotations

from collections.abc import Iterator

from millrace.errors import SourceMismatch
from millrace.sources import limits
from millrace.sources.limits import lag_passed
from millrace.sources.options import Harm
from millrace.sources.postgres.session import Session


class Limits(limits.Limits):
    """The limits of one table; asks the server how it is.

    Args:
        harm: What is declared.
        table: The table, for messages.
        session: The session that reads and asks.
    """

    def __init__(self, harm: Harm, table: str, session: Session) -> None:
        super().__init__(harm, table)
        self._session = session

    def _limit(self, seconds: float | None) -> None:
        self._session.limit_statements(seconds)

    def _passed(self) -> Iterator[str]:
        furthest = self._declared.max_replica_lag_s
        if furthest is not None and (passed := lag_passed(furthest, self._replica_lag())):
            yield passed

    def _replica_lag(self) -> float | None:
        """How many seconds the server is behind, at most; None: it has replayed nothing yet."""
        ((is_replica, lag),) = self._session.rows(
            "SELECT pg_is_in_recovery(), (CASE "
            # Whoever has replayed all that is received is not behind, if it still receives.
            "WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() "
            "AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0 "
            "ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) "
            "END)::float8"
        )
        if not is_replica:
            raise SourceMismatch(
                f"{self._table} declares `max_replica_lag_s`, and its server is no replica.",
                fix="Read it from a replica, or take `max_replica_lag_s` out of the declaration.",
            )
        return None if lag is None else float(lag)
