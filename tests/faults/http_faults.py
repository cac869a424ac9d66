"""An HTTP proxy that answers in a service's place, or loses the service's answers."""

from __future__ import annotations

import http.client
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, Self

from millrace_sandbox.processes import LOOPBACK

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding"}


@dataclass
class HTTPFault:
    """What goes wrong with the next requests.

    Attributes:
        action: ``status`` answers with an error, ``cut`` closes the connection without an answer,
            ``cut_body`` closes it half way through the answer.
        times: How many requests go wrong.
        status: For ``status``: the HTTP status.
        code: For ``status``: the error's code, as S3 writes it, or the reason, as BigQuery does.
        applied: Whether the service gets the request before it goes wrong; ``cut_body``: always.
        skipped: How many requests pass before.
    """

    action: Literal["status", "cut", "cut_body"]
    times: int = 1
    status: int = 503
    code: str = "SlowDown"
    applied: bool = False
    skipped: int = 0

    def body(self, *, is_google: bool) -> bytes:
        """For ``status``: what is answered."""
        if not is_google:
            return f"<Error><Code>{self.code}</Code></Error>".encode()
        why = {"reason": self.code, "message": self.code}
        return json.dumps(
            {"error": {"code": self.status, "message": self.code, "errors": [why]}}
        ).encode()


class HTTPFaults:
    """Forwards requests to a service; a fault holds until it is used up or healed.

    Args:
        host: The service's host.
        port: The service's port.
    """

    def __init__(self, host: str, port: int) -> None:
        self._lock = threading.Lock()
        self._fault: HTTPFault | None = None
        self.requests = 0
        faults = self

        class Handler(_Handler):
            service = (host, port)

            def fault(self) -> HTTPFault | None:
                return faults._next()

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._server.daemon_threads = True
        self.host, self.port = LOOPBACK, self._server.server_port

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def set(self, fault: HTTPFault) -> None:
        """Let the next requests go wrong."""
        with self._lock:
            self._fault = fault

    def heal(self) -> None:
        """Let everything pass again."""
        with self._lock:
            self._fault = None

    @property
    def is_healed(self) -> bool:
        """Whether the fault is used up."""
        with self._lock:
            return self._fault is None

    def _next(self) -> HTTPFault | None:
        with self._lock:
            self.requests += 1
            fault = self._fault
            if fault is not None and fault.skipped:
                fault.skipped -= 1
                return None
            if fault is not None:
                fault.times -= 1
                if not fault.times:
                    self._fault = None
        return fault


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service: tuple[str, int]

    def fault(self) -> HTTPFault | None:
        raise NotImplementedError

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        fault = self.fault()
        if fault is None or fault.applied or fault.action == "cut_body":
            status, headers, data = self._forward(body)
        if fault is None:
            self._send(status, headers, data)
        elif fault.action == "status":
            error = fault.body(is_google=self.path.startswith(("/bigquery/", "/upload/bigquery/")))
            self._send(fault.status, [("content-length", str(len(error)))], error)
        else:
            if fault.action == "cut_body":
                self._send(status, headers, data[: len(data) // 2])
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = answer

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(*self.service, timeout=30)
        # The signature is of the host that the client knows.
        headers = {key: value for key, value in self.headers.items() if key.lower() != "connection"}
        connection.request(self.command, self.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        kept = [
            (key, value) for key, value in answer.getheaders() if key.lower() not in _HOP_BY_HOP
        ]
        connection.close()
        if self.command != "HEAD" and not any(key.lower() == "content-length" for key, _ in kept):
            kept.append(("content-length", str(len(data))))
        return answer.status, kept, data

    def _send(self, status: int, headers: list[tuple[str, str]], data: bytes) -> None:
        self.send_response_only(status)
        for key, value in headers:
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
