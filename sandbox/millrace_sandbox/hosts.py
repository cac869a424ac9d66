"""Hosts on this machine: network namespaces, each with a name and an address of its own.

What runs on a host reaches the others by their addresses alone: its loopback is its own. The hosts
share this machine's disk, as hosts do that have mounted one file system.
"""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import shutil
import signal
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

from millrace_sandbox.processes import SandboxError, poll

if TYPE_CHECKING:
    from collections.abc import Sequence

# Of these, a network takes the first that this machine does not use yet.
_NETWORKS = ipaddress.IPv4Network("10.213.0.0/16")
# `ip netns exec` shows a file from here to the namespace in the place of the one in /etc.
_FILES = Path("/etc/netns")


@dataclass(frozen=True)
class Host:
    """A host on a ``Network``.

    Attributes:
        name: Its host name.
        address: Where the others reach it.
        namespace: The namespace's name, unique on this machine.
    """

    name: str
    address: str
    namespace: str

    def command(self, command: Sequence[str]) -> list[str]:
        """The command, as it is to be started so that it runs on this host."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", self.namespace, *named, *command]

    def kill(self) -> None:
        """Kill everything that runs on it, as a power cut would.

        Raises:
            SandboxError: Something stays.
        """

        def is_empty() -> bool:
            pids = _ip("netns", "pids", self.namespace).split()
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            return not pids

        if not poll(is_empty, timeout=10):
            raise SandboxError(f"What runs on the host {self.name} cannot be killed.")


class Network:
    """Hosts behind one bridge, with this machine as one of them; to be used in a ``with`` block.

    Args:
        names: The names of the hosts.

    Attributes:
        address: Where the hosts reach this machine.
        hosts: The hosts, in the order of their names.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._id = secrets.token_hex(3)
        self._bridge = f"mr{self._id}"
        self._cleanup = ExitStack()
        network = _free_network()
        self._prefix = network.prefixlen
        own, *others = map(str, islice(network.hosts(), len(names) + 1))
        self.address = own
        self.hosts = [
            Host(name, address, f"mr{self._id}-{name}")
            for name, address in zip(names, others, strict=True)
        ]

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            _ip("link", "add", self._bridge, "type", "bridge")
            cleanup.callback(_ip, "link", "delete", self._bridge)
            _ip("address", "add", f"{self.address}/{self._prefix}", "dev", self._bridge)
            _ip("link", "set", self._bridge, "up")
            for number, host in enumerate(self.hosts):
                self._connect(number, host, cleanup)
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _connect(self, number: int, host: Host, cleanup: ExitStack) -> None:
        inner, outer = f"mr{self._id}i{number}", f"mr{self._id}o{number}"
        _ip("netns", "add", host.namespace)
        # Its end of the cable vanishes with it, and so the other one.
        cleanup.callback(_ip, "netns", "delete", host.namespace)
        cleanup.callback(host.kill)
        files = _FILES / host.namespace
        files.mkdir(parents=True)
        cleanup.callback(shutil.rmtree, files)
        known = "".join(f"{each.address} {each.name}\n" for each in self.hosts)
        (files / "hosts").write_text(f"127.0.0.1 localhost\n{known}")
        _ip("link", "add", outer, "type", "veth", "peer", inner, "netns", host.namespace)
        _ip("link", "set", outer, "master", self._bridge, "up")
        inside = ("-netns", host.namespace)
        _ip(*inside, "address", "add", f"{host.address}/{self._prefix}", "dev", inner)
        _ip(*inside, "link", "set", inner, "up")
        _ip(*inside, "link", "set", "lo", "up")


def why_not() -> str | None:
    """Why this machine can have no hosts; None where it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip"):
        return "the program ip is missing: apt-get install iproute2"
    name = f"mr{secrets.token_hex(3)}"
    try:
        _ip("netns", "add", name)
        _ip("netns", "delete", name)
    except SandboxError as error:
        return f"this machine allows no network namespaces: {error}"
    return None


def _free_network() -> ipaddress.IPv4Network:
    used = {
        ipaddress.IPv4Network((address["local"], address["prefixlen"]), strict=False)
        for link in json.loads(_ip("-json", "-4", "address"))
        for address in link["addr_info"]
    }
    for network in _NETWORKS.subnets(new_prefix=24):
        if not any(network.overlaps(other) for other in used):
            return network
    raise SandboxError(f"This machine uses all networks of {_NETWORKS} already.")


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(f"`ip {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout
