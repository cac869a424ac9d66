"""``status`` and ``down`` without any package: for a checkout that is not set up."""

from __future__ import annotations

import sys

from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import SandboxError, Service


def main(missing: str) -> None:
    """Run ``status`` or ``down``; every other command needs the missing module.

    Args:
        missing: The module that could not be imported.
    """
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command not in ("status", "down"):
        print(f"Error: the environment is not complete: the module {missing} is missing.")
        print("  → Run: make setup")
        sys.exit(1)
    try:
        _run(command, SandboxPaths.default())
    except SandboxError as error:
        print(f"Error: {error}")
        sys.exit(1)


def _run(command: str, paths: SandboxPaths) -> None:
    services = [Service(file.stem, paths) for file in sorted(paths.run.glob("*.pid"))]
    if command == "down":
        for service in services:
            service.stop()
    running = [service for service in services if service.is_running()]
    for service in running:
        print(f"{service.name:<20} running, pid {service.pid}")
    if not running:
        print("Nothing runs, and this checkout is not set up: make setup, or make demo")
