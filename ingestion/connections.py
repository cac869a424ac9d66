"""Credentials, kept where Airflow users keep them.

Off Airflow the same ``AIRFLOW_CONN_<ID>`` environment variables are read, as a URI or as JSON;
inside Airflow, ``dags/`` passes a resolver that asks Airflow itself.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from ingestion.errors import ConnectionNotFound


@dataclass(frozen=True)
class Connection:
    """One set of credentials, with the fields of an Airflow connection."""

    conn_id: str
    conn_type: str
    host: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


_USER_INFO = re.compile(r"(?<=://)[^\s/@]*:[^\s@]*@|(?<=://)[^\s/@:]*@")

Resolver = Callable[[str], Connection]
"""Finds a connection by its id; raises ``ConnectionNotFound``."""


def from_environment(conn_id: str) -> Connection:
    """The connection in ``AIRFLOW_CONN_<ID>``.

    Raises:
        ConnectionNotFound: the variable is not set, or is neither a URI nor JSON.
    """
    variable = f"AIRFLOW_CONN_{conn_id.upper()}"
    text = os.environ.get(variable)
    if not text:
        raise ConnectionNotFound(
            f"There is no connection '{conn_id}': {variable} is not set.",
            fix=f"Set {variable} to the JSON of an Airflow connection, or to a URI such as "
            "mysql://user:password@host:3306/database (docs/adding-a-source.md). "
            "For the local stack: make up, then `set -a; . .sandbox/env; set +a`.",
        )
    try:
        return _from_json(conn_id, text) if text.startswith("{") else _from_uri(conn_id, text)
    except (ValueError, KeyError, TypeError):
        # Not chained: the cause quotes the text, and the text holds the password.
        raise ConnectionNotFound(
            f"The connection '{conn_id}' cannot be read: {variable} is neither a URI nor JSON.",
            fix="Write it as airflow prints it: `airflow connections get … -o json`, and "
            "percent-encode what a URI reserves in a user name or password.",
        ) from None


def masked(text: str) -> str:
    """A text for people, without the user names and passwords of the URLs in it."""
    return _USER_INFO.sub("***@", text)


def _from_json(conn_id: str, text: str) -> Connection:
    value = json.loads(text)
    extra = value.get("extra") or {}
    return Connection(
        conn_id=conn_id,
        conn_type=value["conn_type"],
        host=value.get("host"),
        port=int(value["port"]) if value.get("port") else None,
        login=value.get("login"),
        password=value.get("password"),
        schema=value.get("schema"),
        extra=json.loads(extra) if isinstance(extra, str) else dict(extra),
    )


def _from_uri(conn_id: str, text: str) -> Connection:
    uri = urlsplit(text)
    if not uri.scheme:
        raise ValueError("no scheme")
    query = dict(parse_qsl(uri.query, keep_blank_values=True))
    extra = json.loads(query["__extra__"]) if "__extra__" in query else query
    return Connection(
        conn_id=conn_id,
        conn_type=uri.scheme.replace("-", "_"),
        host=unquote(uri.hostname) if uri.hostname else None,
        port=uri.port,
        login=unquote(uri.username) if uri.username else None,
        password=unquote(uri.password) if uri.password else None,
        schema=unquote(uri.path.lstrip("/")) or None,
        extra=extra,
    )
