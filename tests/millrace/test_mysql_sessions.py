"""A session with a MySQL server: it sees every row as it is stored, and every wait ends."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import MySQLdb
import pytest

from millrace.batch import WHOLE_TABLE, Interval
from millrace.errors import (
    ConnectionNotFound,
    RowsMissing,
    SourceFailed,
    SourceMismatch,
    SourceRefused,
    SourceUnavailable,
)
from millrace.sources.mysql import session as mysql_session
from millrace.sources.mysql.session import SETTINGS
from tests.proxy import FaultProxy

if TYPE_CHECKING:
    from millrace.sources.mysql.source import MySQLSource
    from tests.millrace.conftest import Database, Workspace

pytestmark = [pytest.mark.service, pytest.mark.both_servers]

# Settings


@contextmanager
def set_globally(mysql: Database, **values: str) -> Iterator[None]:
    before = {name: mysql.rows(f"SELECT @@global.{name}")[0][0] for name in values}
    for name, value in values.items():
        mysql.execute(f"SET GLOBAL {name} = {value}")
    try:
        yield
    finally:
        for name, value in before.items():
            mysql.execute(f"SET GLOBAL {name} = %s", (value,))


@contextmanager
def at_login(mysql: Database, statement: str) -> Iterator[None]:
    mysql.execute("SET GLOBAL init_connect = %s", (statement,))
    try:
        yield
    finally:
        mysql.execute("SET GLOBAL init_connect = ''")


def change(mysql: Database, where: str, name: str, value: str) -> Any:
    if where == "globally":
        return set_globally(mysql, **{name: value})
    return at_login(mysql, f"SET SESSION {name} = {value}")


@pytest.fixture
def rows(mysql: Database) -> Database:
    mysql.execute(
        "CREATE TABLE t (id INT PRIMARY KEY, padded CHAR(8), text VARCHAR(20), "
        "at TIMESTAMP NOT NULL)"
    )
    mysql.execute("SET SESSION time_zone = '+00:00'")
    mysql.insert("t", [(at, "a", "é\\'ü", "2026-01-01 12:00:00") for at in range(50)])
    return mysql


@pytest.mark.parametrize("where", ["globally", "at login"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sql_select_limit", "7"),
        ("sql_mode", "'PAD_CHAR_TO_FULL_LENGTH'"),
        ("sql_mode", "'NO_BACKSLASH_ESCAPES,ANSI_QUOTES,PIPES_AS_CONCAT,HIGH_NOT_PRECEDENCE'"),
        ("time_zone", "'-07:00'"),
        ("group_concat_max_len", "16"),
        ("character_set_results", "latin1"),
        ("net_write_timeout", "1"),
    ],
)
def test_a_setting_of_the_server_changes_no_row(
    rows: Database, where: str, name: str, value: str
) -> None:
    expected = rows.extract(rows.table("t")).to_pylist()
    assert len(expected) == 50
    with change(rows, where, name, value):
        found = rows.extract(rows.table("t")).to_pylist()
        bounded = rows.extract(
            rows.table("t", cursor="at"),
            Interval(expected[0]["at"], expected[0]["at"] + timedelta(1)),
        )
    assert found == expected
    assert bounded.num_rows == 50


@pytest.mark.parametrize(
    "statement",
    ["SET autocommit = 0", "SET timestamp = 1000", "SET NAMES latin1", "SET sql_auto_is_null = 1"],
)
def test_what_is_set_at_login_changes_no_row(rows: Database, statement: str) -> None:
    expected = rows.extract(rows.table("t")).to_pylist()
    before = rows.rows("SELECT UTC_TIMESTAMP()")[0][0]
    with at_login(rows, statement):
        assert rows.extract(rows.table("t")).to_pylist() == expected
        closed = rows.source().closed(rows.table("t", cursor="at"), Interval())
    assert closed.end.replace(tzinfo=None) >= before


def test_a_long_group_of_a_view_is_not_cut(mysql: Database) -> None:
    mysql.execute(f"CREATE TABLE t AS SELECT seq AS id, 'word' AS v FROM {mysql.seq(1, 1000)} s")
    mysql.execute("CREATE VIEW v AS SELECT 1 AS id, GROUP_CONCAT(v) AS vs FROM t")
    ((found,),) = [tuple(row.values())[1:] for row in mysql.extract(mysql.table("v")).to_pylist()]
    assert len(found) == 4_999


# How the names of session variables begin that change no row and no value that is read. When a
# server has a new variable, a person decides whether it belongs here or in SETTINGS.
HARMLESS = (
    # How fast the server reads, not what.
    *("optimizer_", "join_", "sort_buffer", "read_", "max_heap", "tmp_", "big_tables", "eq_range"),
    *("max_length_for_sort", "max_seeks", "range_", "histogram", "use_stat", "analyze_", "bulk_"),
    *("preload", "myisam_", "aria_", "mrr_", "progress", "query_", "parser_", "select_into_buffer"),
    *("set_operations", "internal_tmp", "rowid_", "in_predicate", "expensive_", "low_priority"),
    *("sql_buffer_result", "thread_pool", "max_rowid", "innodb_parallel", "min_examined", "div_"),
    *("use_secondary", "secondary_engine", "temptable", "column_compression", "idle_", "stack"),
    *("information_schema_stats", "offline_mode", "restrict_fk", "immediate_server"),
    # What the server writes, logs or replicates: we only read.
    *("binlog_", "gtid_", "sql_log_", "insert_id", "last_insert_id", "log_", "slow_", "long_query"),
    *(
        "unique_checks",
        "foreign_key_checks",
        "check_constraint",
        "default_storage",
        "storage_engine",
    ),
    *("default_tmp", "default_table", "innodb_", "sql_safe", "auto_increment", "pseudo_", "skip_"),
    *(
        "sql_require",
        "sql_generate",
        "sql_quote",
        "require_row",
        "explicit_defaults",
        "transaction_",
    ),
    *(
        "tx_",
        "completion_type",
        "rbr_",
        "server_id",
        "original_",
        "ndb",
        "lock_",
        "low_",
        "enforce_",
    ),
    *("alter_", "create_", "new", "rocksdb", "session_track", "debug", "profiling", "last_gtid"),
    *("system_versioning_alter", "system_versioning_insert", "show_create", "slave_", "replica_"),
    *("generated_random", "xa_detach", "print_identified", "terminology", "migration", "warning"),
    *("wsrep_", "default_master", "updatable_views", "strict_password", "partial_revokes"),
    # How the client and the server speak, and for how long; waits have their own bounds.
    *("net_", "interactive_timeout", "wait_timeout", "max_allowed", "max_error", "error_count"),
    *("sql_notes", "note_", "connection_", "select_for", "kill_", "protocol", "external_user"),
    *("proxy_user", "identity", "in_transaction", "license", "hostname", "locked_", "have_", "ssl"),
    *(
        "character_set",
        "collation",
        "default_collation",
        "max_insert",
        "max_tmp",
        "max_user",
        "max_sp",
    ),
    *("max_delayed", "max_write", "global_connection", "max_digest", "mysqlx", "max_password"),
    *("performance_schema", "default_regex", "rand_seed", "sql_warnings", "default_password"),
    *("max_session", "metadata_locks", "table_", "open_", "flush", "timed_mutexes", "metadata"),
    *("keep_files", "delay_key", "deadlock", "ft_", "sql_log", "expand_fast", "tls", "cte_max"),
    # What views compute: they do so by the server's own settings, as its owner sees them.
    *("default_week_format", "lc_", "block_encryption", "old", "windowing_use", "sql_if_exists"),
    *("max_sort_length", "max_join_size", "max_points", "show_", "explain_", "end_markers"),
    *("json_", "regexp_", "group_", "case", "error_", "profiling", "userstat", "max_statement_mem"),
    *("max_relay", "sql_slave", "standard_compliant", "tcp_nodelay", "enable_", "external_table"),
    *("select_into",),
    *("redirect_url", "tmp_memory", "optimizer", "sequence", "session_", "spider", "sysdate"),
)


def test_every_session_variable_of_the_server_is_judged(mysql: Database) -> None:
    unknown = []
    for name, *_ in mysql.rows("SHOW SESSION VARIABLES"):
        if name in SETTINGS or name in {"sql_select_limit", "time_format", "date_format"}:
            continue
        try:
            mysql.execute(f"SET SESSION {name} = DEFAULT")
        except MySQLdb.Error as error:
            # A global variable, or a read-only one; a name that begins with SESSION may be either.
            if error.args[0] in {1229, 1238, 1193, 1621, 1231}:
                continue
        if not name.startswith(HARMLESS):
            unknown.append(name)
    assert not unknown, ", ".join(unknown)


def test_a_result_that_is_cut_on_its_way_is_not_landed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This holds whatever cuts it, be it a proxy or a setting that nobody knows yet."""
    monkeypatch.setattr(mysql_session, "_settle", lambda session: None)
    workspace.mysql.execute("SET GLOBAL sql_select_limit = 1")
    try:
        pipeline = workspace.pipeline
        table = replace(pipeline.catalog.table("mysql.users"), pii={})
        batch = pipeline.plan(table)
        assert batch
        with pytest.raises(RowsMissing, match=r"1 rows were read .* counts 2"):
            pipeline.extract(table, batch)
    finally:
        workspace.mysql.execute("SET GLOBAL sql_select_limit = DEFAULT")
    assert not list(workspace.landing_folder.rglob("manifest.json"))


