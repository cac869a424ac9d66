"""After a failed load into Redshift raw and ledger are unchanged, and the rerun is right."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import timedelta
from threading import Barrier
from typing import Any

import psycopg
import pytest
import redshift_connector
from tenacity import wait_none

from millrace.batch import Interval
from millrace.errors import (
    CountMismatch,
    ManifestCorrupt,
    PartCorrupt,
    SchemaConflict,
    SettingError,
    WarehouseBusy,
    WarehouseError,
    WarehouseRefused,
    WarehouseUnavailable,
)
from millrace.manifest import Manifest
from millrace.testing import DAY, INTERVAL, Place, ids, ledger
from millrace.warehouses.expressions import raw
from millrace.warehouses.redshift.warehouse import RedshiftWarehouse
from millrace_sandbox.processes import LOOPBACK, poll
from redshift_standin import RedshiftServer

pytestmark = [pytest.mark.service, pytest.mark.redshift]

ATTEMPTS = 4
# The function on which tenacity keeps the settings of the retries.
LOAD = "millrace.warehouses.redshift.warehouse.RedshiftWarehouse.load"
RELOAD = "millrace.warehouses.redshift.warehouse.RedshiftWarehouse.reload"
OTHER_ROLE = "arn:aws:iam::123456789012:role/somebody-else"
# One column more than before, so that a rollback has to undo a change of the table, too.
NEW = ids(3, 4, note=["a", "b"])

stand_in_only = pytest.mark.skipif(
    "REDSHIFT_TEST_HOST" in os.environ, reason="looks behind the stand-in"
)


class Interrupted(RedshiftWarehouse):
    """Lets something happen before each statement that begins in a certain way.

    Args:
        warehouse: The warehouse to load into.
        statement: How these statements begin.
        fault: What happens; called with the session.
        times: Before how many of these statements; later ones run undisturbed.
    """

    def __init__(
        self,
        warehouse: Any,
        statement: str,
        fault: Callable[[Any], object],
        times: int = ATTEMPTS,
    ) -> None:
        super().__init__(warehouse._credentials, warehouse._iam_role, warehouse._statement_seconds)
        self.statement = statement
        self.fault = fault
        self.left = times

    @contextmanager
    def _session(self) -> Iterator[Any]:
        with super()._session() as session:
            yield InterruptedSession(session, self)


class InterruptedSession:
    def __init__(self, session: Any, interrupted: Interrupted) -> None:
        self.session = session
        self._interrupted = interrupted

    def run(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        if self._interrupted.left and statement.startswith(self._interrupted.statement):
            self._interrupted.left -= 1
            self._interrupted.fault(self.session)
        return self.session.run(statement, parameters)


@pytest.fixture
def place(redshift_place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A raw table with a batch of two rows; failed loads are retried at once."""
    for retried in (LOAD, RELOAD):
        monkeypatch.setattr(f"{retried}.retry.wait", wait_none())
    redshift_place.load(ids(1, 2))
    return redshift_place


@contextmanager
def unharmed(place: Place) -> Iterator[None]:
    before = place.everything()
    yield
    assert place.everything() == before


def assert_loads_now(place: Place) -> None:
    """A repeated load of the batch brings what the first one should have brought."""
    place.load(NEW)
    assert place.rows("id", "note") == [(3, "a"), (4, "b")]
    assert [row.rows for row in ledger(place.warehouse, place.table)] == [2]


def pid_of(session: Any) -> int:
    return session.run("SELECT pg_backend_pid()")[0][0]


def raises(error: Exception) -> Callable[[Any], None]:
    def fault(_session: Any) -> None:
        raise error

    return fault


# Who may read what.


def test_a_role_that_the_cluster_does_not_know_is_named_with_the_way_out(place):
    refused = replace(place, warehouse=RedshiftWarehouse(place.warehouse._credentials, OTHER_ROLE))
    with unharmed(place), pytest.raises(WarehouseError, match="role") as caught:
        refused.load(NEW)
    assert OTHER_ROLE in caught.value.message
    assert caught.value.fix.startswith("Attach the role of REDSHIFT_IAM_ROLE")
    assert not caught.value.may_pass
    assert_loads_now(place)


