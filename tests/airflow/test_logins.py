"""Who may do what on an Airflow with FAB's logins, and the pages that say how to ask it.

One Airflow for all, prepared by ``deploy/init`` as the image is.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from millrace.alerts.airflow_api import AirflowApi
from millrace.connections import Connection
from millrace_sandbox.airflow import Airflow
from millrace_sandbox.mariadb import MariaDB
from millrace_sandbox.paths import SandboxPaths
from millrace_sandbox.processes import poll
from tests.canaries import Canary, found_below, found_in, mysql_opened_by, watched_processes
from tests.commands import BIN, run
from tests.e2e.small_project import write_project
from tests.pages import blocks

pytestmark = [pytest.mark.airflow, pytest.mark.service]

ROOT = Path(__file__).parents[2]
FAB = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
FILES = {
    "dbt_project.yml": """
name: canaries
version: "1.0.0"
profile: millrace
flags: {send_anonymous_usage_stats: false}
""",
    "models/_mysql.yml": """
sources:
  - name: mysql
    schema: raw_mysql
    config:
      meta:
        ingest: {kind: mysql, connection: mysql_prod, pool: mysql_reads}
    tables:
      - name: nps
        config: {meta: {ingest: {table: nps, primary_key: [id], cursor: updated_at}}}
""",
    "models/summary.sql": "select count(*) as responses from {{ source('mysql', 'nps') }}",
}
NPS = "ingest__mysql__nps"
ADMIN, MONITOR = "AIRFLOW_ADMIN_PASSWORD", "AIRFLOW_MONITOR_PASSWORD"
TIMEOUT = 60


@dataclass(frozen=True)
class Server:
    """An Airflow with FAB, and what prepared it."""

    airflow: Airflow
    environment: dict[str, str]
    canaries: tuple[Canary, ...]
    arguments: set[str]

    def command(self, *command: str, without: str = "", **changed: str) -> str:
        """Run a command on this Airflow's database, without a variable; returns what it says."""
        environment = self.environment | changed
        environment.pop(without, None)
        return run(self.airflow.paths.airflow, environment, *command)

    def http(self, user: str | None, password: str = "") -> httpx.Client:
        """A client that is logged in; None: one that is not."""
        client = httpx.Client(base_url=self.airflow.url, timeout=30, trust_env=False)
        if user is not None:
            body = {"username": user, "password": password}
            answer = client.post("/auth/token", json=body).raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, mariadb: MariaDB) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("logins")
    mysql = Canary.make("the password of MySQL")
    # Printable, as one that is typed into the login page.
    admin, monitor = (Canary.make(name, "%@:'\"\\ {{x}}$&") for name in ("admin's", "monitor's"))
    project = write_project(root / "project", FILES)
    sandbox = SandboxPaths(root / "sandbox")
    init = ("env", f"--chdir={project.root}", str(ROOT / "deploy" / "init"))
    with ExitStack() as stack:
        connection = stack.enter_context(mysql_opened_by(mysql, mariadb.server))
        environment = {
            "AIRFLOW__CORE__AUTH_MANAGER": FAB,
            # Rights that are lost are lost after a second, and not after half a minute.
            "AIRFLOW__FAB__CACHE_TTL": "1",
            "AIRFLOW_CONN_MYSQL_PROD": json.dumps(connection),
            "AIRFLOW_VAR_FROM_THE_ENVIRONMENT": "here",
            "LANDING_URL": (root / "landing").as_uri(),
            "DUCKDB_PATH": str(root / "warehouse.duckdb"),
            "TARGET": "dev",
            MONITOR: monitor.value,
        }
        airflow = Airflow(sandbox, project.root / "dags", environment, port=0, preparations=[init])
        # The password that the sandbox's own client logs in with.
        sandbox.create()
        passwords = sandbox.airflow / "passwords.json"
        passwords.parent.mkdir(parents=True, exist_ok=True)
        passwords.write_text(json.dumps({"admin": admin.value}))
        airflow.env[ADMIN] = admin.value
        stack.callback(airflow.stop)
        with watched_processes((admin, monitor)) as arguments:
            airflow.start()
        airflow.client().wait_for_dags({NPS, "audit", "transform"}, TIMEOUT)
        path = {"PATH": os.pathsep.join([str(BIN), os.environ["PATH"]])}
        variables = {**os.environ, **airflow.environment(), **path}
        yield Server(airflow, variables, (admin, monitor), arguments)


