"""The distribution: built, installed where nothing else is, and run there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.service

SOURCE = Path(__file__).parents[1]
CHECKOUT = SOURCE.parents[1]
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "HTTPS_PROXY": "http://127.0.0.1:9"}

USE = """
import importlib.util
from pathlib import Path
from sheets_standin import GoogleSheetsServer, SheetsEndpoint, TabSpec, gspread_client

for name in ("millrace", "millrace_sandbox", "redshift_standin"):
    assert importlib.util.find_spec(name) is None, name

client = gspread_client.connect(SheetsEndpoint.read(Path(".sheets-standin")))
sheet = client.open_by_url(Path("url").read_text().strip()).sheet1
sheet.update([["a", 1], ["b", 2]], "A1")
print(sheet.get_all_values())

with GoogleSheetsServer(Path("another")) as server:
    key = server.admin().create("B", [TabSpec("t", [["x"]])], {server.endpoint.email: "reader"})
    print(gspread_client.connect(server.endpoint).open_by_key(key).sheet1.acell("A1").value)
"""


def call(*command: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of an environment with the wheel and gspread, and nothing else."""
    folder = tmp_path_factory.mktemp("package")
    uv = shutil.which("uv") or CHECKOUT / ".sandbox" / "uv" / "bin" / "uv"
    ignored = shutil.ignore_patterns("tests", "build", "*.egg-info", "__pycache__")
    source = shutil.copytree(SOURCE, folder / "source", ignore=ignored)
    call(uv, "build", "--out-dir", folder / "dist", source)
    (wheel,) = (folder / "dist").glob("*.whl")
    call(uv, "venv", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    call(uv, "pip", "install", "--python", python, f"sheets-standin[gspread] @ {wheel.as_uri()}")
    return python.parent


def test_a_stranger_installs_it_starts_it_and_connects(programs: Path, tmp_path: Path):
    command = programs / "sheets-standin"
    with subprocess.Popen(
        [command, "serve", "--port", "0"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert any("Ready." in line for line in process.stdout)
        (tmp_path / "url").write_text(call(command, "new", "Mine", cwd=tmp_path, env=ENVIRONMENT))
        said = call(programs / "python", "-c", USE, cwd=tmp_path, env=ENVIRONMENT)
        process.terminate()
        assert process.wait(timeout=30) == 0
    assert said == "[['a', '1'], ['b', '2']]\nx\n"