def test_without_a_role_nothing_is_tried(place):
    without = replace(place, warehouse=RedshiftWarehouse(place.warehouse._credentials))
    with unharmed(place), pytest.raises(SettingError, match="REDSHIFT_IAM_ROLE is not set"):
        without.load(NEW)
    assert_loads_now(place)


def test_a_wrong_password_is_no_outage(place):
    credentials = replace(place.warehouse._credentials, password="Wrong1Wrong1")
    warehouse = RedshiftWarehouse(credentials, place.warehouse._iam_role)
    with unharmed(place):
        for attempt in (
            warehouse.check,
            lambda: warehouse.load(place.table, place.land(NEW), place.landing),
        ):
            with pytest.raises(WarehouseRefused, match="password") as caught:
                attempt()
            assert not caught.value.may_pass
            assert credentials.password not in str(caught.value)
    assert_loads_now(place)


@stand_in_only
def test_an_account_without_rights_is_told_which_to_grant(place, postgres):
    password = "Stranger1"
    postgres.execute(f"create user stranger password '{password}'")
    credentials = replace(place.warehouse._credentials, user="stranger", password=password)
    warehouse = RedshiftWarehouse(credentials, place.warehouse._iam_role)
    try:
        with unharmed(place), pytest.raises(WarehouseRefused, match="does not let us") as caught:
            warehouse.load(place.table, place.land(NEW), place.landing)
    finally:
        postgres.execute("drop user stranger")
    assert "USAGE and CREATE" in caught.value.fix
    assert not caught.value.may_pass
    assert_loads_now(place)


def test_a_cluster_that_is_down_may_come_back(place):
    with closing(socket.socket()) as bound:
        # Bound without listening: nobody answers, and nobody else can take the port.
        bound.bind((LOOPBACK, 0))
        credentials = replace(
            place.warehouse._credentials, host=LOOPBACK, port=bound.getsockname()[1]
        )
        with pytest.raises(WarehouseUnavailable, match="cannot be reached") as caught:
            RedshiftWarehouse(credentials).load(place.table, place.land(NEW), place.landing)
    assert caught.value.may_pass


def test_no_secret_is_in_what_the_server_is_told(place, monkeypatch):
    told = []
    execute = redshift_connector.core.Connection.execute

    def record(connection: Any, cursor: Any, operation: str, arguments: Any) -> None:
        told.append(f"{operation} {arguments}")
        execute(connection, cursor, operation, arguments)

    monkeypatch.setattr(redshift_connector.core.Connection, "execute", record)
    place.load(NEW)
    assert any("COPY" in statement and "IAM_ROLE" in statement for statement in told)
    store = place.landing._store
    # A connection's own keys are in the store's configuration; others come from boto3.
    credentials = store.credential_provider() if store.credential_provider else store.config
    keys = credentials["access_key_id"], credentials["secret_access_key"]
    for secret in (place.warehouse._credentials.password, *keys):
        assert not [statement for statement in told if secret in statement]
    assert not [statement for statement in told if "credentials" in statement.lower()]


# The landed parts differ from the manifest.


def test_a_part_that_is_missing_is_named(place):
    manifest = place.land(NEW)
    place.remove(manifest.parts[0])
    with unharmed(place), pytest.raises(PartCorrupt, match="is gone") as caught:
        place.load_manifest(manifest)
    assert manifest.parts[0].url in caught.value.message
    assert "Ingest the batch again" in caught.value.fix
    assert_loads_now(place)


@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_a_part_that_is_damaged_is_refused(place, damage):
    manifest = place.land(NEW)
    (part,) = manifest.parts
    body = b"x" * part.size if damage == "overwritten" else b"x" * (part.size - 1)
    place.put(part, body)
    with unharmed(place), pytest.raises(PartCorrupt) as caught:
        place.load_manifest(manifest)
    assert part.url in caught.value.message
    assert_loads_now(place)


def forged(place: Place, manifest: Manifest) -> Callable[[Any], None]:
    """Replace a part by one with other values, but as many rows and bytes."""
    (part,) = manifest.parts
    other = place.land(ids(3, 4, note=["c", "d"]))
    (double,) = other.parts
    assert (double.rows, double.size) == (part.rows, part.size)

    def fault(_session: Any) -> None:
        with place.landing.local_copy(double) as path:
            place.put(part, path.read_bytes())

    return fault


