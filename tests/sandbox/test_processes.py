from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import SandboxError, Service, poll

# Starts a child that ignores SIGTERM, in a process group of its own, and waits.
FAMILY = """
import os, signal, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-c", "import signal, time; signal.signal(15, signal.SIG_IGN);"
     "print('ready', flush=True); time.sleep(600)"],
    stdout=subprocess.PIPE, process_group=0)
child.stdout.readline()
print(child.pid, flush=True)
signal.pause()
"""


@pytest.fixture
def service(tmp_path: Path):
    service = Service("example", SandboxPaths(tmp_path))
    yield service
    service.stop(timeout=1)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def start_family(service: Service) -> int:
    service.start(python(FAMILY))
    service.wait_until(lambda: service.log.read_text().endswith("\n"), 10, "wrote its child's pid")
    return int(service.log.read_text())


def crash(service: Service) -> None:
    """Kill the leader only."""
    assert service.pid
    os.kill(service.pid, signal.SIGKILL)
    assert poll(lambda: not service.is_running(), 10)


def test_a_service_is_known_to_a_later_command(service: Service):
    service.start(python("import signal; signal.pause()"))
    later = Service("example", service.paths)
    assert later.pid == service.pid is not None
    later.stop()
    assert not service.is_running()
    assert not service.pid_file.exists()


def test_stopping_twice_or_what_never_ran_does_nothing(service: Service):
    service.stop()
    service.start(python("import signal; signal.pause()"))
    service.stop()
    service.stop()
    assert not service.is_running()


def test_starting_what_runs_is_refused(service: Service):
    service.start(python("import signal; signal.pause()"))
    with pytest.raises(SandboxError, match="runs already"):
        service.start(python("pass"))


def test_a_missing_program_is_one_clear_error(service: Service):
    with pytest.raises(SandboxError, match=r"example cannot be started.*no-such-program"):
        service.start(["no-such-program"])


def test_stop_leaves_no_child_even_in_another_group_ignoring_sigterm(service: Service):
    child = start_family(service)
    service.stop(timeout=0.5)
    assert not is_alive(child)


def test_stop_ends_the_children_of_a_leader_that_crashed(service: Service):
    child = start_family(service)
    crash(service)
    assert is_alive(child)
    service.stop(timeout=0.5)
    assert not is_alive(child)


def test_a_start_first_ends_what_a_crash_left(service: Service):
    child = start_family(service)
    crash(service)
    service.stop(timeout=0.5)
    service.start(python("import signal; signal.pause()"))
    assert not is_alive(child)


def test_a_recycled_pid_is_neither_running_nor_killed(service: Service, tmp_path: Path):
    stranger = Service("stranger", SandboxPaths(tmp_path))
    stranger.start(python("import signal; signal.pause()"))
    try:
        pid, start_time = stranger.pid_file.read_text().split()
        service.pid_file.write_text(f"{pid} {int(start_time) - 1}\n")
        assert not service.is_running()
        service.stop()
        assert stranger.is_running()
    finally:
        stranger.stop()


def test_a_service_that_dies_shows_the_end_of_its_log(service: Service):
    service.start(python("import sys; sys.exit('port 1234 is in use')"))
    with pytest.raises(SandboxError) as error:
        service.wait_until(lambda: False, 10, "answered")
    assert "died before it answered" in str(error.value)
    assert "port 1234 is in use" in str(error.value)
    assert str(service.log) in str(error.value)


def test_a_service_that_never_gets_ready_is_reported_in_time(service: Service):
    service.start(python("import signal; signal.pause()"))
    with pytest.raises(SandboxError, match=r"not within 0\.1 s it answered"):
        service.wait_until(lambda: False, 0.1, "answered")


def test_the_log_of_the_run_before_is_kept(service: Service):
    for word in ("first", "second"):
        service.start(python(f"print('{word}')"))
        assert poll(lambda: not service.is_running(), 10)
    assert service.log.read_text() == "second\n"
    assert service.log.with_suffix(".log.1").read_text() == "first\n"


def test_the_sandbox_is_its_owners_only(tmp_path: Path):
    paths = SandboxPaths(tmp_path / "sandbox")
    paths.create()
    folders = [paths.root, *(entry for entry in paths.root.iterdir() if entry.is_dir())]
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)
    # Nobody commits it by mistake.
    assert (paths.root / ".gitignore").read_text() == "*\n"


def test_the_folder_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MILLRACE_SANDBOX_DIR", str(tmp_path))
    assert SandboxPaths.default() == SandboxPaths(tmp_path)
