"""Servers that go silent: every wait for them ends, by itself and on Ctrl-C.

The tests with S3 are in test_landing.py.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_USER_TIMEOUT
from urllib.parse import urlsplit

import pytest
from tenacity import wait_none
from urllib3.util import Retry

from millrace.errors import SheetUnavailable, WarehouseBusy, WarehouseUnavailable
from millrace.google_sheets import client
from millrace.google_sheets.client import GoogleSheets
from millrace.testing import Place, ids
from millrace.warehouses.redshift import warehouse as redshift
from millrace.warehouses.redshift.warehouse import RedshiftWarehouse
from sheets_standin import GoogleSheetsServer
from tests.millrace.sheets import Workbook
from tests.millrace.test_redshift import LOAD, Interrupted
from tests.proxy import FaultProxy

pytestmark = pytest.mark.service

SILENCES = ["stall", "half_open"]
# The statement timeout, far longer than a test waits: a sooner end has another cause.
SECONDS = 60


@contextmanager
def soon() -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < SECONDS / 2


# Redshift


@pytest.fixture
def line(redshift_place: Place) -> Iterator[FaultProxy]:
    warehouse = redshift_place.warehouse
    assert isinstance(warehouse, RedshiftWarehouse)
    credentials = warehouse._credentials
    with FaultProxy(credentials.host, int(credentials.port)) as proxy:
        yield proxy


@pytest.fixture
def place(
    redshift_place: Place, line: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    """A warehouse behind the proxy; a statement is given up after three seconds of silence."""
    monkeypatch.setattr(redshift, "_GRACE_SECONDS", 3 - SECONDS)
    monkeypatch.setattr(redshift, "_CONNECT_SECONDS", 2)
    monkeypatch.setattr(redshift, "_FAREWELL_SECONDS", 1)
    # One attempt only: every other one would meet the same silence.
    monkeypatch.setattr(f"{LOAD}.retry.stop", lambda _: True)
    monkeypatch.setattr(f"{LOAD}.retry.wait", wait_none())
    redshift_place.load(ids(1, 2))
    near = redshift_place.warehouse
    assert isinstance(near, RedshiftWarehouse)
    credentials = replace(near._credentials, host=line.host, port=line.port)
    patient = RedshiftWarehouse(credentials, near._iam_role, SECONDS)
    yield Place(patient, redshift_place.landing, redshift_place.table)
    line.heal()


@pytest.mark.redshift
@pytest.mark.parametrize("after", [0, 100], ids=["at once", "in its greeting"])
@pytest.mark.parametrize("silence", SILENCES)
def test_redshift_that_never_greets_is_given_up(place, line, silence, after):
    getattr(line, silence)(after)
    with soon(), pytest.raises(WarehouseUnavailable, match="cannot be reached") as caught:
        place.warehouse.check()
    assert caught.value.may_pass


@pytest.mark.redshift
@pytest.mark.parametrize("statement", ["CREATE TEMP", "COPY", "LOCK", "INSERT INTO", "COMMIT"])
@pytest.mark.parametrize("silence", SILENCES)
def test_redshift_that_goes_silent_in_a_load_is_given_up(
    place, redshift_place, line, silence, statement
):
    before = redshift_place.everything()
    interrupted = Interrupted(place.warehouse, statement, lambda _: getattr(line, silence)())
    with soon(), pytest.raises(WarehouseBusy, match="broke") as caught:
        interrupted.load(place.table, place.land(ids(3, 4)), place.landing)
    assert caught.value.may_pass
    # Once the cluster notices that the session is gone, it holds no lock and nothing is committed.
    line.reset()
    assert redshift_place.everything() == before


@pytest.mark.redshift
@pytest.mark.parametrize("fault", [*SILENCES, "reset"])
def test_redshift_that_breaks_off_in_mid_result_is_given_up(place, redshift_place, line, fault):
    redshift_place.load(ids(*range(20_000)))
    getattr(line, fault)(50_000)
    with soon(), pytest.raises(WarehouseBusy, match="broke"):
        place.warehouse.read(place.table.schema, place.table.identifier, None, ["id"])


@pytest.mark.redshift
@pytest.mark.parametrize("statement", ["COPY", "INSERT INTO", "COMMIT"])
def test_ctrl_c_ends_a_load_that_waits_for_redshift(place, line, statement, monkeypatch):
    """Airflow's execution_timeout ends it in the same way: it is a signal, too."""
    monkeypatch.setattr(redshift, "_GRACE_SECONDS", SECONDS)
    waiting = threading.Timer(1, os.kill, [os.getpid(), signal.SIGINT])

    def go_silent(_session: object) -> None:
        line.stall()
        waiting.start()

    interrupted = Interrupted(place.warehouse, statement, go_silent)
    with soon(), pytest.raises(KeyboardInterrupt):
        interrupted.load(place.table, place.land(ids(3, 4)), place.landing)


@pytest.mark.redshift
def test_redshift_on_a_host_that_is_gone_is_found_out_by_probes(place):
    with place.warehouse._session() as session:
        wire = session._connection._usock
        assert wire.getsockopt(SOL_SOCKET, SO_KEEPALIVE)
        assert wire.getsockopt(IPPROTO_TCP, TCP_USER_TIMEOUT) == 90_000


@pytest.mark.redshift
def test_a_statement_that_takes_too_long_is_cancelled_by_redshift(redshift_place):
    credentials = redshift_place.warehouse._credentials
    hasty = replace(redshift_place, warehouse=RedshiftWarehouse(credentials, statement_seconds=1))
    digits = "(SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4)"
    long = f"SELECT COUNT(*) FROM {', '.join(f'{digits} AS d{n}' for n in range(20))}"
    with soon(), pytest.raises(WarehouseUnavailable, match="cancelled") as caught:
        hasty.query(long)
    assert "REDSHIFT_STATEMENT_TIMEOUT" in caught.value.fix


# Google


@pytest.mark.parametrize("fault", [*SILENCES, "reset"])
@pytest.mark.parametrize("after", [0, 40], ids=["at once", "in mid-answer"])
def test_google_that_goes_silent_is_given_up(
    google_sheets: GoogleSheetsServer,
    workbook: Workbook,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    after: int,
):
    monkeypatch.setattr(client, "_TIMEOUT_SECONDS", (2, 1))
    monkeypatch.setattr(client, "_RETRY", Retry(total=1, allowed_methods=None))
    address = urlsplit(google_sheets.url)
    with FaultProxy(str(address.hostname), int(address.port or 0)) as line:
        there = workbook.connection()
        extra = {**there.extra, "endpoint_url": f"http://{line.host}:{line.port}"}
        sheets = GoogleSheets(replace(there, extra=extra))
        assert sheets.tabs(workbook.key)
        getattr(line, fault)(after)
        with soon(), pytest.raises(SheetUnavailable, match="cannot be reached") as caught:
            sheets.tabs(workbook.key)
    assert caught.value.may_pass
