"""A version is written in one place, and the changelog has it."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_changelog_begins_with_the_version_of_the_framework() -> None:
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest
    assert newest[1] == version("millrace")


def test_no_distribution_says_its_version_twice() -> None:
    for file in ROOT.glob("*/pyproject.toml"):
        said = tomllib.loads(file.read_text())["project"]["version"]
        again = [
            path
            for path in file.parent.rglob("*.py")
            if re.search(
                rf"^__version__|[\"']{re.escape(said)}[\"']", path.read_text(), re.MULTILINE
            )
        ]
        assert again == []
