"""A folder for each room, in which mutmut mutates it and runs its tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mutmut.stats import status_by_exit_code

from tests.mutants.record import KILLED, NOT_COVERED, SURVIVED, TIMED_OUT
from tests.mutants.rooms import INGESTION, ONE_SERVER, ROOMS, ROOT

WORKSHOP = ROOT / ".sandbox" / "mutants"
SERVICES = WORKSHOP / "services"
MUTMUT = Path(sys.executable).with_name("mutmut")

# mutmut's words. A mutant that breaks the collection of the tests interrupts pytest.
_VERDICTS = {
    "killed": KILLED,
    "check was interrupted by user": KILLED,
    "segfault": KILLED,
    "timeout": TIMED_OUT,
    "survived": SURVIVED,
    "no tests": NOT_COVERED,
}


def try_out(room: str, mutants: Sequence[str], services: Mapping[str, str]) -> None:
    """Run the tests of each mutant, one mutant at a time.

    Args:
        room: The room's name.
        mutants: Their names.
        services: The environment variables by which the tests find the services.

    Raises:
        subprocess.CalledProcessError: mutmut failed, for example because a test fails without
            any mutation; it said so.
    """
    folder = prepared(room)
    subprocess.run(
        [MUTMUT, "run", "--max-children", "1", *mutants],
        cwd=folder,
        env={**os.environ, **services},
        check=True,
    )


def difference(room: str, mutant: str) -> str:
    """What a mutant that was tried changes, as a diff."""
    shown = subprocess.run(
        [MUTMUT, "show", mutant],
        cwd=WORKSHOP / room,
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout


def verdicts(room: str) -> dict[str, str]:
    """How each mutant of the room ended that was tried in this folder."""
    return {
        name: _VERDICTS[status_by_exit_code[code]]
        for file in (WORKSHOP / room / "mutants").rglob("*.py.meta")
        for name, code in json.loads(file.read_text())["exit_code_by_key"].items()
        if code is not None
    }


def prepared(room: str) -> Path:
    """The folder of a room: links to the code and the tests, and mutmut's settings."""
    folder = WORKSHOP / room
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the tests, the package is called as they import it.
    for name, target in {"millrace": INGESTION / "millrace", **_project_files()}.items():
        link = folder / name
        if not link.exists():
            link.symlink_to(target)
    (folder / "pyproject.toml").write_text("\n".join(_settings(room)))
    # mutmut does not replace what it has copied once.
    for compiled in (folder / "mutants" / "millrace").rglob("*.so"):
        compiled.unlink()
    return folder


def _project_files() -> dict[str, Path]:
    return {name: ROOT / name for name in ("tests", "profiles.yml")}


def _settings(room: str) -> Iterator[str]:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    chosen = {
        "only_mutate": [str(module) for module in ROOMS[room].modules()],
        "pytest_add_cli_args_test_selection": [*ROOMS[room].tests, *ONE_SERVER],
    }
    yield from _toml("tool.mutmut", declared["mutmut"] | chosen)
    yield from _toml("tool.pytest.ini_options", declared["pytest"]["ini_options"])


def _toml(table: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{table}]"
    # Texts, numbers, truth values and lists of them are written as in JSON.
    yield from (f"{key} = {json.dumps(value)}" for key, value in values.items())
    yield ""
