"""Which part of an interval is closed: no open transaction at the source can write into it.

The tests run on both servers, with PROCESS and with SELECT alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import MySQLdb
import pytest

from millrace.batch import Interval
from millrace.errors import SourceMismatch
from millrace.sources.mysql import source as mysql_source
from millrace.sources.mysql.in_flight import processes_of
from millrace_sandbox.processes import poll

if TYPE_CHECKING:
    from millrace.sources.mysql.source import MySQLSource
    from tests.millrace.conftest import Database

pytestmark = [pytest.mark.service, pytest.mark.both_servers]

NO_SETTLING = {"count": 0, "period": "second"}
TABLE = (
    "CREATE TABLE t (id INT PRIMARY KEY, v INT, at {type} NOT NULL DEFAULT CURRENT_TIMESTAMP{p})"
)


def create(mysql: Database, type_: str = "DATETIME(6)") -> None:
    precision = type_.removeprefix("DATETIME").removeprefix("TIMESTAMP")
    mysql.execute(TABLE.format(type=type_, p=precision))


def cursor(**options: Any) -> dict[str, Any]:
    return {"column": "at", "settle": NO_SETTLING, **options}


def now(mysql: Database) -> datetime:
    ((moment,),) = mysql.rows("SELECT UTC_TIMESTAMP(6)")
    return moment.replace(tzinfo=UTC)


@contextmanager
def session(mysql: Database) -> Iterator[Callable[[str], None]]:
    """Another connection, in a transaction of its own."""
    client = mysql.server.connect_as_admin(db=mysql.name)
    with closing(client):

        def run(statement: str) -> None:
            with closing(client.cursor()) as cursor:
                cursor.execute(statement)

        yield run


@pytest.fixture(params=["PROCESS", "SELECT alone"])
def source(request: pytest.FixtureRequest, mysql: Database) -> MySQLSource:
    if request.param == "PROCESS":
        return mysql.source()
    plain: MySQLSource = request.getfixturevalue("plain_source")
    return plain


LATE = {
    "an insert": "INSERT INTO t (id) VALUES (2)",
    "an update of an old row": "UPDATE t SET v = 1, at = NOW(6) WHERE id = 1",
    "a change of the key": "UPDATE t SET id = 3, at = NOW(6) WHERE id = 1",
    "a replacement": "REPLACE INTO t (id, v) VALUES (1, 5)",
    "an insert that updates": (
        "INSERT INTO t (id) VALUES (1) ON DUPLICATE KEY UPDATE v = 7, at = NOW(6)"
    ),
}


@pytest.mark.parametrize("statement", LATE.values(), ids=LATE.keys())
@pytest.mark.parametrize("type_", ["DATETIME(6)", "TIMESTAMP(6)"])
@pytest.mark.parametrize("index", ["", "ALTER TABLE t ADD INDEX (at)"], ids=["", "indexed"])
def test_what_is_written_and_not_committed_ends_the_closed_part(
    mysql: Database, source: MySQLSource, statement: str, type_: str, index: str
) -> None:
    create(mysql, type_)
    if index:
        mysql.execute(index)
    mysql.execute("INSERT INTO t VALUES (1, 0, '2026-01-01')")
    table = mysql.table("t", cursor=cursor())
    with session(mysql) as late:
        began = now(mysql)
        late(statement)
        wrote = now(mysql)
        open_ = source.closed(table, Interval(None, None))
        assert began <= open_.end <= wrote
        assert open_.held_by is not None
        assert "written and not committed" in open_.held_by
        # The part that was closed already is held by nothing.
        assert source.closed(table, Interval(None, began)).held_by is None
        late("COMMIT")
    closed = source.closed(table, Interval(None, None))
    assert closed.held_by is None
    assert closed.end > wrote


def test_a_holder_is_named(mysql: Database) -> None:
    create(mysql)
    with session(mysql) as late:
        late("INSERT INTO t (id) VALUES (42)")
        held_by = mysql.source().closed(mysql.table("t", cursor=cursor()), Interval()).held_by
    assert held_by is not None
    assert "1 rows" in held_by
    assert "keys 42" in held_by
    assert f"({mysql.server.admin_user} from 127.0.0.1" in held_by


def test_personal_keys_of_a_holder_are_not_told(mysql: Database) -> None:
    from dataclasses import replace

    from millrace.catalog import Pii

    create(mysql)
    key = 2_000_000_042  # Longer than what the table's random name may hold by chance.
    table = replace(mysql.table("t", cursor=cursor()), pii={"id": Pii.HASH})
    with session(mysql) as late:
        late(f"INSERT INTO t (id) VALUES ({key})")
        held_by = mysql.source().closed(table, Interval()).held_by
    assert "1 rows" in str(held_by)
    assert str(key) not in str(held_by)


@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
def test_a_transaction_that_moves_a_row_out_of_an_interval_does_not_hold_it_up(
    mysql: Database, source: MySQLSource, end: str
) -> None:
    create(mysql)
    mysql.execute("INSERT INTO t VALUES (1, 0, '2026-01-01')")
    table = mysql.table("t", cursor=cursor())
    until = datetime(2026, 6, 1, tzinfo=UTC)
    with session(mysql) as late:
        late("UPDATE t SET at = NOW(6) WHERE id = 1")
        found = source.closed(table, Interval(None, until))
        late(end)
    assert (found.end, found.held_by) == (until, None)


def test_what_was_rolled_back_to_a_savepoint_holds_nothing_up(
    mysql: Database, source: MySQLSource
) -> None:
    create(mysql)
    with session(mysql) as late:
        late("INSERT INTO t VALUES (1, 0, NOW(6) + INTERVAL 1 HOUR)")
        late("SAVEPOINT s")
        late("INSERT INTO t (id) VALUES (2)")
        late("ROLLBACK TO s")
        assert source.closed(mysql.table("t", cursor=cursor()), Interval()).held_by is None


def test_a_transaction_in_another_table_holds_nothing_up(
    mysql: Database, source: MySQLSource
) -> None:
    create(mysql)
    mysql.execute("CREATE TABLE other (id INT PRIMARY KEY)")
    with session(mysql) as late:
        late("INSERT INTO other VALUES (1)")
        asked = now(mysql)
        found = source.closed(mysql.table("t", cursor=cursor()), Interval(None, asked))
    assert (found.end, found.held_by) == (asked, None)


def test_a_prepared_transaction_holds_up_what_it_wrote(
    mysql: Database, source: MySQLSource
) -> None:
    create(mysql)
    client = mysql.server.connect_as_admin(db=mysql.name, autocommit=True)
    xid = f"'{mysql.name}'"
    with closing(client), closing(client.cursor()) as run:
        run.execute(f"XA START {xid}")
        run.execute("INSERT INTO t (id) VALUES (1)")
        run.execute(f"XA END {xid}")
        run.execute(f"XA PREPARE {xid}")
        try:
            held_by = source.closed(mysql.table("t", cursor=cursor()), Interval()).held_by
        finally:
            run.execute(f"XA ROLLBACK {xid}")
    assert "1 rows" in str(held_by)


def test_a_statement_that_waits_for_a_lock_ends_the_closed_part_where_it_began(
    mysql: Database,
) -> None:
    create(mysql)
    mysql.execute("INSERT INTO t VALUES (1, 0, '2026-01-01')")
    table = mysql.table("t", cursor=cursor())
    with session(mysql) as holder, session(mysql) as waiter:
        # The holder has a lock and has written nothing: no list of writers shows it.
        holder("SELECT * FROM t WHERE id = 1 FOR UPDATE")
        began = now(mysql)
        waiting = threading.Thread(
            target=waiter, args=("UPDATE t SET v = 1, at = NOW(6) WHERE id = 1",)
        )
        waiting.start()
        assert poll(lambda: "UPDATE t SET v" in str(mysql.rows("SHOW FULL PROCESSLIST")), 10)
        found = mysql.source().closed(table, Interval())
        assert found.end <= began
        assert "in the middle of a statement" in str(found.held_by)
        holder("COMMIT")
        waiting.join()
        waiter("COMMIT")
    rows = mysql.rows("SELECT at FROM t WHERE v = 1")
    assert rows[0][0].replace(tzinfo=UTC) >= found.end


def test_a_list_of_transactions_that_somebody_keeps_old_is_not_believed(
    mysql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A monitor that reads the list every few milliseconds keeps the server from renewing it."""
    monkeypatch.setattr(mysql_source, "_LIST_AGE", timedelta(microseconds=1))
    create(mysql)
    stop, reads = threading.Event(), threading.Event()

    def read_all_the_time() -> None:
        client = mysql.server.connect_as_admin(autocommit=True)
        with closing(client), closing(client.cursor()) as cursor:
            while not stop.is_set():
                cursor.execute("SELECT COUNT(*) FROM information_schema.innodb_trx")
                reads.set()

    reader = threading.Thread(target=read_all_the_time)
    reader.start()
    try:
        assert reads.wait(10)
        with session(mysql) as late:
            late("INSERT INTO t (id) VALUES (1)")
            wrote = now(mysql)
            for _ in range(5):
                found = mysql.source().closed(mysql.table("t", cursor=cursor()), Interval())
                assert found.end <= wrote
                # The monitor's own statement, if it is caught in it, may be named instead.
                told = str(found.held_by)
                assert "1 rows" in told or "in the middle of a statement" in told
    finally:
        stop.set()
        reader.join()


