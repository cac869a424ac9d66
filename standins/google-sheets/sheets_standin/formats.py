"""How numbers and dates look, and what typed text means (locale en_US)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal

from sheets_standin.errors import invalid

EPOCH = datetime(1899, 12, 30)  # noqa: DTZ001
"""Day zero; a serial date is the days since, a serial time the fraction of one."""

DATE_TYPES = {"DATE", "TIME", "DATE_TIME"}
DEFAULT_PATTERNS = {
    "TEXT": "@",
    "NUMBER": "#,##0.00",
    "PERCENT": "0.00%",
    "CURRENCY": "$#,##0.00",
    "DATE": "m/d/yyyy",
    "TIME": "h:mm:ss am/pm",
    "DATE_TIME": "m/d/yyyy h:mm:ss",
    "SCIENTIFIC": "0.00e+00",
}

_NUMBER = re.compile(
    r'(?P<before>(?:\[\$[^\]]*\]|[^#0-9@;"%.,eE\\\[]|"[^"]*"|\\.)*)(?P<whole>[#0,]*[#0])'
    r"(?:\.(?P<fraction>[0#]+))?(?P<exponent>[eE]\+0+)?(?P<percent>%)?"
    r'(?P<after>(?:\[\$[^\]]*\]|[^#0-9@;"%.,\\\[]|"[^"]*"|\\.)*)'
)
_DATE_TOKEN = re.compile(
    r'"[^"]*"|\\.|\[(?:h+|m+|s+)\]|y{4}|y{2}|m{1,4}|d{1,4}|h{1,2}|s{1,2}|\.0+|am/pm|[-/:.,TZ\s]',
    re.IGNORECASE,
)
_TYPED_NUMBER = re.compile(
    r"(?P<sign>[-+]?)(?P<currency>\$?)(?P<digits>\d+|\d{1,3}(?:,\d{3})+|(?=\.\d))"
    r"(?P<fraction>\.\d*)?(?P<exponent>[eE][-+]?\d+)?(?P<percent>%?)"
)
_TYPED_TIMES = {
    "%Y-%m-%d": ("DATE", "yyyy-mm-dd"),
    "%m/%d/%Y": ("DATE", "m/d/yyyy"),
    "%Y-%m-%d %H:%M:%S": ("DATE_TIME", "yyyy-mm-dd hh:mm:ss"),
    "%Y-%m-%d %H:%M": ("DATE_TIME", "yyyy-mm-dd hh:mm"),
    "%m/%d/%Y %H:%M:%S": ("DATE_TIME", "m/d/yyyy h:mm:ss"),
    "%H:%M:%S": ("TIME", "h:mm:ss"),
    "%H:%M": ("TIME", "h:mm"),
}


def format_value(value: bool | float | str | None, number_format: Mapping[str, str]) -> str:
    """The text that a person sees in a cell.

    Args:
        value: What the cell holds.
        number_format: Its ``NumberFormat``; empty for automatic.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, str):
        return value
    kind = number_format.get("type", "")
    pattern = number_format.get("pattern") or DEFAULT_PATTERNS.get(kind, "@")
    if kind in DATE_TYPES:
        return _format_time(value, pattern)
    number = _NUMBER.fullmatch(pattern)
    return _format_number(value, number) if number else _general(value)


def check(number_format: Mapping[str, str], where: str) -> None:
    """Refuse a number format that cannot be shown.

    Raises:
        ApiError: 400, the type does not exist or the pattern is beyond the stand-in.
    """
    kind = number_format.get("type", "")
    if kind not in DEFAULT_PATTERNS or set(number_format) - {"type", "pattern"}:
        raise invalid(f"{where}: Invalid number format {dict(number_format)}")
    pattern = number_format.get("pattern") or DEFAULT_PATTERNS[kind]
    if kind in DATE_TYPES:
        understood = not _DATE_TOKEN.sub("", pattern)
    else:
        understood = pattern == "@" or bool(_NUMBER.fullmatch(pattern))
    if not understood:
        raise invalid(f"{where}: the stand-in cannot show the pattern {pattern!r} of a {kind}")


def parse_typed(text: str) -> tuple[bool | float | str | None, dict[str, str]]:
    """What Sheets makes of a text typed by a person: the value, and the cell's new format.

    Raises:
        ApiError: 400, it is a formula, which nothing here evaluates.
    """
    if text.startswith("'"):
        return text[1:] or None, {}
    if text.startswith("=") and len(text) > 1:
        raise invalid(f"The stand-in does not evaluate formulas: {text}")
    stripped = text.strip()
    if stripped.upper() in ("TRUE", "FALSE"):
        return stripped.upper() == "TRUE", {}
    if number := _TYPED_NUMBER.fullmatch(stripped):
        return _typed_number(number)
    for shape, (kind, pattern) in _TYPED_TIMES.items():
        try:
            moment = datetime.strptime(stripped, shape)  # noqa: DTZ007
        except ValueError:
            continue
        start = datetime(1900, 1, 1) if kind == "TIME" else EPOCH  # noqa: DTZ001
        return (moment - start) / timedelta(days=1), {"type": kind, "pattern": pattern}
    return text or None, {}


