"""The compiled reader of a result, on a real server, MariaDB and MySQL."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import TYPE_CHECKING, Any

import MySQLdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.errors import ValueDoesNotFit
from millrace.sources.mysql import result as mysql_result
from millrace.sources.mysql.result import Result
from millrace.sources.mysql.types import Column, to_array
from tests.millrace.test_mysql import eventually

if TYPE_CHECKING:
    from tests.millrace.conftest import Database

pytestmark = [pytest.mark.service, pytest.mark.both_servers]

MEGABYTE = 1024 * 1024
ANY_SIZE = 1024 * MEGABYTE


@pytest.fixture
def client(mysql: Database) -> Iterator[Any]:
    server = mysql.server
    # Of the sessions to come: for values longer than one packet of the protocol.
    mysql.execute(f"SET GLOBAL max_allowed_packet = {64 * MEGABYTE}")
    connection = server.connect_as_reader(db=mysql.name, charset="utf8mb4", autocommit=True)
    yield connection
    with contextlib.suppress(MySQLdb.Error):
        connection.close()
    mysql.execute("SET GLOBAL max_allowed_packet = DEFAULT")


def query(
    client: Any, statement: str, *types: pa.DataType, columns: int = 1, rows: int = 1000
) -> Result:
    """The result of a statement; columns without a type are left as they come."""
    client.query(statement.encode())
    return Result(client, types or [pa.binary()] * columns, rows)


def reads(result: Result, size: int = ANY_SIZE) -> list[list[pa.Array]]:
    """All that a result gives, read by read."""
    taken = []
    while len((arrays := result.read(size))[0]):
        taken.append(arrays)
    return taken


def rows_of(taken: list[list[pa.Array]]) -> list[tuple[Any, ...]]:
    return [
        row
        for arrays in taken
        for row in zip(*(array.to_pylist() for array in arrays), strict=True)
    ]


VALUES = st.none() | st.binary(max_size=12) | st.integers(240, 300).map(lambda size: b"\0" * size)


@given(
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=40),
    rows_a_read=st.integers(1, 50),
    size=st.integers(1, 2000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_rows_come_as_the_server_sent_them_however_they_are_read(
    mysql: Database,
    client: Any,
    rows: list[tuple[bytes | None, ...]],
    rows_a_read: int,
    size: int,
) -> None:
    mysql.execute("DROP TABLE IF EXISTS t")
    mysql.execute("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a BLOB, b BLOB, c BLOB)")
    if rows:
        mysql.insert("t (a, b, c)", rows)
    taken = reads(
        query(client, "SELECT a, b, c FROM t ORDER BY id", columns=3, rows=rows_a_read), size
    )
    assert rows_of(taken) == rows
    for arrays in taken:
        for array in arrays:
            array.validate(full=True)
            assert array.null_count == array.to_pylist().count(None)
        assert len(arrays[0]) <= rows_a_read
        # No row is taken once there are enough bytes.
        before_the_last = [array[:-1].to_pylist() for array in arrays]
        assert sum(len(value or b"") for values in before_the_last for value in values) < size


DIGITS = st.integers(-(10**39), 10**39).map(str)
DECIMALS = st.from_regex(r"-?[0-9]{1,22}\.[0-9]{1,20}", fullmatch=True)
TIMES = st.datetimes().map(lambda time: time.isoformat(" "))
# Now and then with a character that is not in its place.
DAMAGED = st.tuples(
    DIGITS | DECIMALS | TIMES | st.dates().map(str),
    st.integers(0, 30),
    st.sampled_from("0123456789-.: T"),
).map(lambda parts: parts[0][: parts[1]] + parts[2] + parts[0][parts[1] + 1 :])
PARSED = [
    *(pa.int16(), pa.int32(), pa.int64(), pa.date32(), pa.timestamp("us")),
    *(pa.timestamp("us", "UTC"), pa.decimal128(38, 0), pa.decimal128(20, 0)),
    *(pa.decimal128(38, 20), pa.decimal128(5, 2), pa.decimal128(3, 3)),
]
# Both sides of what the types hold, and of the forms in which the server writes them.
ENDS = [
    *("-32768", "32767", "32768", "-32769", "-2147483648", "2147483647", "2147483648", "-0"),
    *("-9223372036854775808", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("18446744073709551615", "99999999999999999999", "007", "00000000000000000000001", "+1", " 1"),
    *("9" * 38, "-" + "9" * 38, "9" * 39, "0" * 45, "0.5", "-0.50", ".50", "5.", "5.00", "1234.56"),
    *(
        "999.99",
        "-999.99",
        "1000.00",
        "0.999",
        "-0.001",
        "1.000",
        "0.9999",
        "00.12",
        "1e2",
        "1.2.3",
    ),
    *("1." + "0" * 20, "9" * 18 + "." + "9" * 20, "-" + "9" * 18 + "." + "9" * 20, "0." + "9" * 20),
    *("9" * 19 + "." + "9" * 20, "1" * 17 + "." + "2" * 20, "NaN", "", "-", ".", "-.", "0x10"),
    *("0000-00-00", "0000-01-01", "0001-01-01", "1900-02-28", "1900-02-29", "2000-02-29"),
    *("2023-02-29", "2024-02-29", "2024-04-31", "2024-12-31", "2024-13-01", "2024-00-01"),
    *(
        "2024-01-00",
        "2024-01-32",
        "9999-12-31",
        "2024/01/01",
        "2024-1-01",
        "24-01-01",
        "2024-03-01",
    ),
    *("0000-00-00 00:00:00", "1969-12-31 23:59:59.999999", "1970-01-01 00:00:00", "2024-01-01"),
    *("2024-01-01 24:00:00", "2024-01-01 23:60:00", "2024-01-01 23:59:60", "2024-01-01 23:59:59"),
    *("2024-01-01 00:00:00.", "2024-01-01 00:00:00.1", "2024-01-01 00:00:00.123456"),
    *("2024-01-01 00:00:00.1234567", "2024-01-01T00:00:00", "2024-01-01 00:00:00Z"),
    *(
        "2024-01-01 00:00",
        "2024-01-01 00:00:00 ",
        "2024-01-01 00:00:0a",
        "9999-12-31 23:59:59.999999",
    ),
]


def as_arrow_casts(texts: list[str | None], type_: pa.DataType) -> pa.Array | None:
    """None where a text is no value of the type."""
    column = Column("v", "`v`", type_)
    try:
        return to_array(pa.array([t and t.encode() for t in texts], pa.binary()), column, "")[0]
    except ValueDoesNotFit:
        return None


def assert_read_as_arrow_casts(
    client: Any, texts: list[str | None], type_: pa.DataType, rows: int = 1000
) -> None:
    # As a statement's own texts, they may have any form.
    values = " UNION ALL ".join(
        "SELECT NULL" if text is None else f"SELECT '{text}'" for text in texts
    )
    taken = reads(query(client, values, type_, rows=rows))
    expected = as_arrow_casts(texts, type_)
    if expected is None:
        # Arrow is left to say why.
        assert any(arrays[0].type == pa.binary() for arrays in taken)
        return
    column = Column("v", "`v`", type_)
    found = [to_array(arrays[0], column, "")[0] for arrays in taken]
    for array in found:
        array.validate(full=True)
    assert pa.chunked_array(found, type_).equals(pa.chunked_array([expected]))


@given(
    type_=st.sampled_from(PARSED),
    data=st.data(),
    rows=st.integers(1, 10),
)
@settings(
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
def test_what_is_parsed_is_what_arrow_makes_of_any_text(
    client: Any, type_: pa.DataType, data: st.DataObject, rows: int
) -> None:
    fitting = TIMES if pa.types.is_temporal(type_) else DIGITS | DECIMALS
    texts = data.draw(st.lists(st.none() | fitting | DAMAGED, min_size=1, max_size=6))
    assert_read_as_arrow_casts(client, texts, type_, rows)


@pytest.mark.parametrize("type_", PARSED, ids=str)
def test_what_is_parsed_is_what_arrow_makes_of_the_ends(client: Any, type_: pa.DataType) -> None:
    for text in ENDS:
        assert_read_as_arrow_casts(client, [text], type_)


@pytest.mark.parametrize(
    ("type_", "texts"),
    [
        (pa.int16(), ["-32768", "32767"]),
        (pa.int32(), ["-2147483648", "2147483647"]),
        (pa.int64(), ["-9223372036854775807", "9223372036854775807", None, "0042"]),
        (pa.decimal128(38, 0), ["9" * 38, "-" + "9" * 38, "0"]),
        (pa.decimal128(38, 20), ["-999999999999999999.99999999999999999999", None]),
        (pa.decimal128(3, 3), ["0.123", "-0.999"]),
        (pa.date32(), ["0001-01-01", "2000-02-29", "9999-12-31"]),
        (pa.timestamp("us"), ["1000-01-01 00:00:00", "9999-12-31 23:59:59.999999", None]),
        (pa.timestamp("us", "UTC"), ["1970-01-01 00:00:01.5"]),
    ],
    ids=str,
)
def test_what_the_server_writes_is_parsed(
    client: Any, type_: pa.DataType, texts: list[str | None]
) -> None:
    values = " UNION ALL ".join(f"SELECT '{text}'" if text else "SELECT NULL" for text in texts)
    ((array,),) = reads(query(client, values, type_))
    assert array.type == type_
    assert array.equals(as_arrow_casts(texts, type_))


def test_a_column_that_cannot_be_parsed_goes_on_as_bytes(client: Any) -> None:
    statement = (
        "SELECT '2024-01-01', '1' UNION ALL SELECT '2024-01-02', NULL "
        "UNION ALL SELECT '0000-00-00', '3' UNION ALL SELECT NULL, '4' "
        "UNION ALL SELECT '2024-01-05', 'five'"
    )
    taken = reads(query(client, statement, pa.date32(), pa.int64()))
    assert [[str(array.type) for array in arrays] for arrays in taken] == [
        ["date32[day]", "int64"],
        ["binary", "int64"],
        ["binary", "binary"],
    ]
    assert rows_of(taken) == [
        (date(2024, 1, 1), 1),
        (date(2024, 1, 2), None),
        (b"0000-00-00", 3),
        (None, 4),
        (b"2024-01-05", b"five"),
    ]


def test_another_number_of_types_than_columns_is_refused(client: Any) -> None:
    with pytest.raises(ValueError, match="2 types for 1 columns"):
        query(client, "SELECT 1", pa.int64(), pa.int64())


@pytest.mark.parametrize("size", [0, 250, 251, 65_535, 65_536, 16 * MEGABYTE - 1, 17 * MEGABYTE])
def test_a_value_of_any_length(client: Any, size: int) -> None:
    # Lengths on both sides of where the protocol writes them in another form, or in two packets.
    result = query(client, f"SELECT REPEAT('x', {size}) AS v, 1 AS one, NULL AS nothing", columns=3)
    (values, ones, nothing), *more = reads(result)
    assert values.to_pylist() == [b"x" * size]
    assert (ones.to_pylist(), nothing.to_pylist(), more) == ([b"1"], [None], [])


def test_what_a_long_value_took_leaves_short_ones_right(client: Any) -> None:
    statement = (
        "SELECT 'first' AS v UNION ALL SELECT REPEAT('y', 17 * 1024 * 1024) UNION ALL SELECT NULL "
        "UNION ALL SELECT 'last'"
    )
    values = [value for (value,) in rows_of(reads(query(client, statement, rows=1)))]
    assert values == [b"first", b"y" * 17 * MEGABYTE, None, b"last"]


def test_a_result_that_is_at_its_end_stays_there(client: Any) -> None:
    result = query(client, "SELECT 1")
    assert [len(result.read(ANY_SIZE)[0]) for _ in range(3)] == [1, 0, 0]


def test_other_threads_run_while_it_waits_for_the_server(mysql: Database, client: Any) -> None:
    mysql.execute("SELECT GET_LOCK('held', 0)")
    # The first row is long enough to be sent before the second is there.
    result = query(client, "SELECT REPEAT('x', 100000) UNION ALL SELECT GET_LOCK('held', 30)")
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(result.read, ANY_SIZE)
        assert eventually(
            lambda: bool(
                mysql.rows("SELECT 1 FROM information_schema.processlist WHERE state = 'User lock'")
            )
        )
        assert not reading.done()
        mysql.execute("SELECT RELEASE_LOCK('held')")
        assert reading.result()[0].to_pylist() == [b"x" * 100_000, b"1"]


def test_a_statement_without_rows_is_refused(client: Any) -> None:
    client.query(b"SET @a = 1")
    with pytest.raises(MySQLdb.OperationalError):
        Result(client, [pa.int64()], 10)


def test_a_closed_connection_is_refused(client: Any) -> None:
    result = query(client, "SELECT 1 UNION ALL SELECT 2", rows=1)
    result.read(ANY_SIZE)
    client.close()
    with pytest.raises(MySQLdb.InterfaceError, match="closed"):
        result.read(ANY_SIZE)


def test_more_bytes_than_offsets_can_count_are_refused(client: Any) -> None:
    result = query(client, "SELECT 1")
    with pytest.raises(ValueError, match="too many"):
        result.read(ANY_SIZE + 1)


def test_only_a_connection_of_mysqlclient_is_read() -> None:
    with pytest.raises(TypeError, match="not a connection of mysqlclient"):
        Result(object(), [pa.int64()], 10)


def test_another_client_library_is_refused_before_its_memory_is_read(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_result, "get_client_info", lambda: "8.4.0")
    with pytest.raises(RuntimeError, match="another library"):
        query(client, "SELECT 1")
