"""Which project the sandbox takes for the one at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import SandboxError
from millrace_sandbox.project import Project, find_root


def make(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    return root


@pytest.mark.parametrize("mark", [".git/HEAD", ".git", "pyproject.toml"])
@pytest.mark.parametrize("inside", [".", "warehouse", "warehouse/models", "dags"])
def test_the_root_is_the_same_from_wherever_in_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str, inside: str
):
    make(tmp_path, mark, "warehouse/dbt_project.yml", "warehouse/models/x.sql", "dags/ingest.py")
    monkeypatch.chdir(tmp_path / inside)
    assert find_root() == tmp_path


def test_a_project_within_a_larger_repository_is_a_root_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make(tmp_path, ".git", "teams/shop/warehouse/dbt_project.yml", "teams/shop/warehouse/m/x.sql")
    for inside in ("teams/shop", "teams/shop/warehouse", "teams/shop/warehouse/m"):
        monkeypatch.chdir(tmp_path / inside)
        assert find_root() == tmp_path / "teams" / "shop"
    monkeypatch.chdir(tmp_path)
    assert find_root() == tmp_path


def test_without_a_repository_the_nearest_dbt_project_is_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make(tmp_path, "shop/warehouse/dbt_project.yml")
    monkeypatch.chdir(tmp_path / "shop")
    assert find_root() == tmp_path / "shop"


def test_where_there_is_no_project_it_says_what_it_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make(tmp_path, "neighbour/dbt_project.yml", "here/notes.txt")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("MILLRACE_SANDBOX_DIR", raising=False)
    assert find_root() is None
    with pytest.raises(SandboxError, match=r"no dbt_project\.yml, \.git or pyproject\.toml"):
        SandboxPaths.default()


@pytest.mark.parametrize(
    ("files", "dbt", "profiles", "dags"),
    [
        (("dbt_project.yml", "profiles.yml", "dags/a.py"), ".", ".", "dags"),
        (("warehouse/dbt_project.yml", "profiles.yml", "dags/a.py"), "warehouse", ".", "dags"),
        (
            ("warehouse/dbt_project.yml", "warehouse/profiles.yml", "warehouse/dags/a.py"),
            *("warehouse", "warehouse", "warehouse/dags"),
        ),
    ],
)
def test_its_parts_are_found(
    tmp_path: Path, files: tuple[str, ...], dbt: str, profiles: str, dags: str
):
    project = Project(make(tmp_path, *files))
    assert (project.dbt, project.profiles, project.dags) == tuple(
        tmp_path / name for name in (dbt, profiles, dags)
    )


def test_profiles_that_only_dbt_finds_are_left_to_dbt(tmp_path: Path):
    assert Project(make(tmp_path, "warehouse/dbt_project.yml")).profiles is None


def test_what_is_named_is_taken(tmp_path: Path):
    make(tmp_path, "a/dbt_project.yml", "b/dbt_project.yml", "airflow/a.py", "p/profiles.yml")
    project = Project(tmp_path, tmp_path / "b", tmp_path / "p", tmp_path / "airflow")
    assert (project.dbt, project.profiles, project.dags) == tuple(
        tmp_path / name for name in ("b", "p", "airflow")
    )


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ((), "There is no dbt project in"),
        (("a/dbt_project.yml", "b/dbt_project.yml"), "several dbt projects: a, b"),
    ],
)
def test_a_dbt_project_that_is_not_clear_is_asked_for(
    tmp_path: Path, files: tuple[str, ...], says: str
):
    with pytest.raises(SandboxError, match=f"{says}.*--project-dir"):
        _ = Project(make(tmp_path, *files)).dbt
