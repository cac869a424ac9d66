"""Hosts on this machine are apart, and nothing is left of them."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from millrace_sandbox import hosts

WHY_NOT = hosts.why_not()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))

REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)"


def reaches(host: hosts.Host, address: str, port: int) -> bool:
    command = host.command([sys.executable, "-c", REACH, address, str(port)])
    return subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0


def test_a_host_has_a_name_an_address_and_a_loopback_of_its_own() -> None:
    with hosts.Network(["one", "two"]) as network:
        name = subprocess.run(
            network.hosts[0].command(["hostname"]), capture_output=True, text=True, check=True
        )
        assert name.stdout == "one\n"
        for listening, is_reached in ((network.address, True), ("127.0.0.1", False)):
            with socket.create_server((listening, 0)) as server:
                assert reaches(network.hosts[1], listening, server.getsockname()[1]) == is_reached


def test_nothing_is_left_of_a_host_with_what_runs_on_it() -> None:
    with hosts.Network(["one"]) as network:
        (host,) = network.hosts
        process = subprocess.Popen(host.command(["tail", "-f", "/dev/null"]))
    assert process.wait(10) != 0
    namespaces = subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True)
    assert host.namespace not in namespaces.stdout
    assert not (Path("/etc/netns") / host.namespace).exists()
    addresses = subprocess.run(["ip", "address"], capture_output=True, text=True, check=True)
    assert network.address not in addresses.stdout
