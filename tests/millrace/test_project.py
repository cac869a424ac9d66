"""Whether a manifest is what dbt would make of the project now, and which warehouse is meant."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millrace.catalog import load_catalog
from millrace.connections import in_environment
from millrace.dbt.project import Project, followed
from millrace.errors import ProjectError
from millrace.pipeline import Pipeline
from millrace.settings import DbtSettings, Settings
from millrace.warehouses.base import open_warehouse
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse
from tests.forked import run_dbt

PROJECT = """
name: shop
version: "1.0"
profile: shop
flags: {send_anonymous_usage_stats: false}
vars: {suffix: a}
"""
PROFILES = """
shop:
  target: "{{ env_var('CHOSEN', 'dev') }}"
  outputs:
    dev: {type: duckdb, path: "NAME_dev.duckdb", schema: "{{ env_var('MARTS', 'marts') }}"}
    prod: {type: duckdb, path: "NAME_prod.duckdb", schema: marts}
other:
  target: dev
  outputs:
    dev: {type: duckdb, path: NAME_other.duckdb, schema: marts}
"""
SOURCE = """
sources:
  - name: NAME
    schema: "raw_{{ target.name }}_{{ env_var('RAW', 'x') }}"
    config: {meta: {ingest: {kind: mysql, connection: mysql_prod}}}
    tables:
      - {name: orders, config: {meta: {ingest: {table: orders, primary_key: [id]}}}}
"""
WHERE = "{% macro where() %}{{ print(target.path) }}{% endmacro %}"
LONG_AGO = (1_000_000_000, 1_000_000_000)


def find(start: Path | None = None, **options: str | None) -> Project:
    """The project, as the command line finds it."""
    return Project.find(start, DbtSettings.read(os.environ), **options)


def variables() -> list[str]:
    return [name for name in os.environ if name.startswith("DBT_")] + ["CHOSEN", "MARTS", "RAW"]


@pytest.fixture(scope="session")
def parsed_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shop")
    folder = root / "dbt_project"
    (folder / "models").mkdir(parents=True)
    (folder / "macros").mkdir()
    (folder / "seeds").mkdir()
    (root / "profiles.yml").write_text(PROFILES.replace("NAME", "shop"))
    (folder / "dbt_project.yml").write_text(PROJECT)
    (folder / "models" / "_shop.yml").write_text(SOURCE.replace("NAME", "shop"))
    (folder / "models" / "_bank.yml").write_text(SOURCE.replace("NAME", "bank"))
    (folder / "seeds" / "plans.csv").write_text("id\n1\n")
    (folder / "macros" / "where.sql").write_text(WHERE)
    with pytest.MonkeyPatch.context() as environment:
        for name in variables():
            environment.delenv(name, raising=False)
        find(root).parse()
    return root


@pytest.fixture
def shop(parsed_shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The root of a project that was parsed a moment ago; the working directory."""
    for name in variables():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    root = tmp_path / "shop"
    shutil.copytree(parsed_shop, root)
    monkeypatch.chdir(root)
    return root


def models(root: Path) -> Path:
    return root / "dbt_project" / "models"


def write(path: Path, text: str) -> None:
    """Write a file that looks old, as one from an archive or another branch may."""
    path.write_text(text)
    os.utime(path, LONG_AGO)


