"""COPY's common case: a block of text in which every value is plainly good, converted by columns.

Whatever is in doubt is left to load_text.py, which goes row by row and can say what is wrong. So a
block is either converted here to the very rows that it would give there, or not at all.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from redshift_standin.text_values import CHARACTERS, FALSE, TRUE, Options, TargetColumn

# The options with which a row means the same here as in load_text.py.
_OPTIONS = frozenset(
    (
        *("MANIFEST", "REGION", "STATUPDATE", "COMPUPDATE", "COMPROWS", "NOLOAD", "MAXERROR"),
        *("ENCODING", "GZIP", "BZIP2", "ZSTD", "IGNOREBLANKLINES", "IGNOREHEADER", "NULL"),
        *("DELIMITER", "QUOTE", "EMPTYASNULL"),
    )
)
_NUMBERS = {
    "int2": pa.int16(),
    "int4": pa.int32(),
    "int8": pa.int64(),
    "float4": pa.float64(),
    "float8": pa.float64(),
}
_ESCAPES = (("\\", "\\\\"), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t"))
_BOOLEANS = pa.array(sorted(TRUE | FALSE))


class _DoubtfulError(Exception):
    """Some value of the block needs a closer look."""


@dataclass(frozen=True)
class CleanText:
    """Converts blocks for one COPY.

    Attributes:
        quote: None where a quote is a character like any other.
        skips_blank_lines: Whether an empty line is skipped instead of read as a row.
    """

    columns: Sequence[TargetColumn]
    delimiter: str
    quote: str | None
    null: str
    empty_as_null: bool
    skips_blank_lines: bool

    @staticmethod
    def covers(columns: Sequence[TargetColumn], options: Options) -> bool:
        """Whether a COPY of CSV or delimited text can be converted by columns."""
        return set(options) <= _OPTIONS and all(_converter(column) for column in columns)

    def convert(self, block: bytes) -> tuple[bytes, int] | None:
        """The rows as PostgreSQL's COPY takes them, and their number; None when in doubt.

        Args:
            block: Whole rows.
        """
        lone_returns = block.count(b"\r") - block.count(b"\r\n")
        if b"\0" in block or lone_returns or block.startswith(codecs.BOM_UTF8):
            return None
        is_quoted = self.quote is not None and self.quote.encode() in block
        if is_quoted and not self._well_formed.fullmatch(block):
            return None
        try:
            texts = self._read(block, self.quote if is_quoted else None)
            converted = [
                self._convert(array, column)
                for array, column in zip(texts, self.columns, strict=True)
            ]
        except (_DoubtfulError, pa.ArrowInvalid, ValueError, OverflowError):
            return None
        for text, escaped in _ESCAPES:
            if text.encode() in block:
                converted = [
                    pc.replace_substring(array, text, escaped)
                    if column.type in CHARACTERS
                    else array
                    for array, column in zip(converted, self.columns, strict=True)
                ]
        return _joined(converted), len(converted[0])

    @cached_property
    def _well_formed(self) -> re.Pattern[bytes]:
        """A pattern for rows that Arrow's reader reads no more leniently than Redshift."""
        delimiter, quote = (re.escape(mark).encode() for mark in (self.delimiter, self.quote or ""))
        value = rb"(?:%b(?:[^%b]++|%b%b)*+%b|[^%b%b\r\n]*+)"
        value %= (quote, quote, quote, quote, quote, quote, delimiter)
        return re.compile(rb"(?:%b(?:%b|\r?\n))*+%b" % (value, delimiter, value))

    def _read(self, block: bytes, quote: str | None) -> list[pa.Array]:
        names = [str(index) for index in range(len(self.columns))]
        table = pacsv.read_csv(
            pa.BufferReader(block),
            read_options=pacsv.ReadOptions(
                column_names=names, block_size=len(block) + 1, use_threads=False
            ),
            parse_options=pacsv.ParseOptions(
                delimiter=self.delimiter,
                quote_char=quote or False,
                newlines_in_values=quote is not None,
                ignore_empty_lines=self.skips_blank_lines,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[self.null],
                strings_can_be_null=True,
            ),
        )
        return [column.combine_chunks() for column in table.columns]

    def _convert(self, array: pa.Array, column: TargetColumn) -> pa.Array:
        is_text = column.type in CHARACTERS
        if not is_text:
            array = pc.utf8_trim_whitespace(array)
        if not is_text or self.empty_as_null:
            array = pc.if_else(pc.equal(array, ""), pa.scalar(None, pa.string()), array)
        if not column.is_nullable and array.null_count:
            raise _DoubtfulError
        convert = _converter(column)
        if convert is None:
            raise _DoubtfulError
        return convert(array)


def _converter(column: TargetColumn) -> Callable[[pa.Array], pa.Array] | None:
    """What checks the texts of a column and raises in doubt; None for a type not covered here."""
    if column.type in CHARACTERS:
        return lambda array: _checked_length(array, column)
    if column.type in _NUMBERS:
        return lambda array: _checked_cast(array, _NUMBERS[column.type])
    if column.type == "numeric" and column.precision is not None:
        type_ = pa.decimal128(column.precision, column.scale or 0)
        return lambda array: _checked_cast(array, type_)
    if column.type == "date":
        return _checked_dates
    if column.type == "timestamp":
        return _timestamps
    if column.type == "bool":
        return _checked_booleans
    return None


def _checked_length(array: pa.Array, column: TargetColumn) -> pa.Array:
    if column.type == "bpchar" and not pc.all(pc.string_is_ascii(array), min_count=0).as_py():
        raise _DoubtfulError
    if column.length is not None and (pc.max(pc.binary_length(array)).as_py() or 0) > column.length:
        raise _DoubtfulError
    return array


def _checked_cast(array: pa.Array, type_: pa.DataType) -> pa.Array:
    array.cast(type_)
    return array


def _checked_dates(array: pa.Array) -> pa.Array:
    # Both databases' COPY takes the years that Python has; as_py fails for others.
    pc.min_max(array.cast(pa.date32())).as_py()
    return array


def _timestamps(array: pa.Array) -> pa.Array:
    moments = array.cast(pa.timestamp("us"))
    pc.min_max(moments).as_py()
    return moments.cast(pa.string())


def _checked_booleans(array: pa.Array) -> pa.Array:
    known = pc.is_in(pc.utf8_lower(array.drop_null()), value_set=_BOOLEANS)
    if not pc.all(known, min_count=0).as_py():
        raise _DoubtfulError
    return array


def _joined(columns: list[pa.Array]) -> bytes:
    """The rows in PostgreSQL's text format."""
    joined: Any = pc.binary_join_element_wise(
        *columns, "\t", null_handling="replace", null_replacement="\\N"
    )
    lines = pc.binary_join_element_wise(joined, "", "\n")
    data = lines.buffers()[2]
    return data.to_pybytes() if data is not None else b""
