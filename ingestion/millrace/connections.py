"""Credentials, kept where Airflow users keep them.

Outside Airflow the same ``AIRFLOW_CONN_<ID>`` environment variables are read, as a URI or as JSON;
inside Airflow, ``millrace.airflow`` passes a resolver that asks Airflow itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from millrace.errors import ConnectionNotFound


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


_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ENDPOINT = re.compile(
    r"https?://([\w.-]+|\[[\da-f:.]+\])(:(?P<port>\d{1,5}))?(/[\w.~/-]*)?", re.ASCII | re.IGNORECASE
)
_USER_INFO = re.compile(r"(?<=://)[^\s/@]*:[^\s@]*@|(?<=://)[^\s/@:]*@")

Resolver = Callable[[str], Connection]
"""Finds a connection by its id; raises ``ConnectionNotFound``."""


def in_environment(environ: Mapping[str, str]) -> Resolver:
    """Finds connections in the ``AIRFLOW_CONN_<ID>`` variables of an environment."""

    # No partial: its repr would show the environment.
    def find(conn_id: str) -> Connection:
        return from_environment(environ, conn_id)

    return find


def from_environment(environ: Mapping[str, str], conn_id: str) -> Connection:
    """The connection in ``AIRFLOW_CONN_<ID>``.

    Raises:
        ConnectionNotFound: the variable is not set, or is neither a URI nor JSON.
    """
    variable = _variable(conn_id)
    text = environ.get(variable)
    if not text:
        raise ConnectionNotFound(
            f"There is no connection '{conn_id}': {variable} is not set.",
            fix=f"Set {variable} to the JSON of an Airflow connection, or to a URI such as "
            "mysql://user:password@host:3306/database.",
        )
    return _read(conn_id, text, variable)


def _read(conn_id: str, text: str, place: str) -> Connection:
    """The connection that a text from some place says."""
    try:
        fields = _json_fields(text) if text.lstrip()[:1] in ("{", "[") else _uri_fields(text)
        written = _Written.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        problem = f"its {'.'.join(map(str, first['loc']))} is not right: {first['msg']}"
    except ValueError as error:
        problem = f"it {error}"
    else:
        return Connection(conn_id, **written.model_dump(by_alias=True))
    # Not chained: the cause quotes the text, and the text holds the password.
    raise ConnectionNotFound(
        f"The connection '{conn_id}' cannot be read from {place}: {problem}.",
        fix="Write the JSON of an Airflow connection, e.g. "
        '{"conn_type": "mysql", "host": "…", "login": "…", "password": "…"}, or a URI in which the '
        "user name and the password are percent-encoded: # is %23, / is %2F, ? is %3F, @ is %40, "
        "% is %25.",
    )


def in_words(conn_id: str, text: str) -> Connection:
    """The connection that somebody has written as for Airflow.

    Raises:
        ConnectionNotFound: it is neither a URI nor JSON.
    """
    return _read(conn_id, text, "what was written")


def variable_of(connection: Connection) -> tuple[str, str]:
    """The environment variable that holds a connection, and its value: a URI.

    Raises:
        ConnectionNotFound: its id is not part of a variable's name.
    """
    if not re.fullmatch(r"\w+", connection.conn_id, re.ASCII):
        raise ConnectionNotFound(
            f"'{connection.conn_id}' cannot be part of an environment variable's name.",
            fix="Take letters, digits and underscores, such as mysql_prod.",
        )
    account = ":".join(
        quote(part, safe="") for part in (connection.login, connection.password) if part is not None
    )
    host = connection.host or ""
    place = f"[{host}]" if ":" in host else quote(host, safe="")
    uri = f"{connection.conn_type.replace('_', '-')}://{account}{'@' if account else ''}{place}"
    uri += f":{connection.port}" if connection.port else ""
    uri += f"/{quote(connection.schema or '', safe='')}"
    if connection.extra:
        are_texts = all(isinstance(value, str) for value in connection.extra.values())
        uri += "?" + urlencode(
            connection.extra if are_texts else {"__extra__": json.dumps(dict(connection.extra))}
        )
    return _variable(connection.conn_id), uri


def _variable(conn_id: str) -> str:
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def endpoint_of(connection: Connection) -> str | None:
    """The address in the extra ``endpoint_url``, without a slash at its end; None if there is none.

    Raises:
        ConnectionNotFound: it is no plain address. If a user name or a password were in it, the
            errors of every library on the way would tell it.
    """
    url = connection.extra.get("endpoint_url")
    if not url:
        return None
    found = _ENDPOINT.fullmatch(str(url))
    if not found or int(found["port"] or 1) not in range(1, 65_536):
        raise ConnectionNotFound(
            f"The connection '{connection.conn_id}' cannot be read: its extra `endpoint_url` is no "
            "plain address.",
            fix="Write one such as https://s3.example.com:9000. A user name and a password have "
            "fields of their own.",
        )
    return str(url).rstrip("/")


def service_account_key(connection: Connection) -> dict[str, Any]:
    """The key of a Google service account in the extra: ``keyfile_dict``, an object or its JSON.

    Raises:
        ConnectionNotFound: there is none.
    """
    given = connection.extra.get("keyfile_dict")
    try:
        key = dict(json.loads(given) if isinstance(given, str) else given or {})
    except (TypeError, ValueError):
        key = {}
    if not {"client_email", "private_key", "token_uri"} <= set(key):
        raise ConnectionNotFound(
            f"The connection '{connection.conn_id}' holds no service account's key.",
            fix="Put the JSON key that Google made into its extra, as `keyfile_dict`.",
        )
    return key


def masked(text: str) -> str:
    """A text for people, without the user names and passwords of the URLs in it."""
    return _USER_INFO.sub("***@", text)


class _Written(BaseModel):
    """A connection as it is written for Airflow, not yet validated."""

    model_config = ConfigDict(extra="ignore", strict=True)

    conn_type: str = Field(min_length=1)
    host: str | None = None
    port: int | None = Field(default=None, ge=1, le=65_535)
    login: str | None = None
    password: str | None = None
    # Airflow calls the database "schema", a name that pydantic uses for something else.
    database: str | None = Field(default=None, alias="schema", serialization_alias="schema")
    extra: dict[str, Any] = Field(default_factory=dict)

    @field_validator("conn_type")
    @classmethod
    def _as_airflow_spells_it(cls, value: str) -> str:
        return value.replace("-", "_")

    @field_validator("port", mode="before")
    @classmethod
    def _port_may_be_text(cls, value: Any) -> Any:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value)
        return None if value == "" else value

    @field_validator("extra", mode="before")
    @classmethod
    def _extra_may_be_text(cls, value: Any) -> Any:
        if isinstance(value, str) and value:
            return _read_json(value)
        return {} if value is None or value == "" else value


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("is neither a URI nor JSON") from None


def _json_fields(text: str) -> Any:
    fields = _read_json(text)
    if isinstance(fields, list):
        raise ValueError("is a list: leave out the brackets around the one connection")
    return fields


def _uri_fields(text: str) -> dict[str, Any]:
    """The fields of a connection's URI.

    Special characters must be percent-encoded. Otherwise one in a password would end it, the rest
    would be taken for something else, and Millrace would connect to another host.
    """
    try:
        uri = urlsplit(text)
        fields = {"host": uri.hostname, "port": uri.port}
    except ValueError:
        raise ValueError(
            "is neither a URI nor JSON, or its user name or password is not percent-encoded"
        ) from None
    if not uri.scheme or "://" not in text:
        raise ValueError("is neither a URI nor JSON")
    query_is_odd = any("=" not in item for item in uri.query.split("&") if item)
    user_is_cut = uri.netloc and "@" not in uri.netloc and "@" in uri.query
    if "#" in text or "@" in uri.path or query_is_odd or user_is_cut:
        raise ValueError("holds a # / ? or @ that is not percent-encoded")
    if _LONE_PERCENT.search(uri.netloc):
        raise ValueError("holds a % that is not percent-encoded")
    fields |= {"login": uri.username, "password": uri.password, "schema": uri.path.lstrip("/")}
    decoded = {
        name: (unquote(value) or None) if isinstance(value, str) else value
        for name, value in fields.items()
    }
    query = dict(parse_qsl(uri.query, keep_blank_values=True))
    return {**decoded, "conn_type": uri.scheme, "extra": query.get("__extra__", query)}
