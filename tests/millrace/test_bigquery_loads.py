"""What BigQuery's emulator shows of a check, and of loads that something gets in the way of."""

from __future__ import annotations

import json
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from google.api_core.exceptions import Forbidden
from tenacity import stop_after_attempt

from millrace.batch import Interval
from millrace.errors import MillraceError, WarehouseBusy, WarehouseRefused, WarehouseUnavailable
from millrace.testing import DAY, INTERVAL, Place, ids, ledger
from millrace.warehouses.base import LedgerRow
from millrace.warehouses.bigquery.session import BigQuerySession
from millrace.warehouses.bigquery.statements import LEDGER_COLUMNS
from millrace.warehouses.bigquery.warehouse import BigQueryWarehouse, _label
from tests.buckets import GoogleBucket
from tests.faults.http_faults import HTTPFault, HTTPFaults

pytestmark = [pytest.mark.service, pytest.mark.bigquery]

STEPS = ["account", "project", "location", *["dataset"] * 7]


@pytest.fixture
def place(bigquery_place: Place) -> Place:
    return bigquery_place


def test_a_check_tells_each_step_and_leaves_nothing(place: Place) -> None:
    told: list[str] = []
    assert "all that a load needs works" in place.warehouse.check(told.append)
    assert [step.split()[0] for step in told] == STEPS
    dataset = place.warehouse._credentials.schema  # type: ignore[attr-defined]
    with place.warehouse._session() as session:
        assert isinstance(session, BigQuerySession)
        assert list(session.client.list_tables(dataset)) == []


# The emulator refuses nobody a right.
@pytest.mark.parametrize(
    ("refused", "name", "step"),
    [
        ("estimate", "", "project"),
        ("run", "SELECT 1", "location"),
        ("make_dataset", "", "it is there, or can be made"),
        ("run", "CREATE TABLE", "a table is made"),
        ("upload", "", "a part is loaded"),
        ("transaction", "", "a transaction changes rows"),
        ("run", "SELECT id", "rows are read"),
        ("run", "ALTER TABLE", "a column is added"),
        ("drop", "", "a table is dropped"),
    ],
)
def test_a_check_ends_at_the_first_right_that_is_missing(
    place: Place, monkeypatch: pytest.MonkeyPatch, refused: str, name: str, step: str
) -> None:
    genuine = getattr(BigQuerySession, refused)

    def refuse(session: BigQuerySession, first: Any, *rest: Any) -> Any:
        if str(first).startswith(name):
            raise Forbidden("Access Denied", errors=[{"reason": "accessDenied"}])
        return genuine(session, first, *rest)

    monkeypatch.setattr(BigQuerySession, refused, refuse)
    told: list[str] = []
    with pytest.raises(WarehouseRefused, match=f"{step}.*: no. BigQuery") as caught:
        place.warehouse.check(told.append)
    assert "deploy/bigquery/grant" in caught.value.fix
    assert not any(step in passed for passed in told)


# Loads that are disturbed. Whatever it was, after a retry raw = source, and ledger = raw.

Load = Callable[[Place], LedgerRow]
NEXT_DAY = DAY + timedelta(days=1)
SECOND = Interval(NEXT_DAY, NEXT_DAY + timedelta(days=1))
# So many does a load make at least.
REQUESTS = 19
FAULTS = {
    "503": HTTPFault("status", code="backendError"),
    "503, applied": HTTPFault("status", code="backendError", applied=True),
    "rate limit": HTTPFault("status", status=403, code="rateLimitExceeded"),
    "quota": HTTPFault("status", status=403, code="quotaExceeded"),
    "answer lost": HTTPFault("cut", applied=True),
    "connection cut": HTTPFault("cut"),
}


@pytest.fixture
def line(place: Place) -> Iterator[HTTPFaults]:
    """A proxy between Millrace and BigQuery."""
    address = urlsplit(credentials_of(place).api_endpoint)
    with HTTPFaults(str(address.hostname), int(address.port or 0)) as proxy:
        yield proxy


@pytest.fixture
def far(place: Place, line: HTTPFaults) -> Place:
    """The same place, through the proxy."""
    endpoint = f"http://{line.host}:{line.port}"
    credentials = replace(credentials_of(place), api_endpoint=endpoint)
    return replace(place, warehouse=BigQueryWarehouse(credentials))


def credentials_of(place: Place) -> Any:
    assert isinstance(place.warehouse, BigQueryWarehouse)
    return place.warehouse._credentials


def load_more(place: Place) -> LedgerRow:
    return place.load(ids(2, 3, 4, note=["n"] * 3), SECOND)


def load_again(place: Place) -> LedgerRow:
    return place.load(ids(2, 3, 4, note=["n"] * 3), INTERVAL)


def reload(place: Place) -> LedgerRow:
    return place.reload(ids(2, 3, 4, note=["n"] * 3))


def assert_whole(place: Place) -> None:
    """The ledger has the batches that the raw table has, with their rows and stamps."""
    raw = place.query(
        f"SELECT _batch_id, _loaded_at, COUNT(*) FROM {place.raw()} GROUP BY 1, 2 ORDER BY 1"
    )
    kept = [(r.batch_id, r.loaded_at, r.rows) for r in ledger(place.warehouse, place.table)]
    assert sorted(kept) == raw


