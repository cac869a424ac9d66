"""What tables, sheets and folders are called outside of Millrace: OpenLineage's names.

https://openlineage.io/docs/spec/naming
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Dataset:
    """A table, a sheet or a folder.

    Attributes:
        namespace: The server or service that it is in, such as ``mysql://db.example.com:3306``.
        name: Its name there, such as ``shop.orders``.
    """

    namespace: str
    name: str


def folder(url: str, path: str) -> Dataset:
    """A folder of a landing.

    Args:
        url: The landing's URL.
        path: The folder's path below it.
    """
    parts = urlsplit(url)
    name = f"{unquote(parts.path).rstrip('/')}/{path}"
    if parts.scheme == "file":
        return Dataset("file", name)
    return Dataset(f"{parts.scheme}://{parts.netloc}", name.lstrip("/"))


def service(kind: str, place: Any) -> str:
    """The namespace of a kind of server that has no rule of its own.

    Args:
        kind: The kind.
        place: Something with ``host`` and ``port``, as a connection has them.
    """
    host, port = getattr(place, "host", None), getattr(place, "port", None)
    return f"{kind}://{host or ''}" + (f":{port}" if port else "")
