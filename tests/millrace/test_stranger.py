"""The built wheel in a stranger's environment and dbt project, with nothing of this checkout."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.millrace.test_distribution import ROOT, built, run, uv

if TYPE_CHECKING:
    from tests.millrace.conftest import Database

__all__ = ["built", "uv"]

pytestmark = [pytest.mark.e2e, pytest.mark.service, pytest.mark.airflow]

EXTRAS = ("mysql", "duckdb", "airflow")
FILES = {
    "warehouse/dbt_project.yml": "name: shop\nversion: '1.0'\nprofile: shop\n",
    "warehouse/profiles.yml": (
        "shop:\n  target: local\n"
        "  outputs:\n    local: {type: duckdb, path: shop.duckdb, schema: marts}\n"
    ),
    "warehouse/models/_shop.yml": """
sources:
  - name: shop
    schema: raw_shop
    config: {meta: {ingest: {kind: mysql, connection: shop_db}}}
    tables:
      - name: orders
        config: {meta: {ingest: {table: orders, primary_key: [id], cursor: updated_at}}}
""",
    "warehouse/models/revenue.sql": (
        "select sum(amount) as amount from {{ source('shop', 'orders') }}"
    ),
    "dags/ingest.py": '''"""A DAG for each table that the shop declares."""

from pathlib import Path

from millrace.airflow import AirflowProject, ingest_dags

ingest_dags(AirflowProject(Path(__file__).parents[1] / "warehouse"))
''',
    "dags/transform.py": '''"""The DAG that builds the shop's models."""

from pathlib import Path

from millrace.airflow import AirflowProject, transform_dag

transform_dag(AirflowProject(Path(__file__).parents[1] / "warehouse"))
''',
}


@pytest.fixture(scope="module")
def programs(uv: str, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, its extras and what they need."""
    folder = tmp_path_factory.mktemp("stranger")
    (wheel,) = built.glob("*.whl")
    locked = folder / "locked.txt"
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    exported = run(
        uv,
        *("export", "--quiet", "--frozen", "--no-hashes", "--no-emit-workspace"),
        *("--package", "millrace", *extras),
        *("--project", ROOT),
    )
    locked.write_text(exported)
    run(uv, "venv", "--quiet", folder / "environment")
    python = folder / "environment" / "bin" / "python"
    run(
        uv,
        *("pip", "install", "--quiet", "--python", python, "--constraint", locked),
        f"millrace[{','.join(EXTRAS)}] @ {wheel.as_uri()}",
    )
    return python.parent


@pytest.fixture
def shop(mysql: Database, tmp_path: Path) -> Path:
    """A stranger's project: its folder, its profile and its files are called as they like."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    mysql.execute(
        "CREATE TABLE orders "
        "(id INT PRIMARY KEY, amount DECIMAL(8,2), updated_at DATETIME NOT NULL)"
    )
    mysql.insert("orders", [(1, "19.90", "2026-10-01"), (2, "5.10", "2026-10-02")])
    return tmp_path


def test_it_ingests_builds_and_shows_its_dags(programs: Path, shop: Path, mysql: Database) -> None:
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(shop / "home"),
        "AIRFLOW_CONN_SHOP_DB": mysql.uri,
        "LANDING_URL": (shop / "landing").as_uri(),
        "AIRFLOW_HOME": str(shop / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(shop / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    }

    def said(*command: str) -> str:
        done = subprocess.run(
            command,
            cwd=shop / "warehouse",
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert "shop.orders" in said("millrace", "list")
    assert "shop.orders: 2 rows" in said("millrace", "ingest")
    said("dbt", "build")
    shown = said("dbt", "show", "--quiet", "--inline", "select amount from marts.revenue")
    assert "25 |" in shown
    assert (shop / "warehouse" / "shop.duckdb").is_file()
    said("airflow", "db", "migrate")
    said("airflow", "dags", "reserialize")
    listed = said("airflow", "dags", "list", "--columns", "dag_id")
    assert {"ingest__shop__orders", "transform"} <= set(listed.split())