# Who may do what.

ROLES = ("Admin", "Op", "User", "Viewer", "Monitor", "Public")
NOBODY = "nobody"


@pytest.fixture(scope="module")
def clients(server: Server) -> Iterator[dict[str, httpx.Client]]:
    """A client for one user of each role; Public is who has none. And one without a token."""
    admin = server.http("admin", server.environment[ADMIN])
    monitor = server.http("monitor", server.environment[MONITOR])
    found = {"Admin": admin, "Monitor": monitor, NOBODY: server.http(None)}
    for role in ("Op", "User", "Viewer", "Public"):
        name = role.lower()
        body = {
            "username": name,
            "first_name": name,
            "last_name": name,
            "email": f"{name}@example.com",
            "roles": [{"name": role}],
            "password": f"{name}'s own",
        }
        admin.post("/auth/fab/v1/users", json=body).raise_for_status()
        found[role] = server.http(name, f"{name}'s own")
    yield found
    for client in found.values():
        client.close()


READ = {"Admin", "Op", "User", "Viewer", "Monitor"}
VIEW = READ - {"Monitor"}
RUN = VIEW - {"Viewer"}
OPERATE = {"Admin", "Op"}
RUNS = "/api/v2/dags/~/dagRuns"
ONE_DAY = {"from_date": "2026-09-28T00:00:00Z", "to_date": "2026-09-28T00:00:00Z"}

# What is asked, and by whom it may be. ROLE in a text becomes the name of the role that asks.
MATRIX: dict[str, tuple[str, str, Any, set[str]]] = {
    "read the health": ("GET", "/api/v2/monitor/health", None, {*ROLES, NOBODY}),
    "list DAGs": ("GET", "/api/v2/dags", None, READ),
    "list runs": ("GET", RUNS, None, READ),
    "list task instances": ("GET", f"{RUNS}/~/taskInstances", None, READ),
    "list assets": ("GET", "/api/v2/assets", None, READ),
    "list events of assets": ("GET", "/api/v2/assets/events", None, READ),
    "list import errors": ("GET", "/api/v2/importErrors", None, READ),
    "list warnings": ("GET", "/api/v2/dagWarnings", None, READ),
    "read code": ("GET", f"/api/v2/dagSources/{NPS}", None, VIEW),
    "read a log": ("GET", "LOG", None, VIEW),
    "read XComs": ("GET", f"{RUNS}/~/taskInstances/~/xcomEntries", None, VIEW),
    "list pools": ("GET", "/api/v2/pools", None, READ),
    "see the page Millrace": ("GET", "/millrace/", None, READ),
    "read its lines": ("GET", "/millrace/status.json", None, READ),
    "trigger": ("POST", "/api/v2/dags/audit/dagRuns", {"logical_date": None}, RUN),
    "pause": ("PATCH", "/api/v2/dags/audit", {"is_paused": True}, RUN),
    "clear tasks": ("POST", "/api/v2/dags/audit/clearTaskInstances", {"dry_run": True}, RUN),
    "write an event": ("POST", "/api/v2/assets/events", {"asset_id": "ASSET"}, RUN),
    "delete a run": ("DELETE", "/api/v2/dags/audit/dagRuns/for-ROLE", None, RUN),
    "delete a DAG": ("DELETE", "/api/v2/dags/never_there", None, RUN),
    "backfill": ("POST", "/api/v2/backfills/dry_run", {"dag_id": NPS, **ONE_DAY}, RUN),
    "list variables": ("GET", "/api/v2/variables", None, OPERATE),
    "set a variable": ("POST", "/api/v2/variables", {"key": "ROLE", "value": "1"}, OPERATE),
    "list connections": ("GET", "/api/v2/connections", None, OPERATE),
    "make a connection": (
        *("POST", "/api/v2/connections", {"connection_id": "ROLE", "conn_type": "mysql"}),
        OPERATE,
    ),
    "make a pool": ("POST", "/api/v2/pools", {"name": "ROLE", "slots": 1}, OPERATE),
    "read the configuration": ("GET", "/api/v2/config", None, OPERATE),
    "read the audit log": ("GET", "/api/v2/eventLogs", None, {"Admin"}),
    "list users": ("GET", "/auth/fab/v1/users", None, {"Admin"}),
    "list roles": ("GET", "/auth/fab/v1/roles", None, {"Admin"}),
}


