"""Every column type of MySQL and MariaDB, from both servers to Arrow, Parquet and DuckDB."""

from __future__ import annotations

import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.batch import WHOLE_TABLE, Batch
from millrace.errors import SourceMismatch, ValueDoesNotFit
from millrace.landing.landing import Landing
from millrace.sources.mysql.types import column_of
from millrace.testing import digests_of
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse
from tests.millrace.test_mysql_client import connect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.millrace.conftest import Database

pytestmark = [pytest.mark.service, pytest.mark.both_servers]

WIDE = pa.decimal128(20, 0)
DATETIME = pa.timestamp("us")
MOMENT = pa.timestamp("us", "UTC")
WKB_OF_POINT_1_2 = struct.pack("<BIdd", 1, 1, 1.0, 2.0)

# Column definition, Arrow type, and pairs of what SQL writes and what must arrive.
MATRIX: list[tuple[str, pa.DataType, list[tuple[str, Any]]]] = [
    ("TINYINT", pa.int16(), [("-128", -128), ("127", 127)]),
    # A number, not a truth value, whatever its display width says.
    ("TINYINT(1)", pa.int16(), [("2", 2), ("-1", -1), ("0", 0)]),
    ("TINYINT UNSIGNED", pa.int16(), [("0", 0), ("255", 255)]),
    ("SMALLINT", pa.int16(), [("-32768", -32768), ("32767", 32767)]),
    ("SMALLINT UNSIGNED", pa.int32(), [("0", 0), ("65535", 65535)]),
    ("MEDIUMINT", pa.int32(), [("-8388608", -8388608), ("8388607", 8388607)]),
    ("MEDIUMINT UNSIGNED", pa.int32(), [("0", 0), ("16777215", 16777215)]),
    ("INT", pa.int32(), [("-2147483648", -(2**31)), ("2147483647", 2**31 - 1)]),
    ("INT UNSIGNED", pa.int64(), [("0", 0), ("4294967295", 2**32 - 1)]),
    ("INT(20) ZEROFILL", pa.int64(), [("42", 42)]),
    (
        "BIGINT",
        pa.int64(),
        [(str(-(2**63)), -(2**63)), (str(2**63 - 1), 2**63 - 1)],
    ),
    ("BIGINT UNSIGNED", WIDE, [("0", 0), ("18446744073709551615", 2**64 - 1)]),
    (
        "DECIMAL(10,2)",
        pa.decimal128(10, 2),
        [("-99999999.99", Decimal("-99999999.99")), ("0.1", Decimal("0.10"))],
    ),
    ("DECIMAL(5,0)", pa.decimal128(5, 0), [("99999", Decimal(99999))]),
    (
        "DECIMAL(38,10)",
        pa.decimal128(38, 10),
        [(f"-{'9' * 28}.{'9' * 10}", Decimal(f"-{'9' * 28}.{'9' * 10}"))],
    ),
    # More digits than any warehouse holds arrive exactly, as text.
    (
        "DECIMAL(65,30)",
        pa.string(),
        [(f"{'9' * 35}.{'9' * 30}", f"{'9' * 35}.{'9' * 30}"), ("-0.5", f"-0.5{'0' * 29}")],
    ),
    (
        "FLOAT",
        pa.float32(),
        [
            ("16777217", 16777216.0),
            ("0.1", struct.unpack("f", struct.pack("f", 0.1))[0]),
            ("3.4028235e38", 3.4028234663852886e38),
            ("1.17549435e-38", 1.1754943508222875e-38),
        ],
    ),
    ("FLOAT(10,2)", pa.float32(), [("1234567.89", 1234567.875)]),
    (
        "DOUBLE",
        pa.float64(),
        [
            ("5e-324", 5e-324),
            ("1.7976931348623157e308", 1.7976931348623157e308),
            ("0.1", 0.1),
            ("123456789.12345678", 123456789.12345678),
        ],
    ),
    (
        "DATE",
        pa.date32(),
        [
            ("'1000-01-01'", date(1000, 1, 1)),
            ("'9999-12-31'", date.max),
            ("'0000-00-00'", None),
            ("'2024-00-10'", None),
            ("'2024-05-00'", None),
        ],
    ),
    (
        "DATETIME",
        DATETIME,
        [
            ("'1000-01-01 00:00:00'", datetime(1000, 1, 1)),
            ("'0000-00-00 00:00:00'", None),
            ("'2024-02-29 23:59:59'", datetime(2024, 2, 29, 23, 59, 59)),
        ],
    ),
    (
        "DATETIME(3)",
        DATETIME,
        [("'2024-02-29 01:02:03.004'", datetime(2024, 2, 29, 1, 2, 3, 4_000))],
    ),
    (
        "DATETIME(6)",
        DATETIME,
        [
            ("'9999-12-31 23:59:59.999999'", datetime(9999, 12, 31, 23, 59, 59, 999_999)),
            ("'2024-02-29 01:02:03.000004'", datetime(2024, 2, 29, 1, 2, 3, 4)),
        ],
    ),
    (
        "TIME(6)",
        pa.string(),
        [
            ("'-838:59:59'", "-838:59:59.000000"),
            ("'838:59:59.000000'", "838:59:59.000000"),
            ("'00:00:00.000001'", "00:00:00.000001"),
        ],
    ),
    ("YEAR", pa.int16(), [("'0000'", 0), ("1901", 1901), ("2155", 2155)]),
    ("BIT(1)", pa.bool_(), [("b'0'", False), ("b'1'", True)]),
    ("BIT(8)", pa.int64(), [("b'10000001'", 129)]),
    ("BIT(64)", WIDE, [(f"b'{'1' * 64}'", Decimal(2**64 - 1)), ("b'0'", Decimal(0))]),
    # MySQL itself removes a CHAR's trailing spaces.
    ("CHAR(5)", pa.string(), [("'ab  '", "ab"), ("''", "")]),
    ("VARCHAR(20)", pa.string(), [("'ab  '", "ab  "), ("''", ""), ("'a\\0b'", "a\0b")]),
    ("VARCHAR(20) CHARACTER SET latin1", pa.string(), [("'ü€'", "ü€")]),
    ("VARCHAR(20) CHARACTER SET utf8mb4", pa.string(), [("'👍🏽 좋아요'", "👍🏽 좋아요")]),
    ("TINYTEXT", pa.string(), [("'é'", "é")]),
    ("TEXT", pa.string(), [("'line\\nline'", "line\nline"), ("''", "")]),
    ("MEDIUMTEXT", pa.string(), [("REPEAT('한', 100000)", "한" * 100_000)]),
    ("LONGTEXT", pa.string(), [("'x'", "x")]),
    ("JSON", pa.string(), [("""'{"a": [1, null, "é"]}'""", '{"a": [1, null, "é"]}')]),
    # MySQL keeps an empty text for a value that is not in the list.
    ("ENUM('yes','no')", pa.string(), [("'no'", "no"), ("'maybe'", "")]),
    ("SET('a','b','c')", pa.string(), [("'c,a'", "a,c"), ("''", "")]),
    ("BINARY(16)", pa.binary(), [("x'00ff00'", b"\x00\xff" + b"\0" * 14)]),
    ("VARBINARY(20)", pa.binary(), [("x'00ff00'", b"\x00\xff\x00"), ("''", b"")]),
    ("TINYBLOB", pa.binary(), [("x'80'", b"\x80")]),
    ("BLOB", pa.binary(), [("x'c328'", b"\xc3\x28")]),
    ("MEDIUMBLOB", pa.binary(), [("x'00'", b"\0")]),
    ("LONGBLOB", pa.binary(), [("''", b"")]),
    ("GEOMETRY", pa.binary(), [("ST_GeomFromText('POINT(1 2)')", WKB_OF_POINT_1_2)]),
    ("POINT", pa.binary(), [("ST_GeomFromText('POINT(1 2)')", WKB_OF_POINT_1_2)]),
    (
        "UUID",
        pa.string(),
        [("'123e4567-e89b-12d3-a456-426655440000'", "123e4567-e89b-12d3-a456-426655440000")],
    ),
    ("INET6", pa.string(), [("'2001:db8::ff00:42:8329'", "2001:db8::ff00:42:8329")]),
]


