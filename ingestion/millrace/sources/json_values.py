"""JSON's values, and those of declared types that they become: exactly, or not at all."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

_DECIMAL = re.compile(r"decimal\(([1-9]|[12][0-9]|3[0-8]), ?([0-9]|[12][0-9]|3[0-8])\)")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d{1,3})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(?P<fraction>[.,]\d+)?)?(?P<zone>Z|[+-]\d\d(:?\d\d)?)?",
    re.ASCII,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# In microseconds; beyond, an integer may have any number of digits.
_FARTHEST = 10**18
# Python's own context rounds to 28 digits.
_EXACT = Context(prec=500)
_LONGEST = 40
# Python converts no longer text to an integer.
_MOST_DIGITS = 400

_ARROW_TYPES = {
    "string": pa.string(),
    "integer": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "timestamp": pa.timestamp("us", "UTC"),
    "unix_seconds": pa.timestamp("us", "UTC"),
    "unix_milliseconds": pa.timestamp("us", "UTC"),
    "json": pa.string(),
}


class _Missing:
    def __repr__(self) -> str:
        return "nothing"


MISSING = _Missing()
"""What ``at`` finds where nothing is."""


def parsed(text: bytes | str) -> Any:
    """A document, with every number that is no integer as a ``Decimal``.

    Raises:
        ValueError: it is no JSON; with a message for a person.
    """
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(" ".join(str(error).split())[:200]) from None


def at(value: Any, path: Sequence[str]) -> Any:
    """What is at a path; below a null is null, and where nothing is, ``MISSING``."""
    for step in path:
        if value is None:
            return None
        if isinstance(value, dict):
            value = value.get(step, MISSING)
        elif isinstance(value, list) and step.isascii() and step.isdigit():
            value = value[int(step)] if int(step) < len(value) else MISSING
        else:
            return MISSING
        if value is MISSING:
            return MISSING
    return value


def _refuse_constant(name: str) -> None:
    # What reads a large answer refuses it too.
    raise ValueError(f"{name} is no JSON")


def is_type(name: str) -> bool:
    """Whether a column may be declared as this type."""
    match = _DECIMAL.fullmatch(name)
    return name in _ARROW_TYPES or (match is not None and int(match[2]) <= int(match[1]))


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a declared type."""
    if match := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(match[1]), int(match[2]))
    return _ARROW_TYPES[name]


def converter(type_: str) -> Callable[[Any], Any]:
    """What makes one of JSON's values one of a declared type; null is None.

    Numbers are ``int`` or ``Decimal``. It raises ValueError, with a message for a person, where the
    type cannot hold the value exactly, or it is something else.
    """
    if match := _DECIMAL.fullmatch(type_):
        precision, scale = int(match[1]), int(match[2])
        return lambda value: None if value is None else _to_decimal(value, precision, scale)
    convert = _CONVERTERS[type_]
    return lambda value: None if value is None else convert(value)


def shown(value: Any) -> str:
    """A value in a message."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    text = printable(json_text(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def printable(text: str) -> str:
    """A text with an escape for each half of a surrogate pair, which no text of UTF-8 may have."""
    return text.encode("utf-8", "backslashreplace").decode()


def json_text(value: Any) -> str:
    """A value as JSON, with every number as it was."""
    if isinstance(value, dict):
        items = (
            f"{json.dumps(name, ensure_ascii=False)}:{json_text(of)}" for name, of in value.items()
        )
        return f"{{{','.join(items)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(json_text, value))}]"
    return str(value) if isinstance(value, Decimal) else json.dumps(value, ensure_ascii=False)


def _to_string(value: Any) -> str:
    if isinstance(value, dict | list):
        raise ValueError(f"is {shown(value)}, not a text (declare it as json)")
    return _unicode(value if isinstance(value, str) else json_text(value))


def _to_json(value: Any) -> str:
    return _unicode(json_text(value))


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("has half a surrogate pair, which is no character") from None
    return text


def _to_integer(value: Any) -> int:
    number = _number(value, "an integer")
    if number != number.to_integral_value():
        raise ValueError(f"{shown(value)} is not an integer")
    if not -(2**63) <= number < 2**63:
        raise ValueError(f"{shown(value)} is larger than an integer of 64 bits")
    return int(number)


def _to_double(value: Any) -> float:
    number = _number(value, "a number")
    double = float(number)
    if math.isinf(double) or (double == 0) != (number == 0):
        raise ValueError(f"{shown(value)} is beyond what a double holds")
    return double


def _to_decimal(value: Any, precision: int, scale: int) -> Decimal:
    number = _number(value, "a number")
    try:
        fitted = number.quantize(Decimal(1).scaleb(-scale), context=_EXACT)
    except InvalidOperation:
        fitted = None
    if fitted is None or len(fitted.as_tuple().digits) > precision:
        raise ValueError(f"{shown(value)} has more digits than decimal({precision},{scale}) holds")
    if fitted != number:
        raise ValueError(f"{shown(value)} has more than {scale} decimals")
    return fitted


def _to_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ValueError(f"{shown(value)} is not a boolean")


def _to_date(value: Any) -> date:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise ValueError(f"{shown(value)} is not a date such as 2026-11-27")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{shown(value)} is not a date of the calendar") from None


def _to_datetime(value: Any) -> datetime:
    moment = _moment(value, "datetime")
    if moment.tzinfo is not None:
        raise ValueError(f"{shown(value)} has a time zone (declare it as timestamp)")
    return moment


def _to_timestamp(value: Any) -> datetime:
    moment = _moment(value, "timestamp")
    if moment.tzinfo is None:
        raise ValueError(f"{shown(value)} has no time zone (declare it as datetime)")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"{shown(value)} lies beyond the years 1 to 9999") from None


def _moment(value: Any, what: str) -> datetime:
    match = _TIME.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is not a {what} such as 2026-11-27T08:30:00")
    fraction = (match["fraction"] or "").rstrip("0")
    # A separator and six digits.
    if len(fraction) > 7:
        raise ValueError(f"{shown(value)} is more exact than a microsecond (declare it as string)")
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(f"{shown(value)} is not a time of the calendar") from None


def _from_unix(per_second: int) -> Callable[[Any], datetime]:
    def convert(value: Any) -> datetime:
        microseconds = _EXACT.multiply(_number(value, "a Unix time"), 1_000_000 // per_second)
        if microseconds != microseconds.to_integral_value():
            raise ValueError(f"{shown(value)} is more exact than a microsecond")
        try:
            if abs(microseconds) > _FARTHEST:
                raise OverflowError
            return _EPOCH + timedelta(microseconds=int(microseconds))
        except OverflowError:
            raise ValueError(f"{shown(value)} lies beyond the years 1 to 9999") from None

    return convert


def _number(value: Any, what: str) -> Decimal:
    if isinstance(value, str):
        if not _NUMBER.fullmatch(value) or len(value) > _MOST_DIGITS:
            raise ValueError(f"{shown(value)} is not {what}")
        return Decimal(value)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError(f"{shown(value)} is not {what}")
    return Decimal(value)


_CONVERTERS: dict[str, Callable[[Any], Any]] = {
    "string": _to_string,
    "integer": _to_integer,
    "double": _to_double,
    "boolean": _to_boolean,
    "date": _to_date,
    "datetime": _to_datetime,
    "timestamp": _to_timestamp,
    "unix_seconds": _from_unix(1),
    "unix_milliseconds": _from_unix(1000),
    "json": _to_json,
}
