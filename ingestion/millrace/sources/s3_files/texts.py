"""CSV and lines of JSON as rows of values, each with the line on which it begins."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import IO, Any, cast
from zoneinfo import ZoneInfo

from millrace.errors import SourceMismatch
from millrace.sources.json_values import MISSING, at, converter, parsed, printable, shown
from millrace.sources.s3_files.options import Column, S3FilesOptions

LONGEST_BYTES = 64 * 1024 * 1024
"""A longer line or value is refused: it would have to be in memory."""

_GZIP = b"\x1f\x8b"


class BrokenFile(ValueError):
    """A file of which it is not known where its rows begin and end."""


@dataclass(frozen=True)
class Line:
    """A row.

    Attributes:
        number: The line on which it begins, from 1 on.
        values: By column, as JSON has them; ``MISSING`` where the row lacks it. None: it is no row.
        problem: Why it is none, for a person.
        text: What it is then.
    """

    number: int
    values: Sequence[Any] | None
    problem: str = ""
    text: str = ""


def unpacked(body: IO[bytes]) -> IO[bytes]:
    """A file's content, which may be compressed with gzip."""
    is_packed = body.read(len(_GZIP)) == _GZIP
    body.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=body, mode="rb")) if is_packed else body


def lines(body: IO[bytes], options: S3FilesOptions, where: str) -> Iterator[Line]:
    """The rows of a file.

    Args:
        body: The file, unpacked.
        options: The declaration.
        where: The file, for messages.

    Raises:
        BrokenFile: it is not known where its rows begin and end.
        SourceMismatch: a declared column is not there.
    """
    if options.format_of_files == "csv":
        return _of_csv(body, options, where)
    return _of_json(body, options)


def headings(body: IO[bytes], options: S3FilesOptions) -> list[str]:
    """What the columns of a file are called; none: nothing says so."""
    if options.format_of_files == "jsonl":
        first = next((line for line in body if line.strip()), b"{}")
        found = parsed(first)
        return list(found) if isinstance(found, dict) else []
    return next(_whole(_reader(body, options)), []) if options.csv.header else []


def text_converter(column: Column, *, is_json: bool) -> Callable[[Any], Any]:
    """What makes a text, or one of JSON's values, one of a column's type; see ``converter``.

    Args:
        column: The column.
        is_json: Whether the values are JSON's own; a ``json`` column of CSV holds JSON as text.
    """
    convert = converter(column.type)
    if column.type == "json" and not is_json:
        convert = _checked_json
    if column.format is not None:
        convert = partial(_by_format, column.format, column.type)
    if column.time_zone is not None:
        convert = partial(_in_zone, ZoneInfo(column.time_zone), column.format)
    return lambda value: None if value is None else convert(value)


def _of_csv(body: IO[bytes], options: S3FilesOptions, where: str) -> Iterator[Line]:
    reader = _reader(body, options)
    nulls = frozenset(options.csv.nulls)
    begins = 1
    places: list[int] | None = None
    width = 0
    if not options.csv.header:
        places, width = list(range(len(options.columns))), len(options.columns)
    for fields in _whole(reader):
        number, begins = begins, reader.line_num + 1
        if places is None:
            places, width = _places(fields, options, where), len(fields)
        # An empty line is none of a row.
        elif not fields:
            continue
        elif len(fields) != width:
            told = f"has {len(fields):,} values, and {width:,} are expected"
            yield Line(number, None, told, options.delimiter.join(fields))
        else:
            yield Line(
                number,
                [
                    MISSING if at < 0 else None if fields[at] in nulls else fields[at]
                    for at in places
                ],
            )


def _reader(body: IO[bytes], options: S3FilesOptions) -> Any:
    if csv.field_size_limit() < LONGEST_BYTES:
        csv.field_size_limit(LONGEST_BYTES)
    text = io.TextIOWrapper(body, options.csv.encoding, newline="")
    return csv.reader(
        _short_enough(text),
        delimiter=options.delimiter,
        quotechar=options.csv.quote,
        strict=True,
    )


