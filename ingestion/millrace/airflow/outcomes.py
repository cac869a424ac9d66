"""How Millrace's tasks fail, without a Python traceback, and how they wait.

Airflow prints the traceback of every exception but ``SystemExit``, and would retry after each; the
retry policy tells it after which not to.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import BaseOperator, ExceptionRetryPolicy, RetryAction, RetryRule

from millrace.errors import MillraceError

log = logging.getLogger(__name__)


class TaskEnded(SystemExit):
    """Ends the task; ``str()`` is the message, for a failure callback."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # Airflow prints the exit code; the message has been logged above it.
        self.code = 1


class Refused(TaskEnded):
    """A failure that only a person can fix."""


class Interrupted(TaskEnded):
    """A failure that may pass by itself."""


RETRY_POLICY = ExceptionRetryPolicy(
    [RetryRule(Refused, RetryAction.FAIL, reason="To try again by itself would not help.")]
)
"""Fails a refused task at once; any other failure is retried as often as the task allows."""


def refuse(message: str) -> NoReturn:
    """End the task for good: log the message, line by line."""
    _say(message)
    raise Refused(message)


def interrupt(message: str) -> NoReturn:
    """End this try of the task: log the message, line by line."""
    _say(message)
    raise Interrupted(message)


@contextmanager
def explained() -> Iterator[None]:
    """Let Airflow retry what may pass by itself, and fail at once what only a person can fix."""
    try:
        yield
    except MillraceError as error:
        (interrupt if error.may_pass else refuse)(str(error))


def look_again(operator: BaseOperator, after: timedelta, **kwargs: Any) -> NoReturn:
    """Leave the worker and the pool's slot; Airflow calls the operator's ``resume`` afterwards.

    Args:
        operator: The task that waits.
        after: How long.
        kwargs: Arguments for ``resume``, such as when to give up: text or numbers.
    """
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

    fold_wait("Waiting")
    operator.defer(trigger=TimeDeltaTrigger(after), method_name="resume", kwargs=kwargs)
    raise AssertionError("defer does not return")


def fold_wait(title: str) -> None:
    """Let the UI fold what a trigger logs from here on: it writes several lines per look."""
    log.info("::group::%s", title)


def unfold() -> None:
    """End what ``fold_wait`` began."""
    log.info("::endgroup::")


def _say(message: str) -> None:
    for line in message.splitlines():
        log.error("%s", line)
