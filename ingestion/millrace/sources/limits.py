"""What a table declares that its server may suffer from being read."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator

from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_delay, wait_fixed

from millrace.errors import SourceBusy
from millrace.progress import in_time
from millrace.sources.options import Harm

log = logging.getLogger(__name__)

DEFAULT_STATEMENT_SECONDS = 5.0

# How long a read waits until the server is within the limits again, and how often it looks.
_PATIENCE_SECONDS = 600
_LOOK_SECONDS = 1


class Limits(ABC):
    """The limits of one table; asks the server how it is.

    Args:
        harm: What is declared.
        table: The table, for messages.
    """

    def __init__(self, harm: Harm, table: str) -> None:
        self._declared = harm
        self._table = table

    @abstractmethod
    def _limit(self, seconds: float | None) -> None:
        """Let the server end every statement that takes longer; None: none."""

    @abstractmethod
    def _passed(self) -> Iterator[str]:
        """The limits that are passed, for a person."""

    @property
    def statement_seconds(self) -> float:
        """The longest time that a statement may take."""
        return self._declared.max_statement_s or DEFAULT_STATEMENT_SECONDS

    def limit_statements(self, *, can_be_smaller: bool) -> None:
        """Let the server end statements that take too long.

        Args:
            can_be_smaller: Whether less could be asked for instead. If not, only a declared limit
                counts: without one the table could not be read at all.
        """
        is_limited = can_be_smaller or self._declared.max_statement_s is not None
        self._limit(self.statement_seconds if is_limited else None)

    def lift(self) -> None:
        """Let statements take longer, because the smallest one takes too long.

        Raises:
            SourceBusy: the table declares how long a statement may take.
        """
        limit = f"{self.statement_seconds:g} s"
        if self._declared.max_statement_s is not None:
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
        self._limit(None)

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
        waiting = Retrying(
            retry=retry_if_result(lambda passed: passed is not None),
            wait=wait_fixed(_LOOK_SECONDS),
            stop=stop_after_delay(_PATIENCE_SECONDS),
            before_sleep=self._tell,
            retry_error_callback=self._give_up,
        )
        waiting(lambda: next(self._passed(), None))

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


def lag_passed(furthest: float, lag: float | None) -> str | None:
    """That a replica is further behind than it may be, for a person; None: it is not.

    Args:
        furthest: How far it may be, in seconds.
        lag: How far it is; None: it does not replicate.
    """
    if lag is None:
        return "the server does not replicate at the moment, so its lag is not known"
    if lag > furthest:
        return (
            f"the server is {in_time(lag)} behind its primary, and `max_replica_lag_s` allows "
            f"{in_time(furthest)}"
        )
    return None
