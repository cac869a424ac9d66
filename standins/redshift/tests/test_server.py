"""The server from a program's side: accounts, folders, ports, start and stop."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import redshift_connector

from redshift_standin import RedshiftServer, StandinError, postgres
from redshift_standin.ports import LOOPBACK
from redshift_standin.s3 import S3Server
from standins.redshift.tests.conftest import poll, run

pytestmark = [pytest.mark.service, pytest.mark.redshift]


def test_nobody_comes_in_without_the_right_password(redshift: RedshiftServer):
    endpoint = redshift.endpoint
    for changes in ({"password": "wrong"}, {"password": ""}, {"user": "rdsdb"}, {"user": "nobody"}):
        with pytest.raises(redshift_connector.Error, match="password authentication failed"):
            endpoint.connect(**changes)
    # PostgreSQL itself, behind the proxy, asks for the password as well.
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


def test_secrets_are_private_and_stay_out_of_the_repr(redshift: RedshiftServer):
    endpoint = redshift.endpoint
    assert endpoint.password not in repr(endpoint)
    assert endpoint.superuser_password not in repr(endpoint)
    for name in ("endpoint.json", "passwords.json"):
        assert (redshift.folder / name).stat().st_mode & 0o777 == 0o600
    assert list(redshift.folder.glob("*.password")) == []
    assert (redshift.folder / "data").stat().st_mode & 0o777 == 0o700


def test_secrets_are_on_no_command_line_and_those_of_another_server_in_no_file(
    redshift: RedshiftServer, s3_server: S3Server
):
    endpoint = redshift.endpoint
    s3_secret = s3_server.endpoint.secret_access_key
    server = psutil.Process(endpoint.pid)
    words = " ".join(
        word for process in (server, *server.children(recursive=True)) for word in process.cmdline()
    )
    for secret in (endpoint.password, endpoint.superuser_password, s3_secret):
        assert secret not in words
    for file in (file for file in redshift.folder.iterdir() if file.is_file()):
        assert s3_secret not in file.read_text()
    assert endpoint.password not in (redshift.folder / "server.log").read_text()


def test_both_ports_are_on_loopback(redshift: RedshiftServer):
    endpoint = redshift.endpoint
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    listening = {line.split()[1] for line in lines if line.split()[3] == "0A"}
    for port in (endpoint.port, endpoint.postgres_port):
        assert f"0100007F:{port:04X}" in listening
        assert f"00000000:{port:04X}" not in listening


def postgres_of(server: RedshiftServer) -> psutil.Process:
    (found,) = psutil.Process(server.endpoint.pid).children()
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root changes the account")
def test_postgres_does_not_run_as_root(redshift: RedshiftServer):
    pid = postgres_of(redshift).pid
    lines = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert "0" not in lines["Uid"].split()
    # Its only capability is CAP_DAC_OVERRIDE.
    assert int(lines["CapEff"], 16) == 0b10


def test_a_restart_keeps_data_and_passwords(tmp_path: Path):
    folder = tmp_path / ("long" * 30)
    with RedshiftServer(folder) as redshift:
        first = redshift.endpoint
        with closing(first.connect()) as connection:
            run(connection, "create table kept (n int)")
            connection.commit()
        assert redshift.start() == first
    assert not redshift.is_running()
    with RedshiftServer(folder) as redshift, closing(redshift.endpoint.connect()) as connection:
        assert redshift.endpoint.password == first.password
        assert run(connection, "select count(*) from kept") == [(0,)]


def test_a_port_that_is_taken_is_named(tmp_path: Path):
    with socket.create_server((LOOPBACK, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StandinError, match=f"Port {port} is taken. Choose another one"):
            RedshiftServer(tmp_path, port=port).start()


def test_a_folder_has_one_server_at_a_time(
    redshift: RedshiftServer, monkeypatch: pytest.MonkeyPatch
):
    with pytest.raises(StandinError, match="in use by another redshift-standin"):
        RedshiftServer(redshift.folder).start()
    with closing(redshift.endpoint.connect()) as connection:
        assert run(connection, "select 1") == [(1,)]


def test_a_client_that_stays_does_not_hold_up_the_stop(tmp_path: Path):
    with RedshiftServer(tmp_path) as redshift, closing(redshift.endpoint.connect()) as connection:
        run(connection, "select 1")
        began = time.monotonic()
        redshift.stop()
        assert time.monotonic() - began < 10
        with pytest.raises(Exception, match=r"(?i)broken ?pipe|reset|closed"):
            run(connection, "select 1")


def test_it_may_be_started_in_a_thread_that_ends(tmp_path: Path):
    redshift = RedshiftServer(tmp_path)
    try:
        thread = threading.Thread(target=redshift.start)
        thread.start()
        thread.join()
        with closing(redshift.endpoint.connect()) as connection:
            assert run(connection, "select 1") == [(1,)]
        assert redshift.is_running()
    finally:
        redshift.stop()


def test_it_ends_with_the_program_that_started_it(tmp_path: Path):
    program = (
        "import os, sys; from pathlib import Path; from redshift_standin import RedshiftServer\n"
        "print(RedshiftServer(Path(sys.argv[1])).start().pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert poll(lambda: not psutil.pid_exists(int(done.stdout)), 20)


def test_postgres_that_dies_ends_the_server_with_its_log(tmp_path: Path):
    with RedshiftServer(tmp_path) as redshift:
        postgres_of(redshift).kill()
        assert poll(lambda: not redshift.is_running(), 20)
        assert "PostgreSQL ended. The end of" in (tmp_path / "server.log").read_text()
        with pytest.raises(StandinError, match="No Redshift stand-in runs on"):
            _ = redshift.endpoint


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
    monkeypatch.setattr(shutil, "which", lambda *_: None)
    with pytest.raises(StandinError, match="apt-get install postgresql"):
        postgres.find_programs()


def test_a_server_that_does_not_run_says_so(tmp_path: Path):
    with pytest.raises(StandinError, match="No Redshift stand-in runs on"):
        _ = RedshiftServer(tmp_path).endpoint


def test_a_broken_data_folder_shows_the_servers_log(redshift: RedshiftServer, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "version").write_text((redshift.folder / "version").read_text())
    broken = RedshiftServer(tmp_path)
    with pytest.raises(StandinError, match=r"PostgreSQL died before it answered"):
        broken.start()
    assert not broken.is_running()


def test_tables_of_another_version_are_not_touched(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "version").write_text("older")
    with pytest.raises(StandinError, match="made by another version"):
        RedshiftServer(tmp_path).start()
    assert list((tmp_path / "data").iterdir()) == []
