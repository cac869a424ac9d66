"""The distribution: built, installed where nothing else is, and run there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.service, pytest.mark.redshift]

SOURCE = Path(__file__).parents[1]
CHECKOUT = SOURCE.parents[1]

USE = """
import importlib.util, redshift_connector, sys
from pathlib import Path
from redshift_standin import RedshiftEndpoint, RedshiftServer

for name in ("millrace", "millrace_sandbox", "sheets_standin"):
    assert importlib.util.find_spec(name) is None, name

endpoint = RedshiftEndpoint.read(Path(".redshift-standin"))
endpoint.s3.client().put_object(Bucket="redshift", Key="rows", Body=b"1\\n2\\n")
connection = redshift_connector.connect(
    host=endpoint.host, port=endpoint.port, database=endpoint.database,
    user=endpoint.user, password=endpoint.password, ssl=False,
)
cursor = connection.cursor()
cursor.execute("create table t (n int) distkey (n) sortkey (n)")
cursor.execute(f"copy t from 's3://redshift/rows' iam_role '{endpoint.iam_role}' csv")
cursor.execute("select sum(n), nvl(null, 7), datediff(day, '2026-01-01', '2026-01-03') from t")
print(cursor.fetchall())
connection.close()

with RedshiftServer(Path("another")) as server, server.endpoint.connect() as connection:
    connection.cursor().execute("select getdate()")
"""


def call(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with only the wheel and its S3 server."""
    folder = tmp_path_factory.mktemp("package")
    uv = shutil.which("uv") or CHECKOUT / ".sandbox" / "uv" / "bin" / "uv"
    ignored = shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__")
    source = shutil.copytree(SOURCE, folder / "source", ignore=ignored)
    call(uv, "build", "--out-dir", folder / "dist", source)
    (wheel,) = (folder / "dist").glob("*.whl")
    call(uv, "venv", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    call(uv, "pip", "install", "--python", python, f"redshift-standin[s3] @ {wheel.as_uri()}")
    return python.parent


@pytest.fixture
def running(programs: Path, tmp_path: Path) -> Iterator[None]:
    command = [str(programs / "redshift-standin"), "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert any("Ready." in line for line in process.stdout)
        yield
        process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.mark.usefixtures("running")
def test_a_stranger_installs_it_starts_it_and_connects(programs: Path, tmp_path: Path):
    done = subprocess.run(
        [programs / "python", "-c", USE],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "([3, 7, 2],)\n"), done.stderr