def test_a_forged_part_is_refused(place):
    manifest = place.land(NEW)
    forged(place, manifest)(None)
    with unharmed(place), pytest.raises(PartCorrupt, match="its ETag is"):
        place.load_manifest(manifest)
    assert_loads_now(place)


def test_a_part_that_is_replaced_while_it_is_copied_is_refused(place):
    manifest = place.land(NEW)
    interrupted = Interrupted(place.warehouse, "COPY", forged(place, manifest))
    with unharmed(place), pytest.raises(PartCorrupt, match="its ETag is"):
        interrupted.load(place.table, manifest, place.landing)
    assert_loads_now(place)


def test_a_manifest_that_is_replaced_before_it_is_copied_is_refused(place):
    manifest = place.land(NEW)
    place.rewrite(replace(manifest, parts=()))
    with unharmed(place), pytest.raises(ManifestCorrupt, match="while it was loaded"):
        place.load_manifest(manifest)
    assert_loads_now(place)


def test_a_manifest_that_promises_other_rows_is_refused(place):
    manifest = place.land(NEW)
    place.rewrite(replace(manifest, parts=(replace(manifest.parts[0], rows=7),)))
    with unharmed(place), pytest.raises(CountMismatch, match=r"brought 2 rows .* promises 7"):
        place.load_manifest(place.landing.read_manifest(manifest.url))
    assert_loads_now(place)


