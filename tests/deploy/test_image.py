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
    versions = re.findall(r"^FROM python:([\d.]+)-slim-bookworm", DOCKERFILE, re.MULTILINE)
    assert len(versions) == 2
    assert len(set(versions)) == 1
    assert versions[0] in SpecifierSet(project["requires-python"])
    assert f"python{versions[0]}" in DOCKERFILE


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
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE) == ["millrace", "millrace"]


def test_the_production_image_holds_neither_the_sandbox_nor_a_stand_in() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)
    build, production = stages[1], stages[-1]
    assert "AS build" in build
    assert "AS production" in production
    copied = re.findall(r"^COPY (?!--)(.*) \S+$", build, re.MULTILINE)
    assert {"ingestion", "dags", "dbt_project"} <= set(copied)
    assert not re.search("sandbox|standins", " ".join(copied) + production)


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
    # What the build of the project itself reads.
    assert {"LICENSE", "README.md", "pyproject.toml", "uv.lock", "ingestion/"} <= set(named)


@pytest.mark.parametrize("script", ["init", "make-env", "mysql/reader.sh"])
def test_scripts_are_shell(script: str) -> None:
    subprocess.run(["bash", "-n", ROOT / "deploy" / script], check=True)