def _typed_number(number: re.Match[str]) -> tuple[float | str, dict[str, str]]:
    digits = number["digits"].replace(",", "")
    value = float(
        f"{number['sign']}{digits or 0}{number['fraction'] or ''}{number['exponent'] or ''}"
    )
    if value in (float("inf"), float("-inf")):
        return number[0], {}
    decimals = ".00" if (number["fraction"] or ".") != "." else ""
    if number["percent"]:
        # Computed in decimal, so that 12.3% is the double nearest to 0.123.
        exact = Decimal(repr(value)).scaleb(-2)
        return float(exact), {"type": "PERCENT", "pattern": f"0{decimals}%"}
    if number["currency"]:
        return value, {"type": "CURRENCY", "pattern": f"$#,##0{decimals}"}
    if "," in number["digits"]:
        return value, {"type": "NUMBER", "pattern": f"#,##0{decimals}"}
    if number["exponent"]:
        return value, {"type": "SCIENTIFIC", "pattern": "0.00e+00"}
    return value, {}


def _general(value: float) -> str:
    if value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    whole_digits = len(str(int(abs(value)))) if abs(value) < 1e15 else 0
    return format(value, f".{max(10, whole_digits)}g").upper()


def _format_number(value: float, pattern: re.Match[str]) -> str:
    fraction = pattern["fraction"] or ""
    needed = fraction.count("0")
    exact = Decimal(repr(value)).scaleb(2 if pattern["percent"] else 0)
    if pattern["exponent"]:
        text = f"{exact:.{len(fraction)}E}"
        mantissa, _, power = text.partition("E")
        width = pattern["exponent"].count("0")
        text = f"{mantissa}E{power[0]}{power[1:].zfill(width)}"
    else:
        # Far more digits than a double has, so that quantize never runs out of them.
        step = Decimal(1).scaleb(-len(fraction))
        rounded = exact.quantize(step, ROUND_HALF_UP) if abs(exact) < 10**17 else exact
        text = f"{abs(rounded):,f}" if "," in pattern["whole"] else f"{abs(rounded):f}"
        whole, _, decimals = text.partition(".")
        while len(decimals) > needed and decimals.endswith("0"):
            decimals = decimals[:-1]
        whole = whole.zfill(pattern["whole"].replace(",", "").count("0"))
        text = f"{whole}.{decimals}" if decimals else whole
        if rounded < 0:
            text = f"-{_literal(pattern['before'])}{text}"
            return f"{text}{pattern['percent'] or ''}{_literal(pattern['after'])}"
    before, after = _literal(pattern["before"]), _literal(pattern["after"])
    return f"{before}{text}{pattern['percent'] or ''}{after}"


def _literal(text: str) -> str:
    return re.sub(
        r'"([^"]*)"|\\(.)|\[\$([^\]-]*)[^\]]*\]',
        lambda match: match[1] or match[2] or match[3] or "",
        text,
    )


def _format_time(value: float, pattern: str) -> str:
    try:
        moment = EPOCH + timedelta(milliseconds=round(value * 86_400_000))
    except OverflowError:
        return _general(value)
    tokens = _DATE_TOKEN.findall(pattern)
    letters = [token.lstrip("[")[:1].lower() for token in tokens]
    known = [letter for letter in letters if letter in ("y", "m", "d", "h", "s")]
    has_half_days = any(token.lower() == "am/pm" for token in tokens)
    parts: list[str] = []
    seen = 0
    for token, letter in zip(tokens, letters, strict=True):
        if letter not in ("y", "m", "d", "h", "s"):
            parts.append(_plain_token(token, moment))
            continue
        seen += 1
        if token.startswith("["):
            parts.append(_elapsed(token, letter, moment - EPOCH))
            continue
        before = known[seen - 2] if seen > 1 else ""
        after = known[seen] if seen < len(known) else ""
        # An m next to hours or seconds means minutes.
        is_minute = letter == "m" and len(token) <= 2 and (before == "h" or after == "s")
        parts.append(_time_token(token.lower(), moment, is_minute, has_half_days))
    return "".join(parts)


def _elapsed(token: str, letter: str, duration: timedelta) -> str:
    unit = {"h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}[letter]
    return str(duration // unit).zfill(len(token) - 2)


def _plain_token(token: str, moment: datetime) -> str:
    if token.lower() == "am/pm":
        return "AM" if moment.hour < 12 else "PM"
    if re.fullmatch(r"\.0+", token):
        return f".{moment.microsecond:06d}"[: len(token)]
    return _literal(token)


def _time_token(token: str, moment: datetime, is_minute: bool, has_half_days: bool) -> str:
    if token in ("mmm", "mmmm", "ddd", "dddd"):
        return moment.strftime({"mmm": "%b", "mmmm": "%B", "ddd": "%a", "dddd": "%A"}[token])
    if token[0] == "y":
        return f"{moment.year:04d}"[-len(token) :]
    number = {
        "m": moment.minute if is_minute else moment.month,
        "d": moment.day,
        "h": (moment.hour % 12 or 12) if has_half_days else moment.hour,
        "s": moment.second,
    }[token[0]]
    return str(number).zfill(len(token))
