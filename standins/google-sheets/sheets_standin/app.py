"""The web application: the API, the token endpoint, the admin's endpoints and the pages."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from sheets_standin import cells, fields, pages, requests, values
from sheets_standin.a1 import Area, cell_name
from sheets_standin.accounts import Accounts, TokenRefused
from sheets_standin.cells import Json
from sheets_standin.errors import ApiError, invalid, refuse_unknown
from sheets_standin.faults import Fault, FaultMiddleware, FaultScript
from sheets_standin.store import Store
from sheets_standin.workbook import Spreadsheet, Tab

_HTML_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}


def create_app(folder: Path, key: dict[str, str], admin_token: str, url: str) -> Starlette:
    """The application.

    Args:
        folder: Where the spreadsheets are kept.
        key: The service account's key.
        admin_token: The bearer token of the admin's endpoints.
        url: What clients call the server.
    """
    store, script, accounts = Store(folder), FaultScript(), Accounts(key)
    api = Api(store, accounts, url)
    admin = Admin(store, accounts, script, admin_token)
    view = Pages(store)
    return Starlette(
        routes=[
            Route("/token", _json_errors(api.token), methods=["POST"]),
            Route("/v4/{rest:path}", _json_errors(api.call), methods=["GET", "POST", "PUT"]),
            *(
                Route(path, _json_errors(admin.checked(handler)), methods=[method])
                for method, path, handler in admin.routes()
            ),
            Route("/", view.index),
            Route("/spreadsheets/{spreadsheet_id}", view.spreadsheet),
            Route("/spreadsheets/d/{spreadsheet_id}/edit", view.spreadsheet),
        ],
        middleware=[
            # Against DNS rebinding: a foreign site may let its own name point to this address.
            Middleware(
                TrustedHostMiddleware,
                allowed_hosts=["127.0.0.1", "localhost", str(urlsplit(url).hostname)],
            ),
            Middleware(FaultMiddleware, script=script),
        ],
    )


Handler = Callable[[Request], Awaitable[Response]]


def _json_errors(handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except ApiError as error:
            return JSONResponse(error.body(), error.code)

    return answer


class Api:
    """What Google's servers answer.

    Args:
        store: The spreadsheets.
        accounts: Who may ask.
        url: Where the server listens.
    """

    def __init__(self, store: Store, accounts: Accounts, url: str) -> None:
        self._store = store
        self._accounts = accounts
        self._url = url

    async def token(self, request: Request) -> Response:
        """The OAuth token endpoint."""
        form = parse_qs((await request.body()).decode("utf-8", "replace"))
        try:
            granted = self._accounts.grant(
                form.get("grant_type", [""])[0], form.get("assertion", [""])[0]
            )
        except TokenRefused as refused:
            return JSONResponse(
                {"error": refused.error, "error_description": refused.description}, 400
            )
        return JSONResponse(granted)

    async def call(self, request: Request) -> Response:
        """Any method of the API."""
        # The path stays encoded: a range may hold encoded characters that separate a path's parts.
        path = request.scope["raw_path"].decode("ascii")
        options: Json = {
            name: request.query_params.getlist(name) if name == "ranges" else value
            for name, value in request.query_params.items()
        }
        refuse_unknown(options, _OPTIONS)
        writes = request.method != "GET"
        email = self._accounts.authorize(request.headers.get("authorization"), writes)
        body = await _json_body(request) if writes else {}
        if (request.method, path) == ("POST", _BOOKS):
            answer = self._create(email, body)
        else:
            handler, spreadsheet_id, arguments = _find_method(request.method, path)
            book = self._store.get(spreadsheet_id)
            book.check_access(email, writes)
            draft = book.copy() if writes else book
            answer = handler(draft, *arguments, body=body, options=options)
            if writes:
                self._store.save(draft)
            elif handler is _get:
                answer["spreadsheetUrl"] = self._page(spreadsheet_id)
        mask = fields.parse(options["fields"]) if options.get("fields") else {}
        return JSONResponse(fields.project(answer, mask))

    def _create(self, email: str, body: Json) -> Json:
        properties = body.get("properties") or {}
        if not isinstance(properties, dict):
            raise invalid("Invalid value at 'properties': an object is expected")
        refuse_unknown(body, {"properties", "sheets"})
        refuse_unknown(properties, {"title"})
        title = str(properties.get("title") or "Untitled spreadsheet")
        book = Spreadsheet(self._store.new_id(), title, [], {email: "writer"})
        wanted = [{"addSheet": sheet} for sheet in body.get("sheets") or [{}]]
        requests.apply(book, {"requests": wanted})
        self._store.save(book)
        return describe(book, {}) | {"spreadsheetUrl": self._page(book.spreadsheet_id)}

    def _page(self, spreadsheet_id: str) -> str:
        return f"{self._url}/spreadsheets/d/{spreadsheet_id}/edit"


def describe(book: Spreadsheet, options: Json) -> Json:
    """The ``Spreadsheet`` resource.

    Args:
        book: The spreadsheet.
        options: ranges, includeGridData and fields.
    """
    mask = fields.parse(options["fields"]) if options.get("fields") else {}
    areas = [book.locate(text) for text in options.get("ranges", [])]
    sheets_mask = mask.get("sheets", {})
    with_data = str(options.get("includeGridData")).lower() == "true"
    if mask:
        # With a field mask, includeGridData has no effect.
        with_data = "sheets" in mask and (not sheets_mask or "data" in sheets_mask)
    cell_mask = sheets_mask.get("data", {}).get("rowData", {}).get("values", {})
    sheets = []
    for index, tab in enumerate(book.tabs):
        wanted = [area for owner, area in areas if owner is tab]
        if areas and not wanted:
            continue
        sheet: Json = {"properties": tab.properties(index)}
        if with_data:
            sheet["data"] = [_grid_data(tab, area, cell_mask) for area in wanted or [Area()]]
        if tab.charts:
            sheet["charts"] = [chart.to_json() for chart in tab.charts]
        sheets.append(sheet)
    return {
        "spreadsheetId": book.spreadsheet_id,
        "properties": {
            "title": book.title,
            "locale": "en_US",
            "autoRecalc": "ON_CHANGE",
            "timeZone": "Etc/GMT",
        },
        "sheets": sheets,
    }


def _grid_data(tab: Tab, area: Area, mask: fields.Mask) -> Json:
    bounds = tab.bound(area)
    lines: list[list[Json]] = []
    for row, column, cell in tab.used(bounds):
        data = cells.cell_data(cell, mask)
        if not data:
            continue
        line, place = row - bounds.start_row, column - bounds.start_column
        lines.extend([] for _ in range(line + 1 - len(lines)))
        lines[line].extend({} for _ in range(place + 1 - len(lines[line])))
        lines[line][place] = data
    grid: Json = {}
    if bounds.start_row:
        grid["startRow"] = bounds.start_row
    if bounds.start_column:
        grid["startColumn"] = bounds.start_column
    if lines:
        grid["rowData"] = [{"values": line} if line else {} for line in lines]
    return grid


def _get(book: Spreadsheet, *, body: Json, options: Json) -> Json:
    return describe(book, options)


def _batch_update(book: Spreadsheet, *, body: Json, options: Json) -> Json:
    return requests.apply(book, body)


def _values_batch_get(book: Spreadsheet, *, body: Json, options: Json) -> Json:
    ranges = options.get("ranges", [])
    read = [values.read(book, text, options) for text in ranges]
    return {"spreadsheetId": book.spreadsheet_id, "valueRanges": read}


def _values_batch_update(book: Spreadsheet, *, body: Json, options: Json) -> Json:
    return values.batch_update(book, body)


def _values_batch_clear(book: Spreadsheet, *, body: Json, options: Json) -> Json:
    refuse_unknown(body, {"ranges"})
    ranges = body.get("ranges") or []
    cleared = [values.clear(book, str(text)) for text in ranges]
    return {"spreadsheetId": book.spreadsheet_id, "clearedRanges": cleared}


def _values_append(book: Spreadsheet, text: str, *, body: Json, options: Json) -> Json:
    return values.append(book, text, body, options)


def _values_clear(book: Spreadsheet, text: str, *, body: Json, options: Json) -> Json:
    return {"spreadsheetId": book.spreadsheet_id, "clearedRange": values.clear(book, text)}


def _values_get(book: Spreadsheet, text: str, *, body: Json, options: Json) -> Json:
    return values.read(book, text, options)


def _values_update(book: Spreadsheet, text: str, *, body: Json, options: Json) -> Json:
    if body.get("range") not in (None, text):
        raise invalid(f"Requested writing within range [{text}], but the body has another one.")
    return values.update(book, body | {"range": text}, options)


_OPTIONS = {
    *values.READ_OPTIONS,
    *values.WRITE_OPTIONS,
    "insertDataOption",
    "ranges",
    "includeGridData",
    "fields",
}
_BOOKS = "/v4/spreadsheets"
_BOOK = rf"{_BOOKS}/([^/:]+)"
_METHODS: list[tuple[str, str, Callable[..., Json]]] = [
    ("GET", _BOOK, _get),
    ("POST", f"{_BOOK}:batchUpdate", _batch_update),
    ("GET", f"{_BOOK}/values:batchGet", _values_batch_get),
    ("POST", f"{_BOOK}/values:batchUpdate", _values_batch_update),
    ("POST", f"{_BOOK}/values:batchClear", _values_batch_clear),
    ("POST", rf"{_BOOK}/values/([^/]+):append", _values_append),
    ("POST", rf"{_BOOK}/values/([^/]+):clear", _values_clear),
    ("GET", rf"{_BOOK}/values/([^/]+)", _values_get),
    ("PUT", rf"{_BOOK}/values/([^/]+)", _values_update),
]


def _find_method(method: str, path: str) -> tuple[Callable[..., Json], str, list[str]]:
    for wanted, pattern, handler in _METHODS:
        match = re.fullmatch(pattern, path)
        if match and method == wanted:
            spreadsheet_id, *arguments = (unquote(group) for group in match.groups())
            return handler, spreadsheet_id, arguments
    raise ApiError(404, f"The stand-in has no {method} {path}.")


async def _json_body(request: Request) -> Json:
    text = await request.body()
    if not text:
        return {}

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    try:
        body = json.loads(text, parse_constant=refuse)
        # Half of a surrogate pair is valid JSON, but no text.
        json.dumps(body, ensure_ascii=False).encode()
    except ValueError as error:
        raise invalid(f"Invalid JSON payload received. {error}") from None
    if not isinstance(body, dict):
        raise invalid("Invalid JSON payload received. An object is expected.")
    return body


class Admin:
    """The admin's endpoints, for tests and the demo: they may do everything to every spreadsheet.

    Args:
        store: The spreadsheets.
        accounts: The tokens.
        script: The faults and the log.
        token: The bearer token that every request carries.
    """

    def __init__(self, store: Store, accounts: Accounts, script: FaultScript, token: str) -> None:
        self._store = store
        self._accounts = accounts
        self._script = script
        self._token = token

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path and handler of each endpoint."""
        one = "/admin/spreadsheets/{spreadsheet_id}"
        return [
            ("POST", "/admin/spreadsheets", self.create),
            ("GET", "/admin/spreadsheets", self.list),
            ("DELETE", one, self.delete),
            ("GET", f"{one}/tab", self.tab),
            ("PUT", f"{one}/permissions", self.share),
            ("POST", "/admin/faults", self.add_fault),
            ("DELETE", "/admin/faults", self.clear_faults),
            ("GET", "/admin/requests", self.requests),
            ("DELETE", "/admin/requests", self.clear_requests),
            ("DELETE", "/admin/tokens", self.expire_tokens),
            ("DELETE", "/admin/state", self.reset),
        ]

    def checked(self, handler: Handler) -> Handler:
        """The handler, for requests with the admin's token only."""

        async def answer(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                raise ApiError(401, "The admin's token is missing or wrong.")
            return await handler(request)

        return answer

    async def create(self, request: Request) -> Response:
        """Make a spreadsheet: title, tabs with their cells, permissions, and perhaps an id."""
        body = await _json_body(request)
        book = Spreadsheet(
            self._store.new_id(body.get("spreadsheet_id")), body["title"], [], body["permissions"]
        )
        for number, wanted in enumerate(body["tabs"]):
            tab = Tab(
                book.new_sheet_id(),
                wanted["title"],
                wanted["rows"],
                wanted["columns"],
                frozen_rows=wanted["frozen_rows"],
            )
            for row, line in enumerate(wanted["values"]):
                for column, cell in enumerate(line):
                    where = f"tabs[{number}], {cell_name(row, column)}"
                    tab.put(row, column, cells.from_json(cell, where))
            height, width = len(wanted["values"]), max(map(len, wanted["values"]), default=1)
            tab.grow(height, width)
            book.add_tab(tab, None)
        book.check_size()
        self._store.save(book)
        return JSONResponse({"spreadsheet_id": book.spreadsheet_id})

    async def list(self, request: Request) -> Response:
        """Every spreadsheet, by title."""
        books = self._store.all()
        return JSONResponse(
            [{"spreadsheet_id": book.spreadsheet_id, "title": book.title} for book in books]
        )

    async def delete(self, request: Request) -> Response:
        """Delete a spreadsheet."""
        self._store.delete(request.path_params["spreadsheet_id"])
        return Response(status_code=204)

    async def share(self, request: Request) -> Response:
        """Give an account a role, or take its role away."""
        body = await _json_body(request)
        book = self._store.get(request.path_params["spreadsheet_id"]).copy()
        if body["role"] is None:
            book.permissions.pop(body["email"], None)
        elif body["role"] in ("reader", "writer"):
            book.permissions[body["email"]] = body["role"]
        else:
            raise invalid(f"{body['role']!r} is neither reader nor writer.")
        self._store.save(book)
        return Response(status_code=204)

    async def tab(self, request: Request) -> Response:
        """A tab as it stands."""
        book = self._store.get(request.path_params["spreadsheet_id"])
        title = request.query_params["title"]
        tab = book.tab(title)
        if tab is None:
            raise ApiError(404, f"There is no tab {title!r}.")
        return JSONResponse(_tab_state(book, tab))

    async def add_fault(self, request: Request) -> Response:
        """Add a fault to the script."""
        try:
            fault = Fault.model_validate(await _json_body(request))
            re.compile(fault.path)
        except (ValidationError, re.error) as error:
            raise invalid(f"That is no fault: {error}") from None
        self._script.faults.append((fault, 0))
        return Response(status_code=204)

    async def clear_faults(self, request: Request) -> Response:
        """Remove all faults."""
        self._script.faults.clear()
        return Response(status_code=204)

    async def requests(self, request: Request) -> Response:
        """The log of requests, oldest first."""
        return JSONResponse([asdict(entry) for entry in self._script.log])

    async def clear_requests(self, request: Request) -> Response:
        """Empty the log."""
        self._script.log.clear()
        return Response(status_code=204)

    async def expire_tokens(self, request: Request) -> Response:
        """Make every token invalid."""
        self._accounts.expire_tokens()
        return Response(status_code=204)

    async def reset(self, request: Request) -> Response:
        """Delete every spreadsheet, fault and logged request."""
        for book in self._store.all():
            self._store.delete(book.spreadsheet_id)
        self._script.faults.clear()
        self._script.log.clear()
        return Response(status_code=204)


def _tab_state(book: Spreadsheet, tab: Tab) -> Json:
    range_ = "'" + tab.title.replace("'", "''") + "'"
    used = list(tab.used(tab.bound(Area())))
    return {
        "title": tab.title,
        "sheet_id": tab.sheet_id,
        "index": book.tabs.index(tab),
        "hidden": tab.hidden,
        "rows": tab.rows,
        "columns": tab.columns,
        "frozen_rows": tab.frozen_rows,
        "values": values.read(book, range_, {"valueRenderOption": "UNFORMATTED_VALUE"}).get(
            "values", []
        ),
        "formatted": values.read(book, range_, {}).get("values", []),
        "notes": {cell_name(row, column): cell.note for row, column, cell in used if cell.note},
        "formats": {
            cell_name(row, column): cell.format for row, column, cell in used if cell.format
        },
        "charts": [chart.to_json() for chart in tab.charts],
    }


class Pages:
    """What a person sees in a browser.

    Args:
        store: The spreadsheets.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    async def index(self, request: Request) -> Response:
        """Every spreadsheet."""
        return HTMLResponse(pages.render_index(self._store.all()), headers=_HTML_HEADERS)

    async def spreadsheet(self, request: Request) -> Response:
        """Every tab of one spreadsheet."""
        try:
            book = self._store.get(request.path_params["spreadsheet_id"])
        except ApiError:
            return HTMLResponse(pages.render_missing(), 404, headers=_HTML_HEADERS)
        return HTMLResponse(pages.render_spreadsheet(book), headers=_HTML_HEADERS)
