"""How staging models and their columns are called: ``is_…``, ``…_at``, ``…_date``, ``…_id``."""

from __future__ import annotations

import re
from functools import cache

from sqlglot.dialects.dialect import Dialect

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_BREAK = re.compile(r"[\W_]+")
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_FLAG = re.compile(r"(is|has|can|was|should|may|must|does|did)_")
_TIME = re.compile(r"_(date_?time|time_?stamp|time|date|ts|on|at|dt)$")
_ENDS_IN_ES = ("sses", "shes", "ches", "xes", "zes")
_WAREHOUSES = ("duckdb", "redshift", "bigquery")


def snake(name: str) -> str:
    """A name in lower case, its words apart: ``orderItems`` becomes ``order_items``."""
    spelt = _BREAK.sub("_", _HUMP.sub("_", name)).strip("_").lower()
    return f"_{spelt}" if spelt[:1].isdigit() else spelt


def singular(name: str) -> str:
    """One of what a table holds: ``order_items`` becomes ``order_item``."""
    if name.endswith("ies") and len(name) > len("ties"):
        return f"{name[:-3]}y"
    if name.endswith(_ENDS_IN_ES):
        return name[:-2]
    if name.endswith("s") and not name.endswith(("ss", "us", "is")) and len(name) > len("nps"):
        return name[:-1]
    return name


def flag(name: str) -> str:
    """What a column of truth values is called."""
    return name if _FLAG.match(name) else f"is_{name}"


def moment(name: str) -> str:
    """What a column of moments is called."""
    return name if name.endswith("_at") else f"{_TIME.sub('', name)}_at"


def day(name: str) -> str:
    """What a column of days is called."""
    if "date" in name or "day" in name:
        return name
    return f"{_TIME.sub('', name)}_date"


def key_of(name: str) -> str:
    """What a column with another table's key is called."""
    return name if name.endswith("_id") or name == "id" else f"{name}_id"


def is_reserved(name: str) -> bool:
    """Whether a name means something else in the SQL of a warehouse."""
    return name.lower() in _reserved()


def is_plain(name: str) -> bool:
    """Whether SQL takes a name without quotation marks."""
    return bool(_PLAIN.fullmatch(name)) and not is_reserved(name)


@cache
def _reserved() -> frozenset[str]:
    generators = [Dialect.get_or_raise(warehouse).generator_class for warehouse in _WAREHOUSES]
    return frozenset(word.lower() for found in generators for word in found.RESERVED_KEYWORDS)
