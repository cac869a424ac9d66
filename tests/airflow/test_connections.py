"""Connections as the tasks get them."""

import pytest

from millrace.airflow.connections import airflow_connection
from millrace.errors import ConnectionNotFound


def test_a_password_that_is_not_encoded_never_becomes_another_host(monkeypatch):
    """Airflow itself takes the text behind the # for a fragment, and the user for the host."""
    monkeypatch.setenv("AIRFLOW_CONN_MYSQL_PROD", "mysql://reader:1#hunter2@db.internal/prod")
    with pytest.raises(ConnectionNotFound, match="percent-encoded") as refused:
        airflow_connection("mysql_prod")
    assert "hunter2" not in str(refused.value)


def test_a_connection_is_airflows_own(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_MYSQL_PROD", "mysql://reader:1%23hunter2@db.internal/prod")
    found = airflow_connection("mysql_prod")
    assert (found.host, found.password) == ("db.internal", "1#hunter2")
