"""Commands in processes that are forked from one which has imported everything already.

dbt takes two seconds of processor time to import, and a test that runs ten commands needs it once.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path

_TIMEOUT = 300
_SHOWN = 5_000
_COMMANDS = {"millrace": "millrace.cli:main", "dbt": "dbt.cli.main:cli"}

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.forked_imports"])


def run(folder: Path, environment: Mapping[str, str], *command: str) -> str:
    """Run `millrace` or `dbt` in a folder; a failure fails the test.

    Returns:
        All that it said.
    """
    said = folder / ".said"
    process = _processes.Process(target=_child, args=(folder, dict(environment), command, said))
    process.start()
    process.join(_TIMEOUT)
    if process.exitcode is None:
        process.kill()
    text = said.read_text()
    assert process.exitcode == 0, text[-_SHOWN:]
    return text


def _child(folder: Path, environment: dict[str, str], command: Sequence[str], said: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = list(command)
    module, _, name = _COMMANDS[command[0]].partition(":")
    code = 1
    try:
        getattr(import_module(module), name)()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    with suppress(ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
