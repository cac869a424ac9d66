"""COPY from CSV, delimited text and JSON: converts objects to rows for PostgreSQL's COPY.

Values are checked here and not left to PostgreSQL, so that a bad row can be named as Redshift
names it, and left out where MAXERROR allows.
https://docs.aws.amazon.com/redshift/latest/dg/copy-parameters-data-conversion.html
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import pyarrow as pa

from redshift_standin.clean_text import CleanText
from redshift_standin.storage import DataFile, Storage, detailed_error, explained
from redshift_standin.text_values import (
    BadValueError,
    Converter,
    Options,
    TargetColumn,
    converter,
)
from redshift_standin.wire import ServerError

CHUNK_ROWS = 5_000
STREAM_BYTES = 4 * 1024 * 1024
# The longest row that COPY takes.
MAX_FIELD_CHARS = 4 * 1024 * 1024

_COMPRESSIONS = {"GZIP": "gzip", "BZIP2": "bz2", "ZSTD": "zstd"}
_INVALID_BYTE = re.compile("[\udc80-\udcff]")
_ESCAPED = re.compile(r"\\.", re.DOTALL)
_NULL_MARK = "\0null\0"


@dataclass(frozen=True)
class LoadError:
    """A row of STL_LOAD_ERRORS.

    Attributes:
        code: https://docs.aws.amazon.com/redshift/latest/dg/r_Load_Error_Reference.html
    """

    url: str
    line_number: int
    column: TargetColumn | None
    raw_line: str
    raw_value: str
    code: int
    reason: str


class TooManyErrorsError(Exception):
    """The load has met as many bad rows as MAXERROR allows."""


@dataclass
class TextLoad:
    """One COPY of text.

    Attributes:
        errors: The bad rows so far.
        counts: The good rows so far, by their file.
    """

    storage: Storage
    format: str
    columns: list[TargetColumn]
    options: Options
    errors: list[LoadError] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def chunks(self, files: Iterable[DataFile]) -> Iterator[bytes]:
        """The rows as PostgreSQL's COPY takes them, some thousands at a time.

        Raises:
            TooManyErrorsError: MAXERROR is reached.
            ServerError: An object cannot be read, or an option makes no sense.
        """
        csv.field_size_limit(MAX_FIELD_CHARS)
        clean = self._clean_text()
        for file in files:
            if clean is None:
                yield from self._rows(self._raw_lines(file), file.url)
                continue
            line_number = 0
            for block in _whole_rows(self._raw_blocks(file), self._header(), clean.quote):
                if line_number >= self._header() and (converted := clean.convert(block)):
                    rows, count = converted
                    self.counts[file.url] += count
                    yield rows
                else:
                    yield from self._rows(iter(_lines(block)), file.url, line_number)
                line_number += block.count(b"\n")

    def _clean_text(self) -> CleanText | None:
        """What converts whole blocks; None if this COPY has to go row by row."""
        is_csv = self.format == "CSV"
        if self.format not in ("CSV", "TEXT") or not CleanText.covers(self.columns, self.options):
            return None
        return CleanText(
            columns=self.columns,
            delimiter=_delimiter(self.options, "," if is_csv else "|"),
            quote=_quote(self.options) if is_csv else None,
            null=str(self.options.get("NULL", r"\N")),
            empty_as_null="EMPTYASNULL" in self.options,
            skips_blank_lines=is_csv or "IGNOREBLANKLINES" in self.options,
        )

    def _header(self) -> int:
        return int(self.options.get("IGNOREHEADER", 0))

    def _rows(self, lines: Iterator[bytes], url: str, line_number: int = 0) -> Iterator[bytes]:
        """The rows of these lines; the first line has the number after `line_number`."""
        converters = [converter(column, self.options) for column in self.columns]
        pending: list[str] = []
        for record in self._records(lines, line_number):
            if (row := self._convert(record, converters, url)) is not None:
                pending.append(row)
                self.counts[url] += 1
            if len(pending) >= CHUNK_ROWS:
                yield "".join(pending).encode()
                pending = []
        yield "".join(pending).encode()

    def _records(self, raw_lines: Iterator[bytes], line_number: int) -> Iterator[_Record]:
        lines = _decoded(raw_lines, self.options)
        if self.format == "JSON":
            records = _json_records(lines, self._json_fields())
        elif self.format == "CSV":
            records = _csv_records(lines, self.options)
        else:
            records = _delimited_records(lines, self.options)
        for record in records:
            record.line_number += line_number
            if record.line_number <= self._header() and self.format != "JSON":
                continue
            if not record.raw.strip("\r\n") and (
                "IGNOREBLANKLINES" in self.options or self.format == "CSV"
            ):
                continue
            yield record

    def _raw_lines(self, file: DataFile) -> Iterator[bytes]:
        rest = b""
        for block in self._raw_blocks(file):
            *lines, rest = (rest + block).split(b"\n")
            yield from (line + b"\n" for line in lines)
        if rest:
            yield rest

    def _raw_blocks(self, file: DataFile) -> Iterator[bytes]:
        compression = next(
            (_COMPRESSIONS[name] for name in _COMPRESSIONS if name in self.options), None
        )
        with explained(file.url):
            reader = pa.PythonFile(self.storage.open_reader(file.url), "r")
            with pa.input_stream(reader, compression=compression) as stream:
                while block := stream.read(STREAM_BYTES):
                    yield block

    def _json_fields(self) -> list[_JsonField]:
        how = str(self.options.get("JSON", "auto"))
        names = [column.name for column in self.columns]
        if how == "auto":
            return [_JsonField((name,)) for name in names]
        if how == "auto ignorecase":
            return [_JsonField((name,), ignores_case=True) for name in names]
        if not how.startswith("s3://"):
            raise ServerError.make(
                f"The JSON option '{how}' is not covered by the stand-in.", "0A000"
            )
        try:
            paths = json.loads(self.storage.read(how))["jsonpaths"]
            fields = [_JsonField(_json_path(path)) for path in paths]
        except (ValueError, KeyError, TypeError) as error:
            raise detailed_error(f"Invalid JSONPath format: {how}", 8001, repr(error)) from error
        if len(fields) != len(names):
            raise detailed_error(
                "Number of jsonpaths and the number of columns should match. "
                f"JSONPath size: {len(fields)}, Number of columns in table or column list: "
                f"{len(names)}",
                8001,
            )
        return fields

    def _convert(self, record: _Record, converters: list[Converter], url: str) -> str | None:
        """A line for PostgreSQL, or None for a bad row."""
        column: TargetColumn | None = None
        value: str | None = ""
        try:
            if record.problem:
                raise record.problem
            values = record.values
            if len(values) < len(converters):
                if "FILLRECORD" not in self.options:
                    raise BadValueError(1214, "Delimiter not found")
                values = values + [None] * (len(converters) - len(values))
            if len(values) > len(converters):
                raise BadValueError(1202, "Extra column(s) found")
            converted = []
            for column, convert, value in zip(self.columns, converters, values, strict=True):
                text = None if value is None else convert(value)
                if text is None and not column.is_nullable:
                    raise BadValueError(1213, "Missing data for not-null field")
                converted.append(r"\N" if text is None else _escape(text))
        except BadValueError as error:
            self.errors.append(
                LoadError(
                    url,
                    record.line_number,
                    column,
                    record.raw,
                    value or "",
                    error.code,
                    error.reason,
                )
            )
            if len(self.errors) >= max(1, int(self.options.get("MAXERROR", 0))):
                raise TooManyErrorsError from None
            return None
        return "\t".join(converted) + "\n"


@dataclass
class _Record:
    line_number: int
    raw: str
    values: list[str | None]
    problem: BadValueError | None = None


def _escape(text: str) -> str:
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if "\n" in text or "\r" in text or "\t" in text:
        text = text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return text


# Lines and fields.


def _lines(block: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in block.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _whole_rows(blocks: Iterator[bytes], header: int, quote: str | None) -> Iterator[bytes]:
    """The same bytes, cut between rows; each line of the header comes alone.

    Quotes come in pairs, so after an even number of them a line's end is a row's end.
    """
    mark = (quote or "").encode()
    rest = b""
    for block in blocks:
        rest += block
        while (
            header and (end := rest.find(b"\n") + 1) and not (mark and rest[:end].count(mark) % 2)
        ):
            yield rest[:end]
            rest, header = rest[end:], header - 1
        cut = rest.rfind(b"\n") + 1
        if cut and not (mark and rest[:cut].count(mark) % 2):
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


@dataclass
class _Line:
    text: str
    problem: BadValueError | None = None


def _decoded(lines: Iterator[bytes], options: Options) -> Iterator[_Line]:
    replacement = options.get("ACCEPTINVCHARS")
    mark = replacement if isinstance(replacement, str) else "?"
    for raw in lines:
        text = raw.decode("utf-8", errors="surrogateescape")
        problem = None
        if bad := _INVALID_BYTE.search(text):
            if replacement is None:
                problem = BadValueError(
                    1220,
                    "String contains invalid or unsupported UTF8 codepoints. "
                    f"Bad UTF8 hex sequence: {ord(bad[0]) - 0xDC00:x} (error 3)",
                )
            text = _INVALID_BYTE.sub(lambda _: mark, text)
        yield _Line(text, problem)


class _Tape:
    """Passes lines to csv.reader, and remembers those of the current record."""

    def __init__(self, lines: Iterator[_Line], prepare: Callable[[str], str]) -> None:
        self._lines = lines
        self._prepare = prepare
        self.raw: list[str] = []
        self.problem: BadValueError | None = None

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.raw.append(line.text)
            self.problem = self.problem or line.problem
            yield self._prepare(line.text)

    def take(self) -> tuple[str, BadValueError | None]:
        taken = "".join(self.raw), self.problem
        self.raw, self.problem = [], None
        return taken


def _quote(options: Options) -> str:
    quote = options.get("QUOTE")
    return quote if isinstance(quote, str) else '"'


def _csv_records(lines: Iterator[_Line], options: Options) -> Iterator[_Record]:
    yield from _read_csv(
        _Tape(lines, str),
        null=str(options.get("NULL", r"\N")),
        delimiter=_delimiter(options, ","),
        quotechar=_quote(options),
        strict=True,
    )


def _delimited_records(lines: Iterator[_Line], options: Options) -> Iterator[_Record]:
    null = str(options.get("NULL", r"\N"))
    delimiter = _delimiter(options, "|")
    escapes, quotes = "ESCAPE" in options, "REMOVEQUOTES" in options
    if not escapes and not quotes:
        for number, line in enumerate(lines, 1):
            values: list[str | None] = [
                None if value == null else value
                for value in line.text.rstrip("\r\n").split(delimiter)
            ]
            yield _Record(number, line.text, values, line.problem)
        return

    def mark_null(text: str) -> str:
        return _ESCAPED.sub(lambda match: _NULL_MARK if match[0] == null else match[0], text)

    yield from _read_csv(
        _Tape(lines, mark_null if escapes else str),
        null=_NULL_MARK if escapes and null == r"\N" else null,
        delimiter=delimiter,
        quotechar='"' if quotes else None,
        quoting=csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE,
        escapechar="\\" if escapes else None,
    )


def _read_csv(tape: _Tape, null: str, **dialect: Any) -> Iterator[_Record]:
    reader = csv.reader(tape, **dialect)
    number = 1
    while True:
        problem: BadValueError | None = None
        fields: list[str] = []
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            problem = BadValueError(1201, f"Invalid quote formatting for CSV: {error}")
        raw, line_problem = tape.take()
        values = [None if value == null else value for value in fields]
        yield _Record(number, raw, values, problem or line_problem)
        number = reader.line_num + 1


def _delimiter(options: Options, default: str) -> str:
    delimiter = options.get("DELIMITER")
    if not isinstance(delimiter, str):
        return default
    delimiter = delimiter.encode().decode("unicode_escape") if "\\" in delimiter else delimiter
    if len(delimiter) != 1:
        raise ServerError.make("COPY delimiter must be a single character", "42601")
    return delimiter


# JSON.


class _Number(float):
    """A number that keeps how it was written."""

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True)
class _JsonField:
    """Where a column's value lies in an object."""

    path: tuple[str | int, ...]
    ignores_case: bool = False

    def find(self, value: Any) -> Any:
        for step in self.path:
            if isinstance(value, dict):
                if self.ignores_case:
                    value = {key.lower(): each for key, each in value.items()}
                value = value.get(step)
            elif isinstance(value, list) and isinstance(step, int) and step < len(value):
                value = value[step]
            else:
                return None
        return value


def _json_path(path: str) -> tuple[str | int, ...]:
    steps = re.findall(r"\.([^.\[\]]+)|\['([^']+)'\]|\[(\d+)\]", path.removeprefix("$"))
    return tuple(int(index) if index else name or quoted for name, quoted, index in steps)


def _json_records(lines: Iterator[_Line], fields: list[_JsonField]) -> Iterator[_Record]:
    decoder = json.JSONDecoder(parse_float=_Number)
    text, first, number = "", 1, 0
    for number, line in enumerate(lines, 1):
        if line.problem:
            yield _Record(number, line.text, [], line.problem)
            continue
        if not text.strip():
            text, first = "", number
        text += line.text
        position = 0
        while rest := text[position:].lstrip():
            position = len(text) - len(rest)
            try:
                value, position = decoder.raw_decode(text, position)
            except ValueError:
                break
            values = [_json_text(each.find(value)) for each in fields]
            yield _Record(first, text, values)
        text = text[position:]
    if text.strip():
        yield _Record(first, text, [], BadValueError(1216, f"Invalid JSON at line {number}"))


def _json_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, _Number):
        return value.text
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
