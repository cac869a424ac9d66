from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "make-env", tmp_path / "deploy")
    shutil.copy(ROOT / ".env.example", tmp_path)
    return tmp_path


def test_every_line_gets_its_own_secret_that_only_its_owner_reads(checkout: Path) -> None:
    subprocess.run([checkout / "deploy" / "make-env"], check=True)
    env = checkout / ".env"
    lines = env.read_text().splitlines()
    values = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert all(values.values())
    assert len(set(values.values())) == len(values)
    assert env.stat().st_mode & 0o777 == 0o600
    assert len(base64.urlsafe_b64decode(values["AIRFLOW_FERNET_KEY"])) == 32


def test_secrets_in_use_are_kept(checkout: Path) -> None:
    (checkout / ".env").write_text("MILLRACE_PII_SALT=precious\n")
    refused = subprocess.run(
        [checkout / "deploy" / "make-env"], check=False, capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "there is an .env already" in refused.stderr
    assert (checkout / ".env").read_text() == "MILLRACE_PII_SALT=precious\n"
