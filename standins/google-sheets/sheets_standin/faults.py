"""Faults on demand, and the log of requests."""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from sheets_standin.errors import ApiError

LOGGED_REQUESTS = 10_000

_MESSAGES = {
    429: "Quota exceeded for quota metric 'Requests' and limit 'Requests per minute per user' of "
    "service 'sheets.googleapis.com'.",
    500: "Internal error encountered.",
    503: "The service is currently unavailable.",
}


class Fault(BaseModel):
    """What goes wrong with which requests.

    Attributes:
        action: ``status`` answers with an error; ``cut`` cuts the connection before any answer;
            ``cut_body`` cuts it half way through the answer's body; ``delay`` only answers late.
        applied: For ``status`` and ``cut``: whether the request takes effect before it fails.
            With ``cut_body`` it always does.
        after: How many matching requests pass before the first that fails.
        times: How many matching requests then fail.
        requests: Whether requests that read match, or those that write, or any.
        path: A regular expression that is searched for in the request's path.
        status: For ``status``: the HTTP status.
        retry_after: For ``status``: the header of that name, in seconds.
        delay: Seconds before anything happens.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    action: Literal["status", "cut", "cut_body", "delay"]
    applied: bool = False
    after: int = Field(default=0, ge=0)
    times: int = Field(default=1, ge=1)
    requests: Literal["any", "read", "write"] = "any"
    path: str = "^/v4/"
    status: int = 503
    retry_after: int | None = None
    delay: float = Field(default=0, ge=0)

    def concerns(self, method: str, path: str) -> bool:
        """Whether such a request matches the fault."""
        kind = "read" if method == "GET" else "write"
        return self.requests in ("any", kind) and re.search(self.path, path) is not None


@dataclass
class LoggedRequest:
    """A request to the API or the token endpoint.

    Attributes:
        status: The HTTP status of the answer; None when there was none.
        fault: The action of the fault that the request met.
    """

    method: str
    path: str
    status: int | None = None
    fault: str | None = None


@dataclass
class FaultScript:
    """The faults to come, with how many matching requests each has seen, and the log."""

    faults: list[tuple[Fault, int]] = field(default_factory=list)
    log: deque[LoggedRequest] = field(default_factory=lambda: deque(maxlen=LOGGED_REQUESTS))

    def take(self, method: str, path: str) -> Fault | None:
        """The fault that this request meets: the first that is due; other due ones wait."""
        met: Fault | None = None
        remaining = []
        for fault, seen in self.faults:
            if fault.concerns(method, path):
                if seen < fault.after:
                    seen += 1
                elif met is None:
                    met = fault
                    seen += 1
            if seen < fault.after + fault.times:
                remaining.append((fault, seen))
        self.faults = remaining
        return met


class CuttableProtocol(H11Protocol):
    """uvicorn's protocol, with the open connections by the addresses of their two ends."""

    transports: ClassVar[dict[tuple[Any, Any], asyncio.Transport]] = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Remember the connection."""
        super().connection_made(transport)
        self.transports[self.client, self.server] = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.transports.pop((self.client, self.server), None)
        super().connection_lost(exc)


class FaultMiddleware:
    """Logs the requests to the API and applies the script's faults to them.

    Args:
        app: What answers when nothing goes wrong.
        script: The faults and the log.
    """

    def __init__(self, app: ASGIApp, script: FaultScript) -> None:
        self._app = app
        self._script = script

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or do to it what its fault says."""
        path = scope["path"] if scope["type"] == "http" else ""
        if not path.startswith(("/v4", "/token")):
            await self._app(scope, receive, send)
            return
        entry = LoggedRequest(scope["method"], path)
        self._script.log.append(entry)
        fault = self._script.take(entry.method, path)

        async def send_logged(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
            await send(message)

        if fault is None:
            await self._app(scope, receive, send_logged)
            return
        entry.fault = fault.action
        await asyncio.sleep(fault.delay)
        if fault.action == "delay":
            await self._app(scope, receive, send_logged)
            return
        messages: list[Message] = []
        if fault.applied or fault.action == "cut_body":
            messages = await self._collect(scope, receive)
        if fault.action == "status":
            await _send_error(fault, send_logged)
            return
        if fault.action == "cut_body":
            await _send_half(messages, send_logged)
        await _cut(scope, receive)

    async def _collect(self, scope: Scope, receive: Receive) -> list[Message]:
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        await self._app(scope, receive, keep)
        return messages


async def _send_error(fault: Fault, send: Send) -> None:
    error = ApiError(fault.status, _MESSAGES.get(fault.status, "A scripted fault."))
    headers = [(b"content-type", b"application/json; charset=UTF-8")]
    if fault.retry_after is not None:
        headers.append((b"retry-after", str(fault.retry_after).encode()))
    body = json.dumps(error.body()).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _send_half(messages: list[Message], send: Send) -> None:
    body = b"".join(message.get("body", b"") for message in messages[1:])
    await send(messages[0])
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def _cut(scope: Scope, receive: Receive) -> None:
    # Closed and not aborted, so that what was sent so far arrives.
    CuttableProtocol.transports[scope["client"], scope["server"]].close()
    while (await receive())["type"] != "http.disconnect":
        pass
