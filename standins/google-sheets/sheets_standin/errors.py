"""The API's refusals, and the failure of the stand-in itself."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class StandinError(Exception):
    """A failure the user can act on; the message says what happened and what to do."""


class ApiError(Exception):
    """A refusal with the HTTP status and the message that Google sends.

    Args:
        code: HTTP status.
        message: What was wrong, in Google's words where they are known.
        details: Google's machine-readable reasons.
    """

    def __init__(self, code: int, message: str, details: list[dict[str, Any]] | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details

    def body(self) -> dict[str, Any]:
        """The JSON body of the answer."""
        error: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "status": STATUS_NAMES.get(self.code, "UNKNOWN"),
        }
        if self.details:
            error["details"] = self.details
        return {"error": error}


def refuse_unknown(given: Iterable[str], known: Collection[str]) -> None:
    """Refuse names that the API does not know, instead of quietly ignoring them.

    Raises:
        ApiError: 400, one of the names is not known.
    """
    for name in given:
        if name not in known:
            raise invalid(
                f'Invalid JSON payload received. Unknown name "{name}": Cannot find field.'
            )


def invalid(message: str) -> ApiError:
    """A 400 for a request that makes no sense."""
    return ApiError(400, message)
