"""One warehouse: Airflow's dbt builds where Airflow's ingestion loads."""

import runpy
from pathlib import Path

import orchestration
import pytest

TRANSFORM = Path(orchestration.__file__).with_name("transform.py")


@pytest.fixture(scope="module")
def target_path(tmp_path_factory):
    """A manifest of these tests' own: which target it is of does not matter here."""
    return tmp_path_factory.mktemp("target")


@pytest.mark.parametrize(
    ("variables", "target"),
    [
        ({}, "dev"),
        ({"TARGET": "redshift"}, "redshift"),
        ({"TARGET": "dev", "DBT_TARGET": "redshift"}, "redshift"),
        ({"TARGET": "redshift", "DBT_ENGINE_TARGET": "dev"}, "dev"),
    ],
    ids=str,
)
def test_dbt_in_airflow_takes_the_target_that_ingestion_takes(
    monkeypatch, target_path, variables, target
):
    for name in ("TARGET", "DBT_TARGET", "DBT_ENGINE_TARGET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DUCKDB_PATH", "warehouse.duckdb")
    monkeypatch.setenv("DBT_TARGET_PATH", str(target_path))
    project = orchestration.project()
    if not project.manifest_path.exists():
        project.parse()
    tasks = runpy.run_path(str(TRANSFORM))["transform"].tasks
    targets = {t.profile_config.target_name for t in tasks if hasattr(t, "profile_config")}
    assert targets == {target}
    kinds = {"dev": "duckdb", "redshift": "redshift"}
    assert project.credentials().type == kinds[target]
