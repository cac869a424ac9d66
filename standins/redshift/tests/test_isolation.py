"""What concurrent transactions see of each other, and when one has to give way.

https://docs.aws.amazon.com/redshift/latest/dg/c_serial_isolation.html
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import pytest
import redshift_connector

from redshift_standin import RedshiftServer
from standins.redshift.tests.conftest import run

pytestmark = [pytest.mark.service, pytest.mark.redshift]

VIOLATION = "1023.*Serializable isolation violation on table"


@pytest.fixture
def level(connection: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    run(connection, f"alter database dev isolation level {request.param}")
    yield request.param
    run(connection, "alter database dev isolation level snapshot")


@pytest.fixture
def pair(redshift: RedshiftServer, connection: Any, schema: str) -> Iterator[tuple[Any, Any]]:
    """Two sessions, each in a transaction of its own, and tables tab1 and tab2."""
    for table in ("tab1", "tab2"):
        run(connection, f"create table {schema}.{table} (n int)")
        run(connection, f"insert into {schema}.{table} values (0)")
    with ExitStack() as stack:
        sessions = [stack.enter_context(closing(redshift.endpoint.connect())) for _ in range(2)]
        for session in sessions:
            run(session, f"set search_path to {schema}")
            session.commit()
        yield sessions[0], sessions[1]


def cross(first: Any, second: Any) -> None:
    """The example of the page named above."""
    run(first, "select * from tab1")
    run(first, "insert into tab2 values (1)")
    run(second, "insert into tab1 values (1)")
    run(second, "select * from tab2")
    first.commit()


@pytest.mark.parametrize("level", ["serializable"], indirect=True)
def test_what_no_order_could_give_is_a_violation(level: str, pair: tuple[Any, Any]) -> None:
    first, second = pair
    cross(first, second)
    with pytest.raises(redshift_connector.ProgrammingError, match=VIOLATION):
        second.commit()
    second.rollback()
    assert run(second, "select count(*) from tab1") == [(1,)]


@pytest.mark.parametrize("level", ["serializable"], indirect=True)
def test_reading_and_then_writing_one_table_at_the_same_time_is_a_violation(
    level: str, pair: tuple[Any, Any]
) -> None:
    first, second = pair
    for session in pair:
        run(session, "select max(n) from tab1")
    run(first, "insert into tab1 values (1)")
    first.commit()
    with pytest.raises(redshift_connector.ProgrammingError, match=VIOLATION):
        run(second, "insert into tab1 values (1)")
    second.rollback()
    assert run(second, "select count(*) from tab1") == [(2,)]


def test_by_default_both_may_write_what_the_other_has_read(pair: tuple[Any, Any]) -> None:
    first, second = pair
    cross(first, second)
    second.commit()
    assert run(first, "select count(*) from tab1, tab2") == [(4,)]


def test_a_transaction_sees_what_was_there_at_its_first_query(pair: tuple[Any, Any]) -> None:
    first, second = pair
    assert run(first, "select count(*) from tab1") == [(1,)]
    run(second, "insert into tab1 values (1)")
    second.commit()
    assert run(first, "select count(*) from tab1") == [(1,)]
    first.commit()
    assert run(first, "select count(*) from tab1") == [(2,)]


def test_a_lock_comes_before_the_snapshot(pair: tuple[Any, Any]) -> None:
    first, second = pair
    run(first, "lock table tab1")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(run, second, "lock table tab1")
        run(first, "insert into tab2 values (1)")
        first.commit()
        waiting.result(timeout=30)
    assert run(second, "select count(*) from tab2") == [(2,)]


def test_changing_the_same_rows_at_the_same_time_is_a_violation(pair: tuple[Any, Any]) -> None:
    first, second = pair
    run(second, "select * from tab1")
    run(first, "update tab1 set n = 1")
    first.commit()
    with pytest.raises(redshift_connector.ProgrammingError, match=VIOLATION):
        run(second, "update tab1 set n = 2")
    second.rollback()
    assert run(second, "select n from tab1") == [(1,)]


def test_the_level_is_shown(connection: Any) -> None:
    shown = "select rtrim(isolation_level) from stv_db_isolation_level where db_name = 'dev'"
    assert run(connection, shown) == [("Snapshot Isolation",)]
    run(connection, "alter database dev isolation level serializable")
    assert run(connection, shown) == [("Serializable",)]
    run(connection, "alter database dev isolation level snapshot")
    assert run(connection, shown) == [("Snapshot Isolation",)]
    with pytest.raises(redshift_connector.ProgrammingError, match="syntax error"):
        run(connection, "alter database dev isolation level read committed")
