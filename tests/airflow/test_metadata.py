"""Backups of a metadata database: whole or none, and every failure explained."""

from __future__ import annotations

import os
import re
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import SHUT_RDWR, create_connection, socket

import psycopg
import pytest
from airflow.utils.db_cleanup import config_dict

from millrace.airflow.metadata import BACKUPS, CLEANED, MySQL, PostgreSQL, back_up, database_of
from millrace.connections import Connection
from millrace.errors import MetadataRefused, MetadataUnavailable, MillraceError, NotInstalled
from millrace.landing.landing import Landing
from millrace.landing.objects import Objects
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.postgres import SUPERUSER, Postgres
from redshift_standin.ports import LOOPBACK, free_port

pytestmark = pytest.mark.service

NOW = datetime(2026, 11, 26, 4, tzinfo=UTC)
KEEP = timedelta(days=14)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    paths = SandboxPaths(tmp_path_factory.mktemp("postgres"))
    paths.create()
    server = Postgres("metadata", paths, paths.root / "metadata")
    try:
        server.start()
        server.create("airflow")
        with psycopg.connect(server.url("airflow", "postgresql")) as connection:
            connection.execute("create table dag_run as select generate_series(1, 1000) as id")
        yield server
    finally:
        server.stop()


@pytest.fixture
def database(server: Postgres) -> PostgreSQL:
    password = re.search(r":([^:@]+)@", server.url("airflow", "postgresql"))
    port = server.url("airflow", "postgresql").rpartition(":")[2].partition("/")[0]
    assert password
    account = (LOOPBACK, int(port), SUPERUSER, password[1], "airflow")
    return PostgreSQL(Connection("airflow_metadata", "postgres", *account))


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return Landing((tmp_path / "landing").as_uri()).objects


def kept(objects: Objects) -> list[str]:
    return sorted(found.path for found in objects.below(BACKUPS))


def test_a_backup_restores_what_was_there(
    server: Postgres, database: PostgreSQL, objects: Objects, tmp_path: Path
) -> None:
    made = back_up(database, objects, KEEP, NOW)
    assert kept(objects) == [made.path] == [f"{BACKUPS}/20261126T040000Z.dump"]
    server.create("fresh")
    url = server.url("fresh", "postgresql")
    dump = tmp_path / "landing" / made.path
    assert made.size == dump.stat().st_size
    subprocess.run(["pg_restore", "--no-owner", f"--dbname={url}", dump], check=True)
    with psycopg.connect(url) as connection:
        assert connection.execute("select count(*) from dag_run").fetchone() == (1000,)


def test_backups_are_kept_for_their_time_and_what_is_no_backup_for_ever(
    database: PostgreSQL, objects: Objects
) -> None:
    for name in ("20261112T035959Z.dump", "20261112T040000Z.dump", "before-the-upgrade.dump"):
        objects.put(f"{BACKUPS}/{name}", (part for part in (b"x",)))
    made = back_up(database, objects, KEEP, NOW)
    assert made.removed == (f"{BACKUPS}/20261112T035959Z.dump",)
    assert [path.rpartition("/")[2] for path in kept(objects)] == [
        *("20261112T040000Z.dump", "20261126T040000Z.dump", "before-the-upgrade.dump"),
    ]


def test_the_password_is_not_among_the_arguments(
    database: PostgreSQL, objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "pg_dump"
    program = subprocess.run(["which", "pg_dump"], capture_output=True, text=True, check=True)
    shim.write_text(
        f'#!/bin/sh\ntr "\\0" " " </proc/$$/cmdline >{tmp_path}/arguments\n'
        f'exec {program.stdout.strip()} "$@"\n'
    )
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    back_up(database, objects, KEEP)
    arguments = (tmp_path / "arguments").read_text()
    assert "--format=custom" in arguments
    assert str(database.connection.password) not in arguments


def refused(database: PostgreSQL, objects: Objects, kind: type[MillraceError]) -> MillraceError:
    """How a backup fails; it leaves none, and the old ones stay."""
    old = f"{BACKUPS}/20200101T000000Z.dump"
    objects.put(old, (part for part in (b"x",)))
    with pytest.raises(kind) as failed:
        back_up(database, objects, KEEP, NOW)
    assert kept(objects) == [old]
    assert str(database.connection.password) not in str(failed.value)
    return failed.value


def with_(database: PostgreSQL, **changes: object) -> PostgreSQL:
    return PostgreSQL(replace(database.connection, **changes))  # type: ignore[arg-type]


def test_a_wrong_password_is_refused(database: PostgreSQL, objects: Objects) -> None:
    error = refused(with_(database, password="wrong-as-can-be"), objects, MetadataRefused)
    assert "password authentication failed" in error.message
    assert "airflow_metadata" in error.fix


def test_a_server_that_is_down_may_come_again(database: PostgreSQL, objects: Objects) -> None:
    error = refused(with_(database, port=free_port(0)), objects, MetadataUnavailable)
    assert error.may_pass


def test_a_program_that_is_missing_is_named_with_its_package(
    database: PostgreSQL, objects: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    error = refused(database, objects, NotInstalled)
    assert "pg_dump" in error.message
    assert "postgresql-client" in error.fix


class Newer(socketserver.BaseRequestHandler):
    """Passes PostgreSQL's answers on, as those of version 99."""

    port: int

    def handle(self) -> None:
        with create_connection((LOOPBACK, self.port)) as server:
            back = threading.Thread(target=self._answers, args=(server,))
            back.start()
            while data := self.request.recv(65536):
                server.sendall(data)
            server.shutdown(SHUT_RDWR)
            back.join()

    def _answers(self, server: socket) -> None:
        try:
            while data := server.recv(65536):
                self.request.sendall(re.sub(rb"(server_version\0)\d\d", rb"\g<1>99", data))
        except OSError:
            return


def test_a_pg_dump_that_is_older_than_the_server_is_one_clear_error(
    database: PostgreSQL, objects: Objects
) -> None:
    handler = type("Handler", (Newer,), {"port": database.connection.port})
    with socketserver.ThreadingTCPServer((LOOPBACK, 0), handler) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        proxied = with_(database, port=proxy.server_address[1])
        error = refused(proxied, objects, MetadataRefused)
        proxy.shutdown()
    assert "its server is PostgreSQL 99" in error.message
    assert "\n" not in error.message
    assert "postgresql-client-99" in error.fix


def test_another_kind_of_database_is_refused() -> None:
    with pytest.raises(MetadataRefused, match="of the type 'sqlite'"):
        database_of(Connection("airflow_metadata", "sqlite"))


def test_the_clean_up_is_told_the_url_with_everything_in_it_quoted() -> None:
    connection = Connection(
        *("airflow_metadata", "mysql", "db", 3306, "air/flow", "p@ss:w/rd", "airflow"),
        extra={"charset": "utf8mb4"},
    )
    assert MySQL(connection).url == (
        "mysql+mysqldb://air%2Fflow:p%40ss%3Aw%2Frd@db:3306/airflow?charset=utf8mb4"
    )


def test_every_table_that_airflow_can_clean_is_cleaned_but_that_of_the_dags() -> None:
    optional = {"session", "_xcom_archive"}
    assert set(CLEANED) - optional == config_dict.keys() - optional - {"dag"}
