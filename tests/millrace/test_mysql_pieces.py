"""Reading in pieces, from MariaDB and MySQL: what is right, what is bounded, when a read waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.bad_values import Misfit
from millrace.batch import WHOLE_TABLE, Interval
from millrace.errors import SourceBusy, SourceMismatch, SourceRefused
from millrace.sources import limits
from millrace.sources import pace as pacing
from millrace.sources.mysql import reading as mysql_reading
from millrace.sources.mysql import rows as mysql_rows
from millrace.sources.mysql import source as mysql_source
from millrace.sources.mysql.options import MySQLHarm
from millrace.sources.mysql.reading import Selection
from millrace.sources.mysql.session import Session
from millrace.sources.pace import PIECE_BYTES, Pace
from millrace.sources.spool import Ahead, Spool
from tests.millrace.test_mysql import eventually, readers

if TYPE_CHECKING:
    from millrace.catalog import IngestTable
    from millrace.sources.mysql.source import MySQLSource
    from tests.millrace.conftest import Database

both_servers = [pytest.mark.service, pytest.mark.both_servers]

ROWS = 40
START = datetime(2026, 10, 1, tzinfo=UTC)
END = START + timedelta(days=1)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece has about five rows."""
    monkeypatch.setattr(mysql_source, "_FIRST_PIECE_BYTES", 0)
    monkeypatch.setattr(pacing, "_FEWEST_ROWS", 5)
    monkeypatch.setattr(pacing, "_GROWTH", 1)


@dataclass
class Hook:
    """Something that happens before each piece is read; the calls are counted."""

    before: Callable[[int], None]
    calls: int = 0


@contextmanager
def before_each_piece(happens: Callable[[int], None]) -> Iterator[Hook]:
    hook = Hook(happens)
    read = Selection.piece

    def piece(selection: Selection, conditions: Any) -> Spool:
        hook.calls += 1
        hook.before(hook.calls)
        return read(selection, conditions)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Selection, "piece", piece)
        yield hook


def declared(mysql: Database, *, cursor: str | None = None, **options: Any) -> IngestTable:
    table = mysql.table("t", cursor=cursor)
    return replace(table, options=table.options.model_copy(update=options))


def fill(mysql: Database, rows: int = ROWS, *, index: str = "") -> None:
    """Fill `t` with rows whose cursors lie in the hours of the first day."""
    mysql.execute("DROP TABLE IF EXISTS t")
    mysql.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(60) NOT NULL, at DATETIME(6) NOT NULL"
        f"{index})"
    )
    mysql.execute(
        "INSERT INTO t SELECT seq, REPEAT('x', 60), "
        f"'2026-10-01' + INTERVAL seq % 24 HOUR FROM {mysql.seq(1, rows)} s"
    )
    mysql.rows("ANALYZE TABLE t")


# What is read is right.


@dataclass(frozen=True)
class Change:
    """What a writer does before a piece is read."""

    piece: int
    kind: str
    key: int
    other: int


CHANGES = st.lists(
    st.builds(
        Change,
        piece=st.integers(1, 10),
        kind=st.sampled_from(["edit", "delete", "insert", "key"]),
        key=st.integers(0, ROWS),
        other=st.integers(-5, ROWS + 5),
    ),
    max_size=12,
)


class Writer:
    """Changes rows as an application does: each change sets the cursor to the present."""

    def __init__(self, mysql: Database, changes: list[Change]) -> None:
        self._mysql = mysql
        self._changes = changes
        self._now = END
        # The keys that are gone, which no cursor shows.
        self.gone: set[int] = set()

    def before(self, piece: int) -> None:
        for change in self._changes:
            if change.piece == piece:
                self._apply(change)

    def _apply(self, change: Change) -> None:
        self._now += timedelta(seconds=1)
        at = f"at = '{self._now:%Y-%m-%d %H:%M:%S}', v = 'changed'"
        if change.kind == "insert":
            self._mysql.execute(f"INSERT IGNORE INTO t SET id = {change.other}, {at}")
            return
        if change.kind == "edit":
            self._mysql.execute(f"UPDATE t SET {at} WHERE id = {change.key}")
            return
        self.gone.add(change.key)
        if change.kind == "delete":
            self._mysql.execute(f"DELETE FROM t WHERE id = {change.key}")
        else:
            self._mysql.execute(
                f"UPDATE IGNORE t SET id = {change.other}, {at} WHERE id = {change.key}"
            )


