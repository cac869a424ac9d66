"""COPY's fields: from text to what PostgreSQL reads, checked as Redshift checks it.

https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-conversion.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, InvalidOperation

Options = Mapping[str, str | int | bool]

_INTEGERS = {"int2": ("Smallint", 15), "int4": ("Integer", 31), "int8": ("Bigint", 63)}
TRUE = frozenset(("t", "true", "y", "yes", "1"))
FALSE = frozenset(("f", "false", "n", "no", "0"))
CHARACTERS = frozenset(("varchar", "bpchar", "text"))
# Longest first. Characters that are not here stand for themselves.
_DATE_PARTS = {
    "YYYY": "%Y",
    "MONTH": "%B",
    "HH24": "%H",
    "HH12": "%I",
    "MON": "%b",
    "DAY": "%A",
    "DDD": "%j",
    "YY": "%y",
    "MM": "%m",
    "DD": "%d",
    "DY": "%a",
    "HH": "%H",
    "MI": "%M",
    "SS": "%S",
    "AM": "%p",
    "PM": "%p",
    "TZ": "%Z",
    "OF": "%z",
    "US": "%f",
}
# https://docs.aws.amazon.com/redshift/latest/dg/automatic-recognition.html
_AUTO_DATES = ("%m-%d-%Y", "%m/%d/%Y", "%m.%d.%Y", "%Y.%j", "%b %d,%Y", "%b %d, %Y", "%d %b %Y")
_AUTO_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M:%S %p")
_AUTO_PATTERNS = [date + time for date in _AUTO_DATES for time in _AUTO_TIMES]
_DATE_PART = re.compile("|".join(_DATE_PARTS), re.IGNORECASE)


@dataclass(frozen=True)
class TargetColumn:
    """A column of the table, as PostgreSQL keeps it.

    Attributes:
        type: PostgreSQL's short name of its type, e.g. ``int4``; `super` and `varbyte` besides.
        length: Bytes of a character type, None without a limit.
        precision: Digits of a numeric, None without a limit.
        scale: Digits of a numeric after the decimal point.
    """

    name: str
    type: str
    length: int | None
    precision: int | None
    scale: int | None
    is_nullable: bool

    @property
    def redshift_type(self) -> str:
        """Its name in Redshift's messages."""
        names = {
            "int2": "SMALLINT",
            "int4": "INT",
            "int8": "BIGINT",
            "float4": "FLOAT",
            "float8": "DOUBLE",
            "bool": "BOOLEAN",
            "bpchar": "CHAR",
        }
        if self.type == "numeric":
            return f"DECIMAL({self.precision},{self.scale})"
        return names.get(self.type, self.type.upper())