@pytest.mark.parametrize(
    ("definition", "arrow_type", "values"), MATRIX, ids=[definition for definition, *_ in MATRIX]
)
def test_every_type_arrives_exactly_and_so_does_its_null(
    mysql: Database, definition: str, arrow_type: pa.DataType, values: list[tuple[str, Any]]
) -> None:
    if definition in ("UUID", "INET6") and not mysql.is_mariadb:
        pytest.skip("a type of MariaDB's")
    mysql.execute(f"CREATE TABLE t (id INT PRIMARY KEY, v {definition} NULL)")
    # In strict mode the server refuses zero dates and values that are not in an ENUM's list.
    mysql.execute("SET SESSION sql_mode = ''")
    for at, (literal, _) in enumerate([*values, ("NULL", None)]):
        mysql.execute(f"INSERT INTO t VALUES ({at}, {literal})")

    rows = mysql.extract(mysql.table("t"))

    assert rows.schema.field("v").type == arrow_type
    assert rows["v"].to_pylist() == [value for _, value in values] + [None]
    assert mysql.digests(mysql.table("t"), rows) == digests_of(rows)


EXPRESSIONS = (
    *("1 + 1", "-id", "id / 3", "id DIV 2", "id % 2", "id = 1", "TRUE", "NULL", "id & 3", "~id"),
    *("d * 1.5", "d / 7", "ROUND(d, 1)", "ROUND(d, id)", "TRUNCATE(d, id)", "FLOOR(d)", "-d"),
    *("CAST(id AS UNSIGNED)", "CAST(d AS SIGNED)", "CAST(d AS DECIMAL(30,8))", "big + 1", "-big"),
    *("f + 0", "r / 3", "SQRT(id)", "RADIANS(id)", "CONV(id, 10, 2)", "UNIX_TIMESTAMP(at)"),
    *("CAST(at AS DATE)", "CAST(day AS DATETIME)", "CAST(at AS TIME)", "CAST(at AS CHAR)"),
    *("at + INTERVAL 1 MICROSECOND", "day + INTERVAL 1 MONTH", "day + INTERVAL 1 SECOND"),
    *("SEC_TO_TIME(id)", "SEC_TO_TIME(d)", "TIMEDIFF(at, at)", "ADDTIME(t, '01:00:00.5')"),
    *("TIME(at)", "YEAR(day)", "TO_DAYS(day)", "DATE_FORMAT(at, '%Y')", "FROM_UNIXTIME(id)"),
    *("MAKEDATE(2024, id)", "LAST_DAY(at)", "NULLIF(at, day)", "COALESCE(day, at)"),
    *("COALESCE(id, text)", "COALESCE(d, r)", "COALESCE(f, id)", "IF(id, day, at)"),
    *("GREATEST(id, d)", "LEAST(d, r)", "CASE WHEN id = 1 THEN day ELSE text END"),
    *("CONCAT(id, text)", "HEX(text)", "LENGTH(text)", "text = 'é'", "text COLLATE utf8mb4_bin"),
    *("JSON_EXTRACT(j, '$.a')", "JSON_OBJECT('k', id)", "INET_ATON('1.2.3.4')", "bits + 0", "e"),
    *("e + 0", "(SELECT SUM(id) FROM t)", "(SELECT AVG(d) FROM t)", "(SELECT COUNT(*) FROM t)"),
    *("(SELECT MAX(at) FROM t)", "(SELECT GROUP_CONCAT(text) FROM t)", "(SELECT STD(r) FROM t)"),
    *("(SELECT BIT_OR(id) FROM t)", "(SELECT SUM(r) FROM t)", "ROW_NUMBER() OVER (ORDER BY id)"),
)


