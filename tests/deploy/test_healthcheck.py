from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from deploy import healthcheck

HEALTH = {
    "metadatabase": {"status": "healthy"},
    "scheduler": {"status": "unhealthy", "latest_scheduler_heartbeat": None},
    "triggerer": {"status": None, "latest_triggerer_heartbeat": None},
    "dag_processor": {"status": "healthy", "latest_dag_processor_heartbeat": None},
}


class _ApiServer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/v2/monitor/health" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(HEALTH).encode())

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture(autouse=True)
def api_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _ApiServer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/execution/"
        monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", url)
        yield server
        server.shutdown()


def test_reads_the_answer_and_not_only_its_status() -> None:
    assert healthcheck.main("metadatabase") == 0
    assert healthcheck.main("dag_processor") == 0
    assert healthcheck.main("scheduler") == 1
    assert healthcheck.main("triggerer") == 1


def test_fails_when_the_api_server_is_down(api_server: ThreadingHTTPServer) -> None:
    api_server.shutdown()
    api_server.server_close()
    with pytest.raises(OSError, match="refused"):
        healthcheck.main("scheduler")


def test_a_watcher_that_has_not_looked_for_minutes_is_not_well(tmp_path: Path) -> None:
    looked = tmp_path / "looked"
    assert healthcheck.main_of_watch(looked) == 1
    looked.touch()
    assert healthcheck.main_of_watch(looked) == 0
    long_ago = time.time() - 600
    os.utime(looked, (long_ago, long_ago))
    assert healthcheck.main_of_watch(looked) == 1
