"""One warehouse: Airflow's dbt builds where Airflow's ingestion loads."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.airflow import AirflowProject
from millrace.airflow.dbt_tasks import running_dbt

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def target_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest for these tests alone; the target that it was made for does not matter here."""
    return tmp_path_factory.mktemp("target")


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({}, "dev"),
        ({"TARGET": "dev", "DBT_TARGET": "redshift"}, "redshift"),
        ({"TARGET": "redshift", "DBT_ENGINE_TARGET": "dev"}, "dev"),
    ],
    ids=str,
)
def test_dbt_in_airflow_takes_the_target_that_ingestion_takes(
    monkeypatch: pytest.MonkeyPatch, target_path: Path, variables: dict[str, str], target: str
) -> None:
    for name in ("TARGET", "DBT_TARGET", "DBT_ENGINE_TARGET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DUCKDB_PATH", ":memory:")
    monkeypatch.setenv("DBT_TARGET_PATH", str(target_path))
    project = AirflowProject(ROOT / "dbt_project").dbt
    inline = ["--inline", "the target is {{ target.name }}", "--no-introspect"]
    with running_dbt(project, ["compile", *inline, "--no-populate-cache"]) as (_, lines):
        said = [line["said"]["text"] for line in lines if "said" in line]
    assert any(f"the target is {target}" in text for text in said), said
    kinds = {"dev": "duckdb", "redshift": "redshift"}
    assert project.credentials().type == kinds[target]
