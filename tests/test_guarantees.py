"""docs/guarantees.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "guarantees.md").read_text()
# With the contract tests, which authors of warehouses and sources run too.
FILE = r"(?:standins/[\w-]+/)?tests/[\w/]+\.py|ingestion/millrace/testing/\w+\.py"
NAMED = re.findall(rf"`({FILE})::(\w+)`", PAGE)


def test_every_test_that_is_named_exists() -> None:
    missing = [
        f"{file}::{name}"
        for file, name in NAMED
        if not (ROOT / file).exists()
        or name
        not in {
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef)
        }
    ]
    assert missing == []


def test_every_promise_names_a_test() -> None:
    promised = PAGE.partition("## What is not promised")[0]
    rows = [
        line for line in promised.splitlines() if line.startswith("| ") and "shown by" not in line
    ]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(f"`({FILE})::", row)] == []