def test_what_a_view_computes_arrives_as_the_server_writes_it(mysql: Database) -> None:
    mysql.execute("SET SESSION sql_mode = ''")
    mysql.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, big BIGINT, d DECIMAL(20,4), f FLOAT, r DOUBLE, "
        "day DATE, at DATETIME(6), t TIME(3), text VARCHAR(20), j JSON, bits BIT(10), "
        "e ENUM('a','b'))"
    )
    mysql.execute(
        "INSERT INTO t VALUES (1, 9000000000, 12345.6789, 0.1, 1e100 / 3, '2024-02-29', "
        "'2024-02-29 01:02:03.000004', '-12:34:56.789', 'é', JSON_OBJECT('a', 1), 513, 'b'), "
        "(2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL), "
        "(3, -1, -0.5, 16777216, -0.1, '1000-01-01', '9999-12-31 23:59:59.999999', '00:00:00', '', "
        "'2', 0, 'a')"
    )
    names = [f"v{at}" for at in range(len(EXPRESSIONS))]
    computed = ", ".join(f"{one} AS {name}" for one, name in zip(EXPRESSIONS, names, strict=True))
    mysql.execute(f"CREATE VIEW v AS SELECT id, {computed} FROM t")

    found = mysql.extract(mysql.table("v")).sort_by("id").drop_columns("id")

    client = connect(mysql.server, database=mysql.name)
    client.rows("SET SESSION time_zone = '+00:00', sql_mode = ''")
    _, rows = client.rows(f"SELECT {', '.join(names)} FROM v ORDER BY id")
    client.close()
    for at, expression in enumerate(EXPRESSIONS):
        texts = pa.array([row[at] for row in rows], pa.string())
        assert found[names[at]].combine_chunks() == texts.cast(found[names[at]].type), expression


