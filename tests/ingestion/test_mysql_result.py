"""The compiled reader of a result, on a real MariaDB server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import MySQLdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestion.sources import mysql_result
from ingestion.sources.mysql_result import Result
from tests.ingestion.test_mysql import eventually

if TYPE_CHECKING:
    from tests.ingestion.conftest import Database

pytestmark = pytest.mark.service

MEGABYTE = 1024 * 1024
ANY_SIZE = 1024 * MEGABYTE


@pytest.fixture
def client(mysql: Database) -> Iterator[Any]:
    server = mysql.server
    # Of the sessions to come: for values longer than one packet of the protocol.
    mysql.execute(f"SET GLOBAL max_allowed_packet = {64 * MEGABYTE}")
    connection = MySQLdb.connect(
        host=server.host,
        port=server.port,
        user=server.reader_user,
        passwd=server.reader_password,
        db=mysql.name,
        charset="utf8mb4",
        autocommit=True,
    )
    yield connection
    with contextlib.suppress(MySQLdb.Error):
        connection.close()
    mysql.execute("SET GLOBAL max_allowed_packet = DEFAULT")


def query(client: Any, statement: str, rows: int = 1000) -> Result:
    client.query(statement.encode())
    return Result(client, rows)


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
    mysql.execute(
        "CREATE OR REPLACE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, a BLOB, b BLOB, c BLOB)"
    )
    if rows:
        mysql.insert("t (a, b, c)", rows)
    taken = reads(query(client, "SELECT a, b, c FROM t ORDER BY id", rows_a_read), size)
    assert rows_of(taken) == rows
    for arrays in taken:
        for array in arrays:
            array.validate(full=True)
            assert array.null_count == array.to_pylist().count(None)
        assert len(arrays[0]) <= rows_a_read
        # No row is taken once there are enough bytes.
        before_the_last = [array[:-1].to_pylist() for array in arrays]
        assert sum(len(value or b"") for values in before_the_last for value in values) < size


@pytest.mark.parametrize("size", [0, 250, 251, 65_535, 65_536, 16 * MEGABYTE - 1, 17 * MEGABYTE])
def test_a_value_of_any_length(client: Any, size: int) -> None:
    # Lengths on both sides of where the protocol writes them in another form, or in two packets.
    result = query(client, f"SELECT REPEAT('x', {size}) AS v, 1 AS one, NULL AS nothing")
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
        Result(client, 10)


def test_a_closed_connection_is_refused(client: Any) -> None:
    result = query(client, "SELECT seq FROM seq_1_to_100000", rows=10)
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
        Result(object(), 10)


def test_another_client_library_is_refused_before_its_memory_is_read(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_result, "get_client_info", lambda: "8.4.0")
    with pytest.raises(RuntimeError, match="another library"):
        query(client, "SELECT 1")
