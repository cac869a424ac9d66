"""The peers' virtual environments: one each, apart from the project's, from pinned requirements.

``<name>.in`` has the requirements, ``<name>.txt`` the versions that they resolved to. To resolve
them again::

    uv pip compile --universal --python-version 3.11 --no-header --no-annotate NAME.in -o NAME.txt
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks import REPOSITORY
from benchmarks.workspace import BenchmarkError, Workspace

_REQUIREMENTS = Path(__file__).with_name("environments")


def python_of(workspace: Workspace, name: str) -> Path:
    """The interpreter of an environment, which is created if it is missing or out of date.

    Raises:
        BenchmarkError: it cannot be installed; the message has uv's output.
    """
    folder = workspace.venvs / name
    python = folder / "bin" / "python"
    requirements = _REQUIREMENTS / f"{name}.txt"
    # Copied there last, so an interrupted installation is not taken for one.
    installed = folder / "requirements.txt"
    wanted = requirements.read_text()
    if installed.is_file() and installed.read_text() == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    _uv("venv", "--python", sys.executable, str(folder))
    _uv(
        *("pip", "install", "--compile-bytecode", "--no-deps", "--python", str(python)),
        *("-r", str(requirements)),
    )
    installed.write_text(wanted)
    return python


def pinned_versions() -> dict[str, str]:
    """The version of every package in any of the environments, by its name."""
    pinned = {}
    for file in sorted(_REQUIREMENTS.glob("*.txt")):
        for line in file.read_text().splitlines():
            name, _, rest = line.partition("==")
            pinned[name] = rest.partition(" ")[0]
    return pinned


def _uv(*arguments: str) -> None:
    # Where scripts/setup puts uv if the machine has none.
    uv = shutil.which("uv") or str(REPOSITORY / ".sandbox" / "uv" / "bin" / "uv")
    done = subprocess.run([uv, "--quiet", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"uv {arguments[0]} failed:\n{done.stdout}{done.stderr}")