def test_a_timestamp_is_the_moment_that_another_time_zone_wrote(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v TIMESTAMP(6) NULL)")
    mysql.execute("SET SESSION time_zone = '+09:00', sql_mode = ''")
    mysql.insert("t", [(1, "2024-01-01 08:00:00.000001"), (2, "0000-00-00 00:00:00"), (3, None)])

    rows = mysql.extract(mysql.table("t"))

    assert rows.schema.field("v").type == MOMENT
    assert rows["v"].to_pylist() == [datetime(2023, 12, 31, 23, 0, 0, 1, UTC), None, None]


def test_a_date_in_the_year_0_is_not_lost_beside_a_zero_date(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v DATE)")
    mysql.execute("SET SESSION sql_mode = ''")
    mysql.insert("t", [(1, "0000-01-01"), (2, "0000-00-00")])

    days = mysql.extract(mysql.table("t"))["v"].cast(pa.int32()).to_pylist()

    # Python's calendar starts a leap year later.
    assert days == [(date(1, 1, 1) - date(1970, 1, 1)).days - 366, None]


def test_zero_dates_are_counted_in_the_log(
    mysql: Database, caplog: pytest.LogCaptureFixture
) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v DATE)")
    mysql.execute("SET SESSION sql_mode = ''")
    mysql.insert("t", [(1, "0000-00-00"), (2, "2024-05-00"), (3, "2024-05-01")])
    mysql.extract(mysql.table("t"))
    assert "column v: 2 dates that no calendar has" in caplog.text


@pytest.mark.parametrize(
    ("definition", "literal", "shown"),
    [
        # ALLOW_INVALID_DATES lets it in.
        ("DATE", "'2024-02-30'", "2024-02-30"),
        # Half a surrogate pair, which MariaDB takes for utf8mb4.
        ("VARCHAR(10)", "x'EDA080'", "UTF-8"),
    ],
)
def test_a_value_that_fits_nowhere_is_refused_by_table_and_column(
    mysql: Database, definition: str, literal: str, shown: str
) -> None:
    if literal.startswith("x") and not mysql.is_mariadb:
        pytest.skip("MySQL does not take it")
    mysql.execute(f"CREATE TABLE t (id INT PRIMARY KEY, v {definition})")
    mysql.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
    mysql.execute(f"INSERT INTO t VALUES (1, {literal})")
    with pytest.raises(
        ValueDoesNotFit, match=rf"{mysql.name}.t does not fit .*\n  column v: .*{shown}"
    ):
        mysql.extract(mysql.table("t"))