def overwrite(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    write(path, text.replace(before, after))


CHANGES: dict[str, Callable[[Path], object]] = {
    "a declaration is deleted": lambda root: (models(root) / "_bank.yml").unlink(),
    "a declaration is edited": lambda root: overwrite(models(root) / "_shop.yml", "[id]", "[no]"),
    "a declaration is added": lambda root: write(models(root) / "_new.yml", SOURCE),
    "a declaration is renamed": lambda root: (models(root) / "_bank.yml").rename(
        models(root) / "_post.yml"
    ),
    "a variable of the project is edited": lambda root: overwrite(
        root / "dbt_project" / "dbt_project.yml", "suffix: a", "suffix: b"
    ),
    "the profile is edited": lambda root: overwrite(root / "profiles.yml", "shop_dev", "shop_de"),
    "a seed is deleted": lambda root: (root / "dbt_project" / "seeds" / "plans.csv").unlink(),
    "the manifest is deleted": lambda root: find(root).manifest_path.unlink(),
    "the manifest is cut short": lambda root: find(root).manifest_path.write_text("{"),
    "the manifest is of another target": lambda root: overwrite(
        find(root).manifest_path, "raw_dev_x", "raw_prod_x"
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_manifest_is_stale_when(shop: Path, change: Callable[[Path], object]) -> None:
    assert not find().is_stale()
    change(shop)
    assert find().is_stale()


@pytest.mark.parametrize(
    "name", ["CHOSEN", "MARTS", "RAW", "DBT_TARGET", "DBT_ENGINE_TARGET", "DBT_PROFILE"]
)
def test_a_manifest_is_stale_when_a_variable_changes(
    shop: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "prod")
    assert find().is_stale()


@pytest.mark.parametrize("name", ["DBT_LOG_PATH", "DBT_ENGINE_LOG_PATH"])
def test_a_manifest_is_the_same_wherever_dbt_writes(
    shop: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "elsewhere")
    assert not find().is_stale()


def parsed_by_dbt(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders of the projects that dbt parses from now on."""
    parsed: list[str] = []
    parse = Project.parse

    def noted(project: Project) -> None:
        parsed.append(str(project.folder))
        parse(project)

    monkeypatch.setattr(Project, "parse", noted)
    return parsed


def test_an_image_s_manifest_is_taken_over_into_the_folder_of_its_start(
    shop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = find().manifest_path.read_bytes()
    parsed = parsed_by_dbt(monkeypatch)
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "volume"))
    find().ensure_manifest()
    assert not parsed
    assert not find().is_stale()
    assert find().manifest_path == tmp_path / "volume" / "manifest.json"
    assert find().manifest_path.read_bytes() == own


def test_it_is_not_taken_over_where_the_environment_differs(
    shop: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (models(shop) / "_bank.yml").unlink()
    find().parse()
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "volume"))
    monkeypatch.setenv("RAW", "y")
    parsed = parsed_by_dbt(monkeypatch)
    assert declared()["shop.orders"] == "raw_dev_y"
    assert parsed


def test_a_manifest_is_of_one_target(shop: Path) -> None:
    assert find(target="prod").is_stale()


def test_where_any_variable_may_be_meant_all_of_them_count(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(models(shop) / "_shop.yml", SOURCE.replace("'RAW'", "'R' ~ 'AW'"))
    project = find()
    before = project.inputs_digest()
    monkeypatch.setenv("SOMETHING", "else")
    assert project.inputs_digest() != before


def test_a_manifest_stays_fresh_through_what_does_not_change_it(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMETHING", "else")
    for path in models(shop).iterdir():
        os.utime(path)
    (shop / "dbt_project" / "seeds" / "plans.csv").write_text("id\n2\n")
    assert not find().is_stale()
    # Every start of dbt writes other times and, here, another working directory.
    dbt("parse", cwd=shop / "dbt_project")
    assert not find().is_stale()


def dbt(*arguments: str, cwd: Path) -> str:
    profiles = ["--profiles-dir", ".."] if cwd.name == "dbt_project" else []
    done = run_dbt(["--quiet", *arguments, *profiles], cwd)
    done.check_returncode()
    return done.stdout.strip()


def declared() -> dict[str, str]:
    """The tables' schemas, as the command line would see them."""
    project = find()
    project.ensure_manifest()
    return {table.key: table.schema for table in load_catalog(project.manifest_path).tables}


def test_what_is_declared_follows_every_change(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (models(shop) / "_bank.yml").unlink()
    assert declared() == {"shop.orders": "raw_dev_x"}
    monkeypatch.setenv("RAW", "y")
    assert declared() == {"shop.orders": "raw_dev_y"}
    dbt("parse", "--target", "prod", cwd=shop / "dbt_project")
    assert declared() == {"shop.orders": "raw_dev_y"}
    monkeypatch.setenv("DBT_TARGET", "prod")
    assert declared() == {"shop.orders": "raw_prod_y"}


def test_who_follows_a_project_keeps_the_last_manifest_until_a_bad_change_is_mended(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = parsed_by_dbt(monkeypatch)
    looks = followed(find)
    assert next(looks) is None
    assert not parsed
    before = find().manifest_path.read_bytes()
    write(models(shop) / "_new.yml", "sources: [")
    problem = next(looks)
    assert problem
    assert "_new.yml" in str(problem)
    assert find().manifest_path.read_bytes() == before
    # It is tried once.
    assert next(looks) is None
    assert len(parsed) == 1
    (models(shop) / "_bank.yml").unlink()
    write(models(shop) / "_new.yml", "sources: []")
    assert next(looks) is None
    assert [table.key for table in load_catalog(find().manifest_path).tables] == ["shop.orders"]


def test_who_follows_a_link_goes_where_it_leads_now(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git-sync checks each commit out into a folder of its own, and turns a link."""
    link = tmp_path / "current"
    link.symlink_to(shop)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "target"))
    monkeypatch.setenv("DBT_PROJECT_DIR", str(link / "dbt_project"))
    monkeypatch.setenv("DBT_PROFILES_DIR", str(link))
    looks = followed(find)
    assert next(looks) is None
    shutil.copytree(shop, tmp_path / "later")
    (models(tmp_path / "later") / "_bank.yml").unlink()
    shutil.rmtree(shop)
    problem = next(looks)
    assert problem
    assert "no dbt_project.yml" in str(problem)
    link.unlink()
    link.symlink_to(tmp_path / "later")
    assert next(looks) is None
    assert [table.key for table in load_catalog(find().manifest_path).tables] == ["shop.orders"]


def elsewhere(root: Path) -> Path:
    folder = root.parent / "elsewhere"
    folder.mkdir(exist_ok=True)
    (folder / "profiles.yml").write_text(PROFILES.replace("NAME", "elsewhere"))
    return folder


CHOICES: dict[str, tuple[dict[str, str], list[str], str]] = {
    "the profile": ({}, [], "shop_dev"),
    "the profile, by its own variable": ({"CHOSEN": "prod"}, [], "shop_prod"),
    "DBT_TARGET": ({"DBT_TARGET": "prod"}, [], "shop_prod"),
    "DBT_ENGINE_TARGET before DBT_TARGET": (
        {"DBT_TARGET": "nowhere", "DBT_ENGINE_TARGET": "prod"},
        [],
        "shop_prod",
    ),
    "--target before both": ({"DBT_TARGET": "nowhere"}, ["--target", "prod"], "shop_prod"),
    "DBT_PROFILE": ({"DBT_PROFILE": "other"}, [], "shop_other"),
    "DBT_PROFILES_DIR": ({"DBT_PROFILES_DIR": "../elsewhere"}, [], "elsewhere_dev"),
    "--profiles-dir": ({}, ["--profiles-dir", "../elsewhere"], "elsewhere_dev"),
}


@pytest.mark.parametrize(("variables", "options", "name"), CHOICES.values(), ids=CHOICES)
def test_the_warehouse_is_the_one_that_dbt_takes(
    shop: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    options: list[str],
    name: str,
) -> None:
    elsewhere(shop)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    said = dbt("run-operation", "where", "--project-dir", "dbt_project", *options, cwd=shop)
    named = dict(zip(options[::2], options[1::2], strict=True))
    found = find(target=named.get("--target"), profiles_dir=named.get("--profiles-dir"))
    warehouse = open_warehouse(found.credentials(), found.root, Settings())
    assert Path(said).name == f"{name}.duckdb"
    assert warehouse.name.startswith(f"duckdb {name}.duckdb ")


def test_dbt_is_asked_for_the_warehouse_only_when_something_has_changed(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    credentials = Project.credentials

    def counted(project: Project) -> object:
        asked.append(project)
        return credentials(project)

    monkeypatch.setattr(Project, "credentials", counted)

    def opened(target: str | None = None) -> str:
        pipeline = Pipeline(find(target=target), Settings(), in_environment({}))
        return pipeline.warehouse.name.split()[1]

    # A secret of another kind of credentials is not in the way.
    profiles = shop / "profiles.yml"
    password = "prod: {password: \"{{ env_var('DBT_ENV_SECRET_PASSWORD', '') }}\", type: duckdb"
    write(profiles, profiles.read_text().replace("prod: {type: duckdb", password))
    assert opened() == opened() == "shop_dev.duckdb"
    assert len(asked) == 1
    kept = shop / "dbt_project" / "target" / "millrace_target.json"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert opened("prod") == "shop_prod.duckdb"
    monkeypatch.setenv("CHOSEN", "prod")
    assert opened() == "shop_prod.duckdb"
    write(profiles, profiles.read_text().replace("shop_prod", "moved"))
    assert opened() == "moved.duckdb"
    assert len(asked) == 4


def test_what_a_secret_variable_says_of_the_warehouse_is_asked_each_time(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles = shop / "profiles.yml"
    where = "{{ env_var('DBT_ENV_SECRET_WHERE') }}.duckdb"
    write(profiles, profiles.read_text().replace("shop_dev.duckdb", where))
    for name in ("one", "other"):
        monkeypatch.setenv("DBT_ENV_SECRET_WHERE", name)
        warehouse = Pipeline(find(), Settings(), in_environment({})).warehouse
        assert warehouse.name.startswith(f"duckdb {name}.duckdb ")


def test_without_a_profile_beside_the_project_it_is_the_users(shop: Path) -> None:
    home = Path(os.environ["HOME"]) / ".dbt"
    home.mkdir(parents=True)
    (shop / "profiles.yml").rename(home / "profiles.yml")
    assert find().profiles_folder == home


def test_a_target_that_the_profile_lacks_is_refused(shop: Path) -> None:
    with pytest.raises(ProjectError, match="does not have a target named 'nowhere'"):
        find(target="nowhere").credentials()


def test_a_profile_that_is_nowhere_is_refused(shop: Path) -> None:
    (shop / "profiles.yml").unlink()
    with pytest.raises(ProjectError, match=r"profiles\.yml"):
        find()


def warehouse_of(project: Project) -> str:
    return open_warehouse(project.credentials(), project.root, Settings()).name


@pytest.mark.parametrize("profiles", ["beside the project", "in the project"])
@pytest.mark.parametrize("below", [".", "models", "target"])
def test_it_works_wherever_dbt_works(
    shop: Path, monkeypatch: pytest.MonkeyPatch, profiles: str, below: str
) -> None:
    """It works in and below the dbt project, whatever the names of its folder and its profile."""
    folder = (shop / "dbt_project").rename(shop / "warehouse")
    root = shop
    if profiles == "in the project":
        root = folder
        (shop / "profiles.yml").rename(folder / "profiles.yml")
    monkeypatch.chdir(folder / below)
    found = find()
    assert (found.folder, found.root, found.profile_name) == (folder, root, "shop")
    if below == ".":
        # The file that dbt itself would write to, if started where profiles.yml is.
        monkeypatch.chdir(root)
        said = dbt("run-operation", "where", "--project-dir", str(folder), cwd=root)
        assert warehouse_of(found) == DuckDBWarehouse(root / said).name


def test_from_a_folder_beside_the_project_it_is_found(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "dags").mkdir()
    monkeypatch.chdir(shop / "dags")
    assert find().folder == shop / "dbt_project"


@pytest.mark.parametrize("mark", ["profiles.yml", "pyproject.toml", ".git"])
def test_a_neighbours_project_is_not_taken_for_ones_own(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mark: str
) -> None:
    """Cosmos, for one, copies a project into the folder of all temporary files."""
    home = tmp_path / "home"
    shop.rename(home)
    (home / "profiles.yml").rename(home / "dbt_project" / "profiles.yml")
    (home / "notes" / "today").mkdir(parents=True)
    monkeypatch.chdir(home / "notes" / "today")
    with pytest.raises(ProjectError, match="no dbt project in"):
        find()
    # Here it is one repository, or what has been copied of one into an image.
    (home / mark).touch()
    assert find().folder == home / "dbt_project"


def test_of_several_projects_one_has_to_be_named(shop: Path) -> None:
    shutil.copytree(shop / "dbt_project", shop / "other")
    with pytest.raises(ProjectError, match=r"2 dbt projects .*: dbt_project, other") as refused:
        find()
    assert "--project-dir" in refused.value.fix
    assert find(project_dir="other").folder == shop / "other"


def test_what_lies_beyond_the_repository_is_not_looked_at(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = shop / "something" / "else"
    inner.mkdir(parents=True)
    (shop / "something" / ".git").mkdir()
    monkeypatch.chdir(inner)
    with pytest.raises(ProjectError, match="no dbt project in"):
        find()


def test_what_dbt_writes_goes_where_the_project_says(shop: Path) -> None:
    file = shop / "dbt_project" / "dbt_project.yml"
    file.write_text(file.read_text() + "target-path: built\n")
    project = find()
    project.ensure_manifest()
    assert project.manifest_path == shop / "dbt_project" / "built" / "manifest.json"
    assert project.manifest_path.is_file()
    assert not project.is_stale()


def test_one_of_many_processes_parses_and_none_reads_half_a_manifest(shop: Path) -> None:
    project = find()
    project.manifest_path.unlink()
    begun = threading.Barrier(4)

    def ensure(_: int) -> int:
        begun.wait()
        project.ensure_manifest()
        return project.manifest_path.stat().st_ino

    with ThreadPoolExecutor(4) as threads:
        found = set(threads.map(ensure, range(4)))
    assert len(found) == 1

    # Who opened it before the next parse reads it to its end.
    (models(shop) / "_bank.yml").unlink()
    with project.manifest_path.open() as open_before:
        project.ensure_manifest()
        assert json.load(open_before)["metadata"]
    assert project.manifest_path.stat().st_ino not in found
    assert not list(project.manifest_path.parent.glob(".millrace-*"))


def test_a_target_folder_that_cannot_be_written_is_named(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shop / "file").write_text("")
    monkeypatch.setenv("DBT_TARGET_PATH", str(shop / "file" / "target"))
    with pytest.raises(ProjectError, match=r"file/target cannot be written") as refused:
        find().ensure_manifest()
    assert "DBT_TARGET_PATH" in str(refused.value.fix)
