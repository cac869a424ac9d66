"""The compiled reader of a large result, on a real server, MariaDB and MySQL."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.errors import SourceMismatch
from millrace.sources.mysql.client import Client, MySQLError
from millrace.sources.mysql.result import Misfit, Result
from millrace.sources.mysql.types import Column, to_array
from tests.millrace.test_mysql import endless, eventually
from tests.millrace.test_mysql_client import connect

if TYPE_CHECKING:
    from tests.millrace.conftest import Database

pytestmark = [pytest.mark.service, pytest.mark.both_servers]

MEGABYTE = 1024 * 1024
ANY_SIZE = 1024 * MEGABYTE
ALL_DIGITS = Context(prec=100)


@pytest.fixture
def client(mysql: Database) -> Iterator[Client]:
    # For the sessions that follow: values may be longer than one packet of the protocol.
    mysql.execute(f"SET GLOBAL max_allowed_packet = {64 * MEGABYTE}")
    connection = connect(mysql.server, database=mysql.name)
    yield connection
    connection.close()
    mysql.execute("SET GLOBAL max_allowed_packet = DEFAULT")


@pytest.fixture
def endless_rows(mysql: Database) -> str:
    """A query with more rows than a server could send while a test runs."""
    mysql.execute(f"CREATE VIEW endless_rows AS {endless(mysql)}")
    return "SELECT id FROM endless_rows"


def query(
    client: Client, statement: str, *types: pa.DataType, columns: int = 1, rows: int = 1000
) -> Result:
    """The result of a statement; without `types`, all columns are read as bytes."""
    return Result(client, statement, types or [pa.binary()] * columns, rows)


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


def values_of(result: Result) -> list[Any]:
    """A result of one column."""
    return [value for (value,) in rows_of(reads(result))]


# Any rows


VALUES = st.none() | st.binary(max_size=12) | st.integers(240, 300).map(lambda size: b"\0" * size)


@given(
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), max_size=40),
    rows_a_read=st.integers(1, 50),
    size=st.integers(1, 2000),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_rows_come_as_the_server_sent_them_however_they_are_read(
    mysql: Database,
    client: Client,
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
        # No more rows are taken once there are enough bytes.
        before_the_last = [array[:-1].to_pylist() for array in arrays]
        assert sum(len(value or b"") for values in before_the_last for value in values) < size


# Both protocols: what is read equals what Arrow makes of the text that the server writes.


def integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(low, high) | st.sampled_from([low, high, 0, 1])


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    largest = 10**digits - 1
    units = st.integers(-largest, largest) | st.sampled_from([-largest, largest, 0, 1, -1])
    return units.map(lambda units: Decimal(units).scaleb(-places, ALL_DIGITS))


DATES = st.dates().map(str) | st.sampled_from(
    ["0000-00-00", "0000-01-01", "0000-02-29", "2024-00-10", "2024-05-00", "1900-02-28"]
)
MOMENTS = st.datetimes().map(str) | st.sampled_from(
    ["0000-00-00 00:00:00", "2024-00-10 01:02:03", "9999-12-31 23:59:59.999999"]
)
TIMES = st.builds(
    lambda sign, hours, rest, micros: f"{sign}{hours}:{rest // 60:02}:{rest % 60:02}.{micros:06}",
    st.sampled_from(["", "-"]),
    st.integers(0, 837),
    st.integers(0, 3599),
    st.integers(0, 999_999),
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)

# The column's definition, the expression that shows all digits as text, the Arrow type, the values.
KINDS: dict[str, tuple[str, str, pa.DataType, st.SearchStrategy[Any]]] = {
    "i8": ("TINYINT", "v", pa.int16(), integers(8, signed=True)),
    "u8": ("TINYINT UNSIGNED", "v", pa.int16(), integers(8, signed=False)),
    "i16": ("SMALLINT", "v", pa.int16(), integers(16, signed=True)),
    "u16": ("SMALLINT UNSIGNED", "v", pa.int32(), integers(16, signed=False)),
    "i24": ("MEDIUMINT", "v", pa.int32(), integers(24, signed=True)),
    "u24": ("MEDIUMINT UNSIGNED", "v", pa.int32(), integers(24, signed=False)),
    "i32": ("INT", "v", pa.int32(), integers(32, signed=True)),
    "u32": ("INT UNSIGNED", "v", pa.int64(), integers(32, signed=False)),
    "i64": ("BIGINT", "v", pa.int64(), integers(64, signed=True)),
    "u64": ("BIGINT UNSIGNED", "v", pa.decimal128(20, 0), integers(64, signed=False)),
    "year": ("YEAR", "v", pa.int16(), st.just(0) | st.integers(1901, 2155)),
    "d3": ("DECIMAL(3,3)", "v", pa.decimal128(3, 3), decimals(3, 3)),
    "d5": ("DECIMAL(5,0)", "v", pa.decimal128(5, 0), decimals(5, 0)),
    "d20": ("DECIMAL(20,6)", "v", pa.decimal128(20, 6), decimals(20, 6)),
    "d38": ("DECIMAL(38,20)", "v", pa.decimal128(38, 20), decimals(38, 20)),
    "d65": ("DECIMAL(65,30)", "v", pa.string(), decimals(38, 30)),
    "f32": (
        "FLOAT",
        "v+0e0",
        pa.float32(),
        st.floats(width=32, allow_nan=False, allow_infinity=False),
    ),
    "f64": ("DOUBLE", "v", pa.float64(), FLOATS),
    "day": ("DATE", "v", pa.date32(), DATES),
    "at0": ("DATETIME", "v", pa.timestamp("us"), MOMENTS),
    "at3": ("DATETIME(3)", "v", pa.timestamp("us"), MOMENTS),
    "at6": ("DATETIME(6)", "v", pa.timestamp("us"), MOMENTS),
    "t0": ("TIME", "v", pa.string(), TIMES),
    "t3": ("TIME(3)", "v", pa.string(), TIMES),
    "t6": ("TIME(6)", "v", pa.string(), TIMES),
    "text": ("LONGTEXT", "v", pa.string(), st.text(st.characters(exclude_categories=["Cs"]))),
}


def has_no_date(text: str | None) -> bool:
    return text is not None and (text[5:7] == "00" or text[8:10] == "00")


def as_arrow_reads(text: str | None, type_: pa.DataType) -> Any:
    if pa.types.is_temporal(type_) and has_no_date(text):
        text = None
    return pa.scalar(text, pa.string()).cast(type_)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), rows=st.integers(1, 8))
@settings(
    max_examples=20,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.differing_executors,
    ],
    deadline=None,
)
def test_what_is_read_is_what_arrow_makes_of_the_servers_text(
    mysql: Database, client: Client, kind: str, data: st.DataObject, rows: int
) -> None:
    definition, all_digits, type_, values = KINDS[kind]
    written = data.draw(st.lists(st.none() | values, min_size=1, max_size=8))
    mysql.execute("SET SESSION sql_mode = ''")
    mysql.execute("DROP TABLE IF EXISTS t")
    mysql.execute(f"CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, v {definition} NULL)")
    mysql.insert("t (v)", [(value,) for value in written])

    result = query(client, "SELECT v FROM t ORDER BY id", type_, rows=rows)
    column = Column("v", "v", type_)
    found = [to_array(arrays[0], column, "t")[0] for arrays in reads(result)]

    texts = [text for (text,) in client.rows(f"SELECT {all_digits} FROM t ORDER BY id")[1]]
    expected = [as_arrow_reads(text, type_) for text in texts]
    for array in found:
        array.validate(full=True)
    assert [scalar for array in found for scalar in array] == expected
    if pa.types.is_temporal(type_):
        assert result.without_date == [sum(map(has_no_date, texts))]


@given(value=decimals(38, 10), precision=st.integers(1, 38), scale=st.integers(0, 20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_decimal_fits_another_type_exactly_or_not_at_all(
    mysql: Database, value: Decimal, precision: int, scale: int
) -> None:
    client = connect(mysql.server)
    type_ = pa.decimal128(precision, min(precision, scale))
    result = query(client, f"SELECT CAST('{value:f}' AS DECIMAL(38,10))", type_)
    units = value.scaleb(type_.scale, ALL_DIGITS)
    # `abs` would round to the 28 digits of Python's default.
    if units == units.to_integral_value() and units.copy_abs() < 10**precision:
        assert values_of(result) == [value]
    else:
        assert values_of(result) == [None]
        assert result.misfits == []
        result = query(client, f"SELECT CAST('{value:f}' AS DECIMAL(38,10))", type_)
        result.read(ANY_SIZE)
        assert result.misfits == [Misfit(0, 0, f"{value:.10f}")]
    client.close()


def test_a_day_that_no_month_has_is_shown(mysql: Database, client: Client) -> None:
    mysql.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, day DATE, at DATETIME(3))")
    mysql.insert("t", [(1, "2024-02-29", "2024-02-29"), (2, "2024-02-29", "2023-02-29 01:02:03.5")])
    mysql.insert("t", [(3, "2024-04-31", None)])
    for column, shown in (("day", "2024-04-31"), ("at", "2023-02-29 01:02:03.500000")):
        other = connect(mysql.server, database=mysql.name)
        result = query(other, f"SELECT id, {column} FROM t ORDER BY id", pa.int32(), pa.date32())
        ids, days = result.read(ANY_SIZE)
        (misfit,) = result.misfits
        assert (misfit.column, misfit.value) == (1, shown)
        assert (len(ids), ids.null_count, days[misfit.row].as_py()) == (3, 0, None)
        # Those of an earlier read are gone.
        assert len(result.read(ANY_SIZE)[0]) == len(result.misfits) == 0
        other.close()


def test_a_date_that_no_calendar_has_is_a_misfit_where_that_is_asked_for(
    mysql: Database, client: Client
) -> None:
    mysql.execute("SET SESSION sql_mode = ''")
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, day DATE, at DATETIME(3))")
    values = ["0000-00-00", "2024-05-00", "2024-00-10", "2024-05-01"]
    mysql.insert("t", [(at, value, value) for at, value in enumerate(values)])
    types = [pa.date32(), pa.timestamp("us")]
    result = Result(client, "SELECT day, at FROM t ORDER BY id", types, 100, strict=[1])
    days, moments = result.read(ANY_SIZE)
    assert days.null_count == moments.null_count == 3
    assert result.without_date == [3, 0]
    assert result.misfits == [Misfit(at, 1, f"{values[at]} 00:00:00") for at in range(3)]


def test_more_misfits_than_there_is_room_for_at_first(client: Client) -> None:
    rows = " UNION ALL ".join(f"SELECT CAST({at + 0.5} AS DECIMAL(9,1)) AS v" for at in range(100))
    result = query(client, rows, pa.decimal128(9, 0))
    result.read(ANY_SIZE)
    assert result.misfits == [Misfit(at, 0, f"{at}.5") for at in range(100)]


def test_a_column_of_another_type_than_was_wished_for_is_cast_or_refused(client: Client) -> None:
    (integers_,) = query(client, "SELECT 40000", pa.int16()).read(ANY_SIZE)
    client.close()
    assert to_array(integers_, Column("v", "v", pa.string()), "t")[0].to_pylist() == ["40000"]
    array, (misfit,) = to_array(integers_, Column("v", "v", pa.int16()), "t")
    assert array.to_pylist() == [None]
    assert (misfit.row, misfit.value, misfit.counted) == (0, "40000", b"40000")
    with pytest.raises(SourceMismatch, match="column v comes as date32"):
        to_array(pa.array([date(2024, 1, 1)]), Column("v", "v", pa.binary()), "t")


@given(st.lists(st.none() | st.sampled_from([b"fits", "näïve".encode(), b"\xed\xa0\x80", b"\xff"])))
def test_every_text_that_is_not_utf_8_is_found(texts: list[bytes | None]) -> None:
    def decodes(text: bytes | None) -> str | None:
        try:
            return text.decode() if text is not None else None
        except UnicodeDecodeError:
            return None

    array, misfits = to_array(pa.array(texts, pa.binary()), Column("v", "v", pa.string()), "t")
    assert array.to_pylist() == list(map(decodes, texts))
    found = {misfit.row: misfit.counted for misfit in misfits}
    assert found == {
        row: text for row, text in enumerate(texts) if text is not None and decodes(text) is None
    }


def test_a_column_of_nothing_but_null_has_any_type(client: Client) -> None:
    for type_ in (pa.int32(), pa.timestamp("us", "UTC"), pa.decimal128(9, 2), pa.string()):
        ((array,),) = reads(query(client, "SELECT NULL UNION ALL SELECT NULL", type_))
        assert to_array(array, Column("v", "v", type_), "t")[0].to_pylist() == [None, None]


# Sizes


@pytest.mark.parametrize("size", [0, 250, 251, 65_535, 65_536, 16 * MEGABYTE - 1, 17 * MEGABYTE])
def test_a_value_of_any_length(client: Client, size: int) -> None:
    # Lengths around those where the protocol changes their form, or needs a second packet.
    result = query(client, f"SELECT REPEAT('x', {size}) AS v, '1' AS one, NULL AS none", columns=3)
    (values, ones, nothing), *more = reads(result)
    assert values.to_pylist() == [b"x" * size]
    assert (ones.to_pylist(), nothing.to_pylist(), more) == ([b"1"], [None], [])


def test_a_row_that_fills_the_librarys_buffer_to_its_end(client: Client) -> None:
    # Buffers grow by whole pages: the last value ends at, before and behind the end of a page.
    for size in range(3 * 4096 - 40, 3 * 4096 + 10):
        result = query(client, f"SELECT REPEAT('x', {size}), 'end'", columns=2)
        assert rows_of(reads(result)) == [(b"x" * size, b"end")]


def test_what_a_long_value_took_leaves_short_ones_right(client: Client) -> None:
    statement = (
        "SELECT 'first' AS v UNION ALL SELECT REPEAT('y', 17 * 1024 * 1024) UNION ALL SELECT NULL "
        "UNION ALL SELECT 'last'"
    )
    assert values_of(query(client, statement, rows=1)) == [
        b"first",
        b"y" * 17 * MEGABYTE,
        None,
        b"last",
    ]


def test_more_columns_than_bits_of_a_byte(client: Client) -> None:
    values = [None if at % 3 == 0 else at for at in range(300)]
    listed = ", ".join("NULL" if value is None else f"{value} + 0" for value in values)
    result = query(client, f"SELECT {listed}", *[pa.int64()] * 300)
    assert [value if value is None else int(value) for value in rows_of(reads(result))[0]] == values


@pytest.mark.parametrize("size", [0, ANY_SIZE + 1])
def test_a_read_of_nothing_and_one_that_offsets_cannot_count_are_refused(
    client: Client, size: int
) -> None:
    with pytest.raises(ValueError, match="1 byte to 1 GiB"):
        query(client, "SELECT 1").read(size)


def test_reads_without_rows_are_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="takes rows, not 0"):
        query(client, "SELECT 1", rows=0)


READ_WITHOUT_MEMORY = """
import resource, sys
from millrace.sources.mysql.client import Client, MySQLError
from millrace.sources.mysql.result import Result
host, port, user, password = sys.argv[1:]
import pyarrow
client = Client(host=host, port=int(port), user=user, password=password, database=None,
                unix_socket=None, connect_timeout=10, read_timeout=60, write_timeout=60, tls=None)