def read(mysql: Database, table: IngestTable, interval: Interval) -> list[dict[str, Any]]:
    """The rows of an interval, which are as many as the server has counted."""
    with mysql.source().extract(table, interval) as extraction:
        rows = [row for batch in extraction.batches for row in batch.to_pylist()]
    assert extraction.figures.rows in (None, len(rows))
    return rows


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("cut_by", ["key", "cursor"])
class TestReadInPieces:
    pytestmark = both_servers

    @settings(
        max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(changes=CHANGES)
    def test_with_the_next_batch_every_row_is_as_at_the_source_whatever_writers_do_between_pieces(
        self, mysql: Database, cut_by: str, changes: list[Change]
    ) -> None:
        fill(mysql, index=", KEY (at)" if cut_by == "cursor" else "")
        table = declared(mysql, cursor="at", verify="values")
        writer = Writer(mysql, changes)
        first = Interval(START if cut_by == "cursor" else None, END)
        with before_each_piece(writer.before) as hook:
            arrived = read(mysql, table, first)
        assert hook.calls >= ROWS // 10
        arrived += read(mysql, table, Interval(END, END + timedelta(days=1)))
        current: dict[int, dict[str, Any]] = {}
        for row in arrived:
            if row["id"] not in current or row["at"] > current[row["id"]]["at"]:
                current[row["id"]] = row
        rows = mysql.rows("SELECT id, v, at FROM t")
        assert {id_: (current[id_]["v"], current[id_]["at"]) for id_, *_ in rows} == {
            id_: (v, at) for id_, v, at in rows
        }
        assert current.keys() - {id_ for id_, *_ in rows} <= writer.gone

    @settings(
        max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(changes=CHANGES)
    def test_as_of_one_moment_nothing_that_writers_do_between_pieces_is_seen(
        self, mysql: Database, cut_by: str, changes: list[Change]
    ) -> None:
        fill(mysql, index=", KEY (at)" if cut_by == "cursor" else "")
        before = sorted(mysql.rows("SELECT id, v, at FROM t"))
        table = declared(mysql, cursor="at", as_of_one_moment=True)
        interval = Interval(START if cut_by == "cursor" else None, END)
        with before_each_piece(Writer(mysql, changes).before) as hook:
            rows = read(mysql, table, interval)
        assert hook.calls >= ROWS // 10
        assert sorted(tuple(row.values()) for row in rows) == before


@pytest.mark.usefixtures("small_pieces")
class TestOneMoment:
    pytestmark = both_servers

    def test_a_table_without_a_cursor_is_read_as_of_one_moment(self, mysql: Database) -> None:
        fill(mysql)

        def move(piece: int) -> None:
            """Move a row that was read to where it is not, and the other way round."""
            if piece == 3:
                mysql.execute("UPDATE t SET id = 1000 WHERE id = 1")
                mysql.execute(f"UPDATE t SET id = -1 WHERE id = {ROWS}")

        with before_each_piece(move) as hook:
            rows = read(mysql, declared(mysql), WHOLE_TABLE)
        assert hook.calls > 3
        assert sorted(row["id"] for row in rows) == list(range(1, ROWS + 1))

    def test_its_rows_may_be_declared_to_be_of_different_moments(self, mysql: Database) -> None:
        fill(mysql)

        def edit(piece: int) -> None:
            if piece == 3:
                mysql.execute("UPDATE t SET v = 'changed'")

        with before_each_piece(edit):
            rows = read(mysql, declared(mysql, as_of_one_moment=False), WHOLE_TABLE)
        assert sorted(row["id"] for row in rows) == list(range(1, ROWS + 1))
        assert len({row["v"] for row in rows}) == 2

    def test_a_table_without_snapshots_is_read_by_one_statement(self, mysql: Database) -> None:
        fill(mysql)
        mysql.execute("ALTER TABLE t ENGINE = MyISAM")
        with before_each_piece(lambda _: None) as hook:
            assert len(read(mysql, declared(mysql), WHOLE_TABLE)) == ROWS
        assert hook.calls == 0

    def test_a_long_snapshot_is_told(
        self, mysql: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill(mysql)
        monkeypatch.setattr(mysql_source, "_LONG_SNAPSHOT_SECONDS", 0)
        read(mysql, declared(mysql, as_of_one_moment=False), WHOLE_TABLE)
        assert "one moment" not in caplog.text
        read(mysql, declared(mysql), WHOLE_TABLE)
        assert "was read as of one moment, so MySQL had to keep" in caplog.text


# What is bounded.


def working(mysql: Database) -> list[Any]:
    """The statements that the pipeline's account is running here."""
    return mysql.rows(
        "SELECT info FROM information_schema.processlist WHERE command <> 'Sleep' "
        f"AND user = '{mysql.server.reader_user}' AND db = '{mysql.name}'"
    )


def transactions(mysql: Database) -> list[Any]:
    """The transactions that it has open here."""
    # The server makes a new list only if nobody has asked for it for a tenth of a second.
    threading.Event().wait(0.15)
    mine = ", ".join(map(str, readers(mysql))) or "0"
    return mysql.rows(
        f"SELECT 1 FROM information_schema.innodb_trx WHERE trx_mysql_thread_id IN ({mine})"
    )


class TestSlowStore:
    pytestmark = both_servers

    # Far more than a piece, and than the buffers of the server and the socket hold.
    ROWS = 300_000

    @pytest.mark.parametrize("is_one_moment", [True, False])
    def test_nothing_waits_at_the_server_while_an_upload_does(
        self, mysql: Database, is_one_moment: bool
    ) -> None:
        fill(mysql, self.ROWS)
        table = declared(mysql, as_of_one_moment=is_one_moment)
        pieces: list[int] = []
        with (
            before_each_piece(pieces.append),
            mysql.source().extract(table, WHOLE_TABLE) as extraction,
        ):
            read = next(extraction.batches).num_rows
            # The upload hangs here, and the server is soon done with all that it was asked for.
            assert eventually(lambda: not working(mysql))
            assert eventually(lambda: bool(transactions(mysql)) == is_one_moment)
            assert len(pieces) == 2
            for batch in extraction.batches:
                read += batch.num_rows
        assert read == self.ROWS
        assert extraction.figures.rows == self.ROWS
        assert len(pieces) > 2

    def test_a_reader_that_leaves_ends_the_piece_that_is_being_read(self, mysql: Database) -> None:
        fill(mysql, self.ROWS)
        with mysql.source().extract(declared(mysql), WHOLE_TABLE) as extraction:
            next(extraction.batches)
            left = time.monotonic()
        assert time.monotonic() - left < 5
        assert eventually(lambda: not readers(mysql))


@contextmanager
def told(does: Callable[[str], Any]) -> Iterator[list[str]]:
    """What a read says of limits; something is done as soon as it says it."""
    texts: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            texts.append(record.getMessage())
            does(texts[-1])

    handler = Handler(logging.WARNING)
    logger = logging.getLogger(limits.__name__)
    logger.addHandler(handler)
    yield texts
    logger.removeHandler(handler)


class TestTimedOut:
    """A statement that takes too long, because another connection holds a lock that it needs."""

    pytestmark = both_servers

    @pytest.mark.parametrize("is_one_moment", [True, False])
    def test_a_piece_is_asked_for_again_in_halves(
        self, mysql: Database, monkeypatch: pytest.MonkeyPatch, is_one_moment: bool
    ) -> None:
        fill(mysql)
        stream = Session.stream
        lock = f"'{mysql.name}'"
        asked: list[str] = []

        def needs_the_lock(session: Session, query: str, *arguments: Any) -> Any:
            asked.append(query)
            if len(asked) == 1:
                mysql.rows(f"SELECT GET_LOCK({lock}, 0)")
            joint = " AND" if " WHERE " in query else " WHERE"
            try:
                return stream(session, f"{query}{joint} GET_LOCK({lock}, 60)", *arguments)
            finally:
                mysql.rows(f"SELECT RELEASE_LOCK({lock})")

        monkeypatch.setattr(Session, "stream", needs_the_lock)
        harm = MySQLHarm(max_statement_s=0.3)
        table = declared(mysql, as_of_one_moment=is_one_moment, verify="values", harm=harm)
        with mysql.source().extract(table, WHOLE_TABLE) as extraction:
            mysql.execute("DELETE FROM t WHERE id = 1")
            rows = pa.Table.from_batches(extraction.batches)
        assert rows.num_rows == extraction.figures.rows == (ROWS if is_one_moment else ROWS - 1)
        assert len(asked) == 3
        checksums = extraction.figures.checksums
        assert checksums is not None
        assert checksums["id"].values == rows.num_rows

    def test_a_result_that_the_server_ends_in_its_middle_is_read_again(
        self, mysql: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(mysql, TestSlowStore.ROWS)
        monkeypatch.setattr(mysql_source, "_FIRST_PIECE_BYTES", 1024**3)
        # More than reading it takes, and less than the reader dawdles at first.
        table = declared(mysql, harm=MySQLHarm(max_statement_s=1))
        unsifted = mysql_rows.unsifted
        begun: list[float] = []

        def dawdling(*arguments: Any) -> Iterator[Any]:
            begun.append(time.monotonic())
            for found in unsifted(*arguments):
                yield found
                if len(begun) == 1:
                    assert eventually(lambda: time.monotonic() > begun[0] + 1.5)

        monkeypatch.setattr(mysql_reading, "unsifted", dawdling)
        assert len(read(mysql, table, WHOLE_TABLE)) == TestSlowStore.ROWS
        assert len(begun) > 2

    @pytest.fixture
    def locked(self, mysql: Database) -> Iterator[Callable[[], None]]:
        """Keeps everybody out of `t`, from when it is called to the end of the test."""
        fill(mysql)
        yield lambda: mysql.execute("LOCK TABLES t WRITE")
        mysql.execute("UNLOCK TABLES")

    def test_a_declared_limit_that_the_smallest_piece_passes_is_an_error(
        self, mysql: Database, locked: Callable[[], None]
    ) -> None:
        table = declared(mysql, as_of_one_moment=False, harm=MySQLHarm(max_statement_s=0.1))
        with (
            pytest.raises(SourceBusy, match=r"mysql\.rows: a statement took longer") as failed,
            before_each_piece(lambda piece: locked() if piece == 1 else None),
        ):
            read(mysql, table, WHOLE_TABLE)
        assert "Raise `max_statement_s`" in failed.value.fix
        assert failed.value.may_pass

    def test_so_it_is_for_a_view_which_cannot_be_cut(
        self, mysql: Database, locked: Callable[[], None]
    ) -> None:
        mysql.execute("CREATE VIEW v AS SELECT * FROM t")
        options = mysql.table("v").options
        changes = {"as_of_one_moment": False, "harm": MySQLHarm(max_statement_s=0.1)}
        table = replace(declared(mysql), options=options.model_copy(update=changes))

        def read_while_it_is_locked() -> None:
            with mysql.source().extract(table, WHOLE_TABLE) as extraction:
                locked()
                list(extraction.batches)

        with pytest.raises(SourceBusy, match="a statement took longer"):
            read_while_it_is_locked()

    def test_without_a_declared_limit_the_table_is_read_all_the_same(
        self, mysql: Database, locked: Callable[[], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "DEFAULT_STATEMENT_SECONDS", 0.1)
        table = declared(mysql, as_of_one_moment=False)
        with (
            told(lambda _: mysql.execute("UNLOCK TABLES")) as texts,
            before_each_piece(lambda piece: locked() if piece == 1 else None),
        ):
            assert len(read(mysql, table, WHOLE_TABLE)) == ROWS
        assert len(texts) == 1
        assert "is read by statements that take longer" in texts[0]


class TestKeys:
    pytestmark = both_servers

    def test_a_comparison_by_key_asks_in_halves_for_what_takes_too_long(
        self, mysql: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fill(mysql)
        table = declared(mysql, harm=MySQLHarm(max_statement_s=0.2))
        rows = mysql.extract(table)
        expected = mysql.digests(table, rows)
        assert len(expected) == ROWS
        ask = Session.rows
        asked: list[str] = []

        def rows_of(session: Session, query: str, *arguments: Any) -> Any:
            is_digest = "SHA2" in query
            if is_digest:
                asked.append(query)
            if is_digest and len(asked) <= 2:
                mysql.execute("LOCK TABLES t WRITE")
            try:
                return ask(session, query, *arguments)
            finally:
                mysql.execute("UNLOCK TABLES")

        monkeypatch.setattr(Session, "rows", rows_of)
        assert mysql.digests(table, rows) == expected
        assert len(asked) > 3


# When a read waits.


class TestHistoryList:
    pytestmark = both_servers

    @pytest.fixture
    def behind(self, mysql: Database) -> Iterator[Any]:
        """An old snapshot, because of which fifty changes cannot be purged."""
        fill(mysql)
        # Purged changes leave the list at once, not after 128 rounds.
        mysql.execute("SET GLOBAL innodb_purge_rseg_truncate_frequency = 1")
        old = mysql.server.connect_as_admin(db=mysql.name)
        cursor = old.cursor()
        cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        cursor.execute("SELECT COUNT(*) FROM t")
        for number in range(50):
            mysql.execute(f"UPDATE t SET v = '{number}'")
        yield old
        old.close()
        mysql.execute("SET GLOBAL innodb_purge_rseg_truncate_frequency = DEFAULT")

    def test_a_read_waits_until_it_is_purged_and_says_so(
        self, mysql: Database, behind: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "_LOOK_SECONDS", 0.05)
        table = declared(mysql, harm=MySQLHarm(max_history_list=45))
        with told(lambda _: behind.rollback()) as texts:
            assert len(read(mysql, table, WHOLE_TABLE)) == ROWS
        assert len(texts) == 1
        assert "mysql.rows waits: " in texts[0]
        assert "changes are not purged yet, and `max_history_list` allows 45" in texts[0]

    @pytest.mark.usefixtures("behind")
    def test_a_read_stops_if_it_stays_so(
        self, mysql: Database, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(limits, "_PATIENCE_SECONDS", 0)
        table = declared(mysql, harm=MySQLHarm(max_history_list=45))
        with pytest.raises(SourceBusy, match="max_history_list") as failed:
            read(mysql, table, WHOLE_TABLE)
        assert failed.value.may_pass
        with pytest.raises(SourceBusy, match="max_history_list"):
            mysql.digests(table, pa.table({"id": [1]}))

    @pytest.mark.usefixtures("small_pieces")
    def test_a_read_as_of_one_moment_stops_at_once_because_it_is_in_the_way_itself(
        self, mysql: Database
    ) -> None:
        fill(mysql)

        ((length,),) = mysql.rows(
            "SELECT count FROM information_schema.innodb_metrics "
            "WHERE name = 'trx_rseg_history_len'"
        )
        limit = int(length) + 40

        def write(piece: int) -> None:
            """Change more than the limit allows by itself: what is older may be purged any time."""
            if piece == 1:
                for number in range(limit + 1):
                    mysql.execute(f"UPDATE t SET v = '{number}' WHERE id = 1")

        table = declared(mysql, harm=MySQLHarm(max_history_list=limit))
        with (
            before_each_piece(write),
            pytest.raises(SourceBusy, match="while the table is read as of one moment") as failed,
        ):
            read(mysql, table, WHOLE_TABLE)
        assert "as_of_one_moment: false" in failed.value.fix

    def test_an_account_that_may_not_see_it_is_told_so_at_the_start(
        self, mysql: Database, plain_source: MySQLSource
    ) -> None:
        fill(mysql)
        table = declared(mysql, harm=MySQLHarm(max_history_list=1_000_000))
        extraction = plain_source.extract(table, WHOLE_TABLE)
        if mysql.is_mariadb:
            # It tells everybody.
            with extraction as found:
                assert sum(batch.num_rows for batch in found.batches) == ROWS
            return
        with pytest.raises(SourceRefused, match="max_history_list") as refused, extraction:
            pass
        assert "GRANT PROCESS" in refused.value.fix


class TestReplicaLag:
    pytestmark = both_servers

    HARM = MySQLHarm(max_replica_lag_s=30)

    def test_an_account_that_may_not_see_it_is_told_so_at_the_start(self, mysql: Database) -> None:
        fill(mysql)
        with pytest.raises(SourceRefused, match="max_replica_lag_s") as refused:
            read(mysql, declared(mysql, harm=self.HARM), WHOLE_TABLE)
        right = "SLAVE MONITOR" if mysql.is_mariadb else "REPLICATION CLIENT"
        assert f"GRANT {right} ON *.*" in refused.value.fix

    def test_a_server_that_is_no_replica_has_no_lag(self, mysql: Database) -> None:
        fill(mysql)
        right = "SLAVE MONITOR" if mysql.is_mariadb else "REPLICATION CLIENT"
        account = f"'{mysql.server.reader_user}'@'{mysql.server.host}'"
        mysql.execute(f"GRANT {right} ON *.* TO {account}")
        try:
            with pytest.raises(SourceMismatch, match="is no replica"):
                read(mysql, declared(mysql, harm=self.HARM), WHOLE_TABLE)
        finally:
            mysql.execute(f"REVOKE {right} ON *.* FROM {account}")

    def test_a_read_waits_for_a_replica_that_is_behind(
        self, mysql: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill(mysql)
        # None: it is not connected to its primary. There may be several primaries.
        lags: list[list[str | None]] = [["0"], ["0"], ["0", "31"], [None], ["30", "29"]]
        records = Session.records

        def status(session: Session, query: str, *arguments: Any) -> Any:
            if not query.startswith("SHOW"):
                return records(session, query, *arguments)
            now = lags.pop(0) if len(lags) > 1 else lags[0]
            name = "Seconds_Behind_Master" if mysql.is_mariadb else "Seconds_Behind_Source"
            return [{"Channel_Name": "", name: lag} for lag in now]

        monkeypatch.setattr(Session, "records", status)
        monkeypatch.setattr(limits, "_LOOK_SECONDS", 0)
        assert len(read(mysql, declared(mysql, harm=self.HARM), WHOLE_TABLE)) == ROWS
        assert len(lags) == 1
        assert "31 s behind its primary, and `max_replica_lag_s` allows 30 s" in caplog.text


# The parts by themselves.


class FixedLimits:
    statement_seconds = 5.0


def pace(rows: int) -> Pace:
    return Pace(rows, FixedLimits())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "size", "rows"),
    [
        # No more than four times as many at once.
        (0.01, 0, 4_000),
        (0.5, 0, 2_000),
        (10, 0, 100),
        (0.5, PIECE_BYTES, 1_000),
        (0.5, 4 * PIECE_BYTES, 250),
        (100, 0, 100),
    ],
)
def test_a_piece_is_as_large_as_time_and_memory_allow(seconds: float, size: int, rows: int) -> None:
    found = pace(1_000)
    found.learn(1_000, seconds, size)
    assert found.rows == rows


def test_the_end_of_a_range_says_little() -> None:
    found = pace(1_000)
    found.learn(10, 0.1, 0)
    assert found.rows == 1_000
    found.learn(10, 2, 0)
    assert found.rows == 100


@pytest.mark.parametrize("most_bytes", [0, 100, 10_000])
def test_rows_that_are_kept_come_back_in_their_order_from_memory_and_from_the_disk(
    most_bytes: int,
) -> None:
    batches = [pa.record_batch({"id": list(range(at, at + 10))}) for at in range(0, 50, 10)]
    spool = Spool(most_bytes)
    misfits = [[Misfit(0, "id", "", str(at))] for at in range(len(batches))]
    for batch, of_batch in zip(batches, misfits, strict=True):
        spool.add(batch, of_batch)
    assert spool.size == sum(batch.nbytes for batch in batches)
    assert list(spool) == list(zip(batches, misfits, strict=True))


def test_what_is_made_ahead_is_cut_when_nobody_wants_it() -> None:
    cut = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        assert cut.wait(10)
        yield 2

    ahead = Ahead(items(), cut.set)
    assert next(iter(ahead)) == 1
    ahead.close()
    assert cut.is_set()


def test_what_fails_ahead_fails_where_it_is_asked_for() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    ahead = Ahead(items(), lambda: None)
    found = iter(ahead)
    assert next(found) == 1
    with pytest.raises(ZeroDivisionError):
        next(found)
    ahead.close()