def test_a_statement_that_is_done_while_the_lists_are_read_is_in_one_of_them(
    mysql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mysql_source, "_LIST_AGE", timedelta(microseconds=1))
    create(mysql)
    mysql.execute("INSERT INTO t VALUES (1, 0, '2026-01-01')")
    with session(mysql) as holder, session(mysql) as waiter:
        holder("SELECT * FROM t WHERE id = 1 FOR UPDATE")
        waiting = threading.Thread(
            target=waiter, args=("UPDATE t SET v = 1, at = NOW(6) WHERE id = 1",)
        )
        waiting.start()
        assert poll(lambda: "UPDATE t SET v" in str(mysql.rows("SHOW FULL PROCESSLIST")), 10)
        began = now(mysql)

        def done_just_before(asked: Any) -> Any:
            holder("COMMIT")
            waiting.join()
            return processes_of(asked)

        monkeypatch.setattr(mysql_source, "processes_of", done_just_before)
        found = mysql.source().closed(mysql.table("t", cursor=cursor()), Interval())
        assert found.end <= began
        assert "1 rows" in str(found.held_by)
        waiter("COMMIT")


def test_a_statement_that_only_reads_holds_nothing_up(mysql: Database) -> None:
    create(mysql)
    asked = now(mysql)
    with session(mysql) as reader:
        reading = threading.Thread(target=reader, args=("SELECT SLEEP(3)",))
        reading.start()
        assert poll(lambda: "SLEEP(3)" in str(mysql.rows("SHOW FULL PROCESSLIST")), 10)
        found = mysql.source().closed(mysql.table("t", cursor=cursor()), Interval(None, asked))
        ((id_,),) = mysql.rows(
            "SELECT id FROM information_schema.processlist WHERE info = 'SELECT SLEEP(3)'"
        )
        mysql.execute(f"KILL QUERY {id_}")
        reading.join()
    assert (found.end, found.held_by) == (asked, None)


