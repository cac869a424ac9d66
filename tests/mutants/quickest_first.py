"""A plugin of pytest: the quickest tests of a mutant come first, for the first failure ends it.

mutmut hands the tests over in no order, and keeps how long each took without a mutation.
"""

from __future__ import annotations

import json

import pytest

_TIMES = "mutmut-stats.json"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Order the tests by how long they took."""
    file = config.rootpath / _TIMES
    if not file.exists():
        return
    times = json.loads(file.read_text())["duration_by_test"]
    items.sort(key=lambda item: times.get(item.nodeid, 0))