@pytest.fixture(scope="module")
def things(server: Server, clients: dict[str, httpx.Client]) -> dict[str, str]:
    """What the requests of the matrix are about: a run for each role, a log, an asset."""
    admin = clients["Admin"]
    # While the DAG is off, its runs wait. No two have the same logical date.
    for day, role in enumerate(ROLES, start=1):
        at = f"2020-01-0{day}T00:00:00Z"
        body = {"dag_run_id": f"for-{role}", "logical_date": at}
        admin.post("/api/v2/dags/audit/dagRuns", json=body).raise_for_status()
    log = f"{RUNS}/for-Op/taskInstances/mysql__nps/logs/1".replace("~", "audit")
    assets = admin.get("/api/v2/assets").raise_for_status().json()["assets"]
    return {"LOG": log, "ASSET": str(assets[0]["id"])}


@pytest.mark.parametrize("what", MATRIX)
def test_each_role_may_do_this_and_no_more(
    what: str, clients: dict[str, httpx.Client], things: dict[str, str]
) -> None:
    method, path, body, allowed = MATRIX[what]
    answers = {}
    for role, client in clients.items():
        filled = json.dumps([path, body])
        for name, value in {**things, "ROLE": role}.items():
            filled = filled.replace(name, value)
        url, content = json.loads(filled)
        answers[role] = client.request(method, url, json=content)
    assert {role for role, answer in answers.items() if passed(answer)} == allowed
    refused = {role: answer.status_code for role, answer in answers.items() if role not in allowed}
    assert refused == {role: 401 if role == NOBODY else 403 for role in refused}


def passed(answer: httpx.Response) -> bool:
    """Whether the user's rights were enough; what is asked for need not be there or be open."""
    if "chose not to expose" in answer.text:
        return True
    return answer.is_success or answer.status_code == 404


def test_a_session_is_enough_to_see_the_page(
    server: Server, clients: dict[str, httpx.Client]
) -> None:
    token = clients["Viewer"].headers["Authorization"].removeprefix("Bearer ")
    with server.http(None) as browser:
        # As Airflow's own login page sets it.
        browser.cookies.set("_token", token)

        def shows(text: str) -> bool:
            return text in browser.get("/millrace/").raise_for_status().text

        # A server that has just started imports dbt first.
        assert poll(lambda: shows("mysql.nps was never loaded"), TIMEOUT, interval=0.5)
        assert shows(f'href="/dags/{NPS}"')
        browser.cookies.set("_token", token[:-4] + "AAAA")
        assert browser.get("/millrace/").status_code in (401, 403)
    plugins = clients["Admin"].get("/api/v2/plugins").raise_for_status().json()["plugins"]
    (views,) = (found["external_views"] for found in plugins if found["name"] == "millrace")
    assert [view["href"] for view in views] == ["/millrace/"]


def test_the_monitor_sees_dags_and_assets_in_the_menu(clients: dict[str, httpx.Client]) -> None:
    menu = clients["Monitor"].get("/ui/auth/menus").raise_for_status().json()
    assert menu == {"authorized_menu_items": ["Assets", "Dags"], "extra_menu_items": []}


