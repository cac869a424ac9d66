"""An API of a test's own, which pages its rows in every way that Millrace knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Self

import pyarrow as pa

from millrace.batch import WHOLE_TABLE, Interval
from millrace.catalog import IngestTable
from millrace.connections import Connection
from millrace.sources.http.options import HttpOptions
from millrace.sources.http.source import HttpSource
from millrace_sandbox.http_server import Asked, Fault, Reply, ScriptedServer

PAGINGS: dict[str, dict[str, Any] | None] = {
    "one": None,
    "page": {"by": "page", "size_param": "size"},
    "page with a total": {"by": "page", "size_param": "size", "total": "meta.total"},
    "page with more": {"by": "page", "size_param": "size", "more": "meta.more"},
    "offset": {"by": "offset", "size_param": "size"},
    "cursor": {"by": "cursor", "size_param": "size", "param": "after", "next": "meta.next"},
    "url": {"by": "url", "size_param": "size", "next": "meta.url"},
    "relative url": {"by": "url", "size_param": "size", "next": "meta.path"},
    "link": {"by": "link", "size_param": "size"},
}


class Api:
    """Serves rows at ``/rows``, and other answers where a test says so."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.replies: dict[str, Callable[[Asked], Reply]] = {"/rows": self.page, "/": _nothing}
        self.waits: list[float] = []
        self.server = ScriptedServer(self._answer)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self.server.__exit__(*problem)

    @property
    def asked(self) -> list[Asked]:
        return self.server.asked

    def fail(self, *faults: Fault) -> None:
        self.server.faults.extend(faults)

    def serve(self, body: Any, path: str = "/rows", **reply: Any) -> None:
        """Answer with this alone."""
        self.replies[path] = lambda _: Reply(body, **reply)

    def page(self, asked: Asked) -> Reply:
        """A page of the rows, whichever way it is asked for."""
        size = int(asked.params.get("size", len(self.rows) or 1))
        if "page" in asked.params:
            at = (int(asked.params["page"]) - 1) * size
        else:
            at = int(asked.params.get("offset", asked.params.get("after", 0)))
        end = at + size
        following = str(end) if end < len(self.rows) else None
        url = f"/rows?size={size}&after={following}" if following else None
        meta = {
            "total": len(self.rows),
            "more": following is not None,
            "next": following,
            "url": f"{self.server.url}{url}" if url else None,
            "path": url.partition("/rows")[2] if url else None,
        }
        headers = {"Link": f'<{url}>; rel="next"'} if url else {}
        return Reply({"data": self.rows[at:end], "meta": meta}, headers=headers)

    def connection(self, **changes: Any) -> Connection:
        fields: dict[str, Any] = {"host": "127.0.0.1", "port": self.server.port} | changes
        return Connection("api", "http", **fields)

    def source(self, **changes: Any) -> HttpSource:
        """The API; what would be waited for is only noted."""
        if changes:
            return HttpSource(self.connection(**changes), self.waits.append)
        return self._source

    @cached_property
    def _source(self) -> HttpSource:
        return HttpSource(self.connection(), self.waits.append)

    def read(
        self, table: IngestTable | None = None, interval: Interval = WHOLE_TABLE, **options: Any
    ) -> pa.Table:
        """The rows of a table; default: of the one that the options declare."""
        with self.source().extract(table or declared(**options), interval) as extraction:
            return pa.Table.from_batches(extraction.batches, schema=extraction.schema)

    def _answer(self, asked: Asked) -> Reply:
        found = self.replies.get(asked.path)
        return found(asked) if found else Reply({"reason": "no such path"}, 404)


def declared(**options: Any) -> IngestTable:
    """The declaration of a table ``api.rows``."""
    block = {
        "kind": "http",
        "connection": "api",
        "endpoint": "/rows",
        "rows": "data",
        "columns": {"id": "integer"},
    }
    return IngestTable(
        source="api",
        name="rows",
        schema="raw_api",
        identifier="rows",
        options=HttpOptions.model_validate(block | options),
        file="models/staging/api/_api__sources.yml",
    )


def paged(name: str, size: int) -> dict[str, Any] | None:
    """The block ``pages`` of a way of paging."""
    block = PAGINGS[name]
    return None if block is None else block | {"size": size}


def numbered(count: int) -> Sequence[dict[str, int]]:
    return [{"id": number} for number in range(1, count + 1)]


def _nothing(_: Asked) -> Reply:
    return Reply({})
