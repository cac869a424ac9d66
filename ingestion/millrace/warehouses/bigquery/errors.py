"""BigQuery's errors as Millrace's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import requests
from google.api_core.exceptions import (
    Conflict,
    Forbidden,
    GoogleAPICallError,
    NotFound,
    RetryError,
    ServerError,
    TooManyRequests,
    Unauthorized,
)
from google.auth.exceptions import GoogleAuthError, TransportError

from millrace.errors import (
    MillraceError,
    WarehouseBusy,
    WarehouseError,
    WarehouseRefused,
    WarehouseUnavailable,
)

# What ``raised`` lets a script fail with.
_RAISED = re.compile(r"\bmillrace: ([\w ]+)")
# https://cloud.google.com/bigquery/docs/error-messages
_BUSY = {
    "backendError",
    "internalError",
    "rateLimitExceeded",
    "jobRateLimitExceeded",
    "jobBackendError",
}
_QUOTA = "quotaExceeded"
_TOO_COSTLY = "bytesBilledLimitExceeded"
# https://cloud.google.com/bigquery/docs/transactions#transaction_concurrency
_IN_THE_WAY = re.compile(
    r"transaction is aborted due to concurrent|could not serialize access|"
    r"concurrent update|aborted due to a conflict",
    re.IGNORECASE,
)
# https://cloud.google.com/bigquery/docs/batch-loading-data#required_permissions
_OF_THE_LANDING = re.compile(r"storage\.objects\.|gs://")
# https://cloud.google.com/bigquery/docs/batch-loading-data#data-locations
_ELSEWHERE = re.compile(r"read and write in different locations", re.IGNORECASE)
_LATER = "It may pass: try again. Nothing was loaded."


def raised(message: str) -> str:
    """What a script fails with, so that ``raised_by`` knows it again."""
    return f"millrace: {message}"


def raised_by(error: GoogleAPICallError) -> str | None:
    """What a script of Millrace's has failed with; None if it is another error."""
    found = _RAISED.search(error.message)
    return found[1] if found else None


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turn the errors of Google's library into Millrace's.

    Args:
        place: The project, for messages.
    """
    try:
        yield
    except MillraceError:
        raise
    except (TransportError, requests.ConnectionError, requests.Timeout, RetryError) as error:
        last = error.cause if isinstance(error, RetryError) else None
        if isinstance(last, GoogleAPICallError):
            # It was tried for as long as the client does, and always answered so.
            raise _as_ours(last, place) from error
        raise WarehouseUnavailable(
            f"BigQuery ({place}) does not answer: {_line(str(error))}.", fix=_LATER
        ) from error
    except GoogleAuthError as error:
        raise WarehouseRefused(
            f"Google does not take the credentials of the dbt target: {_line(str(error))}.",
            fix="Correct `method` and what belongs to it in profiles.yml, or log in: "
            "`gcloud auth application-default login`.",
        ) from error
    except GoogleAPICallError as error:
        raise _as_ours(error, place) from error


def reasons(error: GoogleAPICallError) -> set[str]:
    """BigQuery's own words for why it refuses."""
    return {str(one.get("reason")) for one in error.errors if isinstance(one, dict)}


def _as_ours(error: GoogleAPICallError, place: str) -> WarehouseError:
    said, why = _line(error.message), reasons(error)
    if _IN_THE_WAY.search(error.message):
        return WarehouseBusy(
            f"Another transaction of BigQuery ({place}) was in the way: {said}.", fix=_LATER
        )
    if _QUOTA in why:
        return WarehouseUnavailable(
            f"A quota of BigQuery ({place}) is used up: {said}.",
            fix="See `APIs & Services > BigQuery API > Quotas` in the Google Cloud console. "
            "Nothing was loaded.",
        )
    if _TOO_COSTLY in why:
        return WarehouseError(
            f"BigQuery ({place}) would bill more than `maximum_bytes_billed` allows: {said}.",
            fix="Raise `maximum_bytes_billed` of the target in profiles.yml, or ingest less at a "
            "time. Nothing was loaded.",
        )
    if why & _BUSY or isinstance(error, ServerError | TooManyRequests):
        return WarehouseBusy(f"BigQuery ({place}) has trouble: {said}.", fix=_LATER)
    if _ELSEWHERE.search(error.message):
        return WarehouseRefused(
            f"BigQuery ({place}) does not read the landing: {said}.",
            fix="Let LANDING_URL name a bucket in the target's `location`. Nothing was loaded.",
        )
    if isinstance(error, Unauthorized | Forbidden) and _OF_THE_LANDING.search(error.message):
        return WarehouseRefused(
            f"BigQuery ({place}) may not read the landing: {said}.",
            fix="Let the account of the dbt target read the bucket: deploy/bigquery/grant … "
            "gs://BUCKET. Nothing was loaded.",
        )
    if isinstance(error, Unauthorized | Forbidden):
        return WarehouseRefused(
            f"BigQuery ({place}) does not let us: {said}.",
            fix="Give the account the rights that docs/bigquery.md lists, or run "
            "deploy/bigquery/grant.",
        )
    if isinstance(error, Conflict):
        return WarehouseBusy(f"BigQuery ({place}): {said}.", fix=_LATER)
    if isinstance(error, NotFound):
        return WarehouseError(
            f"BigQuery ({place}) does not find something: {said}.",
            fix="Check `project` and `location` of the target in profiles.yml, and that nobody has "
            "dropped a table.",
        )
    return WarehouseError(
        f"BigQuery ({place}) refuses: {said}.", fix="Look the message up; nothing was loaded."
    )


def _line(text: str) -> str:
    return " ".join(text.split()).rstrip(". ")
