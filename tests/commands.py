"""Commands as a person runs them: in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

BIN = Path(sys.executable).parent
_TIMEOUT = 300
_SHOWN = 5_000


def run(folder: Path, environment: Mapping[str, str], *command: str | Path) -> str:
    """Run a command in a folder; a failure fails the test.

    Returns:
        All that it said.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_TIMEOUT,
    )
    assert done.returncode == 0, done.stdout[-_SHOWN:]
    return done.stdout
