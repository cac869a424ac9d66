"""Reading tables of a real server, MariaDB and MySQL."""

from __future__ import annotations

import gc
import time
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from millrace.batch import WHOLE_TABLE, Batch, Interval
from millrace.errors import ConnectionNotFound, SourceMismatch, SourceRefused, SourceUnavailable
from millrace.landing.landing import Landing
from millrace.sources.mysql.relation import Relation
from redshift_standin.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.millrace.conftest import Database

pytestmark = [pytest.mark.service, pytest.mark.both_servers]

DAY = datetime(2026, 10, 1, tzinfo=UTC)
TICK = timedelta(microseconds=1)
MEGABYTE = 1024 * 1024
# More than the buffers of the server and the socket hold: the server has to wait for its reader.
MANY_ROWS = 300_000
# `endless` has more rows than a server could send while a test runs.


def endless(mysql: Database) -> str:
    numbers = mysql.seq(1, 1_000_000)
    return f"SELECT a.seq AS id FROM {numbers} a JOIN {numbers} b"


def ids(rows: pa.Table) -> list[Any]:
    return sorted(rows["id"].to_pylist())


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
    return True


def readers(mysql: Database) -> list[int]:
    """Connections of the pipeline's account to this database."""
    found = mysql.rows(
        "SELECT id FROM information_schema.processlist "
        f"WHERE user = '{mysql.server.reader_user}' AND db = '{mysql.name}'"
    )
    return [int(number) for (number,) in found]


@pytest.fixture
def many_rows(mysql: Database) -> Database:
    mysql.execute(
        f"CREATE TABLE t AS SELECT seq AS id, REPEAT('x', 60) AS v FROM {mysql.seq(1, MANY_ROWS)} s"
    )
    mysql.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
    return mysql


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        (Interval(DAY, DAY + timedelta(days=1)), [2, 3]),
        (Interval(DAY, DAY + TICK), [2]),
        (Interval(DAY - TICK, DAY), [1]),
        (Interval(None, DAY), [1]),
        (Interval(DAY + timedelta(days=1), None), [4]),
        (WHOLE_TABLE, [1, 2, 3, 4]),
        # The same moment in another time zone.
        (Interval(datetime.fromisoformat("2026-10-01T09:00:00+09:00"), DAY + TICK), [2]),
    ],
    ids=str,
)
@pytest.mark.parametrize("type_", ["DATETIME(6)", "TIMESTAMP(6)"])
def test_an_interval_takes_its_start_and_leaves_its_end_to_the_microsecond(
    mysql: Database, type_: str, interval: Interval, expected: list[int]
) -> None:
    mysql.execute(f"CREATE TABLE t (id INT PRIMARY KEY, at {type_} NOT NULL)")
    moments = [DAY - TICK, DAY, DAY + timedelta(days=1) - TICK, DAY + timedelta(days=1)]
    mysql.insert(
        "t", [(at, f"{moment:%Y-%m-%d %H:%M:%S.%f}") for at, moment in enumerate(moments, start=1)]
    )
    assert ids(mysql.extract(mysql.table("t", cursor="at"), interval)) == expected


def test_a_date_cursor_counts_as_its_midnight(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, day DATE NOT NULL)")
    mysql.insert("t", [(1, date(2026, 9, 30)), (2, date(2026, 10, 1)), (3, date(2026, 10, 2))])
    table = mysql.table("t", cursor="day")
    assert ids(mysql.extract(table, Interval(DAY, DAY + timedelta(days=1)))) == [2]
    assert ids(mysql.extract(table, Interval(DAY + TICK, DAY + timedelta(days=1)))) == []


def test_a_year_below_1000_is_a_bound_like_any_other(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, day DATE NOT NULL)")
    mysql.insert("t", [(1, "0999-12-31"), (2, "2026-10-01")])
    table = mysql.table("t", cursor="day")
    assert ids(mysql.extract(table, Interval(datetime(999, 1, 1, tzinfo=UTC), DAY))) == [1]


def test_an_interval_without_rows_has_the_schema_and_nothing_else(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME NOT NULL)")
    with mysql.source().extract(mysql.table("t", cursor="at"), Interval(DAY, None)) as extraction:
        assert extraction.schema.names == ["id", "at"]
        assert list(extraction.batches) == []