class BadValueError(Exception):
    """A value that the column does not take.

    Attributes:
        code: The error code in STL_LOAD_ERRORS.
        reason: The error's text in STL_LOAD_ERRORS.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


Converter = Callable[[str], str | None]


def converter(column: TargetColumn, options: Options) -> Converter:
    """A function that turns a field's text into PostgreSQL's; its None is NULL.

    The function raises BadValueError.
    """
    if column.type in CHARACTERS:
        return _character_converter(column, options)
    convert = _typed_converter(column, options)

    def convert_unless_blank(text: str) -> str | None:
        # Blank fields of any other type are NULL, whatever the options say.
        text = text.strip()
        return convert(text) if text else None

    return convert_unless_blank


def _character_converter(column: TargetColumn, options: Options) -> Converter:
    limit = column.length
    blanks_as_null, empty_as_null = "BLANKSASNULL" in options, "EMPTYASNULL" in options
    trims, truncates = "TRIMBLANKS" in options, "TRUNCATECOLUMNS" in options
    is_char = column.type == "bpchar"

    def convert(text: str) -> str | None:
        if (empty_as_null and not text) or (blanks_as_null and text and not text.strip()):
            return None
        if trims and not is_char:
            text = text.rstrip(" ")
        if is_char and not text.isascii():
            raise BadValueError(
                1220, "Multibyte character not supported for CHAR (Hint: try using VARCHAR)."
            )
        if "\0" in text:
            raise BadValueError(1216, "Missing newline: Unexpected character 0x0 found")
        if limit is not None and len(text) * 4 > limit:
            encoded = text.encode()
            if len(encoded) > limit:
                if not truncates:
                    raise BadValueError(1204, "String length exceeds DDL length")
                text = encoded[:limit].decode(errors="ignore")
        return text

    return convert


def _typed_converter(column: TargetColumn, options: Options) -> Callable[[str], str]:
    if column.type in _INTEGERS:
        return _integer_converter(*_INTEGERS[column.type])
    if column.type == "numeric":
        return _decimal_converter(column, ROUND_HALF_UP if "ROUNDEC" in options else ROUND_DOWN)
    if column.type == "date":
        return _date_converter(options.get("DATEFORMAT"))
    if column.type in ("timestamp", "timestamptz"):
        return _timestamp_converter(options.get("TIMEFORMAT"))
    if column.type in ("float4", "float8"):
        return _to_float
    if column.type == "bool":
        return _to_boolean
    if column.type == "super":
        return _to_super
    if column.type == "varbyte":
        return _varbyte_converter(column)
    # TIME and the like: PostgreSQL reads them as Redshift does.
    return str


def _integer_converter(name: str, bits: int) -> Callable[[str], str]:
    def convert(text: str) -> str:
        digits = text[1:] if text[0] in "+-" else text
        if not (digits.isdigit() and digits.isascii()):
            position = next((i for i, char in enumerate(digits) if not char.isdigit()), 0)
            position += len(text) - len(digits)
            raise BadValueError(
                1207,
                f"Invalid digit, Value '{text[position : position + 1]}', Pos {position}, "
                f"Type: {name}",
            )
        if not -(2**bits) <= int(text) < 2**bits:
            raise BadValueError(1204, f"Overflow, (column type: {name})")
        return text

    return convert


def _decimal_converter(column: TargetColumn, rounding: str) -> Callable[[str], str]:
    scale = Decimal(1).scaleb(-(column.scale or 0))
    digits = (column.precision or 38) - (column.scale or 0)

    def convert(text: str) -> str:
        try:
            value = Decimal(text)
        except InvalidOperation:
            value = Decimal("NaN")
        if not value.is_finite():
            raise BadValueError(1207, f"Invalid digit, Value '{text[:1]}', Pos 0, Type: Decimal")
        if value.adjusted() >= digits and value != 0:
            raise BadValueError(1204, "Numeric data overflow (result precision)")
        return str(value.quantize(scale, rounding=rounding))

    return convert


def _to_float(text: str) -> str:
    try:
        float(text)
    except ValueError:
        raise BadValueError(1208, "Invalid value for a floating point number") from None
    return text


def _to_boolean(text: str) -> str:
    folded = text.lower()
    if folded in TRUE:
        return "t"
    if folded in FALSE:
        return "f"
    raise BadValueError(1210, "Unknown boolean format")


# A string of JSON, or blanks between two values.
_JSON_TOKEN = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')


def _to_super(text: str) -> str:
    """The JSON without blanks between its values, which keep their order and spelling."""
    try:
        json.loads(text)
    except ValueError:
        # A text that is not JSON is a SUPER of the type string.
        return json.dumps(text, ensure_ascii=False)
    return _JSON_TOKEN.sub(_compacted, text)


def _compacted(token: re.Match[str]) -> str:
    return json.dumps(json.loads(token[1]), ensure_ascii=False) if token[1] else ""


def _varbyte_converter(column: TargetColumn) -> Callable[[str], str]:
    def convert(text: str) -> str:
        try:
            value = bytes.fromhex(text)
        except ValueError:
            raise BadValueError(1216, "Invalid hexadecimal digits for VARBYTE") from None
        if column.length is not None and len(value) > column.length:
            raise BadValueError(1204, "Varbyte length exceeds DDL length")
        return "\\x" + value.hex()

    return convert


def _date_converter(format_: str | int | bool | None) -> Callable[[str], str]:
    pattern = _strptime_pattern(str(format_ or "YYYY-MM-DD"))

    def convert(text: str) -> str:
        try:
            if pattern is None:
                return _parse_any(text).date().isoformat()
            if pattern == "%Y-%m-%d":
                return date.fromisoformat(text[:10]).isoformat()
            return datetime.strptime(text, pattern).date().isoformat()  # noqa: DTZ007
        except (ValueError, OverflowError):
            reason = (
                "Invalid Date Format - length must be 10 or more"
                if len(text) < 10
                else "Invalid Date Format"
            )
            raise BadValueError(1205, reason) from None

    return convert


def _timestamp_converter(format_: str | int | bool | None) -> Callable[[str], str]:
    shown = str(format_ or "YYYY-MM-DD HH24:MI:SS")
    if shown in ("epochsecs", "epochmillisecs"):
        return _epoch_converter(1 if shown == "epochsecs" else 1000)
    pattern = _strptime_pattern(shown)

    def convert(text: str) -> str:
        try:
            if pattern is None:
                return _parse_any(text).isoformat(sep=" ")
            if format_ is None:
                return datetime.fromisoformat(text).isoformat(sep=" ")
            return _parse_timestamp(text, pattern).isoformat(sep=" ")
        except (ValueError, OverflowError):
            raise BadValueError(1206, f"Invalid timestamp format or value [{shown}]") from None

    return convert


def _parse_timestamp(text: str, pattern: str) -> datetime:
    try:
        return datetime.strptime(text, pattern)  # noqa: DTZ007
    except ValueError:
        # Fractions of a second need no mark in the pattern.
        return datetime.strptime(text, pattern.replace("%S", "%S.%f", 1))  # noqa: DTZ007


def _parse_any(text: str) -> datetime:
    """A date or timestamp in one of the forms that ``auto`` knows."""
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        for pattern in _AUTO_PATTERNS:
            with suppress(ValueError):
                return datetime.strptime(text, pattern)  # noqa: DTZ007
        raise


def _epoch_converter(units: int) -> Callable[[str], str]:
    def convert(text: str) -> str:
        try:
            seconds = Decimal(text) / units
            moment = datetime.fromtimestamp(float(seconds), UTC)
        except (InvalidOperation, ValueError, OverflowError, OSError):
            raise BadValueError(1206, "Invalid timestamp format or value") from None
        return moment.isoformat(sep=" ")

    return convert


def _strptime_pattern(shown: str) -> str | None:
    """Python's form of a DATEFORMAT or TIMEFORMAT; None for ``auto``."""
    if shown.lower() == "auto":
        return None
    return _DATE_PART.sub(lambda match: _DATE_PARTS[match[0].upper()], shown.replace("%", "%%"))
