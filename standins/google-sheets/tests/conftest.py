"""A server for each module of tests that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sheets_standin import GoogleSheetsServer


@pytest.fixture(scope="module")
def no_internet() -> Iterator[None]:
    """Lets nobody reach another machine."""
    # google-auth asks Google, in the background, where a service account may be used from.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GoogleSheetsServer]:
    with GoogleSheetsServer(tmp_path_factory.mktemp("sheets")) as server:
        yield server
