"""`millrace init` makes a project of one's own, and `millrace update` merges later templates in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from millrace.cli import cli
from millrace.errors import TemplateError
from millrace.template import rendering
from millrace.template.rendering import Answers, own_checkout, render
from millrace.template.repository import begin, update
from tests.forked import run

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
# What the example project of this repository was made with, and did not change.
SHARED = (
    *("dags/audit.py", "dags/ingest.py", "dags/maintenance.py", "dags/transform.py"),
    *(".sqlfluff", "profiles.yml"),
    *(
        f"dbt_project/tests/generic/{file.name}"
        for file in ROOT.glob("dbt_project/tests/generic/*")
    ),
)
# Where people read or write something of the project's own.
OF_A_PROJECT = {"build", "environment", "image"}


@pytest.fixture(autouse=True)
def somebody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Git knows nobody, and reads no settings of this machine."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    monkeypatch.chdir(tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Mina")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "mina@example.com")


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the template that stands in its place, to be changed; its files."""
    template = tmp_path / "template"
    shutil.copytree(Path(rendering.__file__).parent, template)
    monkeypatch.setattr(rendering, "_TEMPLATE", template)
    return template / "files"


def answers(**changed: str) -> Answers:
    return replace(Answers.of("shop", "duckdb", "data@example.com"), **changed)


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def commit(folder: Path, file: str, text: str) -> None:
    (folder / file).write_text(text)
    git(folder, "add", file)
    git(folder, "commit", "--quiet", "--message", f"Change {file}")


def compose(file: Path) -> Any:
    return yaml.safe_load(file.read_text())


def test_the_example_project_is_made_of_the_same_files(tmp_path: Path) -> None:
    render(answers(name="millrace"), tmp_path)
    differing = [
        file for file in SHARED if (tmp_path / file).read_text() != (ROOT / file).read_text()
    ]
    assert not differing


def test_its_services_are_those_of_the_example(tmp_path: Path) -> None:
    render(answers(), tmp_path)
    ours, theirs = compose(ROOT / "docker-compose.yaml"), compose(tmp_path / "docker-compose.yaml")

    def shared(service: dict[str, Any]) -> dict[str, Any]:
        kept = {name: value for name, value in service.items() if name not in OF_A_PROJECT}
        # The example brings a MySQL, an S3 server, a Google Sheets and a Redis to try it with.
        waited = kept.pop("depends_on", {})
        return kept | {"after": sorted(set(waited) & set(theirs["services"]))}

    for name, service in theirs["services"].items():
        assert shared(service) == shared(ours["services"][name]), name
        own, example = (found.get("environment", {}) for found in (service, ours["services"][name]))
        changed = {key for key, value in own.items() if value != example.get(key, value)}
        assert changed <= {"AIRFLOW_CONN_MYSQL_PROD", "AIRFLOW_CONN_AWS_LANDING", "AIRFLOW_CONN_GOOGLE_SHEETS", "LANDING_URL"}  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("warehouse", ["redshift", "bigquery"])
def test_what_is_made_is_well_formed(tmp_path: Path, warehouse: str) -> None:
    """With DuckDB, and with its SQL and its own tests: tests/e2e/test_own_project.py."""
    render(answers(warehouse=warehouse), tmp_path)
    run(
        *(tmp_path, {**os.environ, "TARGET": warehouse, "DO_NOT_TRACK": "1"}),
        *("dbt", "--quiet", "--warn-error", "parse", "--project-dir", "dbt_project"),
        *("--profiles-dir", "."),
    )
    commands = [
        ("ruff", "check", "--isolated", "."),
        ("ruff", "format", "--check", "--line-length", "100", "--isolated", "."),
        ("check-jsonschema", "--builtin-schema", "vendor.compose-spec", "docker-compose.yaml"),
        (
            *("check-jsonschema", "--builtin-schema", "vendor.github-workflows"),
            ".github/workflows/ci.yml",
        ),
        ("pre-commit", "validate-config", ".pre-commit-config.yaml"),
        ("hadolint", "--ignore", "DL3006", "deploy/Dockerfile"),
    ]
    for command, *arguments in commands:
        done = subprocess.run(
            [PROGRAMS / command, *arguments],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_init_makes_a_repository_whose_one_commit_is_the_template(tmp_path: Path) -> None:
    made = CliRunner().invoke(cli, ["init", "Corner-Shop", "--warehouse", "redshift"])
    assert made.exit_code == 0, made.output
    assert "make demo" in made.output
    folder = tmp_path / "Corner-Shop"
    assert git(folder, "status", "--porcelain") == ""
    assert git(folder, "log", "--format=%an %s").splitlines() == [
        f"Mina Begin with Millrace's template {answers().version}"
    ]
    assert "name: corner_shop" in (folder / "dbt_project/dbt_project.yml").read_text()
    assert "owner: data@example.com" in (folder / "dbt_project/dbt_project.yml").read_text()
    assert "redshift" in (folder / "pyproject.toml").read_text()
    # This Millrace is a checkout's, and on no index.
    assert own_checkout() == ROOT
    assert f'path = "{ROOT}/ingestion"' in (folder / "pyproject.toml").read_text()
    assert os.access(folder / "scripts/setup", os.X_OK)


def test_git_need_not_know_the_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AUTHOR", "COMMITTER"):
        for what in ("NAME", "EMAIL"):
            monkeypatch.delenv(f"GIT_{name}_{what}")
    # Git takes an address of its own from the machine's name, where that has one.
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "user.useConfigOnly")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "true")
    begin(answers(), tmp_path / "shop")
    assert git(tmp_path / "shop", "log", "--format=%cn") == "Millrace\n"


