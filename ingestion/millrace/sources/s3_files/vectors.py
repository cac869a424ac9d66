"""Converts a column of texts at once where all of them are written in the most common way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from millrace.sources.json_values import arrow_type

# What Arrow and the converter of one value read alike. Arrow also takes spaces, hexadecimal numbers
# and years beyond Python's, so these are left to the converter.
_DAY = r"[12]\d{3}-\d\d-\d\d"
_TIME = r"[T ]\d\d:\d\d:\d\d(\.\d{1,6})?"
_NUMBER = r"-?\d{1,18}(\.\d{1,18})?"
_COMMON = {
    "integer": r"-?\d{1,18}",
    "double": _NUMBER,
    "decimal": _NUMBER,
    "boolean": "true|false",
    "date": _DAY,
    "datetime": f"{_DAY}{_TIME}",
    "timestamp": rf"{_DAY}{_TIME}(Z|[+-]\d\d:[0-5]\d)",
}


def converted(texts: Sequence[Any], type_: str) -> pa.Array | None:
    """Texts as a column of a declared type.

    Args:
        texts: The texts; None is NULL.
        type_: The declared type.

    Returns:
        The values; None: the converter of one value has to look at each of them.
    """
    try:
        column = pa.array(texts, pa.string())
        if type_ == "string":
            return column
        common = _COMMON.get(type_.partition("(")[0])
        if common is None or not _all_are(column, common):
            return None
        return column.cast(arrow_type(type_))
    except (pa.ArrowException, UnicodeError):
        return None


def _all_are(column: pa.Array, pattern: str) -> bool:
    are = pc.match_substring_regex(column, f"^(?:{pattern})$")
    return bool(pc.all(are, min_count=0).as_py())
