"""Servers that keep what is sent to them: for HTTP, e-mail and datagrams."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller

LOOPBACK = "127.0.0.1"


@dataclass
class HttpSink:
    """What was posted, as JSON.

    Attributes:
        port: Where it listens.
        received: What has come, in order.
        status: What it answers.
    """

    port: int = 0
    received: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200

    @property
    def url(self) -> str:
        """As Apprise writes it."""
        return f"json://{LOOPBACK}:{self.port}/alerts"

    @property
    def titles(self) -> list[str]:
        """The titles of the messages."""
        return [message["title"] for message in self.received]


@contextmanager
def http_sink() -> Iterator[HttpSink]:
    """Keep what is posted, for as long as the block takes."""
    sink = HttpSink()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if sink.status == 200:
                sink.received.append(json.loads(body))
            self.send_response(sink.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    sink.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield sink
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Kept:
    """Keeps e-mails."""

    def __init__(self) -> None:
        self.received: list[EmailMessage] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.received.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 kept"


@dataclass
class MailSink:
    """What was mailed.

    Attributes:
        port: Where it listens.
        received: What has come, in order.
    """

    port: int
    received: list[EmailMessage]


@contextmanager
def mail_sink(port: int) -> Iterator[MailSink]:
    """Keep what is mailed to a port, for as long as the block takes."""
    kept = _Kept()
    controller = Controller(kept, hostname=LOOPBACK, port=port)
    controller.start()
    try:
        yield MailSink(port, kept.received)
    finally:
        controller.stop()


@dataclass
class UdpSink:
    """What was sent by datagrams, as text.

    Attributes:
        port: Where it listens.
        lines: What has come, in order.
    """

    port: int
    lines: list[str] = field(default_factory=list)


@contextmanager
def udp_sink() -> Iterator[UdpSink]:
    """Keep the lines of datagrams, for as long as the block takes."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        listening.bind((LOOPBACK, 0))
        listening.settimeout(0.2)
        sink = UdpSink(listening.getsockname()[1])
        ended = threading.Event()

        def listen() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    sink.lines += listening.recv(65536).decode().splitlines()

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        try:
            yield sink
        finally:
            ended.set()
            thread.join()