def test_init_writes_over_nothing(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "notes.txt").write_text("mine")
    with pytest.raises(TemplateError, match="not empty") as refused:
        begin(answers(), tmp_path / "shop")
    assert "not there yet" in str(refused.value.fix)
    assert [file.name for file in (tmp_path / "shop").iterdir()] == ["notes.txt"]
    with pytest.raises(TemplateError, match="cannot be called"):
        Answers.of("a shop!", "duckdb", "data@example.com")
    assert Answers.of("2nd.Shop", "duckdb", "data@example.com").name == "_2nd_shop"


def test_a_later_template_is_merged_with_what_people_wrote(tmp_path: Path, newer: Path) -> None:
    shop = tmp_path / "shop"
    begin(answers(), shop)
    commit(shop, "dags/own.py", "# Ours.\n")
    readme = (shop / "README.md").read_text()
    commit(shop, "README.md", readme + "\nOurs.\n")
    (shop / "sample/orders.sql").unlink()
    git(shop, "commit", "--all", "--quiet", "--message", "Leave the sample behind")
    for round_ in ("first", "second"):
        (newer / "scripts/new.jinja").write_text(f"<[ title ]>, {round_}\n")
        old = (newer / "README.md.jinja").read_text()
        (newer / "README.md.jinja").write_text(old.replace("# <[ title ]>", f"# {round_}", 1))
        (newer / ".pre-commit-config.yaml.jinja").unlink(missing_ok=True)
        assert update(shop) == ()
        assert (shop / "scripts/new").read_text() == f"shop, {round_}\n"
        text = (shop / "README.md").read_text()
        assert text.startswith("# first\n")
        assert text.endswith("\nOurs.\n")
        assert (shop / "dags/own.py").read_text() == "# Ours.\n"
        assert not (shop / "sample/orders.sql").exists()
        assert not (shop / ".pre-commit-config.yaml").exists()
        assert git(shop, "status", "--porcelain") == ""
        assert len(git(shop, "worktree", "list").splitlines()) == 1
    with pytest.raises(TemplateError, match="nothing new"):
        update(shop)


def test_lines_that_both_have_changed_are_left_to_a_person(
    tmp_path: Path, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = tmp_path / "shop"
    begin(answers(), shop)
    commit(shop, "Makefile", "mine\n")
    (newer / "Makefile.jinja").write_text("theirs\n")
    monkeypatch.chdir(shop)
    said = CliRunner().invoke(cli, ["update"])
    assert said.exit_code == 1
    assert "Makefile" in said.output
    assert "git merge --abort" in said.output
    assert "<<<<<<<" in (shop / "Makefile").read_text()
    git(shop, "merge", "--abort")
    assert (shop / "Makefile").read_text() == "mine\n"


def test_an_update_that_could_lose_something_is_refused(tmp_path: Path, newer: Path) -> None:
    shop = tmp_path / "shop"
    with pytest.raises(TemplateError, match="not made by `millrace init`"):
        update(tmp_path)
    begin(answers(), shop)
    (newer / "scripts/new.jinja").write_text("new\n")
    (shop / "notes.txt").write_text("mine")
    with pytest.raises(TemplateError, match="not committed"):
        update(shop)
    # With a file of a person's in it, git would take the file for the template's, which has it no
    # more.
    git(shop, "add", "notes.txt")
    git(shop, "commit", "--quiet", "--amend", "--no-edit")
    with pytest.raises(TemplateError, match="was changed afterwards"):
        update(shop)
    assert (shop / "notes.txt").read_text() == "mine"
    commit(shop, ".millrace.yml", "name: [\n")
    with pytest.raises(TemplateError, match=r"\.millrace\.yml cannot be read"):
        update(shop)
