"""TLS with a certificate that is signed by the stand-in's own CA."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redshift_connector

from redshift_standin import RedshiftServer
from standins.redshift.tests.conftest import run

pytestmark = [pytest.mark.service, pytest.mark.redshift]

PROFILE = """
tls:
  target: redshift
  outputs:
    redshift:
      {{type: redshift, host: {host}, port: {port}, dbname: {database}, schema: public,
        user: {user}, password: "{password}", threads: 1, sslmode: {sslmode}}}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedshiftServer]:
    with RedshiftServer(tmp_path_factory.mktemp("tls"), tls=True) as started:
        yield started


@pytest.fixture
def trusted(server: RedshiftServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """The CA that OpenSSL trusts by default from now on."""
    ca_file = str(server.endpoint.ca_file)
    monkeypatch.setenv("SSL_CERT_FILE", ca_file)
    return ca_file


@pytest.mark.parametrize("sslmode", ["verify-ca", "verify-full"])
def test_redshift_connector_verifies(server: RedshiftServer, trusted: str, sslmode: str) -> None:
    with closing(server.endpoint.connect(ssl=True, sslmode=sslmode)) as client:
        assert isinstance(client._usock, ssl.SSLSocket)
        assert run(client, "select nvl(null, 1)") == [(1,)]
        # Values larger than what travels in one piece.
        assert run(client, "select len(repeat('x', 10000000))") == [(10_000_000,)]
        ((text,),) = run(client, "select repeat('x', 10000000)")
        assert len(text) == 10_000_000


def test_a_ca_that_is_not_trusted_is_refused(
    server: RedshiftServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(
        (ssl.SSLCertVerificationError, redshift_connector.Error), match="verify failed"
    ):
        server.endpoint.connect(ssl=True, sslmode="verify-ca")


def test_who_does_not_ask_goes_without(server: RedshiftServer) -> None:
    with closing(server.endpoint.connect(ssl=False)) as client:
        assert run(client, "select 1") == [(1,)]


def test_a_wrong_password_is_refused_in_secret_too(server: RedshiftServer, trusted: str) -> None:
    with pytest.raises(redshift_connector.Error, match="password authentication failed"):
        server.endpoint.connect(ssl=True, password="wrong")


def test_libpq_verifies_the_name(server: RedshiftServer) -> None:
    endpoint = server.endpoint
    arguments: dict[str, Any] = {
        "port": endpoint.port,
        "dbname": endpoint.database,
        "user": endpoint.user,
        "password": endpoint.password,
        "sslmode": "verify-full",
    }
    with closing(
        psycopg.connect(host=endpoint.host, sslrootcert=endpoint.ca_file, **arguments)
    ) as client:
        assert client.pgconn.ssl_in_use
        assert client.execute("select 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError, match="does not match host name"):
        psycopg.connect(
            host="elsewhere", hostaddr=endpoint.host, sslrootcert=endpoint.ca_file, **arguments
        )


@pytest.mark.parametrize("is_trusted", [True, False])
def test_dbt_verifies(server: RedshiftServer, tmp_path: Path, is_trusted: bool) -> None:
    (tmp_path / "dbt_project.yml").write_text("name: tls\nprofile: tls\n")
    (tmp_path / "profiles.yml").write_text(
        PROFILE.format(**vars(server.endpoint), sslmode="verify-ca")
    )
    environment = {name: value for name, value in os.environ.items() if name != "SSL_CERT_FILE"}
    if is_trusted:
        environment["SSL_CERT_FILE"] = str(server.endpoint.ca_file)
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("dbt"), "debug", "--connection"),
            *("--project-dir", tmp_path, "--profiles-dir", tmp_path),
        ],
        env=environment | {"DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode == 0) == is_trusted, done.stdout
    if not is_trusted:
        assert "certificate verify failed" in done.stdout


def test_the_key_is_private(server: RedshiftServer) -> None:
    folder = Path(str(server.endpoint.ca_file)).parent
    assert (folder / "server.pem").stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in (folder / "ca.pem").read_text()
