"""The fast way through COPY of text gives what the slow one gives, or nothing."""

from __future__ import annotations

import io
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redshift_standin import load_text
from redshift_standin.load_text import TextLoad, TooManyErrorsError
from redshift_standin.storage import DataFile, Storage
from redshift_standin.text_values import TargetColumn

COLUMNS = [
    TargetColumn("id", "int4", None, None, None, is_nullable=False),
    TargetColumn("word", "varchar", 8, None, None, is_nullable=True),
    TargetColumn("amount", "numeric", None, 9, 2, is_nullable=True),
    TargetColumn("ratio", "float8", None, None, None, is_nullable=True),
    TargetColumn("is_new", "bool", None, None, None, is_nullable=True),
    TargetColumn("day", "date", None, None, None, is_nullable=True),
    TargetColumn("at", "timestamp", None, None, None, is_nullable=True),
    TargetColumn("code", "bpchar", 3, None, None, is_nullable=True),
]
GOOD = "1,a,1.50,0.1,t,2026-01-02,2026-01-02 03:04:05,abc"
QUOTED = '"a\nb, ""c""",'
VALUES = [
    st.one_of(
        st.integers(-(2**33), 2**33).map(str), st.sampled_from(["", " 7 ", "+1", "1_0", "x"])
    ),
    st.text(st.characters(blacklist_categories=["Cs"]), max_size=5),
    st.one_of(
        st.decimals(-(10**8), 10**8, allow_nan=False, places=3).map(str),
        st.sampled_from(["1.5", "", "1e2", "NaN", "-0", ".5"]),
    ),
    st.one_of(st.floats().map(str), st.sampled_from(["", "1e400", "inf", "0x1p3", " 1"])),
    st.sampled_from(["t", "TRUE", "No", "", "2", "ſ"]),
    st.sampled_from(
        ["2026-01-02", "0000-01-01", "0001-01-01", "", "2026-1-2", "20260102", "9999-12-31x"]
    ),
    st.sampled_from(
        ["2026-01-02 03:04:05.678", "2026-01-02T03:04", "", "2026-01-02", "2026-01-02 03:04:05Z"]
    ),
    st.sampled_from(["abc", "", "é", "abcd", '"', '""', "\\", "\t"]),
]
ROWS = st.lists(
    st.tuples(*VALUES, st.booleans()).map(
        lambda row: ",".join(
            '"' + value.replace('"', '""') + '"' if row[-1] else value for value in row[:-1]
        )
    ),
    max_size=4,
)
ENDS = st.sampled_from(["\n", "\r\n", "\r"])


def slow(load: TextLoad, block: bytes) -> bytes | None:
    """The rows, converted one by one; None if one is bad."""
    lines = [line + b"\n" for line in block.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    try:
        return b"".join(load._rows(iter([line for line in lines if line]), "s3://b/k"))
    except TooManyErrorsError:
        return None


def loading(format_: str, **options: Any) -> TextLoad:
    return TextLoad(cast("Storage", None), format_, COLUMNS, options)


@pytest.mark.parametrize(
    ("format_", "options"),
    [("CSV", {}), ("CSV", {"EMPTYASNULL": True, "NULL": "a"}), ("TEXT", {"DELIMITER": ","})],
)
@settings(max_examples=300, deadline=None)
@given(rows=ROWS, end=ENDS)
@example(rows=[GOOD, "", GOOD], end="\n")
@example(rows=["\ufeff" + GOOD], end="\n")
@example(rows=[GOOD.replace("a", '"a"b')], end="\n")
@example(rows=[GOOD.replace("abc", "abc\x0bd")], end="\n")
def test_a_block_is_converted_to_the_same_rows_or_left(
    format_: str, options: dict[str, Any], rows: list[str], end: str
) -> None:
    load = loading(format_, **options)
    clean = load._clean_text()
    assert clean is not None
    block = end.join([*rows, ""]).encode()
    converted = clean.convert(block)
    if converted is not None:
        text, count = converted
        expected = slow(load, block)
        assert expected is not None
        assert values(text) == values(expected)
        assert count == load.counts["s3://b/k"]


def values(rows: bytes) -> list[list[Any]]:
    """The values that PostgreSQL reads, so that 1.5 equals 1.50; the same with timestamps."""
    return [
        [_value(text, column.type) for text, column in zip(row.split("\t"), COLUMNS, strict=True)]
        for row in rows.decode().split("\n")[:-1]
    ]


def _value(text: str, type_: str) -> Any:
    if text == "\\N":
        return None
    if type_ in ("int4", "numeric"):
        return Decimal(text)
    if type_ == "float8":
        return repr(float(text))
    if type_ == "bool":
        return text[0].lower() in "ty1"
    return datetime.fromisoformat(text) if type_ == "timestamp" else text


class Memory:
    """One object, in place of S3."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def open_reader(self, url: str) -> io.BytesIO:
        return io.BytesIO(self.body)


@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_blocks_of_any_size_give_the_same_rows_and_lines(
    monkeypatch: pytest.MonkeyPatch, quoted: bool, size: int
) -> None:
    monkeypatch.setattr(load_text, "STREAM_BYTES", size)
    good = GOOD.replace("a,", QUOTED, 1) if quoted else GOOD
    lines = [*("the", "header"), *[good] * 5, GOOD.replace("1,", "x,", 1), *[good] * 5]
    load = loading("CSV", IGNOREHEADER=2, MAXERROR=10)
    load.storage = cast("Storage", Memory("\n".join(lines).encode()))
    rows = b"".join(load.chunks([DataFile("s3://b/k", 1)]))
    assert rows.count(b"\n") == load.counts["s3://b/k"] == 10
    (error,) = load.errors
    assert (error.line_number, error.code) == (2 + 5 * (1 + quoted) + 1, 1207)


@pytest.mark.parametrize("quoted", [False, True])
def test_good_rows_do_go_the_fast_way(quoted: bool) -> None:
    row = GOOD.replace("a,", '"a, b",', 1) if quoted else GOOD
    clean = loading("CSV")._clean_text()
    assert clean is not None
    converted = clean.convert(f"{row}\n{row}\n".encode())
    assert converted is not None
    assert converted[1] == 2


def test_options_that_need_each_value_go_the_slow_way() -> None:
    for option in ("TRIMBLANKS", "ACCEPTINVCHARS", "TIMEFORMAT", "ESCAPE"):
        assert loading("TEXT", **{option: True})._clean_text() is None
    assert loading("JSON")._clean_text() is None