def test_rows_are_those_of_one_moment_though_a_writer_commits_meanwhile(
    many_rows: Database,
) -> None:
    with many_rows.source().extract(many_rows.table("t"), WHOLE_TABLE) as extraction:
        first = next(extraction.batches)
        many_rows.execute("DELETE FROM t WHERE id > 200000")
        many_rows.execute("UPDATE t SET v = 'changed' WHERE id % 1000 = 0")
        many_rows.execute("INSERT INTO t VALUES (2000000, 'late')")
        rows = pa.Table.from_batches([first, *extraction.batches])
    assert ids(rows) == list(range(1, MANY_ROWS + 1))
    assert set(rows["v"].to_pylist()) == {"x" * 60}


def test_the_check_for_null_cursors_sees_the_moment_of_the_rows(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME)")
    mysql.insert("t", [(1, "2026-10-01")])
    table = mysql.table("t", cursor="at")
    options = table.options.model_copy(update={"as_of_one_moment": True})
    table = replace(table, options=options)
    with mysql.source().extract(table, WHOLE_TABLE) as extraction:
        mysql.insert("t", [(2, None)])
        assert sum(batch.num_rows for batch in extraction.batches) == 1


@pytest.mark.parametrize("type_", ["LONGTEXT", "MEDIUMTEXT", "LONGBLOB", "JSON"])
@pytest.mark.parametrize("relation", ["t", "v"], ids=["table", "view"])
def test_long_values_make_small_batches(mysql: Database, type_: str, relation: str) -> None:
    mysql.execute(f"CREATE TABLE t (id INT PRIMARY KEY, v {type_})")
    mysql.execute("CREATE VIEW v AS SELECT * FROM t")
    # Short values come first, so that the long ones are not foreseen from them.
    mysql.execute(f"""INSERT INTO t SELECT seq, '"x"' FROM {mysql.seq(1, 5000)} s""")
    mysql.execute(
        f"""INSERT INTO t SELECT seq, CONCAT('"', REPEAT('x', {MEGABYTE}), '"') """
        f"FROM {mysql.seq(5001, 5080)} s"
    )
    with mysql.source().extract(mysql.table(relation), WHOLE_TABLE) as extraction:
        sizes = [(batch.num_rows, batch.nbytes) for batch in extraction.batches]
    assert sum(rows for rows, _ in sizes) == 5_080
    assert max(size for _, size in sizes) < 32 * MEGABYTE
    assert len(sizes) < 15


def test_long_geometries_make_small_batches(mysql: Database) -> None:
    # The server does not state the maximum length of a geometry.
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v LINESTRING)")
    points = f"CONCAT('LINESTRING(', REPEAT('0 0,', {MEGABYTE // 16}), '1 1)')"
    mysql.execute(f"INSERT INTO t SELECT seq, ST_GeomFromText({points}) FROM {mysql.seq(1, 40)} s")
    with mysql.source().extract(mysql.table("t"), WHOLE_TABLE) as extraction:
        sizes = [(batch.num_rows, batch.nbytes) for batch in extraction.batches]
    assert sum(rows for rows, _ in sizes) == 40
    assert sum(size for _, size in sizes) > 40 * MEGABYTE
    assert max(size for _, size in sizes) < 32 * MEGABYTE
    assert len(sizes) < 15


def test_short_rows_make_batches_of_a_bounded_number(many_rows: Database) -> None:
    with many_rows.source().extract(many_rows.table("t"), WHOLE_TABLE) as extraction:
        counts = [batch.num_rows for batch in extraction.batches]
    assert sum(counts) == MANY_ROWS
    assert max(counts) < 35_000
    # The last batch of a piece may be small.
    assert len(counts) < 20


