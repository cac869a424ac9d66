"""A connection over MariaDB's C client library, to MariaDB and to MySQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.connections import Connection
from millrace.errors import ConnectionNotFound, SourceUnavailable
from millrace.sources.mysql.client import Client, MySQLError
from millrace.sources.mysql.session import Server
from millrace.sources.mysql.tls import Tls
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.paths import SandboxPaths
from redshift_standin.certificates import CA_FILE, SERVER_FILE, make_certificates
from tests.millrace.test_mysql import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from millrace_sandbox.mysql import MySQLServer
    from tests.millrace.conftest import Database

pytestmark = [pytest.mark.service, pytest.mark.both_servers]


def connect(server: MySQLServer, **changes: Any) -> Client:
    arguments: dict[str, Any] = {
        "host": server.host,
        "port": server.port,
        "user": server.reader_user,
        "password": server.reader_password,
        "database": None,
        "unix_socket": None,
        "connect_timeout": 10,
        "read_timeout": 60,
        "write_timeout": 60,
        "tls": None,
    }
    return Client(**arguments | changes)


@pytest.fixture
def client(mysql: Database) -> Iterator[Client]:
    connection = connect(mysql.server, database=mysql.name)
    yield connection
    connection.close()


# Rows


def test_a_result_comes_as_names_and_texts(client: Client) -> None:
    assert client.rows("SELECT 1 AS one, NULL AS nothing, '' AS blank, 'é👍' AS text") == (
        ["one", "nothing", "blank", "text"],
        [("1", None, "", "é👍")],
    )


def test_a_statement_without_a_result_has_no_rows(client: Client) -> None:
    assert client.rows("SET @a = 1") == ([], [])
    assert client.rows("SELECT @a FROM DUAL WHERE @a = 2") == (["@a"], [])


def test_a_second_statement_is_not_smuggled_in(client: Client) -> None:
    with pytest.raises(MySQLError) as refused:
        client.rows("SELECT 1; SELECT 2")
    assert refused.value.number == 1064


def test_an_error_has_its_number_its_sqlstate_and_its_text(client: Client) -> None:
    with pytest.raises(MySQLError, match="1146") as refused:
        client.rows("SELECT 1 FROM no_such_table")
    assert (refused.value.number, refused.value.sqlstate) == (1146, "42S02")
    assert "no_such_table" in refused.value.text
    # The connection can still be used.
    assert client.rows("SELECT 1")[1] == [("1",)]


# What a text may hold, with surrogates only where they stand for bytes that are not UTF-8.
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.binary().map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)


@given(text=TEXTS, mode=st.sampled_from(["''", "'NO_BACKSLASH_ESCAPES'", "'ANSI_QUOTES'"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_text_comes_back_as_it_was_bound(client: Client, text: str, mode: str) -> None:
    client.rows(f"SET SESSION sql_mode = {mode}")
    expected = text.encode("utf-8", "surrogateescape").hex().upper()
    assert client.rows(f"SELECT HEX(_binary {client.literal(text)})")[1] == [(expected,)]


def test_bytes_that_are_no_text_come_and_go_as_they_are(client: Client) -> None:
    ((found,),) = client.rows("SELECT x'ff00c3'")[1]
    assert client.rows(f"SELECT HEX({client.literal(str(found))})")[1] == [("FF00C3",)]


def test_a_server_does_not_get_our_files(mysql: Database, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("1\n")
    server = mysql.server
    admin = connect(
        server, user=server.admin_user, password=server.admin_password, database=mysql.name
    )
    admin.rows("CREATE TABLE t (v INT)")
    with pytest.raises(MySQLError):
        admin.rows(f"LOAD DATA LOCAL INFILE '{tmp_path}/secret' INTO TABLE t")
    admin.close()
    assert not mysql.rows("SELECT * FROM t")


# Ends


def test_a_wrong_password_is_an_error_with_the_servers_number(mysql: Database) -> None:
    with pytest.raises(MySQLError) as refused:
        connect(mysql.server, password="wrong")
    assert refused.value.number == 1045


def test_a_connection_is_closed_once(client: Client) -> None:
    client.close()
    client.close()
    client.cut()
    for use in (
        lambda: client.rows("SELECT 1"),
        lambda: client.literal("x"),
        lambda: client.cipher,
    ):
        with pytest.raises(MySQLError, match="closed") as refused:
            use()
        assert refused.value.number == 2006


def test_a_connection_that_nobody_holds_is_closed(mysql: Database) -> None:
    ((number,),) = connect(mysql.server).rows("SELECT CONNECTION_ID()")[1]
    gone = f"SELECT 1 FROM information_schema.processlist WHERE id = {number}"
    assert eventually(lambda: not mysql.rows(gone))


def test_a_killed_connection_is_an_error_and_then_closed(mysql: Database, client: Client) -> None:
    ((number,),) = client.rows("SELECT CONNECTION_ID()")[1]
    mysql.execute(f"KILL {number}")
    for _ in range(2):
        with pytest.raises(MySQLError) as lost:
            client.rows("SELECT 1")
        # MariaDB may still send the error that the connection was killed.
        assert lost.value.number in {1927, 2006, 2013, 4031}
    client.close()


def test_a_connection_is_cut_under_who_waits(client: Client) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.rows, "SELECT SLEEP(60)")
        began = time.monotonic()
        # Before the other thread uses the connection, there is nothing to cut.
        assert eventually(lambda: is_in_use(client))
        client.cut()
        with pytest.raises(MySQLError) as lost:
            waiting.result()
    assert lost.value.number in {2006, 2013}
    assert time.monotonic() - began < 30


def is_in_use(client: Client) -> bool:
    try:
        client.literal("")
    except MySQLError as error:
        return "Another thread" in error.text
    return False


def test_a_second_thread_is_refused_while_the_first_is_served(client: Client) -> None:
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.rows, "SELECT SLEEP(60)")
        assert eventually(lambda: is_in_use(client))
        for use in (lambda: client.rows("SELECT 1"), client.close):
            with pytest.raises(MySQLError, match="Another thread"):
                use()
        client.cut()
        with pytest.raises(MySQLError):
            waiting.result()


def test_many_threads_have_connections_of_their_own(mysql: Database) -> None:
    start = threading.Barrier(8)

    def ask(number: int) -> bool:
        start.wait()
        client = connect(mysql.server)
        found = [client.rows(f"SELECT {number}")[1] for _ in range(50)]
        client.close()
        return found == [[(str(number),)]] * 50

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(8)))


# Encryption


class MariaDBWithTls(MariaDB):
    name = "mariadb-tls"

    def _own_options(self) -> list[str]:
        certificate = self._folder / SERVER_FILE
        if not certificate.exists():
            make_certificates(self._folder)
        # The second address is not in the certificate.
        return [
            *(f"--ssl-cert={certificate}", f"--ssl-key={certificate}"),
            "--bind-address=127.0.0.1,127.0.0.2",
        ]

    @property
    def ca(self) -> str:
        return str(self._folder / CA_FILE)


@pytest.fixture(scope="module")
def with_tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDBWithTls]:
    service = MariaDBWithTls(SandboxPaths(tmp_path_factory.mktemp("tls")), port=0)
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.mark.parametrize("extra", [{"ssl": {"ca": "CA"}}, {"ssl_mode": "REQUIRED"}], ids=str)
def test_a_server_with_tls_is_read_encrypted(with_tls: MariaDBWithTls, extra: Any) -> None:
    with server_of(with_tls, extra).connected() as session:
        assert session.is_encrypted
        assert session.rows("SELECT 1") == [("1",)]


@pytest.mark.parametrize(
    ("extra", "is_encrypted"),
    [({}, False), ({"ssl_mode": "DISABLED"}, False), ({"ssl_mode": "PREFERRED"}, True)],
    ids=str,
)
def test_tls_is_used_where_it_is_asked_for(
    with_tls: MariaDBWithTls, extra: Any, is_encrypted: bool
) -> None:
    with server_of(with_tls, extra).connected() as session:
        assert session.is_encrypted == is_encrypted


def test_a_server_that_no_authority_knows_is_refused(
    with_tls: MariaDBWithTls, tmp_path: Path
) -> None:
    make_certificates(tmp_path)
    with (
        pytest.raises(SourceUnavailable, match="certificate"),
        server_of(with_tls, {"ssl": {"ca": str(tmp_path / CA_FILE)}}).connected(),
    ):
        pass


def test_a_certificate_of_another_host_is_refused(with_tls: MariaDBWithTls) -> None:
    with (
        pytest.raises(SourceUnavailable, match=r"(?i)certificate|host|peer"),
        server_of(with_tls, {"ssl": {"ca": "CA"}}, host="127.0.0.2").connected(),
    ):
        pass
    # Without verification the connection is accepted.
    extra = {"ssl": {"ca": "CA"}, "ssl_mode": "REQUIRED"}
    with server_of(with_tls, extra, host="127.0.0.2").connected() as session:
        assert session.is_encrypted


def server_of(service: MariaDBWithTls, extra: Any, host: str = "127.0.0.1") -> Server:
    if extra.get("ssl") == {"ca": "CA"}:
        extra = extra | {"ssl": {"ca": service.ca}}
    reader = service.server
    return Server(
        Connection(
            "mysql_prod",
            "mysql",
            host=host,
            port=reader.port,
            login=reader.reader_user,
            password=reader.reader_password,
            extra=extra,
        )
    )


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"ssl_mode": "VERIFY"}, "`ssl_mode` is 'VERIFY'"),
        ({"ssl": {"authority": "ca.pem"}}, "`ssl` has 'authority'"),
        ({"ssl": "[1]"}, "`ssl` is no mapping"),
    ],
    ids=str,
)
def test_an_extra_that_is_not_understood_is_refused(extra: Any, says: str) -> None:
    with pytest.raises(ConnectionNotFound, match=says) as refused:
        Tls.of(Connection("mysql_prod", "mysql", extra=extra))
    assert "Write" in refused.value.fix
