"""gspread on the stand-in; needs the extra ``gspread``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import gspread
from google.oauth2.service_account import Credentials
from gspread.auth import DEFAULT_SCOPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sheets_standin.endpoint import SheetsEndpoint

GOOGLE = "https://sheets.googleapis.com"


class StandinHTTPClient(gspread.HTTPClient):
    """gspread's client, with another base URL in the place of Google's."""

    def __init__(self, auth: Any, session: Any = None, base_url: str = GOOGLE) -> None:
        super().__init__(auth, session)
        self._base_url = base_url

    def request(self, method: str, endpoint: str, *args: Any, **options: Any) -> Any:
        """Make a request, at the stand-in."""
        url = self._base_url + endpoint.removeprefix(GOOGLE)
        return super().request(method, url, *args, **options)


def connect(endpoint: SheetsEndpoint, scopes: Sequence[str] = DEFAULT_SCOPES) -> gspread.Client:
    """A client of gspread's with the stand-in's service account."""
    credentials = Credentials.from_service_account_info(
        endpoint.service_account_key(), scopes=scopes
    )
    return client(credentials, endpoint.url)


def client(credentials: Any, url: str) -> gspread.Client:
    """A client of gspread's with credentials of one's own."""
    # gspread expects a class here, but only calls it.
    http_client: Any = partial(StandinHTTPClient, base_url=url)
    return gspread.Client(credentials, http_client=http_client)
