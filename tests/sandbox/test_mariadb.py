from __future__ import annotations

import shutil
import socket
from contextlib import closing
from pathlib import Path

import MySQLdb
import pytest

from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import LOOPBACK, SandboxError

pytestmark = pytest.mark.service


def query(server, user: str, password: str, sql: str, database: str = ""):
    connection = MySQLdb.connect(
        host=server.host, port=server.port, user=user, passwd=password, database=database
    )
    with closing(connection), closing(connection.cursor()) as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def test_only_accounts_with_a_password_come_in_over_tcp(mariadb: MariaDB):
    server = mariadb.server
    for user, password in [("root", ""), ("", ""), (server.admin_user, ""), ("root", "root")]:
        with pytest.raises(MySQLdb.OperationalError, match="Access denied"):
            query(server, user, password, "select 1")


def test_the_reader_may_read_and_nothing_else(mariadb: MariaDB, database: str):
    server = mariadb.server
    reader = (server.reader_user, server.reader_password)
    admin = (server.admin_user, server.admin_password)
    query(server, *admin, "create table t (id int)", database)
    assert query(server, *reader, "select * from t", database) == ()
    for sql in ("insert into t values (1)", "drop table t", "lock tables t read"):
        with pytest.raises(MySQLdb.OperationalError, match="denied"):
            query(server, *reader, sql, database)
    with pytest.raises(MySQLdb.OperationalError, match="denied"):
        query(server, *reader, "select * from mysql.global_priv")


def test_the_server_speaks_utf8_and_utc(mariadb: MariaDB):
    server = mariadb.server
    settings = query(
        server,
        server.admin_user,
        server.admin_password,
        "select @@character_set_server, @@global.time_zone, @@log_bin",
    )
    assert settings == (("utf8mb4", "+00:00", 0),)


def test_secrets_are_private_and_stay_out_of_the_repr(mariadb: MariaDB, sandbox_paths):
    server = mariadb.server
    assert server.admin_password not in repr(server)
    assert server.admin_password != server.reader_password
    for name in ("server.json", "accounts.sql"):
        assert (sandbox_paths.mariadb / name).stat().st_mode & 0o777 == 0o600
    assert server.reader_uri().endswith(f"@127.0.0.1:{server.port}/prod")


def test_a_restart_keeps_data_and_passwords_and_evades_a_taken_port(tmp_path: Path):
    # Longer than a Unix socket's path may be.
    paths = SandboxPaths(tmp_path / ("long" * 30))
    mariadb = MariaDB(paths, port=0)
    try:
        first = mariadb.start()
        admin = (first.admin_user, first.admin_password)
        query(first, *admin, "create database kept")
        assert mariadb.start() == first
        assert str(first.port) in mariadb.status
        mariadb.stop()
        assert mariadb.status == "stopped"
        with socket.create_server((LOOPBACK, first.port)):
            second = MariaDB(paths, port=first.port).start()
        assert second.port != first.port
        assert ("kept",) in query(second, *admin, "show databases")
    finally:
        mariadb.stop()


def test_a_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SandboxError, match="apt-get install mariadb-server"):
        MariaDB(SandboxPaths(tmp_path)).start()


def test_a_server_that_was_never_started_says_so(tmp_path: Path):
    mariadb = MariaDB(SandboxPaths(tmp_path))
    assert mariadb.status == "stopped"
    with pytest.raises(SandboxError, match="never started"):
        _ = mariadb.server


def test_a_broken_data_folder_shows_the_servers_log(tmp_path: Path):
    paths = SandboxPaths(tmp_path)
    (paths.mariadb / "data").mkdir(parents=True)
    (paths.mariadb / "data" / "ibdata1").write_text("not a tablespace")
    mariadb = MariaDB(paths, port=0)
    with pytest.raises(SandboxError, match=r"(?s)mariadb died.*mariadb\.log.*\[ERROR\] InnoDB"):
        mariadb.start()
    assert not mariadb.is_running()
