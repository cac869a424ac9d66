"""The commands that a page of the documentation shows, for tests that run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BLOCK = re.compile(
    r"^## (?P<heading>[^\n]+)$|^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        heading: The section that it stands in.
        language: The word behind its opening fence: ``sh``, ``python`` …
        text: The code.
    """

    heading: str
    language: str
    text: str


def blocks(page: str, language: str) -> list[Block]:
    """The blocks of one language on a page of ``docs/``, in their order."""
    heading, found = "", []
    for match in _BLOCK.finditer((DOCS / page).read_text()):
        heading = match["heading"] or heading
        if match["language"] == language:
            found.append(Block(heading, language, match["text"]))
    return found