def test_a_type_without_a_form_is_refused_with_the_way_out() -> None:
    with pytest.raises(SourceMismatch) as refused:
        column_of("embedding", "vector", "vector(3)", where="prod.docs")
    assert "prod.docs: column embedding is of the type vector(3)" in refused.value.message
    assert "ingest: false" in refused.value.fix
    assert "view" in refused.value.fix


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)


def optional(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    largest = 10**digits - 1
    return st.integers(-largest, largest).map(lambda units: Decimal(units).scaleb(-places))


COLUMNS: dict[str, tuple[str, pa.DataType, st.SearchStrategy[Any]]] = {
    "small": ("SMALLINT", pa.int16(), st.integers(-(2**15), 2**15 - 1)),
    "big": ("BIGINT UNSIGNED", WIDE, st.integers(0, 2**64 - 1).map(Decimal)),
    "price": ("DECIMAL(20,6)", pa.decimal128(20, 6), decimals(20, 6)),
    "single": ("FLOAT", pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "precise": ("DOUBLE", pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "day": ("DATE", pa.date32(), st.dates(date(1000, 1, 1))),
    "at": ("DATETIME(6)", DATETIME, st.datetimes(datetime(1000, 1, 1))),
    "seen": (
        "TIMESTAMP(6) NULL",
        MOMENT,
        st.datetimes(datetime(1970, 1, 2), datetime(2038, 1, 18), timezones=st.just(UTC)),
    ),
    "flag": ("BIT(1)", pa.bool_(), st.booleans()),
    "name": ("VARCHAR(50)", pa.string(), TEXT),
    "note": ("LONGTEXT", pa.string(), TEXT),
    "data": ("VARBINARY(50)", pa.binary(), st.binary(max_size=50)),
}
ROWS = st.lists(
    st.tuples(*(optional(strategy) for _, _, strategy in COLUMNS.values())), max_size=20
)
SCHEMA = pa.schema(
    [("id", pa.int32()), *((name, type_) for name, (_, type_, _) in COLUMNS.items())]
)


def written(value: Any) -> Any:
    """A value as MySQL takes it: its literals have no time zone."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(" ")
    return value


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS)
def test_any_rows_reach_parquet_and_duckdb_unchanged(
    mysql: Database, tmp_path: Path, rows: list[tuple[Any, ...]]
) -> None:
    definitions = ", ".join(f"{name} {sql}" for name, (sql, _, _) in COLUMNS.items())
    mysql.execute("DROP TABLE IF EXISTS t")
    mysql.execute(f"CREATE TABLE t (id INT PRIMARY KEY, {definitions})")
    if rows:
        mysql.insert("t", [(at, *map(written, row)) for at, row in enumerate(rows)])
    table = mysql.table("t")
    expected = [dict(zip(SCHEMA.names, (at, *row), strict=True)) for at, row in enumerate(rows)]

    landing = Landing(tmp_path.as_uri())
    with mysql.source().extract(table, WHOLE_TABLE) as extraction:
        assert extraction.schema == SCHEMA
        manifest = landing.write(Batch(table.key), extraction.schema, extraction.batches)
    landed: list[dict[str, Any]] = []
    for part in manifest.parts:
        with landing.local_copy(part) as path:
            landed += pq.read_table(path).to_pylist()
    assert landed == expected

    file = tmp_path / "warehouse.duckdb"
    DuckDBWarehouse(file).load(table, manifest, landing)
    with duckdb.connect(str(file)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        loaded = connection.sql(
            "SELECT * EXCLUDE (_batch_id, _loaded_at) FROM raw_mysql.rows ORDER BY id"
        ).to_arrow_table()
    assert loaded.cast(SCHEMA).to_pylist() == expected