def test_the_monitor_is_enough_for_the_watcher(server: Server, things: dict[str, str]) -> None:
    url, password = server.airflow.url, server.environment[MONITOR]
    account = Connection("airflow_api", "http", host=url, login="monitor", password=password)
    api = AirflowApi(account)
    assert things
    assert api.health()["scheduler"]["status"] == "healthy"
    assert api.is_paused("audit") is True
    assert api.import_errors() == {}
    assert api.pools()["warehouse"].slots == 1
    run = api.last_run("audit")
    assert run is not None
    (task,) = api.tasks(run)
    assert api.failed_runs(run.began_at) == []
    # It may not read logs; a message goes without the task's own words then.
    assert api.error_of(task) == ""


def test_the_token_of_a_user_who_is_gone_ends(
    server: Server, clients: dict[str, httpx.Client]
) -> None:
    body = {"username": "bob", "first_name": "Bob", "last_name": "Gone", "email": "bob@example.com"}
    admin = clients["Admin"]
    login = body | {"roles": [{"name": "Admin"}], "password": "bob's own"}
    admin.post("/auth/fab/v1/users", json=login).raise_for_status()
    bob = server.http("bob", "bob's own")
    assert bob.get("/api/v2/dags").status_code == 200
    admin.delete("/auth/fab/v1/users/bob").raise_for_status()
    assert poll(lambda: bob.get("/api/v2/dags").is_error, TIMEOUT, interval=0.2)
    refused = bob.get("/api/v2/dags")
    assert (refused.status_code, refused.json()["detail"]) == (403, "Invalid JWT token")


# The command that makes roles and users.


def test_the_same_again_changes_nothing(server: Server) -> None:
    before = logins_of(server)
    said = server.command(sys.executable, "-m", "millrace.airflow.users")
    assert said.count("as it was") == 3
    assert logins_of(server) == before


def logins_of(server: Server) -> str:
    """The users, roles and permissions of the database, as text."""
    import psycopg

    url = server.airflow._postgres.url(server.airflow._database, "postgresql")
    with psycopg.connect(url) as connection:
        return repr(
            [
                connection.execute(query).fetchall()
                for query in (
                    # FAB counts logins, too.
                    "select username, password, active, email from ab_user order by id",
                    "select * from ab_user_role order by id",
                    "select * from ab_role order by id",
                    "select * from ab_permission_view_role order by id",
                )
            ]
        )


def test_what_was_changed_becomes_what_the_environment_says(server: Server) -> None:
    admin = server.http("admin", server.environment[ADMIN])
    body = {"roles": [{"name": "Op"}]}
    mask = {"update_mask": "roles"}
    admin.patch("/auth/fab/v1/users/monitor", json=body, params=mask).raise_for_status()
    actions = [{"action": {"name": "can_read"}, "resource": {"name": "Connections"}}]
    role = {"name": "Monitor", "actions": actions}
    admin.patch("/auth/fab/v1/roles/Monitor", json=role).raise_for_status()

    said = server.command(
        sys.executable, "-m", "millrace.airflow.users", **{MONITOR: "the monitor's new password"}
    )
    assert "user monitor, role Monitor: role set, password changed" in said
    assert "taken away: 1" in said
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        server.http("monitor", server.environment[MONITOR])
    monitor = server.http("monitor", "the monitor's new password")
    assert monitor.get("/api/v2/dags").status_code == 200
    assert monitor.get("/api/v2/connections").status_code == 403


def test_no_password_is_in_arguments_or_logs(server: Server) -> None:
    assert server.arguments == set()
    folder = server.airflow.paths.airflow
    found = found_below(folder, server.canaries, without=(folder / "postgres",))
    # The sandbox's own note of the password.
    assert set(found) <= {"passwords.json"}
    logs = "".join(log.read_text() for log in server.airflow.paths.root.rglob("*.log"))
    assert "/auth/token" in logs
    assert found_in(logs, server.canaries) == set()
    assert found_in(logins_of(server), server.canaries) == set()