def test_a_text_that_redshift_cannot_hold_is_refused_with_its_details(place):
    most = 65_535
    too_long = ids(3, note=["é" * (most // 2 + 1)])
    with unharmed(place), pytest.raises(WarehouseError, match=f"(?s)note.*{most}") as caught:
        place.load(too_long)
    assert not isinstance(caught.value, WarehouseBusy)
    longest = "é" * (most // 2) + "e"
    place.load(ids(3, note=[longest]))
    assert place.rows("note") == [(longest,)]


# The session ends in the middle.

STATEMENTS_AFTER_COPY = ["BEGIN", "LOCK TABLE", "INSERT INTO", "COMMIT"]


def last_now_others_nightly(statements: list[str]) -> list[Any]:
    """The parameters of a test that takes ten seconds each."""
    *others, last = statements
    return [*(pytest.param(other, marks=pytest.mark.nightly) for other in others), last]


@pytest.fixture
def postgres(redshift: RedshiftServer) -> Iterator[Any]:
    """The stand-in's PostgreSQL as its superuser sees it."""
    endpoint = redshift.endpoint
    with psycopg.connect(
        host=endpoint.host,
        port=endpoint.postgres_port,
        user="rdsdb",
        password=endpoint.superuser_password,
        dbname=endpoint.database,
        autocommit=True,
    ) as connection:
        yield connection


@pytest.fixture
def kill(postgres: Any) -> Callable[[Any], None]:
    """Ends a session from the server's side."""

    def end(session: Any) -> None:
        pid = pid_of(session)
        postgres.execute("select pg_terminate_backend(%s)", [pid])
        running = "select from pg_stat_activity where pid = %s"
        assert poll(lambda: postgres.execute(running, [pid]).fetchone() is None, 30)

    return end


@stand_in_only
@pytest.mark.parametrize("statement", STATEMENTS_AFTER_COPY)
def test_a_session_killed_between_copy_and_commit_is_taken_up_again(place, kill, statement):
    place.warehouse = Interrupted(place.warehouse, statement, kill, times=1)
    assert_loads_now(place)
    assert not place.warehouse.left


@stand_in_only
@pytest.mark.parametrize("statement", last_now_others_nightly(STATEMENTS_AFTER_COPY))
def test_sessions_killed_again_and_again_leave_everything_as_it_was(place, kill, statement):
    interrupted = Interrupted(place.warehouse, statement, kill)
    with unharmed(place), pytest.raises(WarehouseBusy, match="broke") as caught:
        interrupted.load(place.table, place.land(NEW), place.landing)
    assert caught.value.may_pass
    assert not interrupted.left
    assert_loads_now(place)


def test_a_loader_that_dies_before_its_commit_leaves_everything_as_it_was(place):
    def die(session: Any) -> None:
        # The kernel does the same when a process is killed.
        session._connection._usock.shutdown(socket.SHUT_RDWR)
        raise KeyboardInterrupt

    interrupted = Interrupted(place.warehouse, "COMMIT", die)
    with unharmed(place), pytest.raises(KeyboardInterrupt):
        interrupted.load(place.table, place.land(NEW), place.landing)
    assert_loads_now(place)


STATEMENTS_OF_A_RELOAD = ["LOCK TABLE", 'CREATE TABLE "', 'DROP TABLE "', "ALTER TABLE", "COMMIT"]


@stand_in_only
@pytest.mark.parametrize("statement", last_now_others_nightly(STATEMENTS_OF_A_RELOAD))
def test_sessions_killed_in_a_reload_leave_everything_as_it_was(place, kill, statement):
    place.load(ids(5), DAYS[0])
    everything = place.land(NEW, Interval(None, DAYS[0].end))
    interrupted = Interrupted(place.warehouse, statement, kill)
    with unharmed(place), pytest.raises(WarehouseBusy, match="broke"):
        interrupted.reload(place.table, everything, place.landing)
    assert not interrupted.left
    once = Interrupted(place.warehouse, statement, kill, times=1)
    row = once.reload(place.table, everything, place.landing)
    assert not once.left
    assert place.rows("id", "note") == [(3, "a"), (4, "b")]
    assert ledger(place.warehouse, place.table) == [row]
    assert place.relations() == {place.table.identifier, "_batches"}


@stand_in_only
@pytest.mark.parametrize("side", ["the client's", "the server's"])
def test_a_connection_cut_in_the_middle_of_copy_leaves_everything_as_it_was(place, postgres, side):
    many = 200_000
    manifest = place.land(ids(*range(many), note=[f"{n:0100d}" for n in range(many)]))
    cuts = []

    def cut(pid: int, client: socket.socket) -> bool:
        copying = "select from pg_stat_progress_copy where pid = %s and tuples_processed > 0"
        was_copying = poll(
            lambda: postgres.execute(copying, [pid]).fetchone() is not None, 30, interval=0.005
        )
        if side == "the client's":
            client.shutdown(socket.SHUT_RDWR)
        else:
            postgres.execute("select pg_terminate_backend(%s)", [pid])
        return was_copying

    with ThreadPoolExecutor(ATTEMPTS) as pool:

        def cut_soon(session: Any) -> None:
            cuts.append(pool.submit(cut, pid_of(session), session._connection._usock))

        interrupted = Interrupted(place.warehouse, "COPY", cut_soon)
        with unharmed(place), pytest.raises(WarehouseBusy) as caught:
            interrupted.load(place.table, manifest, place.landing)
        assert [cut.result(30) for cut in cuts] == [True] * ATTEMPTS
    assert caught.value.may_pass
    assert place.load_manifest(manifest).rows == many
    assert place.query(f"SELECT COUNT(*), COUNT(DISTINCT id) FROM {raw(place.table)}") == [
        (many, many)
    ]


# Others load at the same time.

IN_THE_WAY = [
    {"M": "1023 DETAIL: Serializable isolation violation on table - 100204"},
    {"M": "1023", "D": "Serializable isolation violation on table - 100204, transactions …"},
]


@pytest.mark.parametrize("fields", IN_THE_WAY)
@pytest.mark.parametrize("statement", ["INSERT INTO", "COMMIT"])
def test_a_serialisation_failure_is_tried_again(place, statement, fields):
    error = redshift_connector.ProgrammingError({"S": "ERROR", "C": "XX000"} | fields)
    place.warehouse = Interrupted(place.warehouse, statement, raises(error), times=1)
    assert_loads_now(place)
    assert not place.warehouse.left


def test_serialisation_failures_without_end_are_told(place):
    error = redshift_connector.ProgrammingError({"S": "ERROR", "C": "XX000"} | IN_THE_WAY[1])
    interrupted = Interrupted(place.warehouse, "COMMIT", raises(error), times=ATTEMPTS)
    with unharmed(place), pytest.raises(WarehouseBusy, match="isolation violation") as caught:
        interrupted.load(place.table, place.land(NEW), place.landing)
    assert caught.value.may_pass
    assert not interrupted.left
    assert_loads_now(place)


def load_together(place: Place, statement: str, loads: Sequence[tuple[Any, Any]]) -> list[Any]:
    """Load manifests at the same time; no load runs the statement before all have reached it."""
    together = Barrier(len(loads))

    def load(table: Any, manifest: Any) -> Any:
        warehouse = Interrupted(place.warehouse, statement, lambda _: together.wait(30), times=1)
        return warehouse.load(table, manifest, place.landing)

    with ThreadPoolExecutor(len(loads)) as pool:
        return list(pool.map(lambda arguments: load(*arguments), loads))


DAYS = [Interval(DAY + timedelta(days=n), DAY + timedelta(days=n + 1)) for n in (1, 2)]


@pytest.mark.parametrize(
    ("statement", "columns"),
    [
        pytest.param("CREATE SCHEMA", {}, id="the same columns"),
        pytest.param("CREATE SCHEMA", {"note": ["new"]}, id="a new column"),
        pytest.param("LOCK TABLE", {}, id="both ready to insert"),
    ],
)
def test_two_loads_of_a_table_at_the_same_time_come_one_after_another(
    place, monkeypatch, statement, columns
):
    # The clock stands still: a timestamp rises only if a load sees the one before it.
    monkeypatch.setattr("millrace.warehouses.loads._now", lambda: DAY)
    manifests = [place.land(ids(n, **columns), day) for n, day in enumerate(DAYS, 3)]
    load_together(place, statement, [(place.table, manifest) for manifest in manifests])
    assert place.rows() == [(1,), (2,), (3,), (4,)]
    found = ledger(place.warehouse, place.table)
    assert {row.interval for row in found} == {INTERVAL, *DAYS}
    assert len({row.loaded_at for row in found}) == len(found)


@stand_in_only
def test_a_load_that_waits_while_its_table_is_reloaded_goes_into_the_new_one(place, postgres):
    plain, later = replace(place), place.land(ids(5, note=["c"]), DAYS[0])
    with ThreadPoolExecutor(1) as pool:
        loads = []

        def load_meanwhile(_session: Any) -> None:
            # The reload holds the lock by now.
            loads.append(pool.submit(plain.load_manifest, later))
            waiting = "select from pg_locks where not granted"
            assert poll(lambda: postgres.execute(waiting).fetchone() is not None, 30)

        place.warehouse = Interrupted(place.warehouse, "ALTER TABLE", load_meanwhile, times=1)
        place.reload(NEW)
        loads[0].result(60)
    assert place.rows("id", "note") == [(3, "a"), (4, "b"), (5, "c")]
    assert [row.rows for row in ledger(place.warehouse, place.table)] == [2, 1]


def test_the_first_loads_of_a_source_at_the_same_time_both_arrive(redshift_place, monkeypatch):
    monkeypatch.setattr(f"{LOAD}.retry.wait", wait_none())
    place = redshift_place
    tables = [place.table, replace(place.table, name="users", identifier="users")]
    manifests = [place.land(ids(n), day) for n, day in enumerate(DAYS)]
    loaded = load_together(place, "CREATE SCHEMA", list(zip(tables, manifests, strict=True)))
    assert [ledger(place.warehouse, table) for table in tables] == [[row] for row in loaded]


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        pytest.param("sum(1.5::decimal(10, 2))", "numeric without", marks=stand_in_only),
        ("'08:00'::time", "time without time zone"),
    ],
)
def test_a_marts_type_that_is_not_read_is_told_by_its_column(
    place: Place, expression: str, says: str
) -> None:
    schema, mart = place.table.schema, "mart"
    place.query(f"create table {schema}.{mart} as select 1 as id, {expression} as amount")
    with pytest.raises(SchemaConflict, match=f"amount is of the type {says}") as refused:
        place.warehouse.read(schema, mart, None, ["id"])
    assert "cast it" in refused.value.fix
