"""A plugin of pytest for the runs of mutmut."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter

import pytest
from mutmut.mutation.trampoline import set_mutant_under_test

CONTROL = "MILLRACE_MUTANTS_CONTROL"
"""The environment variable that turns every mutant off: then no test may fail."""

_ACTIVE = "MUTANT_UNDER_TEST"
_TIMES = "mutmut-stats.json"
_JUST_NOW_SECONDS = 120
_FEW = 10


def pytest_configure(config: pytest.Config) -> None:
    """Let tests run as they do without mutmut."""
    if config.option.collectonly:
        # The fork server, whose handlers are mutmut's.
        return
    if CONTROL in os.environ and "__mutmut_" in os.environ.get(_ACTIVE, ""):
        set_mutant_under_test("")
    # A process that a test starts would import mutmut anew, which finds no settings elsewhere.
    vars(sys.modules["__main__"]).pop("__file__", None)
    # In what it has forked, Ctrl-C would be ignored, and SIGTERM would be a success.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the quickest tests of the quickest files first, for the first failure ends it.

    mutmut hands the tests over in no order, and keeps how long each took without a mutation.
    """
    file = config.rootpath / _TIMES
    if not file.exists():
        return
    if os.environ.get(_ACTIVE) == "" and time.time() - file.stat().st_mtime < _JUST_NOW_SECONDS:
        # mutmut has just run them all without a mutation, to see how long each takes.
        del items[_FEW:]
    times = json.loads(file.read_text())["duration_by_test"]
    totals: Counter[str] = Counter()
    for item in items:
        totals[_file(item)] += times.get(item.nodeid, 0)
    items.sort(key=lambda item: (totals[_file(item)], _file(item), times.get(item.nodeid, 0)))


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
