"""The server: in this process until a signal comes, or in a thread of a program."""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Self

import uvicorn

from sheets_standin.accounts import new_key
from sheets_standin.app import create_app
from sheets_standin.endpoint import ENDPOINT_FILE, SheetsEndpoint
from sheets_standin.errors import StandinError
from sheets_standin.faults import CuttableProtocol
from sheets_standin.files import lock, make_folder, write_private

if TYPE_CHECKING:
    from pathlib import Path

    from sheets_standin.admin import SheetsAdmin

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"  # noqa: S104 only where somebody names a URL: a container has a network of its own
PREFERRED_PORT = 18080
ACCOUNT_EMAIL = "sheets@standin.invalid"


def serve(
    folder: Path,
    port: int | None,
    announce: Callable[[SheetsEndpoint], None],
    url: str | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        folder: Where it keeps everything; made if it is missing.
        port: Where it listens, 0 means any free port; None means 18080, or another where that is
            taken.
        announce: Called once clients can connect.
        url: What clients call it, if they are not on this machine; then it listens on all
            addresses. Default: its address on loopback.

    Raises:
        StandinError: The folder or the port is in use.
    """
    with _prepared(folder, port, url) as (listener, endpoint, server):
        announce(endpoint)
        server.run(sockets=[listener])


class GoogleSheetsServer:
    """Starts and stops a stand-in in a thread of this process; also a context manager.

    It is on loopback. The API takes tokens of its own service account only, but the pages that
    show the spreadsheets ask for no password. On a machine that you share with people you do not
    trust, keep nothing in it that they must not read.

    Args:
        folder: Where it keeps everything; made if it is missing.
        port: Where it listens; default: any free port.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder = folder
        self._port = port
        self._running = ExitStack()

    def __enter__(self) -> Self:
        """Start it for a block."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    @property
    def endpoint(self) -> SheetsEndpoint:
        """The address and what opens it.

        Raises:
            StandinError: It does not run.
        """
        return SheetsEndpoint.read(self.folder)

    @property
    def url(self) -> str:
        """The base URL of the API; a browser shows the spreadsheets there."""
        return self.endpoint.url

    def service_account_key(self) -> dict[str, str]:
        """The key of the service account that may use the API, as Google's JSON file has it."""
        return self.endpoint.service_account_key()

    def airflow_connection(self) -> dict[str, object]:
        """The connection of the service account, as Airflow keeps one; it holds a secret."""
        return self.endpoint.airflow_connection()

    def admin(self) -> SheetsAdmin:
        """A client for what only tests and the demo may do."""
        return self.endpoint.admin()

    def start(self) -> SheetsEndpoint:
        """Start it; clients can connect when this returns.

        Raises:
            StandinError: The folder or the port is in use.
        """
        with ExitStack() as starting:
            listener, endpoint, server = starting.enter_context(_prepared(self.folder, self._port))
            thread = threading.Thread(
                target=server.run, args=([listener],), name="sheets-standin", daemon=True
            )
            thread.start()
            starting.callback(_end, server, thread)
            self._running = starting.pop_all()
        return endpoint

    def stop(self) -> None:
        """Stop it and wait until it is gone; does nothing when it does not run."""
        self._running.close()


def _end(server: uvicorn.Server, thread: threading.Thread) -> None:
    server.should_exit = True
    thread.join()


@contextmanager
def _prepared(
    folder: Path, port: int | None, known_as: str | None = None
) -> Iterator[tuple[socket.socket, SheetsEndpoint, uvicorn.Server]]:
    """The socket, endpoint and server of a folder, which the block may serve.

    Clients may connect already; they are answered once the server runs.
    """
    make_folder(folder)
    host = LOOPBACK if known_as is None else EVERYWHERE
    with lock(folder), _listen(host, port) as listener:
        url = known_as or f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        key_file = folder / "service_account.json"
        key = _service_account_key(key_file, url)
        endpoint = SheetsEndpoint(
            pid=os.getpid(),
            url=url,
            email=key["client_email"],
            key_file=str(key_file.absolute()),
            admin_token=secrets.token_urlsafe(24),
        )
        app = create_app(folder / "spreadsheets", key, endpoint.admin_token, url)
        endpoint.write(folder)
        try:
            yield listener, endpoint, uvicorn.Server(_config(app))
        finally:
            (folder / ENDPOINT_FILE).unlink(missing_ok=True)


def _listen(host: str, port: int | None) -> socket.socket:
    try:
        return socket.create_server((host, PREFERRED_PORT if port is None else port))
    except OSError as error:
        if port is None:
            return socket.create_server((host, 0))
        raise StandinError(
            f"Nobody can listen on port {port}: {error.strerror}. Choose another one, or 0 for "
            "any that is free: --port 0"
        ) from None


def _service_account_key(file: Path, url: str) -> dict[str, str]:
    """The key made at the first start, with the token address of this start."""
    token_uri = f"{url}/token"
    try:
        key = json.loads(file.read_text(encoding="utf-8")) | {"token_uri": token_uri}
    except FileNotFoundError:
        key = new_key(ACCOUNT_EMAIL, token_uri)
    write_private(file, json.dumps(key, indent=2) + "\n")
    return dict(key)


def _config(app: object) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=CuttableProtocol,
        ws="none",
        lifespan="off",
        # The server may run in another program's process, whose logging must stay as it is.
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
