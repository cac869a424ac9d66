"""How a task of ours ends when it does not end well, without a Python trace; and how it waits.

Airflow prints the stack of every exception but ``SystemExit``, and would try each again; the retry
policy tells it which not to.
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
    """A task that ends here; ``str()`` is the message, for whoever is called on a failure."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # Airflow prints the code, and the message stands above it already.
        self.code = 1


class Refused(TaskEnded):
    """Only a person can mend it."""


class Interrupted(TaskEnded):
    """It may pass by itself."""


RETRY_POLICY = ExceptionRetryPolicy(
    [RetryRule(Refused, RetryAction.FAIL, reason="To try again by itself would not help.")]
)
"""Makes a refused task red at once; everything else is tried again as often as the task says."""


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
    """Let Airflow retry what may pass by itself, and fail at once what only a person can mend."""
    try:
        yield
    except MillraceError as error:
        (interrupt if error.may_pass else refuse)(str(error))


def look_again(operator: BaseOperator, after: timedelta, **kwargs: Any) -> NoReturn:
    """Leave the worker and the pool's slot; Airflow calls the operator's ``resume`` afterwards.

    Args:
        operator: The task that waits.
        after: How long.
        kwargs: What to give ``resume``, so that a wait can be bounded: text, numbers.
    """
    from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

    fold_wait("Waiting")
    operator.defer(trigger=TimeDeltaTrigger(after), method_name="resume", kwargs=kwargs)
    raise AssertionError("defer does not return")


def fold_wait(title: str) -> None:
    """Fold what a trigger writes from here on, several lines a look, where the UI shows it."""
    log.info("::group::%s", title)


def unfold() -> None:
    """End what ``fold_wait`` began."""
    log.info("::endgroup::")


def _say(message: str) -> None:
    for line in message.splitlines():
        log.error("%s", line)