def test_without_process_time_is_left_for_statements_that_have_not_written(
    mysql: Database, plain_source: MySQLSource
) -> None:
    create(mysql)
    ((lock_seconds,),) = mysql.rows("SELECT @@global.innodb_lock_wait_timeout")
    before = now(mysql)
    found = plain_source.closed(mysql.table("t", cursor="at"), Interval())
    left = timedelta(seconds=lock_seconds + 10)
    assert before - left <= found.end <= now(mysql) - left
    assert "GRANT PROCESS" in str(found.held_by)
    short = mysql.table("t", cursor=cursor(settle={"count": 1, "period": "minute"}))
    assert found.end < plain_source.closed(short, Interval()).end or lock_seconds == 50
    # An interval that ends there is closed.
    assert (
        plain_source.closed(mysql.table("t", cursor="at"), Interval(None, found.end)).held_by
        is None
    )


def test_with_a_lookback_nothing_is_waited_for(mysql: Database, source: MySQLSource) -> None:
    create(mysql)
    table = mysql.table("t", cursor=cursor(lookback={"count": 1, "period": "hour"}))
    with session(mysql) as late:
        late("INSERT INTO t (id) VALUES (1)")
        asked = now(mysql)
        found = source.closed(table, Interval(None, asked))
    assert (found.end, found.held_by) == (asked, None)


@pytest.mark.parametrize(
    ("type_", "step"),
    [
        ("DATETIME", timedelta(seconds=1)),
        ("TIMESTAMP", timedelta(seconds=1)),
        ("DATETIME(3)", timedelta(milliseconds=1)),
        ("DATE", timedelta(days=1)),
    ],
)
def test_an_interval_ends_before_rows_that_may_still_look_the_same(
    mysql: Database, source: MySQLSource, type_: str, step: timedelta
) -> None:
    mysql.execute(f"CREATE TABLE t (id INT PRIMARY KEY, at {type_} NOT NULL)")
    end = source.closed(mysql.table("t", cursor=cursor()), Interval()).end
    assert (end - datetime(1970, 1, 1, tzinfo=UTC)) % step == timedelta(0)
    assert now(mysql) - end < step + timedelta(seconds=10)


