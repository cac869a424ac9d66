"""A small HTTP server on loopback, whose answers go wrong as a script says."""

from __future__ import annotations

import json
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from millrace_sandbox.processes import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_JSON = "application/json"


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        path: Its path.
        params: Its parameters; of several with one name, the last.
        headers: Its headers, with names in lower case.
    """

    path: str
    params: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Reply:
    """An answer.

    Attributes:
        body: What is sent as JSON, or bytes as they are.
        status: Its status.
        headers: Its headers.
    """

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        """The body's bytes."""
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Attributes:
        kind: ``status`` answers with an error, ``cut`` closes the connection half way through the
            answer, ``truncate`` sends half of it as if it were all, ``drop`` closes the connection
            without an answer, ``stall`` sends half and then nothing until the client gives up.
        status: For ``status``: which.
        retry_after: For ``status``: the header Retry-After.
    """

    kind: Literal["status", "cut", "truncate", "drop", "stall"]
    status: int = 500
    retry_after: str | None = None


class ScriptedServer:
    """Answers requests; the faults are used up one by one, by one request each.

    Args:
        answer: Answers a request.
        port: Where it listens; 0: any free port.
    """

    def __init__(self, answer: Callable[[Asked], Reply], port: int = 0) -> None:
        self.answer = answer
        self.faults: deque[Fault] = deque()
        self.asked: list[Asked] = []
        self._closing = threading.Event()
        outer = self

        class Handler(_Handler):
            server_of_ours = outer

        self._server = ThreadingHTTPServer((LOOPBACK, port), Handler)
        self._server.daemon_threads = True
        # A handler that stalls is not waited for.
        self._server.block_on_close = False

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    @property
    def url(self) -> str:
        """Its URL, without a slash at its end."""
        return f"http://{LOOPBACK}:{self.port}"

    def serve(self) -> None:
        """Answer requests until the process is ended."""
        self._server.serve_forever()

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_for_end(self) -> None:
        """Wait until the server ends, a minute at most."""
        self._closing.wait(60)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of_ours: ScriptedServer

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(parts.path, dict(parse_qsl(parts.query, keep_blank_values=True)), headers)
        server = self.server_of_ours
        server.asked.append(asked)
        fault = server.faults.popleft() if server.faults else None
        if fault and fault.kind == "drop":
            self.close_connection = True
        elif fault and fault.kind == "status":
            after = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            self._send(Reply({"error": "scripted"}, fault.status, after), fault)
        else:
            self._send(server.answer(asked), fault)

    def _send(self, reply: Reply, fault: Fault | None) -> None:
        data = reply.data
        if fault and fault.kind == "truncate":
            data = data[: len(data) // 2]
        self.send_response_only(reply.status)
        for name, value in {"Content-Type": _JSON, **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault and fault.kind in ("cut", "stall"):
            data = data[: len(data) // 2]
            self.close_connection = True
        self.wfile.write(data)
        if fault and fault.kind == "stall":
            self.wfile.flush()
            self.server_of_ours.wait_for_end()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
