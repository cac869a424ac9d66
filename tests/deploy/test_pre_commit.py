from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

CONFIG = Path(__file__).resolve().parents[2] / ".pre-commit-config.yaml"


def test_the_configuration_is_valid() -> None:
    tool = Path(sys.executable).with_name("pre-commit")
    subprocess.run([tool, "validate-config", CONFIG], check=True, capture_output=True)


def test_hooks_are_the_tools_of_the_lock_and_download_nothing() -> None:
    for repository in yaml.safe_load(CONFIG.read_text())["repos"]:
        assert repository["repo"] == "local"
        for hook in repository["hooks"]:
            assert hook["language"] == "system"
            folder, program = hook["entry"].split()[0].rsplit("/", 1)
            assert folder == ".venv/bin"
            assert Path(sys.executable).with_name(program).is_file()
