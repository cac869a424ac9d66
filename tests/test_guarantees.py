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
    rows = [row for head, rows in tables(promised) if "shown by" in head for row in rows]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(f"`({FILE})::", row)] == []


def test_every_fault_is_in_the_table_of_what_was_tried() -> None:
    [rows] = [rows for head, rows in tables(PAGE) if head.startswith("| fault |")]
    assert {row.split(" | ")[0].removeprefix("| ") for row in rows} == faults()


def faults() -> set[str]:
    """The names of the faults, read without an import, which would take seconds."""
    module = ast.parse((ROOT / "tests" / "faults" / "faults.py").read_text())
    [named] = [
        node.value
        for node in module.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "FAULTS"
    ]
    assert isinstance(named, ast.Dict)
    return {str(ast.literal_eval(key)) for key in named.keys if key}


def tables(page: str) -> list[tuple[str, list[str]]]:
    """Each table's head, and its rows."""
    blocks = [block.splitlines() for block in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE)]
    return [(head, rows) for head, _, *rows in blocks]
