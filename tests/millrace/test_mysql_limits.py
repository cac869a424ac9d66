"""What a server may have too little of: the size of its packets, room on its temporary disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from millrace.errors import SourceUnavailable
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.mysql import MySQL, MySQLService
from millrace_sandbox.paths import SandboxPaths
from tests.faults.disks import Disk, mounted
from tests.millrace.conftest import Database

pytestmark = pytest.mark.service

MEGABYTE = 1024 * 1024
ROWS = 4_096


@pytest.fixture
def small_packets(mysql: Database) -> Iterator[None]:
    """Sessions that begin now may have packets of a megabyte, and a row has eight."""
    ((before,),) = mysql.rows("SELECT @@GLOBAL.max_allowed_packet")
    mysql.execute("CREATE TABLE letters (id INT PRIMARY KEY, text LONGTEXT)")
    mysql.execute(f"INSERT INTO letters VALUES (1, REPEAT('x', {8 * MEGABYTE})), (2, 'y')")
    mysql.execute(f"SET GLOBAL max_allowed_packet = {MEGABYTE}")
    yield
    mysql.execute(f"SET GLOBAL max_allowed_packet = {before}")


@pytest.mark.both_servers
@pytest.mark.usefixtures("small_packets")
def test_a_row_larger_than_max_allowed_packet_arrives(mysql: Database) -> None:
    rows = mysql.extract(mysql.table("letters"))
    assert rows["text"].to_pylist() == ["x" * 8 * MEGABYTE, "y"]


@pytest.fixture(scope="module", params=[MariaDB, MySQL])
def cramped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Database, Disk]]:
    """A server whose temporary files are on a small disk, and a view whose rows it has to sort."""
    paths = SandboxPaths(tmp_path_factory.mktemp("cramped"))
    service: MySQLService = request.param(paths, port=0)
    temporary = paths.root / service.name / "tmp"
    temporary.parent.mkdir()
    with mounted(temporary, 64) as disk:
        if disk is None:
            pytest.skip("may not mount a disk")
        try:
            service.start()
            with service.server.admin_cursor() as cursor:
                cursor.execute("CREATE DATABASE cramped")
            service.let_reader_in()
            database = Database(service.server, "cramped")
            with closing(database.client):
                database.execute("CREATE TABLE letters (id INT PRIMARY KEY, text TEXT NOT NULL)")
                letters = [(number, f"{number * 7_919 % ROWS} " * 400) for number in range(ROWS)]
                database.insert("letters", letters)
                database.execute(
                    "CREATE VIEW sorted AS SELECT * FROM letters ORDER BY text LIMIT 1000000"
                )
                yield database, disk
        finally:
            service.stop()


def test_a_full_temporary_disk_of_the_server_may_pass(cramped: tuple[Database, Disk]) -> None:
    mysql, disk = cramped
    table = mysql.table("sorted")
    disk.fill(left=100_000)
    with pytest.raises(SourceUnavailable):
        mysql.extract(table)
    disk.free()
    assert mysql.extract(table).num_rows == ROWS