def test_a_stranger_whom_google_knows_has_no_rights(server: Server, tmp_path: Path) -> None:
    """The block of the documentation, read by FAB; Google's answer is made up."""
    (block,) = [found for found in blocks("operations.md", "python") if "AUTH_OAUTH" in found.text]
    config = tmp_path / "webserver_config.py"
    config.write_text(block.text)
    said = server.command(
        *(sys.executable, "-c", STRANGER),
        AIRFLOW__FAB__CONFIG_FILE=str(config),
        # FAB would take from Admin the right to make users, which the other tests use.
        AIRFLOW__FAB__UPDATE_FAB_PERMS="False",
        GOOGLE_CLIENT_ID="id",
        GOOGLE_CLIENT_SECRET="secret",
    )
    assert json.loads(said.splitlines()[-1]) == {
        "providers": ["google"],
        "roles": ["Public"],
        "allowed": ["@example\\.com"],
    }


STRANGER = """
import json
from airflow.providers_manager import ProvidersManager
ProvidersManager().initialize_providers_configuration()
from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder
eve = {"username": "google_1", "email": "eve@example.com", "first_name": "Eve", "last_name": ""}
with get_application_builder() as builder:
    user = builder.sm.auth_user_oauth(eve, rotate_session_id=False)
    print(json.dumps({
        "providers": list(builder.sm.oauth_remotes),
        "roles": [role.name for role in user.roles],
        "allowed": builder.sm.oauth_whitelists["google"],
    }))
"""


# Pools.


def test_the_declared_pools_are_made_and_an_operators_slots_stay(
    server: Server, clients: dict[str, httpx.Client]
) -> None:
    admin = clients["Admin"]

    def slots() -> dict[str, int]:
        pools = admin.get("/api/v2/pools").raise_for_status().json()["pools"]
        return {pool["name"]: pool["slots"] for pool in pools}

    assert slots()["warehouse"] == 1
    assert slots()["mysql_reads"] == 4
    wider = {"pool": "mysql_reads", "slots": 9, "include_deferred": False}
    admin.patch("/api/v2/pools/mysql_reads", json=wider).raise_for_status()
    project = server.airflow.dags_folder.parent / "dbt_project"
    command = (sys.executable, "-m", "millrace.airflow.pools", "--project-dir", str(project))
    said = server.command(*command, "--warehouse-pool", "another")
    assert "pool mysql_reads: as it was, 9 slots" in said
    assert "pool another: made, 1 slot" in said
    assert slots()["mysql_reads"] == 9


# The page on the REST API.


