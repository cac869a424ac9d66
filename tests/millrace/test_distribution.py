"""The built framework, in environments that have nothing of this checkout.

It reads MySQL, and does all that it is for in a stranger's dbt project.
"""

from __future__ import annotations

import hmac
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.millrace.conftest import Database

pytestmark = [pytest.mark.service, pytest.mark.nightly]

ROOT = Path(__file__).parents[2]
READ = """
import json, sys
from pathlib import Path
from millrace.batch import WHOLE_TABLE
from millrace.catalog import IngestTable
from millrace.connections import Connection
from millrace.sources.mysql.options import MySQLOptions
from millrace.sources.mysql.source import MySQLSource

source = MySQLSource(Connection("prod", "mysql", **json.loads(sys.argv[1])))
options = MySQLOptions(kind="mysql", connection="prod", table="t", primary_key=("id",))
table = IngestTable(source="mysql", name="t", schema="raw", identifier="t", options=options)
with source.extract(table, WHOLE_TABLE) as extraction:
    rows = [row for batch in extraction.batches for row in batch.to_pylist()]
mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
print(json.dumps({"rows": rows, "libraries": [path for path in mapped if ".so" in path]}))
"""

HASH = """
import pyarrow as pa
from millrace.pii.hashing import Hasher

print(Hasher(b"salt").hexdigests(pa.array(["a@b.c"]))[0])
"""

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


def run(*command: str | Path, **options: Any) -> str:
    # Without the variables that lead to this checkout's environment and packages.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")
    }
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=str(ROOT / ".sandbox" / "uv" / "bin"))
    assert found, "scripts/setup installs it"
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    run(ROOT / "scripts" / "build_wheel", folder)
    return folder


def installed(uv: str, package: Path, extras: Sequence[str], folder: Path) -> Path:
    """The Python of an environment with what was built, and the locked versions of its needs."""
    locked = folder / "locked.txt"
    options = [word for extra in extras for word in ("--extra", extra)]
    exported = run(
        uv,
        *("export", "--quiet", "--frozen", "--no-hashes", "--no-emit-workspace"),
        *("--package", "millrace", *options),
        *("--project", ROOT),
    )
    locked.write_text(exported)
    run(uv, "venv", "--quiet", folder / "environment")
    python = folder / "environment" / "bin" / "python"
    run(
        uv,
        *("pip", "install", "--quiet", "--python", python, "--constraint", locked),
        f"millrace[{','.join(extras)}] @ {package.as_uri()}",
    )
    return python


@pytest.fixture(scope="module")
def sdist(uv: str, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the sdist, for MySQL alone."""
    (package,) = built.glob("*.tar.gz")
    return installed(uv, package, ["mysql"], tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="module")
def wheel(uv: str, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, for all that the stranger below does."""
    (package,) = built.glob("*.whl")
    return installed(uv, package, ["mysql", "duckdb", "airflow"], tmp_path_factory.mktemp("wheel"))


@pytest.fixture(params=["sdist", "wheel"])
def python(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.mark.both_servers
def test_what_is_built_reads_a_table(mysql: Database, python: Path, tmp_path: Path) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20), price DOUBLE)")
    mysql.insert("t", [(1, "é👍", 0.1), (2, None, None)])
    # The server forgets the password's hash, so caching_sha2_password needs its public key.
    mysql.execute("FLUSH PRIVILEGES")
    server = mysql.server
    account = {
        "host": server.host,
        "port": server.port,
        "login": server.reader_user,
        "password": server.reader_password,
        "schema": mysql.name,
    }
    said = json.loads(run(python, "-c", READ, json.dumps(account), cwd=tmp_path))
    assert said["rows"] == [
        {"id": 1, "v": "é👍", "price": 0.1},
        {"id": 2, "v": None, "price": None},
    ]
    clients = [path for path in said["libraries"] if Path(path).name.startswith("libmariadb")]
    plugins = [path for path in said["libraries"] if "caching_sha2_password" in path]
    assert (len(clients), len(plugins)) == (1, 0 if mysql.is_mariadb else 1)
    environment = python.parents[1]
    if environment.parent.name.startswith("wheel"):
        # Nothing that is installed on the machine is used.
        assert all(path.startswith(str(environment)) for path in [*clients, *plugins])


def test_what_is_built_hashes(python: Path, tmp_path: Path) -> None:
    hashed = run(python, "-c", HASH, cwd=tmp_path).strip()
    assert hashed == hmac.digest(b"salt", b"a@b.c", "sha256").hex()


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


def test_it_ingests_builds_and_shows_its_dags_in_a_strangers_project(
    wheel: Path, shop: Path, mysql: Database
) -> None:
    environment = {
        "PATH": f"{wheel.parent}:{os.environ['PATH']}",
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
