"""From an empty folder to a sheet: the lines of docs/your-own-project.md, as they stand there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.project import Project
from millrace_sandbox.stack import Stack
from tests.e2e.ten_lines import SAKILA, environment, lines, pin

pytestmark = [pytest.mark.service, pytest.mark.sandbox, pytest.mark.nightly]


@pytest.fixture
def shell(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that finds the checkout's `millrace`, and uv."""
    programs = tmp_path / "bin"
    programs.mkdir()
    return environment(programs)


def bash(script: str, folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_ten_lines_carry_a_database_to_a_sheet(tmp_path: Path, shell: dict[str, str]) -> None:
    first, *others = lines()
    assert len([first, *others]) == 10
    shutil.copy(SAKILA, tmp_path)
    bash(first, tmp_path, shell)
    folder = tmp_path / "rentals"
    pin(folder)
    stack = Stack(SandboxPaths(folder / ".sandbox"), project=Project(folder))
    try:
        said = bash("\n".join(others), folder, shell)
        assert "Completed successfully" in said
        assert "WARN=0 ERROR=0" in said
        assert "rentals_sheet: 2 rows" in said
        # 16 tables and 7 views, each with a staging model, and the sample.
        declared = json.loads((folder / "dbt_project/target/manifest.json").read_text())
        assert len(declared["sources"]) == 24
        models = {node["name"] for node in declared["nodes"].values()}
        assert len([name for name in models if name.startswith("stg_mysql__")]) == 24
        [sheet] = [
            of for of in stack.sheets.endpoint.admin().spreadsheets() if of.title == "Rentals"
        ]
        tab = stack.sheets.endpoint.admin().tab(sheet.spreadsheet_id, "rentals")
        assert [row[0] for row in tab.formatted] == ["rental_id", "1", "2"]
        # An edit reaches the mart: of two versions the newest counts.
        bash(
            "set -a; . .sandbox/env; set +a; PATH=$PWD/.venv/bin:$PATH\n"
            'millrace-sandbox mysql "update sakila.rental set return_date = now() where '
            'rental_id = 2"\n'
            "millrace ingest mysql.rental\n"
            "dbt --quiet build --project-dir dbt_project --profiles-dir . --select +rentals\n"
            "millrace publish rentals_sheet\n",
            folder,
            shell,
        )
        tab = stack.sheets.endpoint.admin().tab(sheet.spreadsheet_id, "rentals")
        assert [bool(row[4]) for row in tab.formatted[1:]] == [True, True]
    finally:
        stack.stop()
    # What was scaffolded is in the project's own style, and its own tests pass beside it.
    bash("make check && make test", folder, shell)


def test_the_demo_of_a_new_project_shows_its_sample_arriving(
    tmp_path: Path, shell: dict[str, str]
) -> None:
    bash("millrace init shop", tmp_path, shell)
    folder = tmp_path / "shop"
    pin(folder)
    stack = Stack(SandboxPaths(folder / ".sandbox"), project=Project(folder))
    try:
        said = bash("make demo", folder, shell)
    finally:
        stack.stop()
    [orders] = [line for line in said.splitlines() if line.strip().startswith("mysql.orders ")]
    rows = int(re.findall(r" (\d+) +values ", orders)[0])
    assert rows > 100
    assert "orders_daily.test" in said
    # So that somebody can look at it.
    assert "dbt docs    http://127.0.0.1:" in said
