"""A commit runs the checks of CI, and no others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / ".pre-commit-config.yaml"
TOOLS = (
    *("ruff", "mypy", "lint-imports", "cython-lint", "check-jsonschema", "pre-commit"),
    *("mkdocs", "hadolint"),
)


def test_the_configuration_is_valid() -> None:
    tool = Path(sys.executable).with_name("pre-commit")
    subprocess.run([tool, "validate-config", CONFIG], check=True, capture_output=True)


def test_the_hook_is_the_list_of_ci_and_downloads_nothing() -> None:
    (repository,) = yaml.safe_load(CONFIG.read_text())["repos"]
    assert repository["repo"] == "local"
    (hook,) = repository["hooks"]
    assert (hook["entry"], hook["language"]) == ("scripts/check --staged", "system")
    assert "check" in (ROOT / ".ci" / "run").read_text().split()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository whose tools only say that they were called."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "check", tmp_path / "scripts")
    (tmp_path / "scripts" / "lint_sql").write_text("#!/bin/sh\n")
    (tmp_path / "scripts" / "lint_sql").chmod(0o755)
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    for tool in TOOLS:
        (tools / tool).write_text("#!/bin/sh\n")
        (tools / tool).chmod(0o755)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def checks(checkout: Path, *arguments: str) -> list[str]:
    done = subprocess.run(
        ["scripts/check", *arguments],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], "HOME": str(checkout)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.removeprefix("--- ") for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("dags/ingest.py", {"ruff", "mypy", "lint-imports"}),
        ("dbt_project/models/marts/nps_summary.sql", {"scripts/lint_sql"}),
        ("dbt_project/snapshots/responses.sql", {"scripts/lint_sql"}),
        ("docker-compose.yaml", {"check-jsonschema"}),
        ("deploy/Dockerfile", {"hadolint"}),
        ("README.md", set()),
    ],
)
def test_a_commit_is_judged_by_the_checks_of_its_files(
    checkout: Path, file: str, expected: set[str]
) -> None:
    whole = checks(checkout)
    assert checks(checkout, "--staged") == []
    path = checkout / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    subprocess.run(["git", "add", file], cwd=checkout, check=True)
    staged = checks(checkout, "--staged")
    # Each check gets the same files as in CI.
    assert set(staged) <= set(whole)
    assert {check.split()[0] for check in staged} == expected | {"no_conflict_markers"}


def test_a_merge_that_is_half_done_is_refused(checkout: Path) -> None:
    (checkout / "notes.md").write_text("<" * 7 + " HEAD\none\n")
    subprocess.run(["git", "add", "notes.md"], cwd=checkout, check=True)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        checks(checkout, "--staged")
    assert "notes.md:1:" in refused.value.output
