"""Connections that AWS Secrets Manager keeps, as the tasks get them; moto stands in for AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from airflow.sdk.bases.hook import BaseHook
from moto.server import ThreadedMotoServer

from millrace.airflow.connections import airflow_connection
from millrace.catalog import load_catalog
from millrace.connections import from_environment
from millrace.dbt.project import Project
from millrace.errors import ConnectionNotFound
from millrace.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLE: dict[str, Any] = json.loads((ROOT / "deploy" / "connections.example.json").read_text())
BACKEND = "airflow.providers.amazon.aws.secrets.secrets_manager.SecretsManagerBackend"
REGION = "eu-central-1"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a stand-in for AWS that keeps the example's connections."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    manager = boto3.client(
        "secretsmanager",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    for conn_id, row in EXAMPLE.items():
        manager.create_secret(Name=f"airflow/connections/{conn_id}", SecretString=json.dumps(row))
    yield url
    server.stop()


@pytest.fixture(autouse=True)
def _airflow_asks_secrets_manager(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {
        "connections_prefix": "airflow/connections",
        "variables_prefix": None,
        "config_prefix": None,
        "region_name": REGION,
        "endpoint_url": endpoint,
    }
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND", BACKEND)
    monkeypatch.setenv("AIRFLOW__SECRETS__BACKEND_KWARGS", json.dumps(options))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")


@pytest.mark.parametrize("conn_id", EXAMPLE)
def test_a_connection_comes_from_secrets_manager_as_from_the_environment(conn_id: str) -> None:
    environment = {f"AIRFLOW_CONN_{conn_id.upper()}": json.dumps(EXAMPLE[conn_id])}
    assert airflow_connection(conn_id) == from_environment(environment, conn_id)


def test_airflows_own_hook_finds_the_password_there() -> None:
    assert BaseHook.get_connection("mysql_prod").password == EXAMPLE["mysql_prod"]["password"]


def test_secrets_manager_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MYSQL_PROD", "mysql://reader:secret@elsewhere/prod")
    assert airflow_connection("mysql_prod").host == EXAMPLE["mysql_prod"]["host"]
    monkeypatch.setenv("AIRFLOW_CONN_ONLY_HERE", "mysql://reader:secret@here/prod")
    assert airflow_connection("only_here").host == "here"


def test_one_that_nobody_has_is_told_with_its_name() -> None:
    with pytest.raises(ConnectionNotFound, match="no connection 'nowhere'"):
        airflow_connection("nowhere")


def test_the_example_has_a_row_for_each_connection_that_the_project_asks_for() -> None:
    project = Project.find(ROOT)
    project.ensure_manifest()
    catalog = load_catalog(project.manifest_path)
    declared = {table.options.connection for table in catalog.tables}
    declared |= {found.options.connection for found in catalog.publications}
    assert set(EXAMPLE) == declared | {Settings().landing_connection}
