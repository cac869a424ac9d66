import json

import pytest

from ingestion.connections import from_environment
from ingestion.errors import ConnectionNotFound


def test_a_uri_is_read_with_its_escapes(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_MYSQL_PROD",
        "mysql://re%40der:p%2Fw%3A%40%25@db.internal:3307/prod?ssl_mode=REQUIRED",
    )
    found = from_environment("mysql_prod")
    assert (found.conn_type, found.host, found.port) == ("mysql", "db.internal", 3307)
    assert (found.login, found.password, found.schema) == ("re@der", "p/w:@%", "prod")
    assert found.extra == {"ssl_mode": "REQUIRED"}


def test_a_uri_may_carry_its_extra_as_json(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_X", "aws://?__extra__=%7B%22role_arn%22%3A+%22arn%3Ax%22%7D")
    assert from_environment("x").extra == {"role_arn": "arn:x"}


@pytest.mark.parametrize("as_text", [True, False])
def test_json_is_read_with_its_extra_as_text_or_object(monkeypatch, as_text):
    extra = {"endpoint_url": "http://127.0.0.1:1"}
    value = {"conn_type": "aws", "login": "k", "password": "s", "port": "8333"}
    value["extra"] = json.dumps(extra) if as_text else extra
    monkeypatch.setenv("AIRFLOW_CONN_AWS_LANDING", json.dumps(value))
    found = from_environment("aws_landing")
    assert found.extra == extra
    assert found.port == 8333


def test_a_missing_connection_names_its_variable(monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_NOWHERE", raising=False)
    with pytest.raises(ConnectionNotFound, match="AIRFLOW_CONN_NOWHERE is not set"):
        from_environment("nowhere")


@pytest.mark.parametrize(
    "text", ["{not json", "mysql://user:hunter2@host:port/db", "hunter2", "{}"]
)
def test_what_cannot_be_read_is_refused_without_showing_it(monkeypatch, text):
    monkeypatch.setenv("AIRFLOW_CONN_X", text)
    with pytest.raises(ConnectionNotFound, match="neither a URI nor JSON") as refused:
        from_environment("x")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_connection_does_not_show_its_secrets(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_X", "mysql://u:hunter2@h/db?token=hunter3")
    shown = repr(from_environment("x"))
    assert "hunter2" not in shown
    assert "hunter3" not in shown
