"""A table of an HTTP API, from its declaration to the warehouse, by the command line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from millrace.sources.http.options import HttpOptions
from millrace_sandbox.http_server import Fault
from millrace_sandbox.weather import WeatherServer
from tests.millrace.http_api import Api, numbered

if TYPE_CHECKING:
    from tests.millrace.conftest import Workspace

pytestmark = pytest.mark.service

PAGE = (Path(__file__).parents[2] / "docs" / "http.md").read_text()

KEY = "http-canary-7f3a"
NOW = datetime.now(UTC).replace(microsecond=0)
DAYS = [NOW - timedelta(days=days) for days in (3, 2, 1)]


@pytest.fixture
def api(workspace: Workspace) -> Iterator[Api]:
    """An API with three rows, behind the table `mysql.nps` of the workspace."""
    with Api() as served:
        served.rows = [
            {"id": at, "seen_at": day.isoformat(), "note": f"note {at}", "extra": {"x": 1}}
            for at, day in enumerate(DAYS, start=1)
        ]
        connection = {"host": served.server.url, "extra": {"headers": {"X-Api-Key": KEY}}}
        workspace.environment.setenv(
            "AIRFLOW_CONN_API", json.dumps({"conn_type": "http", **connection})
        )
        yield served


def declare(workspace: Workspace, **options: Any) -> None:
    block = {
        "kind": "http",
        "connection": "api",
        "endpoint": "/rows",
        "rows": "data",
        "primary_key": ["id"],
        "columns": {"id": "integer", "seen_at": "timestamp", "note": "string"},
    }
    workspace.change_manifest({"meta": {"ingest": block | options}})


INCREMENTAL: dict[str, Any] = {
    "cursor": {"column": "seen_at", "lookback": {"count": 1, "period": "hour"}},
    "params": {"since": "{start:%Y-%m-%d}", "until": "{last:%Y-%m-%d}"},
    "since": "2020-01-01",
}


def test_a_whole_table_is_replaced_by_each_load(workspace: Workspace, api: Api) -> None:
    declare(workspace)
    workspace.succeeds("ingest", "mysql.nps")
    api.rows[0]["note"] = "other"
    del api.rows[1:]
    workspace.succeeds("ingest", "mysql.nps")
    assert workspace.raw("SELECT id, note FROM raw_mysql.nps") == [(1, "other")]
    assert {asked.headers.get("x-api-key") for asked in api.asked} == {KEY}


def test_a_batch_takes_its_interval_and_a_backfill_leaves_what_was(
    workspace: Workspace, api: Api
) -> None:
    declare(workspace, **INCREMENTAL)
    workspace.succeeds("ingest", "mysql.nps")
    assert [asked.params["since"] for asked in api.asked] == ["2020-01-01"]
    loaded = workspace.raw("SELECT id, note, seen_at FROM raw_mysql.nps ORDER BY id")
    assert [row[0] for row in loaded] == [1, 2, 3]
    start, end = (f"{day:%Y-%m-%dT00:00:00}" for day in (DAYS[0], DAYS[1]))
    workspace.succeeds("ingest", "mysql.nps", "--from", start, "--to", end)
    assert api.asked[-1].params == {"since": start[:10], "until": start[:10]}
    current = (
        "SELECT id, note, seen_at FROM raw_mysql.nps QUALIFY "
        "row_number() OVER (PARTITION BY id ORDER BY seen_at DESC, _loaded_at DESC) = 1 ORDER BY id"
    )
    assert workspace.raw(current) == loaded


def test_the_other_commands_know_it(workspace: Workspace, api: Api) -> None:
    declare(workspace)
    assert "seen_at" in workspace.succeeds("preview", "mysql.nps")
    workspace.succeeds("plan", "mysql.nps")
    workspace.succeeds("ingest", "mysql.nps")
    assert "extra" in workspace.succeeds("diff", "mysql.nps")
    workspace.refuses("audit", "mysql.nps", says=["cannot be audited", "the kind http"])
    assert "mysql.nps" not in workspace.run("audit").out
    workspace.succeeds("connect", "api", json.dumps({"conn_type": "http", "host": api.server.url}))


def test_what_is_not_as_declared_leaves_the_warehouse_as_it_was(
    workspace: Workspace, api: Api
) -> None:
    declare(workspace, pages={"by": "page", "size": 2, "size_param": "size"})
    workspace.succeeds("ingest", "mysql.nps")
    api.rows[2] = {"id": 3, "note": "the time is missing"}
    said = workspace.refuses("ingest", "mysql.nps", says=["row 1", "seen_at", "id, note"])
    assert KEY not in said


def test_a_key_is_refused_without_being_told(workspace: Workspace, api: Api) -> None:
    declare(workspace)
    api.serve({"error": f"unknown key {KEY}"}, status=403)
    said = workspace.refuses("ingest", "mysql.nps", says=["refuses the key", "'api'", "***"])
    assert KEY not in said


def test_deletes_by_keys_are_not_for_it(workspace: Workspace, api: Api) -> None:
    declare(workspace, **INCREMENTAL, deletes="keys")
    workspace.refuses("ingest", "mysql.nps", says=["`deletes: keys` is not for an HTTP API"])
    assert not api.asked


def test_what_an_api_no_longer_tells_is_not_replaced(workspace: Workspace, api: Api) -> None:
    declare(
        workspace,
        primary_key=["id", "day"],
        columns={"id": "integer", "day": {"type": "date", "value": "{last:%Y-%m-%d}"}},
        cursor="day",
        readable_for={"count": 2, "period": "day"},
    )
    midnight = NOW.replace(hour=0, minute=0, second=0)
    days = [f"{midnight - timedelta(days=ago):%Y-%m-%d}" for ago in (2, 1, 0)]
    for day in pairwise(days):
        workspace.succeeds("ingest", "mysql.nps", "--from", day[0], "--to", day[1])
    workspace.refuses("ingest", "mysql.nps", "--all", says=["would lose what it told then"])
    workspace.refuses("reload", "mysql.nps", says=["would lose what it told then"])
    long_ago = f"{NOW - timedelta(days=30):%Y-%m-%d}"
    interval = ("--from", long_ago, "--to", days[2])
    workspace.refuses("ingest", "mysql.nps", *interval, says=["would lose"])
    # The last day may come again.
    workspace.succeeds("ingest", "mysql.nps", "--from", days[1], "--to", days[2])
    counted = "SELECT count(*), count(DISTINCT day) FROM raw_mysql.nps"
    assert workspace.raw(counted) == [(6, 2)]


def test_a_server_that_is_busy_once_is_asked_again(workspace: Workspace, api: Api) -> None:
    declare(workspace, pages={"by": "page", "size": 2, "size_param": "size"})
    api.rows = [dict(api.rows[0], **row) for row in numbered(5)]
    api.fail(Fault("status", 429, retry_after="0"), Fault("status", 503, retry_after="0"))
    workspace.succeeds("ingest", "mysql.nps")
    assert workspace.raw("SELECT count(*) FROM raw_mysql.nps") == [(5,)]


def test_the_example_of_the_page_works_as_it_stands(workspace: Workspace) -> None:
    """Its YAML, and its commands one after another; only the address is the stand-in's."""
    example = PAGE.partition("## An example")[2].partition("## The connection")[0]
    (declaration,) = re.findall(r"```yaml\n(.*?)```", example, re.DOTALL)
    export, *commands = re.findall(r"^    (\w+ .*)$", example, re.MULTILINE)
    workspace.sources_file.write_text(declaration)
    today = datetime.now(UTC).date()
    with WeatherServer(lambda: today) as server:
        variable, _, value = shlex.split(export)[1].partition("=")
        workspace.environment.setenv(
            variable, value.replace("https://api.open-meteo.com", server.url)
        )
        for command in commands:
            workspace.succeeds(*shlex.split(command)[1:])
        assert len(server.asked) == 2 * 2 + 1
    counted = "SELECT count(*), count(DISTINCT city), min(date) FROM raw_weather.forecasts"
    assert workspace.raw(counted) == [(14, 2, today)]


def test_the_other_blocks_of_the_page_are_valid() -> None:
    for block in re.findall(r"```yaml\n(ingest:.*?)```", PAGE, re.DOTALL):
        needed = {
            "kind": "http",
            "connection": "api",
            "endpoint": "/v1/forecast",
            "each": [{"city": "Seoul"}],
        }
        declared = yaml.safe_load(block)["ingest"]
        if "city" in declared["primary_key"]:
            declared["columns"]["city"] = {"type": "string", "value": "{city}"}
        assert HttpOptions.model_validate(needed | declared).cursor
