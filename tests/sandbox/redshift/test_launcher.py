from __future__ import annotations

import os
import socket
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import redshift_connector

from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import LOOPBACK, SandboxError, Service
from redshift_standin import launcher as module
from redshift_standin.launcher import RedshiftServer
from tests.sandbox.redshift.conftest import run

pytestmark = [pytest.mark.service, pytest.mark.redshift]


def test_nobody_comes_in_without_the_right_password(redshift: RedshiftServer):
    endpoint = redshift.endpoint
    for changes in ({"password": "wrong"}, {"password": ""}, {"user": "rdsdb"}, {"user": "nobody"}):
        with pytest.raises(redshift_connector.Error, match="password authentication failed"):
            endpoint.connect(**changes)
    # The way around the proxy is closed as well.
    with pytest.raises(redshift_connector.Error, match="password authentication failed"):
        endpoint.connect(port=endpoint.postgres_port, password="wrong")


def test_a_database_that_does_not_exist_says_so(redshift: RedshiftServer):
    with pytest.raises(redshift_connector.Error, match='database "nope" does not exist'):
        redshift.endpoint.connect(database="nope")


def test_a_user_made_with_sql_has_a_password_and_rights_of_its_own(
    redshift: RedshiftServer, connection, schema: str
):
    run(connection, f"create table {schema}.t (n int)")
    run(connection, "create user launcher_reader password 'Reader1Reader1'")
    try:
        reader = {"user": "launcher_reader", "password": "Reader1Reader1"}
        with closing(redshift.endpoint.connect(**reader)) as other:
            assert run(other, "select current_user") == [("launcher_reader",)]
            with pytest.raises(redshift_connector.Error, match="permission denied"):
                run(other, f"select * from {schema}.t")
    finally:
        run(connection, "drop user launcher_reader")


def test_secrets_are_private_and_stay_out_of_the_repr(
    redshift: RedshiftServer, sandbox_paths: SandboxPaths
):
    endpoint = redshift.endpoint
    assert endpoint.password not in repr(endpoint)
    assert endpoint.superuser_password not in repr(endpoint)
    folder = sandbox_paths.root / "redshift"
    for name in ("endpoint.json", "proxy.json"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert not (folder / "superuser_password").exists()
    assert (folder / "data").stat().st_mode & 0o777 == 0o700


def test_both_ports_are_on_loopback(redshift: RedshiftServer):
    endpoint = redshift.endpoint
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = {line.split()[1] for line in lines if line.split()[3] == "0A"}
    for port in (endpoint.port, endpoint.postgres_port):
        assert f"0100007F:{port:04X}" in listening
        assert f"00000000:{port:04X}" not in listening


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the account")
def test_postgres_does_not_run_as_root(redshift: RedshiftServer, sandbox_paths: SandboxPaths):
    pid = (sandbox_paths.run / "redshift-postgres.pid").read_text().split()[0]
    lines = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert "0" not in lines["Uid"].split()
    # CAP_DAC_OVERRIDE and nothing else.
    assert int(lines["CapEff"], 16) == 0b10


def test_a_restart_keeps_data_and_passwords_and_evades_a_taken_port(tmp_path: Path):
    paths = SandboxPaths(tmp_path / ("long" * 30))
    redshift = RedshiftServer(paths, port=0)
    try:
        first = redshift.start()
        with closing(first.connect()) as connection:
            run(connection, "create table kept (n int)")
            connection.commit()
        assert redshift.start() == first
        assert str(first.port) in redshift.status
        redshift.stop()
        assert redshift.status == "stopped"
        with socket.create_server((LOOPBACK, first.port)):
            second = RedshiftServer(paths, port=first.port).start()
        assert second.port != first.port
        with closing(second.connect()) as connection:
            assert run(connection, "select count(*) from kept") == [(0,)]
    finally:
        redshift.stop()


def test_a_client_that_stays_does_not_hold_up_the_stop(tmp_path: Path):
    redshift = RedshiftServer(SandboxPaths(tmp_path), port=0)
    try:
        endpoint = redshift.start()
        with closing(endpoint.connect()) as connection:
            run(connection, "select 1")
            began = time.monotonic()
            redshift.stop()
            assert time.monotonic() - began < 10
            with pytest.raises(Exception, match=r"(?i)broken ?pipe|reset|closed"):
                run(connection, "select 1")
    finally:
        redshift.stop()


def test_a_missing_package_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module.Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(module.shutil, "which", lambda *_: None)
    with pytest.raises(SandboxError, match="apt-get install postgresql"):
        RedshiftServer(SandboxPaths(tmp_path)).start()


def test_a_server_that_was_never_started_says_so(tmp_path: Path):
    redshift = RedshiftServer(SandboxPaths(tmp_path))
    assert redshift.status == "stopped"
    with pytest.raises(SandboxError, match="never started"):
        _ = redshift.endpoint


def test_a_broken_data_folder_shows_the_servers_log(tmp_path: Path):
    paths = SandboxPaths(tmp_path)
    (paths.root / "redshift" / "data").mkdir(parents=True)
    (paths.root / "redshift" / "version").write_text(module._version())
    redshift = RedshiftServer(paths, port=0)
    with pytest.raises(SandboxError, match=r"redshift-postgres died"):
        redshift.start()
    assert not redshift.is_running()


def test_tables_of_another_version_are_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    redshift = RedshiftServer(SandboxPaths(tmp_path), port=0)
    try:
        redshift.start()
        redshift.stop()
        with monkeypatch.context() as patch:
            patch.setattr(module, "_version", lambda: "newer")
            with pytest.raises(SandboxError, match="made by another version"):
                redshift.start()
        assert not redshift.is_running()
        redshift.start()
    finally:
        redshift.stop()


def test_the_command_runs_it_alone_and_says_how_to_connect(tmp_path: Path):
    paths = SandboxPaths(tmp_path)
    command = Service("command", paths)
    command.start(
        [sys.executable, "-u", "-m", "redshift_standin", "--port", "0"],
        env={**os.environ, "MILLRACE_SANDBOX_DIR": str(tmp_path)},
        cwd=Path(module.__file__).parent.parent.parent,
    )
    try:
        command.wait_until(lambda: "Ctrl-C" in command.log.read_text(), 60, "said how to connect")
        redshift = RedshiftServer(paths)
        assert f"port={redshift.endpoint.port} " in command.log.read_text()
        with closing(redshift.endpoint.connect()) as connection:
            assert run(connection, "select 1") == [(1,)]
    finally:
        command.stop(timeout=30)
    assert redshift.status == "stopped"
