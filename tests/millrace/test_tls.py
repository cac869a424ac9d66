"""TLS with certificates of an authority of our own: S3, AWS's other services, Redshift.

``test_mysql_client.py`` has MySQL's.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from millrace.connections import Connection
from millrace.errors import LandingRefused, LandingUnavailable, WarehouseUnavailable
from millrace.landing.landing import Landing
from millrace.testing import Place, declared, ids
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse
from millrace.warehouses.redshift.warehouse import RedshiftWarehouse
from redshift_standin import RedshiftServer
from redshift_standin.certificates import CA_FILE, SERVER_FILE, make_certificates

if TYPE_CHECKING:
    from redshift_standin.s3 import S3Server

pytestmark = pytest.mark.service

LOOPBACK = "127.0.0.1"
ROLE = "arn:aws:iam::123456789012:role/landing"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificate of an authority that nobody knows, and one that it signed."""
    folder = tmp_path_factory.mktemp("authority")
    make_certificates(folder)
    return folder


@pytest.fixture(autouse=True)
def no_other_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("millrace.object_store.store._RETRIES", 0)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


def served(authority: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / SERVER_FILE)
    return context


@contextmanager
def encrypted(port: int, context: ssl.SSLContext) -> Iterator[int]:
    """Encrypt a service on loopback at another port, which this yields."""
    loop = asyncio.new_event_loop()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service, towards = await asyncio.open_connection(LOOPBACK, port)
        await asyncio.gather(carry(reader, towards), carry(service, writer))

    starting = asyncio.start_server(serve, LOOPBACK, 0, ssl=context)
    server = loop.run_until_complete(starting)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


@pytest.fixture(scope="module")
def tls_port(s3_server: S3Server, authority: Path) -> Iterator[int]:
    """The port of the S3 server behind TLS."""
    port = urlsplit(s3_server.endpoint.endpoint_url).port
    assert port is not None
    with encrypted(port, served(authority)) as front:
        yield front


def connection(server: S3Server, port: int, **extra: Any) -> Connection:
    endpoint = server.endpoint
    return Connection(
        "aws_landing",
        "aws",
        login=endpoint.access_key_id,
        password=endpoint.secret_access_key,
        extra={"endpoint_url": f"https://{LOOPBACK}:{port}", "region_name": "us-east-1", **extra},
    )


def test_s3_is_read_and_written_under_an_authority_of_our_own(
    s3_server: S3Server, bucket: str, tls_port: int, authority: Path, tmp_path: Path
) -> None:
    trusted = connection(s3_server, tls_port, verify=str(authority / CA_FILE))
    landing = Landing(f"s3://{bucket}", trusted)
    place = Place(DuckDBWarehouse(tmp_path / "w.duckdb"), landing, declared())
    place.load(ids(1, 2))
    assert place.rows() == [(1,), (2,)]


def test_the_variable_of_aws_names_the_authority_too(
    s3_server: S3Server,
    bucket: str,
    tls_port: int,
    authority: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority / CA_FILE))
    Landing(f"s3://{bucket}", connection(s3_server, tls_port)).check()
    # The connection's own answer comes first, as in boto3.
    with pytest.raises(LandingRefused, match="is not trusted"):
        Landing(f"s3://{bucket}", connection(s3_server, tls_port, verify=True)).check()


def test_an_authority_that_nobody_named_is_refused(
    s3_server: S3Server, bucket: str, tls_port: int, tmp_path: Path
) -> None:
    make_certificates(tmp_path)
    for extra in ({}, {"verify": str(tmp_path / CA_FILE)}):
        says = r"not trusted: (UnknownIssuer|BadSignature)"
        with pytest.raises(LandingRefused, match=says) as caught:
            Landing(f"s3://{bucket}", connection(s3_server, tls_port, **extra)).check()
        assert "`verify`" in caught.value.fix


def test_nothing_is_verified_where_the_connection_says_so(
    s3_server: S3Server, bucket: str, tls_port: int
) -> None:
    Landing(f"s3://{bucket}", connection(s3_server, tls_port, verify=False)).check()


@pytest.mark.parametrize("role", [None, ROLE])
def test_a_file_that_holds_no_certificates_is_named(
    s3_server: S3Server, tmp_path: Path, role: str | None
) -> None:
    (tmp_path / "empty.pem").write_text("no certificate")
    for file in ("missing.pem", "empty.pem"):
        wrong = connection(s3_server, 443, verify=str(tmp_path / file), role_arn=role)
        with pytest.raises(LandingRefused, match=rf"{file}, which the landing is to trust"):
            Landing("s3://bucket", wrong)


class _Refusing(BaseHTTPRequestHandler):
    """AWS's STS, which knows nobody."""

    def do_POST(self) -> None:
        body = b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>"
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(403)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize("is_trusted", [True, False])
def test_boto3_trusts_what_the_landing_trusts(
    s3_server: S3Server, authority: Path, monkeypatch: pytest.MonkeyPatch, is_trusted: bool
) -> None:
    """A role is asked for over TLS, too: boto3 does that, and obstore the rest."""
    extra = {"verify": str(authority / CA_FILE)} if is_trusted else {}
    with ThreadingHTTPServer((LOOPBACK, 0), _Refusing) as server:
        server.socket = served(authority).wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"https://{LOOPBACK}:{server.server_port}")
        asked = connection(s3_server, 443, role_arn=ROLE, **extra)
        # Refused by STS, or not even reached.
        with pytest.raises(LandingRefused if is_trusted else LandingUnavailable) as caught:
            Landing("s3://bucket", asked).check()
        server.shutdown()
    assert ("AccessDenied" in str(caught.value)) == is_trusted
    assert ("certificate verify failed" in str(caught.value).lower()) != is_trusted


@pytest.mark.redshift
def test_redshift_is_loaded_under_an_authority_of_our_own(
    tmp_path: Path, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dbt.adapters.redshift.connections import RedshiftCredentials, UserSSLMode

    landing = Landing(
        f"s3://{bucket}", Connection("aws_landing", **s3_server.endpoint.airflow_connection())
    )
    with RedshiftServer(tmp_path / "redshift", s3_server.endpoint, tls=True) as server:
        endpoint = server.endpoint
        credentials = RedshiftCredentials(
            host=endpoint.host,
            port=endpoint.port,  # type: ignore[arg-type]  # as dbt itself gives it
            database=endpoint.database,
            user=endpoint.user,
            password=endpoint.password,
            schema="analytics",
            method="database",
            sslmode=UserSSLMode.verify_full,
        )
        place = Place(RedshiftWarehouse(credentials, endpoint.iam_role), landing, declared())
        with pytest.raises(WarehouseUnavailable, match="certificate verify failed") as refused:
            place.load(ids(1))
        assert "SSL_CERT_FILE" in refused.value.fix
        monkeypatch.setenv("SSL_CERT_FILE", str(endpoint.ca_file))
        place.load(ids(1, 2))
        assert place.rows() == [(1,), (2,)]
