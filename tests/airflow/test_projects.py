"""The DAGs that DAG files of a few lines make, in an Airflow that somebody set up by hand."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from millrace.airflow import AirflowProject
from millrace.catalog import Catalog
from millrace.testing import declared
from tests.e2e.small_project import write_project

ROOT = Path(__file__).parents[2]
PROFILES = """
PROJECT:
  target: local
  outputs:
    local: {type: duckdb, path: PROJECT.duckdb, schema: marts}
"""
FILES = """
from datetime import timedelta
from pathlib import Path

from millrace.airflow import AirflowProject, ingest_dags, transform_dag

here = Path(__file__).parents[1]
for name in ("shop", "bank"):
    project = AirflowProject(
        here / name / "warehouse",
        prefix=f"{name}__",
        warehouse_pool=f"{name}_warehouse",
        default_args={"owner": name, "retries": 7},
    )
    ingest_dags(project)
    patience = timedelta(minutes=3)
    transform_dag(project, schedule="0 9 * * *", patience=patience, tags=["marts", name])
"""


@pytest.fixture(scope="module")
def dags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The DAGs of two projects of one name each, in one file of one Airflow."""
    root = tmp_path_factory.mktemp("airflow")
    for name in ("shop", "bank"):
        project = write_project(root / name)
        folder = project.folder.rename(root / name / "warehouse")
        (root / name / "profiles.yml").unlink()
        (folder / "profiles.yml").write_text(PROFILES.replace("PROJECT", name))
        settings = folder / "dbt_project.yml"
        settings.write_text(settings.read_text().replace("profile: millrace", f"profile: {name}"))
        shutil.rmtree(folder / "target")
        AirflowProject(folder).dbt.parse()
    (root / "dags").mkdir()
    (root / "dags" / "projects.py").write_text(FILES)
    bag = DagBag(dag_folder=root / "dags")
    assert bag.import_errors == {}
    return bag.dags


def test_several_projects_share_an_airflow(dags: dict[str, Any]) -> None:
    tables = ("orders", "customers", "visits")
    assert set(dags) == {
        f"{name}__{dag_id}"
        for name in ("shop", "bank")
        for dag_id in ("transform", *(f"ingest__shop__{table}" for table in tables))
    }


def test_no_asset_of_one_project_starts_another(dags: dict[str, Any]) -> None:
    started = {
        name: {asset.uri for asset in dags[f"{name}__transform"].timetable.asset_condition.objects}
        for name in ("shop", "bank")
    }
    updated = {
        name: {
            asset.uri
            for dag_id, dag in dags.items()
            if dag_id.startswith(f"{name}__ingest")
            for asset in dag.get_task("load").outlets
        }
        for name in ("shop", "bank")
    }
    assert started == updated
    assert not started["shop"] & started["bank"]


def test_what_is_said_of_them_is_an_argument(dags: dict[str, Any]) -> None:
    transform = dags["bank__transform"]
    assert transform.timetable.timetable.expression == "0 9 * * *"
    assert set(transform.tags) == {"marts", "bank"}
    assert transform.get_task("dbt_build").pool == "bank_warehouse"
    assert transform.get_task("wait_for_ingestion").patience.total_seconds() == 180
    for task in dags["bank__ingest__shop__orders"].tasks:
        assert (task.owner, task.retries) == ("bank", 7)


def test_the_project_s_own_files_have_ten_lines_at_most() -> None:
    files = list((ROOT / "dags").glob("*.py"))
    assert len(files) == 4
    for file in files:
        assert len(file.read_text().splitlines()) <= 10


TELEMETRY = """
import airflow
from airflow import plugins_manager
plugins_manager._get_plugins()
from cosmos.telemetry import should_emit
print("sends usage data:", should_emit())
"""


@pytest.mark.parametrize(("said", "sends"), [(None, False), ("False", False), ("True", True)])
def test_usage_data_is_sent_only_where_somebody_has_asked_for_it(
    tmp_path: Path, said: str | None, sends: bool
) -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("AIRFLOW") and name != "DO_NOT_TRACK"
    }
    environment["AIRFLOW_HOME"] = str(tmp_path)
    if said:
        environment["AIRFLOW__COSMOS__ENABLE_TELEMETRY"] = said
    done = subprocess.run(
        [sys.executable, "-c", TELEMETRY],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == f"sends usage data: {sends}"


def test_raw_tables_of_odd_names_are_assets_of_their_own() -> None:
    project = AirflowProject(Path("shop"))
    project.__dict__["catalog"] = Catalog((), project="shop")
    names = ("a", "a?b", "a?c", "a#b", "a#c", "ä", "{{ a }}", "%61")
    tables = [replace(declared(), identifier=name) for name in names]
    assert len({project.raw_asset(table).uri for table in tables}) == len(names)
    assert project.raw_asset(declared()).uri == "millrace://shop/raw_mysql/nps"
