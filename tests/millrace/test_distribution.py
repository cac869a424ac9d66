"""The built framework reads MySQL in an environment that has nothing of the checkout."""

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
    from tests.millrace.conftest import Database

pytestmark = [pytest.mark.service, pytest.mark.both_servers]

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


@pytest.fixture(scope="module", params=["sdist", "wheel"])
def python(
    request: pytest.FixtureRequest, uv: str, built: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An environment with what was built, and with the locked versions of what it needs."""
    folder = tmp_path_factory.mktemp(request.param)
    (package,) = built.glob("*.whl" if request.param == "wheel" else "*.tar.gz")
    locked = folder / "locked.txt"
    locked.write_text(
        run(
            uv,
            *("export", "--quiet", "--frozen", "--no-hashes", "--no-emit-workspace"),
            *("--package", "millrace", "--extra", "mysql", "--project", ROOT),
        )
    )
    run(uv, "venv", "--quiet", folder / "environment")
    python = folder / "environment" / "bin" / "python"
    run(
        uv,
        *("pip", "install", "--quiet", "--python", python, "--constraint", locked),
        f"millrace[mysql] @ {package.as_uri()}",
    )
    return python


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
