from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from millrace_sandbox.bigquery import BigQuery
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import SandboxError

pytestmark = pytest.mark.service


def test_what_it_holds_outlives_a_restart_and_a_reset_drops_it(tmp_path: Path):
    server = BigQuery(SandboxPaths(tmp_path), port=0)
    try:
        with closing(server.start().connect()) as client:
            client.create_dataset("analytics")
            client.query_and_wait("create table analytics.t as select 1 as id")
        server.stop()
        assert server.status == "stopped"
        with closing(server.start().connect()) as client:
            ((found,),) = client.query_and_wait("select id from analytics.t")
            assert found == 1
            assert [table.table_id for table in client.list_tables("analytics")] == ["t"]
            server.reset()
            assert list(client.list_datasets()) == []
    finally:
        server.stop()


def test_where_it_is_not_installed_it_says_what_to_run(tmp_path: Path, monkeypatch):
    (tmp_path / "dbt_project.yml").touch()
    monkeypatch.chdir(tmp_path)
    server = BigQuery(SandboxPaths(tmp_path / ".sandbox"), port=0)
    with pytest.raises(SandboxError, match="Run Millrace's scripts/fetch_bqemulator"):
        server.start()
    with pytest.raises(SandboxError, match="was never started"):
        _ = server.endpoint
