"""Credentials as Airflow keeps them, in whichever backend."""

from __future__ import annotations

import os

from airflow.sdk.bases.hook import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from millrace.connections import Connection, from_environment
from millrace.errors import ConnectionNotFound


def airflow_connection(conn_id: str) -> Connection:
    """A connection as Airflow keeps it, in whichever backend.

    Raises:
        ConnectionNotFound: Airflow has no connection with that id, or it cannot be read.
    """
    if f"AIRFLOW_CONN_{conn_id.upper()}" in os.environ:
        # Refuses a URI in which Airflow would take the end of a password for the host.
        from_environment(os.environ, conn_id)
    try:
        found = BaseHook.get_connection(conn_id)
    except AirflowNotFoundException:
        raise ConnectionNotFound(
            f"Airflow has no connection '{conn_id}'.",
            fix="Add it under Admin → Connections, or set "
            f"AIRFLOW_CONN_{conn_id.upper()} for every component of Airflow.",
        ) from None
    return Connection(
        conn_id=conn_id,
        conn_type=found.conn_type or "",
        host=found.host,
        port=found.port,
        login=found.login,
        password=found.password,
        schema=found.schema,
        extra=found.extra_dejson,
    )
