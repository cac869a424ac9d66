"""What a new kind of warehouse or source has to do, as tests that its author runs.

    from millrace.testing import Place, WarehouseContract, declared

    class TestMyWarehouse(WarehouseContract):
        @pytest.fixture
        def place(self, tmp_path):
            return Place(MyWarehouse(...), Landing(f"file://{tmp_path}/landing"), declared())

It needs pytest: ``pip install 'millrace[testing]'``.
"""

import pytest

# Before they are imported, so that a failing assertion shows what it compared.
pytest.register_assert_rewrite("millrace.testing.source", "millrace.testing.warehouse")

from millrace.testing.place import (
    DAY,
    INTERVAL,
    Place,
    aside,
    batches_of,
    comparable,
    declared,
    digests_of,
    ids,
    ledger,
)
from millrace.testing.source import CursorContract, Served, SourceContract
from millrace.testing.warehouse import WarehouseContract

__all__ = [
    "DAY",
    "INTERVAL",
    "CursorContract",
    "Place",
    "Served",
    "SourceContract",
    "WarehouseContract",
    "aside",
    "batches_of",
    "comparable",
    "declared",
    "digests_of",
    "ids",
    "ledger",
]
