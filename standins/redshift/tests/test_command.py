"""The command ``redshift-standin``, as a stranger runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from redshift_standin import RedshiftEndpoint, StandinError
from redshift_standin.endpoint import ENDPOINT_FILE
from redshift_standin.s3 import S3Server
from standins.redshift.tests.conftest import poll, run

pytestmark = [pytest.mark.service, pytest.mark.redshift]

NO_S3 = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts the command in an empty folder; what it has said is in `said`."""
    started: list[subprocess.Popen[str]] = []

    def run_command(*options: str, **variables: str) -> subprocess.Popen[str]:
        with (tmp_path / "said").open("w") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "redshift_standin", "--port", "0", *options],
                cwd=tmp_path,
                env=NO_S3 | variables,
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
            )
        started.append(process)
        assert poll(lambda: "Ready." in said_in(tmp_path) or process.poll() is not None, 60)
        return process

    yield run_command
    for process in started:
        process.terminate()
        process.wait(timeout=30)


def said_in(folder: Path) -> str:
    return (folder / "said").read_text()


def connect(folder: Path) -> Any:
    return RedshiftEndpoint.read(folder / ".redshift-standin").connect()


def ask(*arguments: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "redshift_standin", *arguments],
        cwd=folder,
        env=NO_S3 | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_alone_it_serves_sql_and_copies_from_an_s3_server_of_its_own(start: Start, tmp_path: Path):
    process = start()
    endpoint = RedshiftEndpoint.read(tmp_path / ".redshift-standin")
    assert endpoint.pid == process.pid
    assert endpoint.s3
    for part in (f"port={endpoint.port} ", endpoint.password, endpoint.s3.endpoint_url):
        assert part in said_in(tmp_path)
    endpoint.s3.client().put_object(Bucket="redshift", Key="rows", Body=b"1\n2\n")
    with closing(connect(tmp_path)) as connection:
        run(connection, "create table t (n int)")
        run(connection, f"copy t from 's3://redshift/rows' iam_role '{endpoint.iam_role}' csv")
        assert run(connection, "select sum(n) from t") == [(3,)]
        connection.commit()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order_with_all_it_started(
    start: Start, tmp_path: Path, number: signal.Signals
):
    process = start()
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert {"postgres", "weed"} <= {member.name() for member in family}
    process.send_signal(number)
    assert process.wait(timeout=30) == 0
    assert not [member for member in family if member.is_running()]
    assert not (tmp_path / ".redshift-standin" / "endpoint.json").exists()
    assert (
        "database system is shut down"
        in (tmp_path / ".redshift-standin" / "postgres.log").read_text()
    )


def test_when_it_is_killed_nothing_is_left_and_the_next_one_starts(start: Start, tmp_path: Path):
    process = start()
    with closing(connect(tmp_path)) as connection:
        run(connection, "create table kept as select 1 as n")
        connection.commit()
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    process.wait()
    assert poll(lambda: not any(member.is_running() for member in family), 20)
    start()
    with closing(connect(tmp_path)) as connection:
        assert run(connection, "select n from kept") == [(1,)]


def test_an_s3_server_of_somebody_elses_is_named_by_awss_variables(
    start: Start, tmp_path: Path, s3_server: S3Server, bucket: str
):
    start("--iam-role", "arn:aws:iam::1:role/mine", **s3_server.endpoint.environment())
    assert s3_server.endpoint.endpoint_url in said_in(tmp_path)
    assert s3_server.endpoint.secret_access_key not in said_in(tmp_path)
    s3_server.endpoint.client().put_object(Bucket=bucket, Key="rows", Body=b"7\n")
    with closing(connect(tmp_path)) as connection:
        run(connection, "create table t (n int)")
        run(connection, f"copy t from 's3://{bucket}/rows' iam_role 'arn:aws:iam::1:role/mine' csv")
        assert run(connection, "select n from t") == [(7,)]
    assert not (tmp_path / ".redshift-standin" / "s3").exists()


def test_keys_alone_are_not_taken_for_an_s3_server(start: Start, tmp_path: Path):
    """They may be somebody's keys to the real S3."""
    start(AWS_ACCESS_KEY_ID="AKIAREAL", AWS_SECRET_ACCESS_KEY="real")
    endpoint = RedshiftEndpoint.read(tmp_path / ".redshift-standin")
    assert endpoint.s3
    assert endpoint.s3.access_key_id != "AKIAREAL"
    assert endpoint.s3.endpoint_url.startswith("http://127.0.0.1:")


def test_without_s3_a_copy_says_how_to_have_one(start: Start, tmp_path: Path):
    start("--no-s3")
    assert "COPY and UNLOAD are refused" in said_in(tmp_path)
    with closing(connect(tmp_path)) as connection:
        run(connection, "create table t (n int)")
        with pytest.raises(Exception, match="runs without an S3 server"):
            run(connection, "copy t from 's3://b/k' iam_role default csv")


def test_an_s3_server_without_keys_is_one_clear_error(tmp_path: Path):
    done = ask("--s3-endpoint-url", "http://127.0.0.1:9", folder=tmp_path)
    assert done.returncode == 1
    assert "The keys of the S3 server http://127.0.0.1:9 are missing" in done.stderr
    assert "Traceback" not in done.stderr


def test_postgresql_that_is_not_installed_is_one_clear_error(tmp_path: Path):
    """The test hides PostgreSQL from the search, since it cannot remove a Debian package."""
    program = (
        "import pathlib, shutil, sys\n"
        "pathlib.Path.glob = lambda *_: iter(())\n"
        "find = shutil.which\n"
        "shutil.which = lambda name: None if name == 'postgres' else find(name)\n"
        "sys.argv = ['redshift-standin', '--no-s3']\n"
        "from redshift_standin.__main__ import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "apt-get install postgresql" in done.stderr
    assert "Traceback" not in done.stderr


def test_quiet_it_keeps_its_password_to_the_file(start: Start, tmp_path: Path):
    start("--quiet", "--no-s3")
    endpoint = RedshiftEndpoint.read(tmp_path / ".redshift-standin")
    assert said_in(tmp_path) == "Ready.\n"
    with closing(endpoint.connect()) as connection:
        assert run(connection, "select 1") == [(1,)]


def test_help_teaches(tmp_path: Path):
    said = ask("--help", folder=tmp_path).stdout
    for word in ("--folder", "--port", "--iam-role", "--tls", "AWS_ENDPOINT_URL_S3", "Ctrl-C"):
        assert word in said


def test_on_a_folder_of_another_version_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / ENDPOINT_FILE).write_text('{"address": "of another version"}')
    assert not RedshiftEndpoint.is_ready(tmp_path, 1)
    with pytest.raises(StandinError, match="Start it"):
        RedshiftEndpoint.read(tmp_path)
