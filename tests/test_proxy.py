"""The faults of the proxy that other tests rely on, seen from the sockets themselves."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from millrace_sandbox.processes import LOOPBACK
from tests.proxy import FaultProxy

SECONDS = 10


class Echo:
    """Sends back what it gets."""

    def __init__(self) -> None:
        self.listener = socket.create_server((LOOPBACK, 0))
        self.ended: list[str] = []
        self.changed = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        how = "closed"
        with connection:
            try:
                while data := connection.recv(65_536):
                    connection.sendall(data)
            except ConnectionResetError:
                how = "reset"
        with self.changed:
            self.ended.append(how)
            self.changed.notify_all()

    def wait_for_end(self) -> str:
        with self.changed:
            assert self.changed.wait_for(lambda: self.ended, SECONDS)
            return self.ended[-1]


@pytest.fixture
def echo() -> Iterator[Echo]:
    service = Echo()
    yield service
    service.listener.shutdown(socket.SHUT_RDWR)
    service.listener.close()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(*echo.listener.getsockname()) as opened:
        yield opened


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with closing(socket.create_connection((proxy.host, proxy.port), timeout=SECONDS)) as opened:
        opened.sendall(b"hello")
        assert receive(opened, 5) == b"hello"
        yield opened


def receive(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def is_silent(client: socket.socket) -> bool:
    client.settimeout(0.2)
    try:
        client.recv(1)
    except TimeoutError:
        return True
    finally:
        client.settimeout(SECONDS)
    return False


def test_without_a_fault_it_forwards_and_says_goodbye(client, echo):
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""
    assert echo.wait_for_end() == "closed"


def test_a_stall_holds_back_the_rest_until_it_heals(client, proxy):
    proxy.stall(after=4)
    client.sendall(b"0123456789")
    assert receive(client, 4) == b"0123"
    assert is_silent(client)
    proxy.heal()
    assert receive(client, 6) == b"456789"


def test_a_stall_holds_back_the_farewell_too(client, proxy):
    proxy.stall()
    client.shutdown(socket.SHUT_WR)
    assert is_silent(client)


def test_a_half_open_connection_is_lost_to_the_service_alone(client, proxy, echo):
    proxy.half_open()
    assert echo.wait_for_end() == "reset"
    client.sendall(b"anybody there?")
    assert is_silent(client)


def test_a_reset_cuts_both_sides_at_once(client, proxy, echo):
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    assert echo.wait_for_end() == "reset"


def test_a_reset_comes_after_so_many_bytes(client, proxy):
    proxy.reset(after=4)
    client.sendall(b"0123456789")
    with pytest.raises(ConnectionResetError):
        assert receive(client, 10) == b"0123"


def test_a_refusal_leaves_open_connections_alone(client, proxy):
    proxy.refuse()
    # The proxy's reset may come before the connection is made, or after.
    with (
        pytest.raises(ConnectionResetError),
        closing(socket.create_connection((proxy.host, proxy.port), timeout=SECONDS)) as other,
    ):
        other.recv(1)
    client.sendall(b"still here")
    assert receive(client, 10) == b"still here"


def test_a_throttle_bounds_what_passes_in_a_second(client, proxy):
    proxy.throttle(100_000)
    began = time.monotonic()
    client.sendall(bytes(50_000))
    assert len(receive(client, 50_000)) == 50_000
    assert 0.4 < time.monotonic() - began < 5
