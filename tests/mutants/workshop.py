"""A folder for each room, in which mutmut mutates it and runs its tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.mutants.record import KILLED, NOT_COVERED, SURVIVED, TIMED_OUT
from tests.mutants.rooms import INGESTION, ROOMS, ROOT, SELECTION
from tests.services import shared_services

WORKSHOP = ROOT / ".sandbox" / "mutants"
MUTMUT = Path(sys.executable).with_name("mutmut")

# How the process of a mutant ended; whatever is not here is a failure of a test, or a crash.
_VERDICTS = {
    0: SURVIVED,
    33: NOT_COVERED,
    -signal.SIGXCPU: TIMED_OUT,
    -signal.SIGKILL: TIMED_OUT,
}
_MUTMUT_FAILED = 255


@contextmanager
def services() -> Iterator[dict[str, str]]:
    """Run the services for a block; gives the environment variables for ``try_out``."""
    # Outside of the repository, because some tests look for a project around them. A mutant that is
    # killed may leave a disk mounted in its folder.
    with (
        TemporaryDirectory(prefix="millrace-mutants-", ignore_cleanup_errors=True) as folder,
        shared_services(Path(folder) / "services") as found,
    ):
        yield found | {"PYTEST_DEBUG_TEMPROOT": folder}


def try_out(room: str, mutants: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run the tests of each mutant, one mutant at a time.

    Args:
        room: The room's name.
        mutants: Their names.
        environment: The environment variables by which the tests find the services.

    Raises:
        subprocess.CalledProcessError: mutmut failed, for example because a test fails without
            any mutation; it said so.
    """
    folder = _prepared(room)
    _forget(folder, mutants)
    subprocess.run(
        [MUTMUT, "run", "--max-children", "1", *mutants],
        cwd=folder,
        env={**os.environ, **environment},
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
        name: _VERDICTS.get(code, KILLED)
        for file in _results(WORKSHOP / room)
        for name, code in json.loads(file.read_text())["exit_code_by_key"].items()
        if code not in (None, _MUTMUT_FAILED)
    }


def _forget(folder: Path, mutants: Sequence[str]) -> None:
    """Forget how these ended, so that one which is not reached now is not taken for tried."""
    for file in _results(folder):
        known = json.loads(file.read_text())
        known["exit_code_by_key"] |= dict.fromkeys(known["exit_code_by_key"].keys() & {*mutants})
        file.write_text(json.dumps(known))


def _results(folder: Path) -> list[Path]:
    return list((folder / "mutants").rglob("*.py.meta"))


def _prepared(room: str) -> Path:
    """The folder of a room: links to the code and the tests, and mutmut's settings."""
    folder = WORKSHOP / room
    folder.mkdir(parents=True, exist_ok=True)
    # Beside the tests, the package is called as they import it.
    for name, target in {"millrace": INGESTION / "millrace", **_project_files()}.items():
        link = folder / name
        if not link.exists():
            link.symlink_to(target)
    settings, wanted = folder / "pyproject.toml", "\n".join(_settings(room))
    if not settings.exists() or settings.read_text() != wanted:
        # mutmut takes a module that it has only copied before for one that it has mutated.
        shutil.rmtree(folder / "mutants", ignore_errors=True)
        settings.write_text(wanted)
    # Nor does it replace what is no Python and was copied once.
    for compiled in (folder / "mutants" / "millrace").rglob("*.so"):
        compiled.unlink()
    return folder


def _project_files() -> dict[str, Path]:
    return {name: ROOT / name for name in ("tests", "profiles.yml")}


def _settings(room: str) -> Iterator[str]:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    chosen = {
        "only_mutate": [str(module) for module in ROOMS[room].modules()],
        "pytest_add_cli_args_test_selection": [*ROOMS[room].tests, *SELECTION],
    }
    yield from _toml("tool.mutmut", declared["mutmut"] | chosen)
    yield from _toml("tool.pytest.ini_options", declared["pytest"]["ini_options"])


def _toml(table: str, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"[{table}]"
    # Texts, numbers, truth values and lists of them are written as in JSON.
    yield from (f"{key} = {json.dumps(value)}" for key, value in values.items())
    yield ""