# Types and keys of MySQL's own


def only_mysql(mysql: Database) -> None:
    if mysql.is_mariadb:
        pytest.skip("a feature of MySQL's")


def test_a_vector_is_refused_by_name_and_can_be_left_out(mysql: Database) -> None:
    only_mysql(mysql)
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v VECTOR(3))")
    mysql.execute("INSERT INTO t VALUES (1, TO_VECTOR('[1,2,3]'))")
    with pytest.raises(SourceMismatch, match=r"column v is of the type vector\(3\)") as refused:
        mysql.extract(mysql.table("t"))
    assert "ingest: false" in refused.value.fix
    table = replace(mysql.table("t"), not_ingested=frozenset({"v"}))
    assert mysql.extract(table, without=table.left_out).to_pylist() == [{"id": 1}]


def test_an_invisible_primary_key_names_a_row(mysql: Database) -> None:
    only_mysql(mysql)
    mysql.execute("SET SESSION sql_generate_invisible_primary_key = ON")
    mysql.execute("CREATE TABLE t (v INT)")
    mysql.execute("INSERT INTO t VALUES (7)")
    with set_globally(mysql, show_gipk_in_create_table_and_information_schema="OFF"):
        found = mysql.extract(mysql.table("t", primary_key=("my_row_id",)))
    assert found.to_pylist() == [{"my_row_id": 1, "v": 7}]