def test_a_load_says_what_google_billed_and_its_jobs_say_what_they_were_for(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "millrace"):
        row = place.load(ids(1, 2))
    [told] = (text for text in caplog.messages if "billed" in text)
    assert re.fullmatch(rf"{place.table.key}: Google billed [\d,]+\.\d MB of this load", told)
    warehouse = cast("BigQueryWarehouse", place.warehouse)
    with warehouse._session() as session:
        labels = [job.labels for job in session.client.list_jobs(all_users=True)]
    batch = _label(row.batch_id)
    assert {"millrace_table": _label(place.table.key), "millrace_run": batch} in labels


@pytest.mark.parametrize(
    ("load", "seed"), [(load_more, 0), (load_again, 0), (reload, 0), (reload, 1)]
)
def test_a_load_that_is_disturbed_at_any_request_is_made_good_by_a_retry(
    place: Place, far: Place, line: HTTPFaults, load: Load, seed: int
) -> None:
    place.load(ids(1))
    chance = random.Random(f"{load.__name__} {seed}")  # noqa: S311 no secret
    fault = replace(FAULTS[chance.choice(list(FAULTS))], skipped=chance.randrange(REQUESTS))
    line.set(fault)
    failed: list[MillraceError] = []
    try:
        load(far)
    except MillraceError as error:
        failed.append(error)
    assert line.is_healed, f"{line.requests} requests"
    assert_whole(place)
    assert all(error.may_pass for error in failed), fault
    load(far)
    assert_whole(place)
    assert place.rows() == [*([(1,)] if load is load_more else []), (2,), (3,), (4,)], fault


@pytest.mark.parametrize(
    ("reason", "error", "what"),
    [
        ("quotaExceeded", WarehouseUnavailable, "A quota of BigQuery"),
        ("rateLimitExceeded", WarehouseBusy, "has trouble"),
        ("accessDenied", WarehouseRefused, "does not let us"),
    ],
)
def test_a_refusal_that_stays_is_told_and_leaves_everything_as_it_was(
    place: Place,
    far: Place,
    line: HTTPFaults,
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
    error: type[MillraceError],
    what: str,
) -> None:
    monkeypatch.setattr("millrace.warehouses.bigquery.session._RETRY._timeout", 1)
    place.load(ids(1))
    before = place.everything()
    line.set(HTTPFault("status", times=1_000, status=403, code=reason, skipped=12))
    with pytest.raises(error, match=what):
        load_more(far)
    line.heal()
    assert [one for one in place.everything() if "__staged_" not in str(one)] == before


# Runs where the test's process cannot: it ends itself with SIGKILL.
KILLED = """
import json, os, signal, sys
from dataclasses import replace
from dbt.adapters.bigquery.credentials import BigQueryCredentials
from millrace.connections import Connection
from millrace.landing.landing import Landing
from millrace.testing import declared
from millrace.warehouses.bigquery.statements import LEDGER_COLUMNS
from millrace.warehouses.bigquery.warehouse import BigQueryWarehouse

given = json.loads(sys.stdin.read())
landing = Landing(given["landing"], Connection(**given["connection"]))
warehouse = BigQueryWarehouse(BigQueryCredentials(**given["credentials"]))

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

BigQueryWarehouse._commit = die
table = replace(declared(), schema=given["schema"])
warehouse.load(table, landing.read_manifest(given["manifest"]), landing)
"""
GIVEN = ("api_endpoint", "location", "token", "schema", "database", "execution_project")


def test_a_load_that_is_killed_before_it_commits_has_changed_nothing(
    place: Place, google_bucket: GoogleBucket
) -> None:
    place.load(ids(1))
    manifest = place.land(ids(1, 2, 3))
    connection, credentials = google_bucket.connection(), credentials_of(place)
    given = {
        "landing": place.landing.url,
        "connection": {**vars(connection), "extra": dict(connection.extra)},
        "credentials": {
            "method": str(credentials.method),
            **{name: getattr(credentials, name) for name in GIVEN},
        },
        "schema": place.table.schema,
        "manifest": manifest.url,
    }
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], input=json.dumps(given), text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert place.rows() == [(1,)]
    assert_whole(place)
    place.load_manifest(manifest)
    assert place.rows() == [(1,), (2,), (3,)]
    assert_whole(place)


def test_two_loads_at_once_both_arrive(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    retried = "millrace.warehouses.bigquery.warehouse.BigQueryWarehouse.load.retry.stop"
    monkeypatch.setattr(retried, stop_after_attempt(10))
    batches = [
        place.land(ids(number), Interval(start, start + timedelta(days=1)))
        for number, start in enumerate([NEXT_DAY, NEXT_DAY + timedelta(days=1)])
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(place.load_manifest, batches))
    assert place.rows() == [(0,), (1,)]
    assert_whole(place)


def test_a_ledger_of_an_earlier_version_gets_what_it_lacks(place: Place) -> None:
    name = f"{place.quote(place.table.schema)}._batches"
    first = dict(list(LEDGER_COLUMNS.items())[:9])
    place.query(f"CREATE TABLE {name} ({', '.join(map(' '.join, first.items()))})")
    place.query(
        f"INSERT INTO {name} VALUES ('mysql.nps', 'b', NULL, NULL, 'm', 1, 2, "
        f"TIMESTAMP '2026-10-01', TIMESTAMP '2026-10-01')"
    )
    (row,) = ledger(place.warehouse, place.table)
    assert (row.rows, row.size, row.salt_id, row.quarantined) == (1, 2, None, None)
    loaded = load_more(place)
    # The emulator's API does not know of columns that SQL has added.
    kept = place.query(f"SELECT byte_count, quarantined FROM {name} ORDER BY loaded_at")
    assert kept == [(2, None), (loaded.size, 0)]
