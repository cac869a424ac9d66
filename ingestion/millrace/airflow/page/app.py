"""The page as an application that Airflow's API server mounts, behind Airflow's own login."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow.configuration import conf

if TYPE_CHECKING:
    from fastapi import FastAPI

    from millrace.airflow.page.looking import Seen

PREFIX = "/millrace"
_STYLE = Path(__file__).with_name("style.css")
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'self'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class Page:
    """The application, made at its first request.

    All components of Airflow load plugins, and only the API server needs what it imports.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, as ASGI has it."""
        await self._app(scope, receive, send)

    @cached_property
    def _app(self) -> FastAPI:
        from millrace.airflow.page.looking import Looking, look_at_project

        return make_app(Looking(look_at_project).newest)


def base_path() -> str:
    """The path that Airflow is below; empty: the root."""
    return urlsplit(conf.get("api", "base_url", fallback="")).path.rstrip("/")


def make_app(newest: Callable[[], Seen]) -> FastAPI:
    """The application.

    Args:
        newest: Returns what is to be shown; it may wait, but not for long.
    """
    from airflow.api_fastapi.app import get_auth_manager
    from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
    from fastapi import Depends, FastAPI
    from fastapi.responses import FileResponse, HTMLResponse, JSONResponse

    from millrace.airflow.page.view import TRANSFORM, Links, dag_of, page, readable

    app = FastAPI(title="Millrace", openapi_url=None)
    reads_dags = [Depends(requires_access_dag("GET"))]

    def seen_by(user: Any) -> Seen:
        seen = newest()
        ids = {TRANSFORM, *map(dag_of, seen.tables)}
        allowed = get_auth_manager().filter_authorized_dag_ids(dag_ids=ids, user=user)
        return readable(seen, allowed)

    @app.get("/", dependencies=reads_dags)
    def html(user: Any = Depends(get_user)) -> HTMLResponse:  # noqa: B008 as FastAPI has it
        links = Links(base_path(), docs_address())
        return HTMLResponse(page(seen_by(user), links, datetime.now(UTC)), headers=_HEADERS)

    @app.get("/status.json", dependencies=reads_dags)
    def status(user: Any = Depends(get_user)) -> JSONResponse:  # noqa: B008
        seen = seen_by(user)
        found = {
            "at": seen.at.isoformat(),
            "problem": seen.problem and seen.problem.to_json(),
            "lines": [line.to_json() for line in (*seen.tables, *seen.publications)],
        }
        return JSONResponse(found, headers=_HEADERS)

    @app.get("/style.css")
    def style() -> FileResponse:
        return FileResponse(_STYLE, media_type="text/css")

    return app


def docs_address() -> str:
    """Where Cosmos serves the dbt docs: the first of ``[cosmos] dbt_docs_projects``; or empty."""
    try:
        projects = json.loads(conf.get("cosmos", "dbt_docs_projects", fallback="") or "{}")
        slug = next(iter(projects), "")
    except (ValueError, TypeError):
        return ""
    return f"{base_path()}/cosmos/{slug}/dbt_docs_index.html" if slug else ""