def test_an_index_of_an_expression_is_no_key(mysql: Database) -> None:
    only_mysql(mysql)
    mysql.execute("CREATE TABLE t (id INT, v VARCHAR(9), UNIQUE ((UPPER(v))), KEY (id DESC))")
    with pytest.raises(SourceMismatch, match="declared as its primary_key"):
        mysql.extract(mysql.table("t", primary_key=("v",)))


def test_json_comes_as_the_server_prints_it(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v JSON)")
    mysql.execute("""INSERT INTO t VALUES (1, '{"b": 1.10, "a": [true, null, "é\\\\n"]}')""")
    ((printed,),) = mysql.rows("SELECT v FROM t")
    assert mysql.extract(mysql.table("t"))["v"].to_pylist() == [printed]


def test_an_account_of_mysqls_own_kind_logs_in_without_tls(mysql: Database) -> None:
    only_mysql(mysql)
    ((plugin,),) = mysql.rows(
        f"SELECT plugin FROM mysql.user WHERE user = '{mysql.server.reader_user}'"
    )
    assert plugin == "caching_sha2_password"
    # The server forgets the password's hash, so the log-in needs the server's public key.
    mysql.execute("FLUSH PRIVILEGES")
    assert "MySQL" in mysql.source().check()


def test_a_table_without_any_key_is_read_whole(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (a INT NULL, b INT)")
    mysql.insert("t", [(1, 2), (1, 2), (None, 3)])
    found = mysql.extract(mysql.table("t", primary_key=()))
    assert sorted(map(str, found.to_pylist())) == sorted(
        map(str, [{"a": 1, "b": 2}, {"a": 1, "b": 2}, {"a": None, "b": 3}])
    )


PERIOD = (
    ", since TIMESTAMP(6) GENERATED ALWAYS AS ROW START, until TIMESTAMP(6) "
    "GENERATED ALWAYS AS ROW END, PERIOD FOR SYSTEM_TIME (since, until)"
)


@pytest.mark.parametrize("period", ["", PERIOD], ids=["unnamed", "named"])
def test_a_versioned_table_is_read_as_it_is_now(mysql: Database, period: str) -> None:
    if not mysql.is_mariadb:
        pytest.skip("a feature of MariaDB's")
    mysql.execute(f"CREATE TABLE t (id INT PRIMARY KEY, v INT{period}) WITH SYSTEM VERSIONING")
    mysql.execute("INSERT INTO t (id, v) VALUES (1, 1), (2, 2)")
    mysql.execute("UPDATE t SET v = 3 WHERE id = 1")
    mysql.execute("DELETE FROM t WHERE id = 2")
    with at_login(mysql, "SET SESSION system_versioning_asof = '2000-01-01'"):
        found = mysql.extract(mysql.table("t"))
    assert [(row["id"], row["v"]) for row in found.to_pylist()] == [(1, 3)]


# Errors


@pytest.mark.parametrize(
    ("view", "says"),
    [
        ("SELECT id, CAST(18446744073709551615 AS UNSIGNED) + id AS v FROM t", "1690"),
        ("SELECT id, (SELECT id FROM t) AS v FROM t", "1242"),
    ],
    ids=["a number out of range", "more than one row"],
)
def test_an_error_of_the_data_is_no_outage(mysql: Database, view: str, says: str) -> None:
    mysql.execute("CREATE TABLE t (id INT UNSIGNED PRIMARY KEY)")
    mysql.insert("t", [(1,), (2,)])
    mysql.execute(f"CREATE VIEW v AS {view}")
    with pytest.raises(SourceFailed, match=says) as failed:
        mysql.extract(mysql.table("v"))
    assert not failed.value.may_pass


def test_a_view_that_cannot_be_opened_says_why(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    mysql.execute("CREATE VIEW v AS SELECT id FROM t")
    mysql.execute("DROP TABLE t")
    with pytest.raises(SourceFailed, match="references invalid table") as failed:
        mysql.extract(mysql.table("v"))
    assert not failed.value.may_pass


def test_a_view_without_its_definer_is_not_a_wrong_password(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    mysql.execute("CREATE DEFINER = 'gone'@'localhost' VIEW v AS SELECT id FROM t")
    with pytest.raises(SourceRefused) as refused:
        mysql.extract(mysql.table("v"))
    assert "definer" in refused.value.fix
    assert "password" not in refused.value.fix


def test_a_server_that_has_no_prepared_statement_left_says_so(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    with (
        set_globally(mysql, max_prepared_stmt_count="0"),
        pytest.raises(SourceUnavailable, match="max_prepared_stmt_count") as failed,
    ):
        mysql.extract(mysql.table("t"))
    assert failed.value.may_pass


@pytest.mark.parametrize("value", ["soon", "0", "-1", 1.5, None])
def test_a_time_out_that_is_no_number_is_refused(mysql: Database, value: Any) -> None:
    with pytest.raises(ConnectionNotFound, match="read_timeout"):
        mysql.source(extra={"read_timeout": value}).check()


# Silence

SECONDS = 3


@pytest.fixture
def line(mysql: Database) -> Iterator[FaultProxy]:
    with FaultProxy(mysql.server.host, mysql.server.port) as proxy:
        yield proxy


def behind(mysql: Database, line: FaultProxy, read_timeout: int = SECONDS) -> MySQLSource:
    extra = {"read_timeout": read_timeout}
    return mysql.source(host=line.host, port=line.port, extra=extra)


@pytest.fixture
def many(mysql: Database) -> Database:
    mysql.execute(
        f"CREATE TABLE t AS SELECT seq AS id, REPEAT('x', 200) AS v FROM {mysql.seq(1, 200_000)} s"
    )
    mysql.execute("ALTER TABLE t ADD PRIMARY KEY (id)")
    return mysql


def read(source: MySQLSource, mysql: Database) -> Callable[[], int]:
    def run() -> int:
        with source.extract(mysql.table("t"), WHOLE_TABLE) as extraction:
            return sum(batch.num_rows for batch in extraction.batches)

    return run


@pytest.mark.parametrize("silence", ["stall", "half_open"])
@pytest.mark.parametrize(
    "after", [0, 100, 2_000, 5_000_000], ids=["at once", "in the greeting", "asking", "reading"]
)
def test_a_server_that_goes_silent_is_given_up(
    many: Database,
    line: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    silence: str,
    after: int,
) -> None:
    monkeypatch.setattr(mysql_session, "_CONNECT_SECONDS", SECONDS)
    getattr(line, silence)(after=after)
    began = time.monotonic()
    with pytest.raises(SourceUnavailable) as failed:
        read(behind(many, line), many)()
    assert time.monotonic() - began < 10 * SECONDS
    assert failed.value.may_pass


class Alarm(Exception):
    pass


@pytest.mark.parametrize("after", [2_000, 5_000_000], ids=["asking", "reading"])
@pytest.mark.parametrize("how", ["Ctrl-C", "a task's time-out"])
def test_who_waits_for_a_silent_server_can_be_interrupted(
    many: Database, line: FaultProxy, after: int, how: str
) -> None:
    line.stall(after=after)
    number, error = (
        (signal.SIGINT, KeyboardInterrupt) if how == "Ctrl-C" else (signal.SIGALRM, Alarm)
    )

    def ring(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    timer = threading.Timer(1.5, os.kill, (os.getpid(), number))
    timer.start()
    began = time.monotonic()
    try:
        with pytest.raises(error):
            read(behind(many, line, read_timeout=300), many)()
    finally:
        timer.join()
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - began < 30


def test_a_server_that_is_slow_and_speaks_is_waited_for(many: Database, line: FaultProxy) -> None:
    line.throttle(8_000_000)
    assert read(behind(many, line), many)() == 200_000


def test_an_end_of_the_extraction_does_not_wait_for_a_dead_server(
    many: Database, line: FaultProxy
) -> None:
    began = time.monotonic()
    source = behind(many, line, read_timeout=300)
    with source.extract(many.table("t"), WHOLE_TABLE) as extraction:
        next(extraction.batches)
        line.stall()
    assert time.monotonic() - began < 10


def test_a_lock_on_the_table_is_waited_for_with_a_bound(
    mysql: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SETTINGS, "lock_wait_timeout", "1")
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY)")
    mysql.execute("LOCK TABLES t WRITE")
    try:
        with pytest.raises(SourceUnavailable, match="1205"):
            mysql.extract(mysql.table("t"))
    finally:
        mysql.execute("UNLOCK TABLES")
