"""The ten lines of docs/your-own-project.md, and the shell in which they are typed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "your-own-project.md"
SAKILA = ROOT / "tests" / "millrace" / "sakila.sql"
# Of this checkout's environment, which the new project's own must not be mixed up with.
_OURS = ("VIRTUAL_ENV", "PYTHONPATH", "UV_PROJECT_ENVIRONMENT", "DBT_PROFILES_DIR")


def lines() -> list[str]:
    """The lines, as the page has them."""
    [block] = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    return block.splitlines()


def environment(programs: Path) -> dict[str, str]:
    """The environment of a shell that finds the checkout's `millrace`, and uv.

    Args:
        programs: An empty folder, for links to them.
    """
    (programs / "millrace").symlink_to(Path(sys.executable).with_name("millrace"))
    (programs / "uv").symlink_to(_uv())
    cleared = {
        name: value
        for name, value in os.environ.items()
        if name not in _OURS and not name.startswith("AIRFLOW")
    }
    return {**cleared, "PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "160"}


def pin(project: Path) -> None:
    """Let the project take the versions that this checkout is locked to."""
    exported = subprocess.run(
        [_uv(), "export", "--quiet", "--frozen", "--no-hashes", "--no-emit-workspace"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    pins = [line.strip() for line in exported.splitlines() if re.match(r"\w\S*==", line)]
    file = project / "pyproject.toml"
    said = f"package = false\nconstraint-dependencies = {json.dumps(pins)}\n"
    file.write_text(file.read_text().replace("package = false\n", said))


def _uv() -> str:
    return shutil.which("uv") or str(ROOT / ".sandbox" / "uv" / "bin" / "uv")