@pytest.fixture(scope="module")
def said(server: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What the commands of the page say, in lines, by the heading that they stand under."""
    folder = tmp_path_factory.mktemp("api")
    commands = blocks("api.md", "sh")
    assert commands[0].text.splitlines()[0] == "AIRFLOW=http://localhost:8080"
    script = ["set -euo pipefail"]
    for number, command in enumerate(commands):
        script += ["{", command.text, f"}} > {number:02}.txt"]
    text = "\n".join(script).replace("http://localhost:8080", server.airflow.url)
    secrets = {"MYSQL_READER_PASSWORD": "a password", "ANNS_PASSWORD": "her password"}
    run(folder, server.environment | secrets, "bash", "-c", text)
    assert (folder / "token").stat().st_mode & 0o777 == 0o600
    found: defaultdict[str, list[str]] = defaultdict(list)
    for number, command in enumerate(commands):
        found[command.heading] += (folder / f"{number:02}.txt").read_text().splitlines()
    return found


def test_the_commands_on_dags_and_runs_do_what_the_page_says(said: dict[str, list[str]]) -> None:
    assert said["Health"][-1] == "true"
    dags = said["DAGs"]
    # Listed twice: with all, and … not with those that are on, before it is switched on.
    assert dags.count(NPS) == 1
    assert {"audit", "transform"} <= set(dags)
    assert '  "is_paused": false' in dags
    run = said["Start a run and wait"]
    assert "true" in run
    assert '{"task_id":"load","map_index":-1,"state":"success"}' in run
    assert run[-1] == "0"
    backfill = said["Backfill"]
    assert backfill[:2] == ["2026-09-28T00:00:00Z", "2026-09-29T00:00:00Z"]
    assert backfill[2:] == [
        f'{{"logical_date":"2026-09-{day}T00:00:00Z","state":"success"}}' for day in (28, 29)
    ]


def test_the_commands_on_settings_do_what_the_page_says(said: dict[str, list[str]]) -> None:
    assert said["Variables"][:2] == ['"region"', '"apac"']
    assert "region" in said["Variables"][2:]
    assert '  "password": "***"' in said["Connections"]
    assert "mysql_prod" in said["Connections"]
    assert said["Pools"][-2:] == ['"reports"', "8"]
    assert any("chose not to expose" in line for line in said["Configuration"])
    assert any('"username":"ann"' in line for line in said["Users"])


def test_airflows_own_client_does_what_the_page_says(
    server: Server, said: dict[str, list[str]]
) -> None:
    assert said
    (block,) = blocks("api.md", "python")
    answer = server.command(sys.executable, "-c", block.text, AIRFLOW=server.airflow.url)
    assert answer.splitlines()[-1] == "success"


# Connections and variables.


def test_the_example_connections_are_imported(
    server: Server, clients: dict[str, httpx.Client]
) -> None:
    example = ROOT / "deploy" / "connections.example.json"
    server.command("airflow", "connections", "import", str(example))
    listed = clients["Admin"].get("/api/v2/connections").raise_for_status().json()["connections"]
    found = {connection["connection_id"]: connection for connection in listed}
    for conn_id, row in json.loads(example.read_text()).items():
        for name in ("conn_type", "host", "port", "login", "schema", "description"):
            assert found[conn_id][name] == row.get(name), (conn_id, name)
        assert found[conn_id]["password"] in (None, "***")


def test_exports_hold_passwords_and_nothing_of_the_environment(
    server: Server, clients: dict[str, httpx.Client], tmp_path: Path
) -> None:
    body = {"key": "kept", "value": "in the database"}
    clients["Admin"].post("/api/v2/variables", json=body).raise_for_status()
    row = {"connection_id": "kept", "conn_type": "mysql", "host": "db", "password": "in clear"}
    clients["Admin"].post("/api/v2/connections", json=row).raise_for_status()
    variables, connections = tmp_path / "variables.json", tmp_path / "connections.json"
    server.command("airflow", "variables", "export", str(variables))
    server.command("airflow", "connections", "export", str(connections))
    exported = json.loads(variables.read_text())
    assert exported["kept"] == "in the database"
    assert "from_the_environment" not in {name.lower() for name in exported}
    assert json.loads(connections.read_text())["kept"]["password"] == "in clear"
    assert not found_in(connections.read_bytes(), server.canaries)
    # And no list has what the environment has, though a command that asks by name does.
    listed = clients["Admin"].get("/api/v2/variables").json()["variables"]
    assert "from_the_environment" not in {variable["key"].lower() for variable in listed}
    assert "here" in server.command("airflow", "variables", "get", "from_the_environment")


def test_the_check_uses_the_connections_that_airflow_keeps(
    server: Server, clients: dict[str, httpx.Client]
) -> None:
    variable = "AIRFLOW_CONN_MYSQL_PROD"
    row = {"connection_id": "mysql_prod", **json.loads(server.environment[variable])}
    # The one of the example, if it was imported before.
    clients["Admin"].delete("/api/v2/connections/mysql_prod")
    clients["Admin"].post("/api/v2/connections", json=row).raise_for_status()
    project = server.airflow.dags_folder.parent / "dbt_project"
    command = (sys.executable, "-m", "millrace.airflow.check", "--project-dir", str(project))
    said = server.command(*command, without=variable)
    assert "✓ connection mysql_prod, to read: " in said
    assert "✓ warehouse: DuckDB" in said
