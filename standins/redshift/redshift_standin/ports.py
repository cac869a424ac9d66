"""TCP ports on loopback."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from redshift_standin.errors import StandinError

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOPBACK = "127.0.0.1"


def free_port(preferred: int) -> int:
    """The preferred TCP port when it is free on 127.0.0.1, otherwise another one."""
    return free_ports([preferred])[0]


def free_ports(preferred: Sequence[int]) -> list[int]:
    """A distinct free TCP port for each preferred one, which is kept where it is free.

    A port is free when this returns and may be taken a moment later: the service that wanted it
    then dies, and its log says why.

    Args:
        preferred: The preferred ports; 0 means any.
    """
    with ExitStack() as held:
        return [_hold_port(port, held) for port in preferred]


def _hold_port(preferred: int, held: ExitStack) -> int:
    for port in (preferred, 0):
        listener = held.enter_context(socket.socket())
        # Without this, connections that a stopped service left in TIME_WAIT would block its port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
            listener.listen(1)
        except OSError:
            continue
        return int(listener.getsockname()[1])
    raise StandinError(f"No TCP port is free on {LOOPBACK}. Stop a service and try again.")
