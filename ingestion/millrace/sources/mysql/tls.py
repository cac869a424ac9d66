"""How a connection to a MySQL server is encrypted, as its extras ``ssl`` and ``ssl_mode`` say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millrace.errors import ConnectionNotFound

if TYPE_CHECKING:
    from millrace.connections import Connection

_MODES = ("DISABLED", "PREFERRED", "REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY")
_FILES = ("ca", "capath", "cert", "key", "cipher")
_MAPPING = f'Write a mapping with {", ".join(_FILES)}, for example {{"ca": "/path/to/ca.pem"}}.'


@dataclass(frozen=True)
class Tls:
    """The TLS settings of the client library.

    Attributes:
        ca: File with the trusted certificate authorities.
        capath: Folder with them.
        cert: File with the client's own certificate.
        key: File with its key.
        cipher: Ciphers that are allowed.
        is_demanded: Whether a server that does not encrypt is refused.
        is_verified: Whether the server must prove its identity, with a certificate of such an
            authority that names its host.
    """

    ca: str | None = None
    capath: str | None = None
    cert: str | None = None
    key: str | None = None
    cipher: str | None = None
    is_demanded: bool = True
    is_verified: bool = False

    @classmethod
    def of(cls, connection: Connection) -> Tls | None:
        """The settings that a connection asks for; None means no encryption.

        Raises:
            ConnectionNotFound: its extras cannot be read.
        """
        files = _files(connection)
        mode = str(connection.extra.get("ssl_mode") or _default_mode(files)).upper()
        if mode not in _MODES:
            raise _unreadable(
                connection,
                f"its extra `ssl_mode` is {mode!r}",
                f"Write one of {', '.join(_MODES)}.",
            )
        if mode == "DISABLED":
            return None
        return cls(
            **(files or {}),
            is_demanded=mode != "PREFERRED",
            is_verified=mode.startswith("VERIFY"),
        )


def _default_mode(files: Mapping[str, str] | None) -> str:
    if files is None:
        return "DISABLED"
    # A connection that names authorities wants the server verified.
    return "VERIFY_IDENTITY" if {"ca", "capath"} & files.keys() else "REQUIRED"


def _files(connection: Connection) -> dict[str, str] | None:
    """The files that `ssl` names, in a mapping or its JSON; `true` names none, but wants TLS."""
    ssl: Any = connection.extra.get("ssl")
    if isinstance(ssl, str):
        try:
            ssl = json.loads(ssl)
        except ValueError:
            raise _unreadable(connection, "its extra `ssl` is not JSON", _MAPPING) from None
    if not ssl:
        return None
    if ssl is True:
        return {}
    if not isinstance(ssl, Mapping):
        raise _unreadable(connection, "its extra `ssl` is no mapping", _MAPPING)
    if unknown := sorted(set(ssl) - set(_FILES)):
        # Its values are not shown: somebody may have put a private key there instead of a file.
        names = ", ".join(map(repr, unknown))
        raise _unreadable(connection, f"its extra `ssl` has {names}", _MAPPING)
    return {name: str(value) for name, value in ssl.items() if value is not None}


def _unreadable(connection: Connection, why: str, fix: str) -> ConnectionNotFound:
    return ConnectionNotFound(
        f"The connection '{connection.conn_id}' cannot be read: {why}.", fix=fix
    )
