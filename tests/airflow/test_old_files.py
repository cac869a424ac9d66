"""Old files go; what is young, open or a link stays."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from millrace.airflow.old_files import Removed, remove_old_files, remove_old_folders

NOW = datetime.now(UTC)
MONTH = timedelta(days=30)
RUN = "dag_id=transform/run_id=scheduled__2026-10-01/task_id=dbt_build"


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / "logs"
    folder.mkdir()
    return folder


def write(file: Path, days: int) -> Path:
    """A file of ten bytes that was written so many days ago, as were the folders around it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"0123456789")
    then = (NOW - timedelta(days=days)).timestamp()
    for path in (file, *file.parents[:4]):
        os.utime(path, (then, then))
    return file


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_old_logs_go_with_their_folders_and_young_ones_stay(logs: Path) -> None:
    write(logs / RUN / "attempt=1.log", days=31)
    write(logs / RUN / "attempt=1.log.trigger.7.log", days=31)
    young = write(logs / RUN.replace("10-01", "10-30") / "attempt=1.log", days=29)
    removed = remove_old_files(logs, NOW - MONTH, "*.log*")
    assert removed == Removed(files=2, size=20)
    assert files(logs) == files(logs) & {
        str(path.relative_to(logs)) for path in (young, *young.parents) if logs in path.parents
    }


def test_a_log_that_a_process_writes_stays_however_old_it_is(logs: Path) -> None:
    file = write(logs / RUN / "attempt=1.log", days=400)
    with file.open("a"):
        assert remove_old_files(logs, NOW - MONTH, "*.log*").files == 0
    assert remove_old_files(logs, NOW - MONTH, "*.log*").files == 1


def test_links_and_what_they_lead_to_stay(logs: Path, tmp_path: Path) -> None:
    outside = write(tmp_path / "elsewhere" / "other.log", days=400)
    (logs / "latest").symlink_to(outside.parent)
    (logs / "other.log").symlink_to(outside)
    assert remove_old_files(logs, NOW - MONTH, "*.log*").files == 0
    assert outside.exists()
    assert files(logs) == {"latest", "other.log"}


def test_a_folder_that_was_just_made_stays_for_the_task_that_made_it(logs: Path) -> None:
    (logs / RUN).mkdir(parents=True)
    remove_old_files(logs, NOW - MONTH)
    assert (logs / RUN).is_dir()


def test_a_folder_that_is_not_there_has_nothing_to_remove(logs: Path) -> None:
    assert remove_old_files(logs / "none", NOW) == Removed(0, 0)
    assert remove_old_folders(logs / "none", NOW, "*") == Removed(0, 0)


def test_what_a_killed_task_has_left_goes_as_a_whole_when_nothing_in_it_is_young(
    tmp_path: Path,
) -> None:
    for name, days in (("millrace-dbt-a/run/x.sql", 8), ("millrace-dbt-b/run/x.sql", 8)):
        write(tmp_path / name, days)
    write(tmp_path / "millrace-dbt-b" / "manifest.json", days=6)
    write(tmp_path / "of-somebody-else", days=400)
    assert remove_old_folders(tmp_path, NOW - timedelta(days=7), "millrace-dbt-*").files == 1
    left = {"millrace-dbt-b", "of-somebody-else"}
    assert {path.name for path in tmp_path.iterdir()} == left
