"""The sandbox as a distribution, built and installed elsewhere with our packages that it needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.service

ROOT = Path(__file__).parents[2]
SOURCES = ("sandbox", "standins/redshift", "standins/google-sheets", "ingestion")


def call(*command: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=None if cwd is None else {"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment that has the wheels and nothing else."""
    folder = tmp_path_factory.mktemp("package")
    uv = shutil.which("uv") or ROOT / ".sandbox" / "uv" / "bin" / "uv"
    for name in SOURCES:
        ignored = shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__")
        source = shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        # Without the workspace's sources, as in a build from the package index.
        project = source / "pyproject.toml"
        project.write_text(project.read_text().partition("[tool.uv.sources]")[0])
        call(uv, "build", "--wheel", "--out-dir", folder / "dist", source)
    call(uv, "venv", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    wheels = (folder / "dist").glob("*.whl")
    call(uv, "pip", "install", "--python", python, *wheels)
    return python.parent


@pytest.mark.nightly
def test_a_stranger_installs_it_and_makes_a_table_and_a_sheet(programs: Path, tmp_path: Path):
    (tmp_path / "warehouse").mkdir()
    (tmp_path / "warehouse" / "dbt_project.yml").write_text("name: shop")
    sandbox = programs / "millrace-sandbox"
    try:
        assert "stopped" in call(sandbox, "status", cwd=tmp_path)
        said = call(sandbox, "mysql", "create database shop; show databases", cwd=tmp_path)
        assert "shop" in said
        url = call(sandbox, "sheet", "new", "Prices", cwd=tmp_path).strip()
        assert call(sandbox, "sheet", "list", cwd=tmp_path) == f"{url}  Prices\n"
    finally:
        assert "running" not in call(sandbox, "down", cwd=tmp_path)
    assert (tmp_path / ".sandbox").is_dir()
