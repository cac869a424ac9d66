"""The sandbox's command line."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import Service, poll
from millrace_sandbox.standins import Redshift
from redshift_standin.s3 import S3Server

ROOT = Path(__file__).parents[2]


def sandbox(tmp_path, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "millrace_sandbox", *arguments],
        env={**os.environ, "MILLRACE_SANDBOX_DIR": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["demo", "up", "down", "status", "sample", "mysql", "sheet", "TARGET"]),
        (["demo", "--help"], ["--responses", "--users"]),
        (["sheet", "--help"], ["new", "list"]),
    ],
)
def test_help_names_what_there_is(tmp_path, arguments, words):
    done = sandbox(tmp_path, *arguments)
    assert done.returncode == 0
    for word in words:
        assert word in done.stdout


def test_a_sandbox_that_was_never_started_is_stopped(tmp_path):
    done = sandbox(tmp_path, "status")
    assert done.returncode == 0
    assert done.stdout.count("stopped") == 4


def test_an_unknown_target_is_one_clear_error(tmp_path):
    done = sandbox(tmp_path, "up", TARGET="snowflake")
    assert done.returncode == 1
    assert "There is no local snowflake. Set TARGET to dev, redshift or bigquery." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def bare(tmp_path, *arguments):
    """Run the command where none of the packages that it needs is installed."""
    return subprocess.run(
        [sys.executable, "-S", "-m", "millrace_sandbox", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT / "sandbox"),
            "MILLRACE_SANDBOX_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("command", ["status", "down"])
def test_without_its_packages_it_says_that_nothing_runs(tmp_path, command):
    done = bare(tmp_path, command)
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        done.stdout == "Nothing runs, and this checkout is not set up: make setup, or make demo\n"
    )


@pytest.mark.parametrize("command", ["up", "demo", ""])
def test_without_its_packages_it_says_what_to_do(tmp_path, command):
    done = bare(tmp_path, *filter(None, [command]))
    assert done.returncode == 1
    assert "→ Run: make setup" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.service
def test_without_its_packages_it_stops_what_runs(tmp_path):
    server = S3Server(tmp_path / "s3", port=0, runner=Service("s3", SandboxPaths(tmp_path)))
    server.start()
    try:
        assert "s3" in bare(tmp_path, "status").stdout
        assert server.is_running()
        assert "Nothing runs" in bare(tmp_path, "down").stdout
        assert not server.is_running()
    finally:
        server.stop()


@pytest.mark.service
@pytest.mark.redshift
def test_a_stand_in_alone_is_shown_and_stopped(tmp_path):
    stand_in = Redshift(SandboxPaths(tmp_path), port=0)
    stand_in.start()
    try:
        done = sandbox(tmp_path, "status")
        assert (done.returncode, "Redshift running" in " ".join(done.stdout.split())) == (0, True)
        done = sandbox(tmp_path, "down")
        assert done.returncode == 0, done.stdout
        assert not stand_in.is_running()
    finally:
        stand_in.stop()


@pytest.mark.service
def test_a_demo_that_is_interrupted_says_what_runs_and_how_to_stop_it(tmp_path):
    command = [
        sys.executable,
        "-m",
        "millrace_sandbox",
        "demo",
        "--responses",
        "1000",
        "--users",
        "10",
    ]
    mariadb = MariaDB(SandboxPaths(tmp_path), port=0)
    try:
        with subprocess.Popen(
            command,
            env={**os.environ, "MILLRACE_SANDBOX_DIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as demo:
            assert poll(mariadb.is_running, 60)
            demo.send_signal(signal.SIGINT)
            said, _ = demo.communicate(timeout=120)
        assert demo.returncode == 130
        assert "Interrupted." in said
        assert "millrace-sandbox down stops it" in said
        assert "MariaDB  running on" in said
        assert "Traceback" not in said
        assert "Aborted" not in said
    finally:
        assert sandbox(tmp_path, "down").returncode == 0
    assert not mariadb.is_running()