def test_the_end_is_cut_at_the_servers_clock(mysql: Database, source: MySQLSource) -> None:
    create(mysql)
    asked = datetime(2999, 1, 1, tzinfo=UTC)
    found = source.closed(mysql.table("t", cursor=cursor()), Interval(None, asked))
    assert found.end <= now(mysql)


@pytest.mark.parametrize("type_", ["DATETIME(6)", "DATE"])
def test_a_clock_without_a_zone_is_refused_on_a_server_that_is_not_on_utc(
    mysql: Database, type_: str
) -> None:
    mysql.execute(f"CREATE TABLE t (id INT PRIMARY KEY, at {type_} NOT NULL)")
    mysql.execute("CREATE TABLE u (id INT PRIMARY KEY, at TIMESTAMP NOT NULL)")
    mysql.execute("SET GLOBAL time_zone = '-05:00'")
    try:
        with pytest.raises(SourceMismatch, match=r"on -05:00") as refused:
            mysql.source().closed(mysql.table("t", cursor="at"), Interval())
        with pytest.raises(SourceMismatch, match=r"on -05:00"):
            mysql.source().check([mysql.table("t", cursor="at")])
        zoned = mysql.table("t", cursor=cursor(time_zone="America/New_York"))
        mysql.source().closed(zoned, Interval())
        mysql.source().closed(mysql.table("u", cursor="at"), Interval())
    finally:
        mysql.execute("SET GLOBAL time_zone = '+00:00'")
    assert "time_zone:" in refused.value.fix


def test_a_zone_for_a_timestamp_is_refused(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP NOT NULL)")
    table = mysql.table("t", cursor=cursor(time_zone="Asia/Seoul"))
    with pytest.raises(SourceMismatch, match="keeps moments"):
        mysql.source().closed(table, Interval())


def test_rows_of_the_future_are_counted_and_told(mysql: Database, source: MySQLSource) -> None:
    create(mysql)
    mysql.execute("INSERT INTO t VALUES (1, 0, '2999-01-01'), (2, 0, '2999-01-01')")
    ((warning),) = source.closed(mysql.table("t", cursor=cursor()), Interval()).warnings
    assert "2 rows" in warning
    assert "future" in warning


@pytest.mark.parametrize("type_", ["DATETIME", "DATE", "TIMESTAMP"])
def test_a_zero_date_as_a_cursor_is_refused(
    mysql: Database, source: MySQLSource, type_: str
) -> None:
    mysql.execute(f"CREATE TABLE t (id INT PRIMARY KEY, at {type_} NOT NULL)")
    mysql.execute("SET SESSION sql_mode = ''")
    mysql.execute("INSERT INTO t VALUES (1, 0), (2, '2026-01-01')")
    with pytest.raises(SourceMismatch, match=r"1 rows whose cursor 'at' is zero"):
        source.closed(mysql.table("t", cursor=cursor()), Interval())


def test_a_look_compares_only_what_differs_row_by_row(
    mysql: Database, plain_source: MySQLSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    from millrace.sources.mysql import in_flight as mysql_in_flight

    monkeypatch.setattr(mysql_in_flight, "_ROWS_AT_ONCE", 1000)
    create(mysql)
    mysql.execute(
        "INSERT INTO t SELECT seq, 0, '2026-01-01' + INTERVAL seq SECOND "
        f"FROM {mysql.seq(1, 20_000)} s"
    )
    table = mysql.table("t", cursor=cursor())
    with session(mysql) as late:
        late("UPDATE t SET at = at + INTERVAL 1 MICROSECOND WHERE id % 2 = 0")
        found = plain_source.closed(table, Interval())
    assert found.end == datetime(2026, 1, 1, 0, 0, 2, 1, tzinfo=UTC)
    assert "10,000 rows" in str(found.held_by)


def test_a_server_that_cannot_be_asked_is_no_closed_interval(mysql: Database) -> None:
    with pytest.raises((SourceMismatch, MySQLdb.Error)):
        mysql.source().closed(mysql.table("nowhere", cursor=cursor()), Interval())
