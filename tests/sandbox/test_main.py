"""The sandbox's command line."""

import os
import subprocess
import sys

import pytest


def sandbox(tmp_path, *arguments, **variables):
    return subprocess.run(
        [sys.executable, "-m", "sandbox", *arguments],
        env={**os.environ, "MILLRACE_SANDBOX_DIR": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["demo", "up", "down", "status", "sample", "redshift"]),
        (["demo", "--help"], ["--responses", "--users"]),
        (["redshift", "--help"], ["--port", "--bucket", "--iam-role"]),
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
    assert "There is no local snowflake. Set TARGET to dev or redshift." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
