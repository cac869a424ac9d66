from __future__ import annotations

import socket
from pathlib import Path

from redshift_standin.files import make_folder, write_private
from redshift_standin.ports import LOOPBACK, free_port, free_ports


def test_what_is_private_is_its_owners_only(tmp_path: Path):
    make_folder(tmp_path / "server")
    write_private(tmp_path / "server" / "secret", "x")
    assert (tmp_path / "server").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "server" / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "server" / ".gitignore").read_text() == "*\n"


def test_a_free_port_is_kept():
    port = free_port(0)
    assert free_port(port) == port


def test_a_taken_port_is_replaced():
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        assert free_port(port) not in (0, port)


def test_ports_chosen_together_differ():
    port = free_port(0)
    assert len(set(free_ports([port, port, 0, 0]))) == 4
