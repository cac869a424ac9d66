"""The command ``sheets-standin``, as a stranger runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests
from gspread.utils import ValueRenderOption

from sheets_standin import SheetsEndpoint, StandinError, gspread_client
from sheets_standin.endpoint import ENDPOINT_FILE

pytestmark = pytest.mark.service

COMMAND = (sys.executable, "-m", "sheets_standin")


@pytest.fixture(autouse=True)
def _no_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    # google-auth asks Google, in the background, where a service account may be used from.
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, "serve", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.terminate()


def said(process: subprocess.Popen[str]) -> str:
    """The command's output, up to the line which says that it is ready."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ready." in line:
            break
    return "".join(lines)


def ask(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_it_says_how_to_connect_and_a_browser_is_shown_the_spreadsheets(
    serving: subprocess.Popen[str], tmp_path: Path
):
    text = said(serving)
    endpoint = SheetsEndpoint.read(tmp_path / ".sheets-standin")
    assert endpoint.pid == serving.pid
    for part in (endpoint.url, endpoint.key_file, endpoint.email, "gspread_client.connect"):
        assert part in text
    assert requests.get(endpoint.url, timeout=10).status_code == 200


def test_clients_elsewhere_know_it_by_a_name_of_their_own(tmp_path: Path):
    """As in docker-compose.yaml: the name is one that only they can look up."""
    named = ["--port", "0", "--url", "http://sheets.example:18080"]
    command = [*COMMAND, "serve", *named]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            said(process)
            endpoint = SheetsEndpoint.read(tmp_path / ".sheets-standin")
            assert endpoint.url == "http://sheets.example:18080"
            assert endpoint.service_account_key()["token_uri"] == f"{endpoint.url}/token"
            port = listening_port(process.pid)
            for host, status in {
                "sheets.example": 200,
                "127.0.0.1": 200,
                "evil.example": 400,
            }.items():
                answer = requests.get(
                    f"http://127.0.0.1:{port}", headers={"Host": host}, timeout=10
                )
                assert answer.status_code == status, host
        finally:
            process.terminate()


def listening_port(pid: int) -> int:
    [connection] = psutil.Process(pid).net_connections("tcp4")
    assert connection.laddr.ip == "0.0.0.0"  # noqa: S104
    return int(connection.laddr.port)


def test_a_spreadsheet_made_of_a_csv_is_read_by_gspread_as_if_it_was_typed(
    serving: subprocess.Popen[str], tmp_path: Path
):
    said(serving)
    (tmp_path / "targets.csv").write_text('Month,Target,Owner\n2026-09-01,37.5,"Mina, Jonas"\n')
    made = ask(tmp_path, "new", "NPS targets", "--csv", "targets.csv", "--tab", "targets")
    assert made.returncode == 0, made.stderr
    url = made.stdout.strip()
    assert ask(tmp_path, "list").stdout == f"{url}  NPS targets\n"
    endpoint = SheetsEndpoint.read(tmp_path / ".sheets-standin")
    tab = gspread_client.connect(endpoint).open_by_url(url).worksheet("targets")
    assert tab.get_all_values() == [
        ["Month", "Target", "Owner"],
        ["2026-09-01", "37.5", "Mina, Jonas"],
    ]
    assert tab.get("A2:B2", value_render_option=ValueRenderOption.unformatted) == [[46266, 37.5]]
    # The spreadsheet can be written to as well.
    tab.update_acell("B2", 40)
    assert tab.acell("B2").value == "40"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(
    serving: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
):
    said(serving)
    serving.send_signal(number)
    assert serving.wait(timeout=20) == 0
    assert not (tmp_path / ".sheets-standin" / "endpoint.json").exists()


@pytest.mark.parametrize("arguments", [("list",), ("new", "x")])
def test_a_server_that_does_not_run_is_one_clear_error(tmp_path: Path, arguments: tuple[str, ...]):
    done = ask(tmp_path, *arguments)
    assert done.returncode == 1
    assert done.stderr == "Error: No Google Sheets stand-in runs on .sheets-standin. Start it.\n"


def test_a_csv_that_cannot_be_read_is_one_clear_error_and_makes_nothing(
    serving: subprocess.Popen[str], tmp_path: Path
):
    said(serving)
    done = ask(tmp_path, "new", "x", "--csv", "none.csv")
    assert done.returncode == 1
    assert "Error: none.csv cannot be read as CSV" in done.stderr
    assert "Traceback" not in done.stderr
    assert ask(tmp_path, "list").stdout == ""


def test_help_teaches(tmp_path: Path):
    assert "sheets-standin serve" in ask(tmp_path, "--help").stdout
    assert "--port" in ask(tmp_path, "serve", "--help").stdout


def test_on_a_folder_of_another_version_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / ENDPOINT_FILE).write_text('{"address": "of another version"}')
    assert not SheetsEndpoint.is_ready(tmp_path, 1)
    with pytest.raises(StandinError, match="Start it"):
        SheetsEndpoint.read(tmp_path)