def _short_enough(text: IO[str]) -> Iterator[str]:
    while line := text.readline(LONGEST_BYTES):
        if len(line) == LONGEST_BYTES:
            raise BrokenFile(f"a line is longer than {LONGEST_BYTES:,} characters")
        yield line


def _whole(reader: Any) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:
        raise BrokenFile(f"after line {reader.line_num:,}: {error}") from None
    except UnicodeError as error:
        told = f"after line {reader.line_num:,}: {error} (`encoding` says how it is written)"
        raise BrokenFile(told) from None


def _places(heads: Sequence[str], options: S3FilesOptions, where: str) -> list[int]:
    """Where each declared column is; -1: it is optional, and not there."""
    found = []
    for name, column in options.columns.items():
        heading = column.heading or name
        if heads.count(heading) > 1:
            raise SourceMismatch(
                f"{where} has the heading '{heading}' more than once.",
                fix="Ask who delivers it for headings that differ. Nothing was loaded.",
            )
        if heading not in heads and not column.optional:
            raise missing_column(where, name, heading, heads)
        found.append(heads.index(heading) if heading in heads else -1)
    return found


def missing_column(where: str, name: str, heading: str, there: Sequence[str]) -> SourceMismatch:
    """The error of a file that lacks a declared column."""
    listed = ", ".join(printable(head) for head in there[:20])
    called = f"'{heading}'" if heading == name else f"'{heading}', which is declared as {name}"
    return SourceMismatch(
        f"{where} has no column {called}; it has: {listed}.",
        fix="Correct the column's `path`, or declare it as `optional` if files may lack it. "
        "Nothing was loaded.",
    )


def _of_json(body: IO[bytes], options: S3FilesOptions) -> Iterator[Line]:
    paths = [column.path or (name,) for name, column in options.columns.items()]
    number = 0
    while line := body.readline(LONGEST_BYTES + 1):
        number += 1
        if len(line) > LONGEST_BYTES:
            raise BrokenFile(f"line {number:,} is longer than {LONGEST_BYTES:,} bytes")
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        if not line.strip():
            continue
        try:
            found = parsed(line)
        except ValueError as error:
            text = line.decode("utf-8", "backslashreplace").strip()
            yield Line(number, None, f"is no JSON: {error}", text)
            continue
        if not isinstance(found, dict):
            yield Line(number, None, f"is no JSON object, but {shown(found)}", json.dumps(found))
            continue
        yield Line(number, [at(found, path) for path in paths])


def _checked_json(text: str) -> str:
    parsed(text)
    return text


def _by_format(form: str, type_: str, value: Any) -> Any:
    try:
        # Without a zone, which its type may then ask for.
        moment = datetime.strptime(value, form) if isinstance(value, str) else None  # noqa: DTZ007
    except ValueError:
        moment = None
    if moment is None:
        raise ValueError(f"{shown(value)} is not a {type_} such as {_EXAMPLE.strftime(form)}")
    # The converter of its type knows what else is wrong with it.
    return converter(type_)(moment.date().isoformat() if type_ == "date" else moment.isoformat())


def _in_zone(zone: ZoneInfo, form: str | None, value: Any) -> datetime:
    local: datetime = (
        converter("datetime")(value) if form is None else _by_format(form, "datetime", value)
    )
    return as_moment(local, zone, value)


def as_moment(local: datetime, zone: ZoneInfo, value: Any) -> datetime:
    """The moment at which the clock of a zone shows a time.

    Raises:
        ValueError: it shows it twice, or never.
    """
    first, second = (local.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    if first.utcoffset() != second.utcoffset():
        raise ValueError(f"{shown(value)} comes twice or never on the clock of {zone.key}")
    return first.astimezone(UTC)


_EXAMPLE = datetime(2026, 11, 27, 8, 30, tzinfo=UTC)


def by_name(options: S3FilesOptions, *, is_json: bool) -> Mapping[str, Callable[[Any], Any]]:
    """The converters of all columns."""
    return {
        name: text_converter(column, is_json=is_json) for name, column in options.columns.items()
    }
