"""Where an API is, and what opens it: all that a connection says."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

from millrace.connections import Connection
from millrace.errors import ConnectionNotFound

_PORTS = {"https": 443, "http": 80}
# A shorter secret is also part of ordinary words.
_SHORTEST_SECRET = 4


@dataclass(frozen=True)
class Address:
    """An API's address and credentials.

    Attributes:
        scheme: ``https``, or ``http`` where that is allowed.
        host: Its host.
        port: Its port.
        path: What every path begins with; empty, or with a slash at its beginning and none at its
            end.
        headers: Headers that open it.
        params: Parameters that open it.
        allows_http: Whether requests may go without TLS to hosts that are not this machine.
    """

    scheme: str
    host: str
    port: int
    path: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    params: Mapping[str, str] = field(default_factory=dict, repr=False)
    allows_http: bool = False

    @classmethod
    def of(cls, connection: Connection) -> Address:
        """The address that a connection holds.

        Its host may be a URL; otherwise its schema is the scheme. Login and password are for Basic
        authentication, a password without a login is a bearer token, and its extra may hold
        ``headers`` and ``params``, which are secret too, and ``allow_http``.

        Raises:
            ConnectionNotFound: it holds no address, or one without TLS that is not allowed.
        """
        host = connection.host or ""
        if "://" not in host:
            usual = "http" if is_loopback(host) else "https"
            scheme = connection.schema or usual
            host = f"{scheme}://[{host}]" if ":" in host else f"{scheme}://{host}"
        try:
            parts = urlsplit(host)
            port = connection.port or parts.port or _PORTS[parts.scheme]
        except (ValueError, KeyError):
            raise _wrong(connection, "its host is no address of an HTTP API") from None
        if not parts.hostname or parts.username or parts.query or parts.fragment:
            raise _wrong(connection, "its host is no plain address of an HTTP API")
        allows_http = connection.extra.get("allow_http") in (True, "true", "True")
        address = cls(
            parts.scheme,
            parts.hostname,
            port,
            parts.path.rstrip("/"),
            {**_authorization(connection), **_texts(connection, "headers")},
            _texts(connection, "params"),
            allows_http,
        )
        if not address.may_be_asked(parts.scheme, parts.hostname):
            raise ConnectionNotFound(
                f"The connection '{connection.conn_id}' leads to {address.origin} without TLS: "
                "anybody on the way could read the key and change the rows.",
                fix="Use https. If that network is yours, add `allow_http: true` to its extra.",
            )
        return address

    @property
    def origin(self) -> str:
        """Scheme, host and port, as URLs begin."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    def is_at(self, scheme: str, host: str, port: int | None) -> bool:
        """Whether a URL with these parts leads here."""
        return (scheme, host, port or _PORTS.get(scheme)) == (self.scheme, self.host, self.port)

    def may_be_asked(self, scheme: str, host: str) -> bool:
        """Whether requests to a host may use a scheme."""
        return scheme == "https" or (scheme == "http" and (self.allows_http or is_loopback(host)))

    def masked(self, text: str) -> str:
        """A text for people, without the secrets of this address."""
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _secrets(self) -> Iterator[str]:
        for value in (*self.headers.values(), *self.params.values()):
            # "Bearer abc": the token alone is secret too.
            for secret in {value, value.rpartition(" ")[2]}:
                if len(secret) >= _SHORTEST_SECRET:
                    yield from {secret, quote(secret, safe=""), quote(secret)}


def is_loopback(host: str) -> bool:
    """Whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _authorization(connection: Connection) -> dict[str, str]:
    if not connection.password:
        return {}
    if not connection.login:
        return {"Authorization": f"Bearer {connection.password}"}
    account = f"{connection.login}:{connection.password}".encode()
    return {"Authorization": f"Basic {base64.b64encode(account).decode()}"}


def _texts(connection: Connection, name: str) -> dict[str, str]:
    found: Any = connection.extra.get(name) or {}
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise _wrong(connection, f"its extra `{name}` is no object of texts")
    if name == "headers" and not all(_is_header(key, text) for key, text in found.items()):
        raise _wrong(connection, "its extra `headers` has signs that no header may have")
    return dict(found)


def _is_header(name: str, text: str) -> bool:
    return name.isascii() and name.isprintable() and text.isascii() and text.isprintable()


def _wrong(connection: Connection, problem: str) -> ConnectionNotFound:
    return ConnectionNotFound(
        f"The connection '{connection.conn_id}' cannot be used: {problem}.",
        fix='Write it as {"conn_type": "http", "host": "https://api.example.com", "extra": '
        '{"headers": {"X-Api-Key": "…"}}}.',
    )
