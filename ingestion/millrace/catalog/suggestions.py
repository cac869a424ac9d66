"""Suggestions for a mistyped name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence


def did_you_mean(word: str, known: Sequence[str], label: str) -> str:
    """A sentence with the closest of the known words, if one is close, and all of them."""
    close = difflib.get_close_matches(word, known, n=1)
    listing = f"{label}: {', '.join(known) or 'none'}."
    return f"Did you mean '{close[0]}'? {listing}" if close else listing
