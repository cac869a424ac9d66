"""Commands in processes that are forked from one which has imported everything already.

dbt takes two seconds of processor time to import, and a test that runs ten commands needs it once.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib import import_module
from multiprocessing.context import BaseContext
from pathlib import Path
from tempfile import TemporaryDirectory

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
    code, said = _run(_processes, folder, environment, command)
    assert code == 0, said[-_SHOWN:]
    return said


def run_dbt(
    arguments: Sequence[str], folder: Path, context: BaseContext = _processes
) -> subprocess.CompletedProcess[str]:
    """What Millrace runs dbt with: in the place of ``millrace.dbt.project._run_dbt``."""
    code, said = _run(context, folder, os.environ, ("dbt", *arguments))
    return subprocess.CompletedProcess(["dbt", *arguments], code, said, "")


def _run(
    context: BaseContext, folder: Path, environment: Mapping[str, str], command: Sequence[str]
) -> tuple[int, str]:
    """The exit code and all that was said."""
    with TemporaryDirectory() as kept:
        output = Path(kept) / "said"
        output.touch()
        # Typeshed knows the class in each context only.
        process = context.Process(  # type: ignore[attr-defined]
            target=_child, args=(folder, dict(environment), command, output)
        )
        process.start()
        process.join(_TIMEOUT)
        if process.exitcode is None:
            process.kill()
            process.join()
        return process.exitcode, output.read_text()


def _child(folder: Path, environment: dict[str, str], command: Sequence[str], said: Path) -> None:
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    output = os.open(said, os.O_WRONLY | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = list(command)
    # This process has imported dbt, and may be forked again.
    forks = partial(run_dbt, context=multiprocessing.get_context("fork"))
    setattr(import_module("millrace.dbt.project"), "_run_dbt", forks)  # noqa: B010 untyped here
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
