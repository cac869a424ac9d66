"""The Arrow types that travel through Millrace, and their spelling in a manifest.

Every source maps its types to these, and every warehouse maps these to its own. Every warehouse can
hold them, so that a landing can be loaded into any. There are no unsigned integers, for example,
because Redshift and BigQuery have none.
"""

from __future__ import annotations

import re

import pyarrow as pa

_PLAIN: tuple[pa.DataType, ...] = (
    pa.bool_(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.float32(),
    pa.float64(),
    pa.string(),
    pa.binary(),
    pa.date32(),
    pa.timestamp("us"),
    pa.timestamp("us", "UTC"),
)
_BY_NAME = {str(type_): type_ for type_ in _PLAIN}
_DECIMAL = re.compile(r"decimal128\((\d+), (-?\d+)\)")


def from_name(name: str) -> pa.DataType:
    """The type whose ``str`` is this name, e.g. ``decimal128(10, 2)``.

    Raises:
        ValueError: not one of the types that travel through Millrace.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if match := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(match[1]), int(match[2]))
    raise ValueError(f"no type is called {name!r}")


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The narrowest of these types that holds every value of both, or None if none does."""
    if one == other:
        return one
    candidates = [one, other, pa.float64()]
    if decimal := _common_decimal(one, other):
        candidates.append(decimal)
    return next(
        (type_ for type_ in candidates if _holds(type_, one) and _holds(type_, other)), None
    )


def is_castable(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether a value of the one type may be written as the other and mean the same.

    This holds for two numbers, and for an exact number or a date and its text. Whether a given
    value fits is another question. A text of a floating-point number depends on who writes it; a
    time without a zone and a point in time are different things.
    """
    if _is_number(one) and _is_number(other):
        return True
    values = [type_ for type_ in (one, other) if type_ != pa.string()]
    return len(values) == 1 and (bool(_digits(values[0])) or values[0] == pa.date32())


def _is_number(type_: pa.DataType) -> bool:
    return bool(_digits(type_)) or bool(pa.types.is_floating(type_))


def _holds(wide: pa.DataType, narrow: pa.DataType) -> bool:
    if wide == narrow:
        return True
    if pa.types.is_decimal(wide):
        if digits := _digits(narrow):
            return bool(
                wide.scale >= digits[1] and wide.precision - wide.scale >= digits[0] - digits[1]
            )
        return False
    if pa.types.is_integer(narrow):
        if pa.types.is_integer(wide):
            return bool(wide.bit_width > narrow.bit_width)
        # A double counts exactly up to 2**53.
        return bool(wide == pa.float64() and narrow.bit_width <= 32)
    if wide == pa.float64():
        return bool(narrow == pa.float32())
    return bool(wide == pa.timestamp("us") and narrow == pa.date32())


def _digits(type_: pa.DataType) -> tuple[int, int] | None:
    """(precision, scale) that a decimal needs to hold every value of an exact number type."""
    if pa.types.is_decimal(type_):
        return type_.precision, type_.scale
    if pa.types.is_integer(type_):
        return len(str(2 ** (type_.bit_width - 1))), 0
    return None


def _common_decimal(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    first, second = _digits(one), _digits(other)
    if first is None or second is None:
        return None
    scale = max(first[1], second[1])
    precision = scale + max(first[0] - first[1], second[0] - second[1])
    return pa.decimal128(precision, scale) if precision <= 38 else None
