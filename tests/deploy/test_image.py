"""deploy/Dockerfile and what goes into the image."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()


def test_python_is_one_that_the_project_allows() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # Debian 12's own.
    assert "BASE=docker.io/library/debian:bookworm-slim" in DOCKERFILE
    [version] = re.findall(r"UV_PYTHON=/usr/bin/python([\d.]+)", DOCKERFILE)
    assert version in SpecifierSet(project["requires-python"])


def test_uv_is_the_one_of_a_checkout() -> None:
    setup = re.search(r"^UV_VERSION=(\S+)$", (ROOT / "scripts" / "setup").read_text(), re.MULTILINE)
    image = re.search(r"uv==(\S+)", DOCKERFILE)
    assert setup
    assert image
    assert setup[1] == image[1]


def test_the_environment_is_the_locked_one() -> None:
    syncs = re.findall(r"uv sync.*", DOCKERFILE)
    assert syncs
    assert all("--frozen --no-dev" in sync for sync in syncs)


def test_runs_as_an_ordinary_user() -> None:
    # By number: Kubernetes cannot tell whether a name is root.
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001:10001"] * 2
    assert "useradd --uid 10001" in DOCKERFILE


def test_no_production_image_holds_the_sandbox_or_a_stand_in() -> None:
    commands = re.sub("^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)
    parts = re.split("^FROM ", commands, flags=re.MULTILINE)[1:]
    stages = {stage.split()[2]: stage for stage in parts}
    assert list(stages)[-1] == "production"
    for name in ("build", "millrace", "production"):
        assert not re.search("sandbox|standins|sample|google", stages[name])


def test_only_what_is_named_goes_into_the_image() -> None:
    first, *rest = (
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if not line.startswith("#")
    )
    assert first == "*"
    named = [line[1:] for line in rest if line.startswith("!")]
    assert ".env" not in named
    assert all((ROOT / name).exists() for name in named)
    # What a build copies.
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", DOCKERFILE, re.MULTILINE)
    tops = {file.split("/")[0] for files in copied for file in files.split()}
    assert tops == {name.rstrip("/") for name in named}


@pytest.mark.parametrize("script", ["init", "make-env", "mysql/reader.sh"])
def test_scripts_are_shell(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / "deploy" / script], check=True)
