"""Something that a person should know of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Cause:
    """Why something is not as it should be.

    Attributes:
        why: In a sentence or several lines.
        way_out: What the reader can do.
        url: Where to see more; empty: nowhere.
        short: The same in a few words, for a heading.
    """

    why: str
    way_out: str
    url: str = ""
    short: str = ""


@dataclass(frozen=True)
class Finding:
    """Something that is late, has failed or is dead.

    Attributes:
        key: Tells it from all others, and is the same each time it is found.
        heading: It in a few words.
        what: What was promised, and what there is instead.
        cause: Why.
        since: Since when, in UTC; None: that is not known.
        owner: Who answers for it; empty: nobody is declared.
        holds_up: What waits for it.
    """

    key: str
    heading: str
    what: str
    cause: Cause
    since: datetime | None
    owner: str = ""
    holds_up: Sequence[str] = ()
