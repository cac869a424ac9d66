"""`deploy/bigquery/grant`, the command of docs/bigquery.md: what it asks `gcloud` and `bq` for."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GRANT = ROOT / "deploy" / "bigquery" / "grant"
# Each call is a line; what is to be missing is what a `describe` does not find.
PROGRAM = """#!/usr/bin/env bash
input=""
[[ "$*" == *--lifecycle-file=/dev/stdin* ]] && input=" <<< $(cat)"
printf '%s %s%s\\n' "${0##*/}" "$(tr -s '\\n ' ' ' <<< "$*" | sed 's/ $//')" "$input" >> "$CALLS"
[[ "$*" != *describe* || -n "$EXISTS" ]]
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("gcloud", "bq"):
        (tmp_path / name).write_text(PROGRAM)
        (tmp_path / name).chmod(0o755)
    noted = tmp_path / "calls"
    noted.touch()
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(noted))
    monkeypatch.setenv("EXISTS", "")
    return noted


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([GRANT, *arguments], check=False, capture_output=True, text=True)


def documented() -> list[str]:
    """The arguments that docs/bigquery.md shows."""
    [shown] = re.findall(r"`deploy/bigquery/grant (PROJECT .*?)`", page(), re.DOTALL)
    return [argument for argument in shown.split() if argument != "…"]


def page() -> str:
    return (ROOT / "docs" / "bigquery.md").read_text()


def test_the_account_gets_three_roles_each_where_it_is_needed_and_no_more(calls: Path) -> None:
    done = run(*documented())
    assert done.returncode == 0, done.stderr
    said = calls.read_text()
    who = "serviceAccount:millrace@PROJECT.iam.gserviceaccount.com"
    granted = [line for line in said.splitlines() if "roles/" in line]
    assert all(who in line for line in granted)
    place = {
        "gcloud projects add-iam-policy-binding PROJECT": "roles/bigquery.jobUser",
        "ON SCHEMA `PROJECT`.`analytics`": "roles/bigquery.dataEditor",
        "ON SCHEMA `PROJECT`.`analytics_raw_mysql`": "roles/bigquery.dataEditor",
        "gcloud storage buckets add-iam-policy-binding gs://BUCKET": "roles/storage.objectUser",
    }
    assert len(granted) == len(place)
    for where, role in place.items():
        [line] = [line for line in granted if where in line]
        assert re.findall(r"roles/[\w.]+", line) == [role]
    assert "bq --project_id PROJECT --location EU mk --force --dataset PROJECT:analytics\n" in said


@pytest.mark.parametrize("exists", ["", "yes"])
def test_what_is_there_is_not_made_again(
    calls: Path, monkeypatch: pytest.MonkeyPatch, exists: str
) -> None:
    monkeypatch.setenv("EXISTS", exists)
    assert run(*documented()).returncode == 0
    made = re.findall(r"(?:accounts|buckets) create (\S+)", calls.read_text())
    assert made == ([] if exists else ["millrace", "gs://BUCKET"])


def test_a_bucket_that_it_makes_is_private_and_drops_unfinished_uploads(calls: Path) -> None:
    run("p", "EU", "millrace", "gs://b")
    [made] = [line for line in calls.read_text().splitlines() if "buckets create" in line]
    assert "--location EU" in made
    assert "--uniform-bucket-level-access --public-access-prevention" in made
    assert "AbortIncompleteMultipartUpload" in calls.read_text()


def test_too_few_arguments_are_answered_with_how_to_call_it(calls: Path) -> None:
    done = run("p", "EU", "millrace")
    assert done.returncode == 2
    assert "deploy/bigquery/grant PROJECT LOCATION ACCOUNT DATASET" in done.stderr
    assert not calls.read_text()
