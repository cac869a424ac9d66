"""A TCP proxy that can do to a service's connections what networks and dying servers do.

    with FaultProxy(server.host, server.port) as proxy:
        client = connect(proxy.host, proxy.port)
        proxy.stall(after=1_000)     # a thousand bytes of answer more, then silence
        …
        proxy.heal()

A fault holds for open connections and for new ones, until another fault is set. The proxy runs in
this process, in threads that end with the ``with`` block.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

from millrace_sandbox.processes import LOOPBACK

_CHUNK_BYTES = 64 * 1024
_THROTTLE_SECONDS = 0.02
# Closing a socket with this option sends RST instead of FIN.
_NO_LINGER = struct.pack("ii", 1, 0)

Towards = Literal["client", "server"]


@dataclass
class _Fault:
    kind: Literal["none", "stall", "half-open", "reset", "refuse", "throttle"] = "none"
    towards: Towards = "client"
    # Bytes that still pass towards that side before the fault begins, over all connections.
    left: int = 0
    bytes_per_second: float = 0
    # When the throttled line is free for the next bytes.
    free_at: float = 0


@dataclass(eq=False)
class _Connection:
    client: socket.socket
    service: socket.socket
    is_half_open: bool = False

    def reset(self) -> None:
        _reset(self.client)
        _reset(self.service)

    def lose_service(self) -> None:
        self.is_half_open = True
        _reset(self.service)

    def end(self) -> None:
        for each in (self.client, self.service):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class FaultProxy:
    """Forwards a port of its own to a service. Default: completely and at full speed.

    Args:
        host: The service's host.
        port: The service's port.
        listen: The address and the port of the proxy; default: any free port on loopback.

    Attributes:
        host: Where the proxy listens.
        port: Where the proxy listens.
        accepted: How many connections ever came.
    """

    def __init__(self, host: str, port: int, *, listen: tuple[str, int] = (LOOPBACK, 0)) -> None:
        self.accepted = 0
        self._service = (host, port)
        self._fault = _Fault()
        self._changed = threading.Condition()
        self._is_closed = False
        self._connections: list[_Connection] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        # A small receive window: throttled bytes must not vanish into the kernel's buffers.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _CHUNK_BYTES)
        self._listener.bind(listen)
        self._listener.listen()
        self.host, self.port = listen[0], int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        # Wakes the thread that accepts; closing alone would not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self._connections:
            connection.end()
        for thread in self._threads:
            thread.join(10)

    def heal(self) -> None:
        """Forward again; what a stall held back arrives now."""
        self._set(_Fault())

    def stall(self, after: int = 0, *, towards: Towards = "client") -> None:
        """Go silent in both directions after `after` more bytes; every connection stays open."""
        self._set(_Fault("stall", towards, after))

    def half_open(self, after: int = 0, *, towards: Towards = "client") -> None:
        """Let the service lose its clients, which are not told: what they still send is lost."""
        self._set(_Fault("half-open", towards, after))

    def reset(self, after: int = 0, *, towards: Towards = "client") -> None:
        """Reset every connection on both sides after `after` more bytes."""
        self._set(_Fault("reset", towards, after))

    @property
    def is_stalling(self) -> bool:
        """Whether the bytes that a stall lets through have gone through."""
        return self._fault.kind == "stall" and self._fault.left == 0

    def refuse(self) -> None:
        """Reset new connections at once; those that are open go on."""
        self._set(_Fault("refuse"))

    def throttle(self, bytes_per_second: float, *, towards: Towards = "server") -> None:
        """Limit the bytes per second in one direction, over all connections."""
        self._set(_Fault("throttle", towards, bytes_per_second=bytes_per_second))

    def _set(self, fault: _Fault) -> None:
        with self._changed:
            self._fault = fault
            self._changed.notify_all()
            if fault.left == 0:
                # An idle connection would not notice the fault by itself.
                for connection in self._connections:
                    self._strike(connection)

    def _strike(self, connection: _Connection) -> None:
        if self._fault.kind == "reset":
            connection.reset()
        elif self._fault.kind == "half-open":
            connection.lose_service()

    def _spawn(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._fault.kind == "refuse":
                _reset(client)
                continue
            try:
                service = socket.create_connection(self._service)
            except OSError:
                _reset(client)
                continue
            connection = _Connection(client, service)
            self._connections.append(connection)
            self._spawn(self._forward, connection, "server")
            self._spawn(self._forward, connection, "client")

    def _forward(self, connection: _Connection, towards: Towards) -> None:
        source, sink = connection.client, connection.service
        if towards == "client":
            source, sink = sink, source
        try:
            while True:
                data = source.recv(_CHUNK_BYTES)
                if not data:
                    break
                while data:
                    size = self._await_passage(connection, towards, len(data))
                    if not connection.is_half_open:
                        sink.sendall(data[:size])
                    data = data[size:]
            self._await_passage(connection, towards, 0)
            if not connection.is_half_open:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One side has gone; the other one is told, unless it must not know.
            if not connection.is_half_open:
                connection.end()

    def _await_passage(self, connection: _Connection, towards: Towards, size: int) -> int:
        """Wait until some of `size` bytes may pass; returns how many."""
        with self._changed:
            while not self._is_closed:
                fault = self._fault
                if fault.kind in ("none", "refuse") or connection.is_half_open:
                    return size
                if fault.kind == "throttle":
                    if towards != fault.towards or size == 0:
                        return size
                    return self._await_turn(fault, size)
                if fault.left > 0:
                    if towards != fault.towards:
                        return size
                    allowed = min(size, fault.left)
                    fault.left -= allowed
                    return allowed
                self._strike(connection)
                if fault.kind == "reset":
                    raise ConnectionResetError
                if fault.kind == "stall":
                    self._changed.wait()
        raise ConnectionAbortedError

    def _await_turn(self, fault: _Fault, size: int) -> int:
        share = min(size, max(1, int(fault.bytes_per_second * _THROTTLE_SECONDS)))
        turn = max(time.monotonic(), fault.free_at)
        fault.free_at = turn + share / fault.bytes_per_second
        self._changed.wait_for(
            lambda: self._is_closed or self._fault is not fault, turn - time.monotonic()
        )
        return share


def _reset(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        # Wakes a thread that reads from the socket; until then it would not really be closed.
        sock.shutdown(socket.SHUT_RD)
    sock.close()