def test_any_name_that_mysql_allows_is_read(mysql: Database) -> None:
    database = f"{mysql.name}`%s 데이터"
    quoted = database.replace("`", "``")
    names = ["id", "select", "a`b", "100%", "%s", "two words", "점수", 'say "hi"', "it's"]
    columns = ", ".join(f"`{name.replace('`', '``')}` INT NOT NULL" for name in names)
    values = ", ".join(str(at) for at in range(len(names)))
    mysql.execute(f"CREATE DATABASE `{quoted}`")
    try:
        mysql.execute(f"GRANT SELECT ON `{quoted}`.* TO '{mysql.server.reader_user}'@'127.0.0.1'")
        mysql.execute(f"CREATE TABLE `{quoted}`.`order``% 표` ({columns}, PRIMARY KEY (id))")
        mysql.execute(f"INSERT INTO `{quoted}`.`order``% 표` VALUES ({values})")
        table = mysql.table("placeholder")
        options = table.options.model_copy(update={"table": f"{database}.order`% 표"})
        rows = mysql.extract(replace(table, options=options))
    finally:
        mysql.execute(f"DROP DATABASE `{quoted}`")
    assert rows.to_pylist() == [{name: at for at, name in enumerate(names)}]


def test_a_cursor_of_any_name_bounds_an_interval(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, `at % ``시각` DATETIME NULL)")
    mysql.insert("t", [(1, "2026-09-30"), (2, "2026-10-01")])
    assert ids(mysql.extract(mysql.table("t", cursor="at % `시각"), Interval(DAY, None))) == [2]


def test_a_view_is_read_like_a_table(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME NOT NULL)")
    mysql.insert("t", [(1, "2026-09-30"), (2, "2026-10-01")])
    mysql.execute("CREATE VIEW v AS SELECT id, at, id * 2.5 AS more FROM t")
    rows = mysql.extract(mysql.table("v", cursor="at"), Interval(DAY, None))
    assert ids(rows) == [2]
    assert rows.schema.names == ["id", "at", "more"]