size = 48 * 1024 * 1024
query = " UNION ALL ".join([f"SELECT REPEAT('x', {size})"] * 8)
result = Result(client, query, [pyarrow.binary()], 100)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 160 * 1024 * 1024, -1))
for _ in range(2):
    try:
        result.read(1024 ** 3)
    except (MemoryError, MySQLError) as error:
        print(type(error).__name__)
client.close()
"""


def test_texts_that_memory_does_not_hold_are_an_error(mysql: Database, client: Client) -> None:
    server = mysql.server
    account = (server.host, str(server.port), server.reader_user, server.reader_password)
    done = subprocess.run(
        [sys.executable, "-c", READ_WITHOUT_MEMORY, *account],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() in (["MemoryError"] * 2, ["MySQLError"] * 2)


# Ends


def test_a_result_that_is_at_its_end_stays_there(client: Client) -> None:
    result = query(client, "SELECT 1")
    assert [len(result.read(ANY_SIZE)[0]) for _ in range(3)] == [1, 0, 0]


def test_one_result_follows_another_that_is_read_to_its_end(client: Client) -> None:
    first = query(client, "SELECT '1' UNION ALL SELECT '2'", rows=1)
    first.read(ANY_SIZE)
    for refused in (lambda: query(client, "SELECT 2"), lambda: client.rows("SELECT 2")):
        with pytest.raises(MySQLError) as out_of_order:
            refused()
        assert out_of_order.value.number == 2014
    assert values_of(first) == [b"2"]
    assert [values_of(query(client, f"SELECT '{at}'")) for at in range(3)] == [
        [b"0"],
        [b"1"],
        [b"2"],
    ]
    assert client.rows("SELECT 4")[1] == [("4",)]
    assert len(first.read(ANY_SIZE)[0]) == 0


def test_a_result_that_is_left_half_way_is_not_read_to_its_end(
    client: Client, endless_rows: str
) -> None:
    result = query(client, endless_rows, pa.int64(), rows=10)
    assert len(result.read(ANY_SIZE)[0]) == 10
    client.close()
    with pytest.raises(MySQLError, match="closed"):
        result.read(ANY_SIZE)


def test_a_result_and_its_connection_that_nobody_holds_are_gone(
    mysql: Database, endless_rows: str
) -> None:
    other = connect(mysql.server, database=mysql.name)
    ((number,),) = other.rows("SELECT CONNECTION_ID()")[1]
    result: Result | None = query(other, endless_rows, pa.int64(), rows=10)
    assert result is not None
    result.read(ANY_SIZE)
    # Only the result still refers to its connection.
    del other
    gc.collect()
    assert len(result.read(ANY_SIZE)[0]) == 10
    result = None
    gone = f"SELECT 1 FROM information_schema.processlist WHERE id = {number}"
    assert eventually(lambda: not mysql.rows(gone))


@pytest.mark.parametrize("kill", ["KILL QUERY", "KILL"])
def test_a_result_that_breaks_off_is_never_at_its_end(
    mysql: Database, client: Client, endless_rows: str, kill: str
) -> None:
    ((number,),) = client.rows("SELECT CONNECTION_ID()")[1]
    result = query(client, endless_rows, pa.int64(), rows=1000)
    result.read(ANY_SIZE)
    mysql.execute(f"{kill} {number}")
    errors: list[int] = []
    # Rows that were on their way come first.
    while len(errors) < 2:
        try:
            assert len(result.read(ANY_SIZE)[0]) == 1000
        except MySQLError as error:
            errors.append(error.number)
    assert errors[0] == errors[1]
    # MariaDB reports that a connection was killed; MySQL just ends it.
    assert errors[0] in {1317, 1927, 2006, 2013}


def test_other_threads_run_while_it_waits_for_the_server(mysql: Database, client: Client) -> None:
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
        # Meanwhile no other thread may use the connection.
        with pytest.raises(MySQLError, match="Another thread"):
            result.read(ANY_SIZE)
        mysql.execute("SELECT RELEASE_LOCK('held')")
        assert reading.result()[0].to_pylist() == [b"x" * 100_000, b"1"]


@pytest.mark.parametrize(("statement", "number"), [("SET @a = 1", 2052), ("SELEC 1", 1064)])
def test_a_statement_without_rows_is_refused(client: Client, statement: str, number: int) -> None:
    with pytest.raises(MySQLError) as refused:
        query(client, statement)
    assert refused.value.number == number
    # The connection can still be used.
    assert values_of(query(client, "SELECT 'next'")) == [b"next"]


def test_another_number_of_types_than_columns_is_refused(client: Client) -> None:
    with pytest.raises(ValueError, match="2 types for 1 columns"):
        query(client, "SELECT 1", pa.int64(), pa.int64())


def test_a_closed_connection_is_refused(client: Client) -> None:
    client.close()
    with pytest.raises(MySQLError, match="closed"):
        query(client, "SELECT 1")


# A server that lies


MARKER = b"a value of 24 characters"


@contextmanager
def liar(mysql: Database, length: bytes) -> Iterator[int]:
    """The port of a proxy that changes the length of the marker in the server's answer."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        client, _ = listener.accept()
        server = socket.create_connection((mysql.server.host, mysql.server.port))
        asking = threading.Thread(target=copy, args=(client, server))
        asking.start()
        copy(server, client)
        asking.join()

    def copy(source: socket.socket, target: socket.socket) -> None:
        while data := source.recv(65536):
            target.sendall(data.replace(bytes([len(MARKER)]) + MARKER, length + MARKER))
        target.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    thread.join()
    listener.close()


@pytest.mark.parametrize("length", [b"\xfc", b"\xfd", b"\xfe"], ids=["16 bits", "24", "64"])
def test_a_length_beyond_what_came_is_refused(
    mysql: Database, client: Client, length: bytes
) -> None:
    with liar(mysql, length) as port:
        other = connect(mysql.server, host="127.0.0.1", port=port)
        result = query(other, f"SELECT CONCAT('{MARKER.decode()[:1]}', '{MARKER.decode()[1:]}')")
        for _ in range(2):
            with pytest.raises(MySQLError, match="Malformed"):
                result.read(ANY_SIZE)
        other.close()
