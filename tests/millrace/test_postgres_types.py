"""Every column type of PostgreSQL, from the server to Arrow, and back beside its own checksums."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.batch import WHOLE_TABLE
from millrace.errors import SourceMismatch, ValueDoesNotFit
from millrace.testing import digests_of

if TYPE_CHECKING:
    from tests.millrace.postgres import PostgresDatabase

pytestmark = pytest.mark.service

DATETIME = pa.timestamp("us")
MOMENT = pa.timestamp("us", "UTC")

# Column definition, Arrow type, and pairs of what SQL writes and what must arrive.
MATRIX: list[tuple[str, pa.DataType, list[tuple[str, Any]]]] = [
    ("boolean", pa.bool_(), [("true", True), ("false", False)]),
    ("smallint", pa.int16(), [("-32768", -32768), ("32767", 32767)]),
    ("integer", pa.int32(), [("-2147483648", -(2**31)), ("2147483647", 2**31 - 1)]),
    ("bigint", pa.int64(), [("-9223372036854775808", -(2**63)), (str(2**63 - 1), 2**63 - 1)]),
    ("oid", pa.int64(), [("4294967295", 2**32 - 1)]),
    ("real", pa.float32(), [("0.5", 0.5), ("'infinity'", math.inf)]),
    (
        "double precision",
        pa.float64(),
        [("0.1", 0.1), ("'-infinity'", -math.inf), ("5e-324", 5e-324)],
    ),
    (
        "numeric(12,2)",
        pa.decimal128(12, 2),
        [("-9999999999.99", Decimal("-9999999999.99")), ("0.1", Decimal("0.10"))],
    ),
    (
        "numeric(38,10)",
        pa.decimal128(38, 10),
        [(f"-{'9' * 28}.{'9' * 10}", Decimal(f"-{'9' * 28}.{'9' * 10}"))],
    ),
    # It rounds before the point, and begins with zeros behind it.
    ("numeric(3,-2)", pa.decimal128(5, 0), [("12345", Decimal(12300))]),
    ("numeric(3,5)", pa.decimal128(5, 5), [("0.00123", Decimal("0.00123"))]),
    # More digits than any warehouse holds arrive exactly, as text.
    ("numeric(65,30)", pa.string(), [("-0.5", f"-0.5{'0' * 29}")]),
    ("numeric", pa.string(), [("1.50", "1.50"), (f"1{'0' * 60}", f"1{'0' * 60}"), ("-0.0", "0.0")]),
    ("money", pa.decimal128(19, 2), [("'-1234.56'", Decimal("-1234.56"))]),
    ("text", pa.string(), [("'ä€𝄞'", "ä€𝄞"), ("''", ""), ("'a|b\"c'", 'a|b"c')]),
    ("varchar(10)", pa.string(), [("'a  '", "a  ")]),
    # PostgreSQL itself takes no account of the padding.
    ("char(5)", pa.string(), [("'a'", "a")]),
    ('"char"', pa.string(), [("'x'", "x")]),
    ("name", pa.string(), [("'n'", "n")]),
    ("citext", pa.string(), [("'MiXed'", "MiXed")]),
    ("mood", pa.string(), [("'very happy'", "very happy")]),
    ("bytea", pa.binary(), [("'\\x00ff'", b"\x00\xff"), ("''", b"")]),
    (
        "date",
        pa.date32(),
        [("'0001-01-01'", date(1, 1, 1)), ("'9999-12-31'", date(9999, 12, 31))],
    ),
    (
        "timestamp",
        DATETIME,
        [
            ("'0001-01-01'", datetime(1, 1, 1)),
            (
                "'9999-12-31 23:59:59.999999'",
                datetime(9999, 12, 31, 23, 59, 59, 999999),
            ),
        ],
    ),
    (
        "timestamptz",
        MOMENT,
        [("'2026-07-01 12:00:00.5+02'", datetime(2026, 7, 1, 10, 0, 0, 500000, UTC))],
    ),
    ("time", pa.string(), [("'23:59:59.5'", "23:59:59.5"), ("'24:00'", "24:00:00")]),
    ("timetz", pa.string(), [("'10:00+02'", "10:00:00+02")]),
    ("interval", pa.string(), [("'1 year 2 days 3 hours'", "1 year 2 days 03:00:00")]),
    (
        "uuid",
        pa.string(),
        [("'A0EEBC999C0B4EF8BB6D6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")],
    ),
    ("json", pa.string(), [("'{\"a\":  1}'", '{"a":  1}')]),
    ("jsonb", pa.string(), [("'{\"a\":  1.10}'", '{"a": 1.10}')]),
    ("xml", pa.string(), [("'<a/>'", "<a/>")]),
    ("integer[]", pa.string(), [("'{{1,2},{3,NULL}}'", "[[1,2],[3,null]]")]),
    ("text[]", pa.string(), [("""'{"a,b",NULL,""}'""", '["a,b",null,""]')]),
    ("numeric[]", pa.string(), [("'{1.50,NaN}'", '[1.50,"NaN"]')]),
    ("pair", pa.string(), [("ROW(1, 'x')", '{"n":1,"t":"x"}')]),
    ("hstore", pa.string(), [("'a=>1, b=>NULL'", '{"a": "1", "b": null}')]),
    ("int4range", pa.string(), [("'[1,5]'", "[1,6)")]),
    ("int4multirange", pa.string(), [("'{[1,2),[5,6)}'", "{[1,2),[5,6)}")]),
    ("inet", pa.string(), [("'10.0.0.1'", "10.0.0.1"), ("'10.0.0.1/8'", "10.0.0.1/8")]),
    ("cidr", pa.string(), [("'10.0.0.0/8'", "10.0.0.0/8")]),
    ("macaddr", pa.string(), [("'08:00:2b:01:02:03'", "08:00:2b:01:02:03")]),
    ("bit(3)", pa.string(), [("B'101'", "101")]),
    ("varbit", pa.string(), [("B''", ""), ("B'01'", "01")]),
    ("tsvector", pa.string(), [("'a b'", "'a' 'b'")]),
    ("point", pa.string(), [("'(1,2.5)'", "(1,2.5)")]),
    # A domain is what it is made of, and so is a domain of a domain.
    ("price", pa.decimal128(10, 2), [("1.5", Decimal("1.50"))]),
    ("high_price", pa.decimal128(10, 2), [("2", Decimal("2.00"))]),
]
TYPES = """
CREATE EXTENSION citext; CREATE EXTENSION hstore;
CREATE TYPE mood AS ENUM ('very happy', 'sad');
CREATE TYPE pair AS (n int, t text);
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN high_price AS price CHECK (VALUE > 1);
"""


def test_every_type_arrives_as_it_is_stored(postgres: PostgresDatabase) -> None:
    postgres.execute(TYPES)
    columns = ", ".join(f"c{at} {type_}" for at, (type_, *_) in enumerate(MATRIX))
    postgres.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    rows = max(len(values) for *_, values in MATRIX)
    for row in range(rows + 1):
        # The last row is all NULL.
        written = ", ".join(
            values[row][0] if row < len(values) else "NULL" for *_, values in MATRIX
        )
        postgres.execute(f"INSERT INTO t VALUES ({row}, {written})")
    found = postgres.extract(postgres.table("t")).sort_by("id")
    for at, (type_, arrow_type, values) in enumerate(MATRIX):
        column = found[f"c{at}"]
        expected = [value for _, value in values]
        expected += [None] * (rows + 1 - len(expected))
        assert (type_, column.type, column.to_pylist()) == (type_, arrow_type, expected)
    assert digests_of(found) == postgres.digests(postgres.table("t"), found)


# Column definition, what SQL writes, and how PostgreSQL shows it.
UNFIT = [
    ("numeric(5,2)", "'NaN'", "NaN"),
    ("numeric", "'NaN'", "NaN"),
    ("numeric", "'-Infinity'", "-Infinity"),
    ("date", "'infinity'", "infinity"),
    ("date", "'0044-03-15 BC'", "0044-03-15 BC"),
    ("date", "'10000-01-01'", "10000-01-01"),
    ("timestamp", "'-infinity'", "-infinity"),
    ("timestamp", "'294276-12-31'", "a time beyond the year 32767"),
    ("timestamptz", "'-infinity'", "-infinity"),
    ("timestamptz", "'0001-01-01 01:00+02'", "0001-12-31 23:00:00.000000 BC"),
]


def test_a_value_that_no_warehouse_holds_is_a_bad_value(postgres: PostgresDatabase) -> None:
    columns = ", ".join(f"c{at} {type_}" for at, (type_, *_) in enumerate(UNFIT))
    postgres.execute(f"CREATE TABLE t (id int PRIMARY KEY, {columns})")
    postgres.execute("INSERT INTO t (id) VALUES (-1)")
    for at, (_, value, _) in enumerate(UNFIT):
        postgres.execute(f"INSERT INTO t (id, c{at}) VALUES ({at}, {value})")

    with pytest.raises(ValueDoesNotFit) as refused:
        postgres.extract(postgres.table("t"))
    for at, (*_, shown) in enumerate(UNFIT):
        assert f"column c{at}: '{shown}'" in refused.value.message

    as_null = postgres.extract(postgres.table("t", on_bad_value="null"))
    assert {as_null[f"c{at}"].null_count for at in range(len(UNFIT))} == {len(UNFIT) + 1}

    table = postgres.table("t", on_bad_value="quarantine", verify="values")
    with postgres.source().extract(table, WHOLE_TABLE) as extraction:
        kept = pa.Table.from_batches(extraction.batches, schema=extraction.schema)
        assert kept["id"].to_pylist() == [-1]
        assert extraction.figures.rows == 1 + len(UNFIT)
        assert extraction.sieve is not None
        set_aside = extraction.sieve.set_aside(lambda keys: keys)
    assert set_aside is not None
    shown_aside = [(row["row_key"], row["value_text"]) for row in set_aside.records.to_pylist()]
    assert shown_aside == [(f'{{"id": {at}}}', shown) for at, (*_, shown) in enumerate(UNFIT)]


def test_a_type_without_a_form_is_refused_by_name_and_may_be_left_out(
    postgres: PostgresDatabase,
) -> None:
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, v xid)")
    postgres.execute("INSERT INTO t VALUES (1, '5')")
    with pytest.raises(SourceMismatch, match="column v is of the type xid") as refused:
        postgres.extract(postgres.table("t"))
    assert "ingest: false" in refused.value.fix
    assert postgres.extract(postgres.table("t"), without=frozenset({"v"})).column_names == ["id"]


def test_names_that_need_quotes_come_through(postgres: PostgresDatabase) -> None:
    name = """a "b" 'c' %s $1 {d} Ä"""
    quoted = '"' + name.replace('"', '""') + '"'
    postgres.execute(
        f"CREATE TABLE {quoted} ({quoted} int PRIMARY KEY, at date NOT NULL)".replace("%", "%%"), ()
    )
    postgres.execute(f"INSERT INTO {quoted} VALUES (1, '2026-10-01')".replace("%", "%%"), ())
    table = postgres.table(name, primary_key=[name], verify="values")
    assert postgres.extract(table).to_pylist() == [{name: 1, "at": date(2026, 10, 1)}]


NUMBERS = st.decimals(
    allow_nan=False, allow_infinity=False, places=6, min_value=-(10**15), max_value=10**15
)
TIMES = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30))
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.tuples(NUMBERS, NUMBERS, TIMES, TEXTS, st.binary(max_size=20), st.floats()), max_size=50
    )
)
def test_any_values_arrive_and_are_counted_as_the_server_counts_them(
    postgres: PostgresDatabase, rows: list[tuple[Any, ...]]
) -> None:
    postgres.execute(
        "CREATE TABLE IF NOT EXISTS t (id int PRIMARY KEY, fixed numeric(30,6), free numeric, "
        "at timestamptz, note text, bytes bytea, f float8)"
    )
    postgres.execute("TRUNCATE t")
    if rows:
        postgres.insert(
            "t",
            [(at, n, m, t.replace(tzinfo=UTC), *rest) for at, (n, m, t, *rest) in enumerate(rows)],
        )
    table = postgres.table("t", verify="values", min_rows=0)
    found = postgres.extract(table).sort_by("id")
    for row, (fixed, free, at, note, bytes_, f) in zip(found.to_pylist(), rows, strict=True):
        assert (row["fixed"], Decimal(row["free"])) == (fixed, free)
        assert (row["at"], row["note"], row["bytes"]) == (at.replace(tzinfo=UTC), note, bytes_)
        assert row["f"] == f or (math.isnan(row["f"]) and math.isnan(f))
    assert digests_of(found) == postgres.digests(table, found)