def test_columns_come_in_the_order_of_the_table(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (z INT, id INT PRIMARY KEY, a INT AS (z + 1) STORED)")
    mysql.execute("INSERT INTO t (z, id) VALUES (1, 2)")
    assert mysql.extract(mysql.table("t")).to_pylist() == [{"z": 1, "id": 2, "a": 2}]


@pytest.mark.parametrize(
    ("definition", "key"),
    [
        ("a INT, b INT, PRIMARY KEY (a, b)", ("a", "b")),
        ("a INT, b INT, PRIMARY KEY (a, b)", ("b", "a")),
        ("a INT NOT NULL, b INT NOT NULL, UNIQUE (b)", ("b",)),
        # A key with more columns than needed still identifies a row.
        ("a INT PRIMARY KEY, b INT", ("a", "b")),
    ],
)
def test_a_key_of_the_table_is_accepted(
    mysql: Database, definition: str, key: tuple[str, ...]
) -> None:
    mysql.execute(f"CREATE TABLE t ({definition})")
    mysql.insert("t", [(1, 2)])
    assert mysql.extract(mysql.table("t", primary_key=key)).num_rows == 1


@pytest.mark.parametrize(
    ("definition", "key", "way_out"),
    [
        ("a INT, b INT, PRIMARY KEY (a, b)", ("a",), "Declare one of its keys: a, b"),
        ("a INT, b INT", ("a",), "Add the key in MySQL"),
        ("a INT NOT NULL, b INT NOT NULL, KEY (a)", ("a",), "Add the key in MySQL"),
        # A unique key lets any number of rows have NULL.
        ("a INT NULL, b INT, UNIQUE (a)", ("a",), "Add the key in MySQL"),
        ("a INT PRIMARY KEY, b INT", ("c",), "its columns: a, b"),
    ],
)
def test_a_key_that_names_no_row_is_refused(
    mysql: Database, definition: str, key: tuple[str, ...], way_out: str
) -> None:
    mysql.execute(f"CREATE TABLE t ({definition})")
    with pytest.raises(SourceMismatch, match="declared as its primary_key") as refused:
        mysql.extract(mysql.table("t", primary_key=key))
    assert way_out in refused.value.fix


def test_a_cursor_with_nulls_is_refused(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME NULL)")
    mysql.insert("t", [(1, "2026-10-01"), (2, None)])
    with pytest.raises(SourceMismatch, match="cursor 'at' is NULL"):
        mysql.extract(mysql.table("t", cursor="at"))


def test_a_cursor_that_is_no_time_is_refused(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, at VARCHAR(20))")
    with pytest.raises(SourceMismatch, match="not a date or time"):
        mysql.extract(mysql.table("t", cursor="at"))


def test_a_table_that_is_not_there_is_named_with_its_database(mysql: Database) -> None:
    with pytest.raises(SourceMismatch, match=f"no table {mysql.name}.t that"):
        mysql.extract(mysql.table("t"))


def test_a_table_without_a_database_is_refused(mysql: Database) -> None:
    extraction = mysql.source(schema=None).extract(mysql.table("t"), WHOLE_TABLE)
    with pytest.raises(SourceMismatch, match="names no database"), extraction:
        pass


def test_a_connection_that_is_killed_leaves_no_manifest(
    many_rows: Database, tmp_path: Path
) -> None:
    landing = Landing(tmp_path.as_uri())
    source, table = many_rows.source(), many_rows.table("t")

    def kill(rows: int, size: int, expected: int | None) -> None:
        for number in readers(many_rows):
            many_rows.execute(f"KILL {number}")

    with (
        pytest.raises(SourceUnavailable, match="cannot be read") as refused,
        source.extract(table, WHOLE_TABLE) as extraction,
    ):
        landing.write(Batch(table.key), extraction.schema, extraction.batches, progress=kill)
    assert "nothing was loaded" in refused.value.fix
    assert refused.value.may_pass
    assert not list(tmp_path.rglob("manifest.json"))


def test_a_query_that_is_killed_is_no_shorter_table(many_rows: Database) -> None:
    # A view is read by one query.
    many_rows.execute("CREATE VIEW v AS SELECT * FROM t")

    def kill_and_read_on() -> None:
        with many_rows.source().extract(many_rows.table("v"), WHOLE_TABLE) as extraction:
            next(extraction.batches)
            for number in readers(many_rows):
                many_rows.execute(f"KILL QUERY {number}")
            list(extraction.batches)

    with pytest.raises(SourceUnavailable):
        kill_and_read_on()


@pytest.mark.parametrize("read", [0, 1], ids=["before the first batch", "after the first batch"])
def test_an_extraction_is_abandoned_at_once(mysql: Database, read: int) -> None:
    mysql.execute(f"CREATE VIEW endless AS {endless(mysql)}")
    began = time.monotonic()
    with mysql.source().extract(mysql.table("endless"), WHOLE_TABLE) as extraction:
        for _ in range(read):
            next(extraction.batches)
        left = time.monotonic()
    assert time.monotonic() - left < 1
    del extraction
    gc.collect()
    assert time.monotonic() - began < 10
    # The server, too, stops working for a reader that has left.
    assert eventually(lambda: not readers(mysql))


def test_an_error_in_the_reader_passes_through_and_ends_the_query(mysql: Database) -> None:
    mysql.execute(f"CREATE VIEW endless AS {endless(mysql)}")

    def fail() -> None:
        with mysql.source().extract(mysql.table("endless"), WHOLE_TABLE) as extraction:
            next(extraction.batches)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert eventually(lambda: not readers(mysql))


def test_a_dropped_column_is_never_asked_for(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, secret VARCHAR(20), v INT)")
    mysql.insert("t", [(1, "s3cret", 2)])
    mysql.execute("SET GLOBAL log_output = 'TABLE'")
    mysql.execute("SET GLOBAL general_log = ON")
    try:
        rows = mysql.extract(mysql.table("t"), without=frozenset({"secret"}))
    finally:
        mysql.execute("SET GLOBAL general_log = OFF")
    queries = [
        query
        for (query,) in mysql.rows("SELECT CAST(argument AS CHAR) FROM mysql.general_log")
        if f"`{mysql.name}`" in query
    ]
    assert rows.to_pylist() == [{"id": 1, "v": 2}]
    query = f"SELECT `id`, `v` FROM `{mysql.name}`.`t`"
    assert query in queries
    assert not [query for query in queries if "secret" in query and "INSERT" not in query]


def test_a_misspelt_column_to_drop_is_refused_rather_than_read(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, Email VARCHAR(20))")
    with pytest.raises(SourceMismatch, match=r"no column 'email', which is declared as left out"):
        mysql.extract(mysql.table("t"), without=frozenset({"email"}))


def test_a_refused_user_is_told_which_connection_to_correct(mysql: Database) -> None:
    with pytest.raises(SourceRefused, match="refuses the user 'millrace_reader'") as refused:
        mysql.source(password="wrong").check()
    assert "'mysql_prod'" in refused.value.fix
    assert "wrong" not in str(refused.value)


def test_a_missing_database_is_named(mysql: Database) -> None:
    with pytest.raises((SourceMismatch, SourceRefused), match="nowhere"):
        mysql.source(schema="nowhere").check()


def test_a_server_that_is_down_is_named_by_its_address(mysql: Database) -> None:
    port = free_port(0)
    with pytest.raises(SourceUnavailable, match=f"127.0.0.1:{port}") as refused:
        mysql.source(port=port).check()
    assert "Check that the server runs" in refused.value.fix


def test_a_missing_grant_is_named(mysql: Database) -> None:
    mysql.execute("CREATE TABLE base (id INT PRIMARY KEY)")
    mysql.execute(f"CREATE DATABASE {mysql.name}_private")
    try:
        mysql.execute(f"CREATE TABLE {mysql.name}_private.t (id INT PRIMARY KEY)")
        with pytest.raises(SourceMismatch, match="that 'millrace_reader' may read") as refused:
            mysql.extract(mysql.table(f"{mysql.name}_private.t"))
    finally:
        mysql.execute(f"DROP DATABASE {mysql.name}_private")
    assert "grant SELECT" in refused.value.fix


@pytest.mark.parametrize(
    "extra",
    [
        {"ssl_mode": "REQUIRED"},
        {"ssl_mode": "VERIFY_IDENTITY"},
        {"ssl": {"ca": "/nowhere/ca.pem"}},
        {"ssl": '{"ca": "/nowhere/ca.pem"}'},
        {"ssl": "true"},
    ],
    ids=str,
)
def test_a_server_without_tls_is_refused_where_tls_is_demanded(
    mysql: Database, extra: dict[str, Any]
) -> None:
    with pytest.raises(SourceUnavailable, match=r"does not (encrypt|support it)"):
        mysql.source(extra=extra).check()


@pytest.mark.parametrize("extra", [{"ssl_mode": "DISABLED"}, {"ssl_mode": "PREFERRED"}], ids=str)
def test_a_server_without_tls_is_read_where_tls_is_not_demanded(
    mysql: Database, extra: dict[str, Any]
) -> None:
    mysql.source(extra=extra).check()


def test_ssl_that_is_not_json_is_refused(mysql: Database) -> None:
    with pytest.raises(ConnectionNotFound, match="its extra `ssl` is not JSON"):
        mysql.source(extra={"ssl": "{ca: x}"}).check()


def test_localhost_with_a_port_means_that_port(mysql: Database) -> None:
    mysql.source(host="localhost").check()


def test_a_socket_is_taken_before_the_host(mysql: Database) -> None:
    with pytest.raises(SourceUnavailable, match=r"/nowhere/mysqld\.sock"):
        mysql.source(extra={"unix_socket": "/nowhere/mysqld.sock"}).check()


def test_a_table_is_looked_up_once_for_a_batch(
    mysql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME NOT NULL)")
    mysql.insert("t", [(1, "2026-09-30")])
    looked_up = []
    find = Relation.find

    def counted(*arguments: Any) -> Relation:
        looked_up.append(arguments)
        return find(*arguments)

    monkeypatch.setattr(Relation, "find", counted)
    source, table = mysql.source(), mysql.table("t", cursor="at")

    def batch() -> list[str]:
        closing = source.closed(table, Interval(None, DAY))
        assert closing.held_by is None
        ranges = source.ranges(table, Interval(None, DAY))
        with source.extract(table, Interval(None, DAY), ranges=ranges) as extraction:
            assert sum(found.num_rows for found in extraction.batches) == 1
            return list(extraction.schema.names)

    assert batch() == ["id", "at"]
    assert len(looked_up) == 1
    # The next batch sees what has changed since.
    mysql.execute("ALTER TABLE t ADD COLUMN note VARCHAR(20)")
    assert batch() == ["id", "at", "note"]
    assert len(looked_up) == 2
