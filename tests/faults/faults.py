"""What is done to a stage, and how the world is mended afterwards."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

import MySQLdb

from redshift_standin.supervisor import connect_superuser
from sheets_standin.faults import Fault as SheetFault
from tests.faults import servers
from tests.faults.child import BUILD, PUBLISH
from tests.faults.http_faults import HTTPFault
from tests.faults.world import CUSTOMERS, INGESTED, ORDERS, STAGES, TARGETS, Attempt

if TYPE_CHECKING:
    from millrace_sandbox.mysql import MySQLService
    from redshift_standin.s3 import S3Server
    from tests.faults.world import World

Deed = Callable[["World", Attempt, Random], None]

FROM_MYSQL = (ORDERS, CUSTOMERS)
LOADS = INGESTED
WAREHOUSE = (*INGESTED, BUILD, PUBLISH)
GOOGLE = (TARGETS, PUBLISH)

_BACK_AT_ONCE = 0.5
_BYTES_LEFT = (0, 4_096, 100_000, 1_000_000)
# Seconds: a correction, daylight saving, a wrong day, a battery that is empty.
_STEPS = (2, 3_600, 86_400, 400 * 86_400)


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        begin: Does it to the world, while the stage waits or runs; the world is healed afterwards.
        stages: Those that it can meet.
        needs: What it breaks; see ``World.breakable``. None: the process itself, or Google.
        ends_process: Whether the process ends by it, without a word.
        ends_in_error: Whether the stage may end in an error of its own making, as by Ctrl-C.
        is_refusal: Whether trying again by itself is pointless, as far as the stage can know.
    """

    begin: Deed
    stages: tuple[str, ...] = STAGES
    needs: str | None = None
    ends_process: bool = False
    ends_in_error: bool = False
    is_refusal: bool = False


def _signalled(number: signal.Signals) -> Deed:
    return lambda world, attempt, random: os.kill(attempt.pid, number)


def _by_proxy(service: str, deed: str, *, at_once: bool = False) -> Deed:
    def begin(world: World, attempt: Attempt, random: Random) -> None:
        fault = getattr(world.proxies[service], deed)
        towards = random.choice(("client", "server"))
        fault(*([] if at_once else [random.choice((0, 0, 1, 50, 5_000))]), towards=towards)

    return begin


def _refused(service: str) -> Deed:
    def begin(world: World, attempt: Attempt, random: Random) -> None:
        world.proxies[service].reset()
        world.proxies[service].refuse()

    return begin


def _kill_mysql(what: str) -> Deed:
    """End the reader's queries or connections, as an administrator does."""

    def begin(world: World, attempt: Attempt, random: Random) -> None:
        with world.server.admin_cursor() as cursor:
            cursor.execute(
                "SELECT id FROM information_schema.processlist WHERE user = %s AND db = %s",
                (world.server.reader_user, world.database),
            )
            for (number,) in cursor.fetchall():
                # One that has ended by itself meanwhile needs no killing.
                with suppress(MySQLdb.OperationalError):
                    cursor.execute(f"KILL {what} {number}")

    return begin


def _end_backends(world: World, attempt: Attempt, random: Random) -> None:
    """End Redshift's sessions, as a restart of the cluster does."""
    assert world.redshift is not None
    with closing(connect_superuser(world.redshift.endpoint)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database() "
            "AND backend_type = 'client backend'"
        )


def _killed(service: Callable[[World], MySQLService | S3Server]) -> Deed:
    """Kill a server: it is back before the stage goes on, or after the stage has ended."""

    def begin(world: World, attempt: Attempt, random: Random) -> None:
        servers.kill(service(world))
        if random.random() < _BACK_AT_ONCE:
            service(world).start()

    return begin


def _restart_mysql(world: World, attempt: Attempt, random: Random) -> None:
    world.mysql.stop()
    world.mysql.start()


def _shrink_packets(world: World, attempt: Attempt, random: Random) -> None:
    """Let new sessions have the smallest packets that there are; a note is larger than that."""
    with world.server.admin_cursor() as cursor:
        cursor.execute("SET GLOBAL max_allowed_packet = 1024")


def _s3_server(world: World) -> S3Server:
    assert world.s3 is not None
    return world.s3


def _crash_redshift(world: World, attempt: Attempt, random: Random) -> None:
    assert world.redshift is not None
    servers.crash(world.redshift)
    if random.random() < _BACK_AT_ONCE:
        servers.await_recovery(world.redshift)


def _restart_redshift(world: World, attempt: Attempt, random: Random) -> None:
    assert world.redshift is not None
    world.redshift.stop()
    world.redshift.start()


def _full(disk: str) -> Deed:
    return lambda world, attempt, random: world.disks[disk].fill(random.choice(_BYTES_LEFT))


def _step_clock(world: World, attempt: Attempt, random: Random) -> None:
    attempt.clock.value = random.choice((-1, 1)) * random.choice(_STEPS)


def _another_run(*, later: bool) -> Deed:
    """Run the stage once more beside this one, from its beginning to its end."""

    def begin(world: World, attempt: Attempt, random: Random) -> None:
        if later:
            # Nobody can write while the stage that waits has locked the table.
            with suppress(MySQLdb.OperationalError):
                world.change(random)
        with Attempt(world, attempt.stage) as other:
            outcome = other.outcome()
        assert outcome is not None, "the other run ended without a word"
        assert outcome.kind == "done" or outcome.may_pass, f"the other run: {outcome.said}"

    return begin


def _s3(fault: HTTPFault) -> Deed:
    return lambda world, attempt, random: world.s3_answers.set(
        replace(fault, times=random.choice((1, 99)))
    )


def _refusal_of_s3(code: str) -> Fault:
    deed = _s3(HTTPFault("status", status=403, code=code))
    return Fault(deed, LOADS, "s3", is_refusal=True)


def _sheet(fault: SheetFault) -> Deed:
    return lambda world, attempt, random: world.sheets.admin().add_fault(
        fault.model_copy(update={"times": random.choice((1, 9))})
    )


FAULTS: Mapping[str, Fault] = {
    "SIGKILL": Fault(_signalled(signal.SIGKILL), ends_process=True),
    "SIGTERM": Fault(_signalled(signal.SIGTERM), ends_process=True),
    "Ctrl-C": Fault(_signalled(signal.SIGINT), ends_in_error=True),
    # Google refuses tokens of a wrong time.
    "the clock steps": Fault(_step_clock, (*INGESTED, PUBLISH), is_refusal=True),
    "disk full": Fault(_full("worker"), needs="disk of the worker", is_refusal=True),
    "another run of the batch": Fault(_another_run(later=False), (*INGESTED, PUBLISH)),
    "another batch of the table": Fault(_another_run(later=True), FROM_MYSQL),
    "MySQL: KILL CONNECTION": Fault(_kill_mysql("CONNECTION"), FROM_MYSQL),
    "MySQL: KILL QUERY": Fault(_kill_mysql("QUERY"), FROM_MYSQL),
    "MySQL: reset": Fault(_by_proxy("mysql", "reset"), FROM_MYSQL),
    "MySQL: stalled": Fault(_by_proxy("mysql", "stall"), FROM_MYSQL),
    "MySQL: half open": Fault(_by_proxy("mysql", "half_open"), FROM_MYSQL),
    "MySQL: gone": Fault(_refused("mysql"), FROM_MYSQL),
    "MySQL: killed": Fault(_killed(lambda world: world.mysql), FROM_MYSQL),
    "MySQL: restarted": Fault(_restart_mysql, FROM_MYSQL),
    "MySQL: smallest packets": Fault(_shrink_packets, FROM_MYSQL, is_refusal=True),
    "S3: reset": Fault(_by_proxy("s3", "reset"), LOADS, "s3"),
    "S3: stalled": Fault(_by_proxy("s3", "stall"), LOADS, "s3"),
    "S3: gone": Fault(_refused("s3"), LOADS, "s3"),
    "S3: killed": Fault(_killed(_s3_server), LOADS, "s3"),
    "S3: 500": Fault(_s3(HTTPFault("status", status=500, code="InternalError")), LOADS, "s3"),
    "S3: 503": Fault(_s3(HTTPFault("status")), LOADS, "s3"),
    "S3: 503, applied": Fault(_s3(HTTPFault("status", applied=True)), LOADS, "s3"),
    "S3: 403": _refusal_of_s3("AccessDenied"),
    "S3: 403, the clock differs": _refusal_of_s3("RequestTimeTooSkewed"),
    "S3: cut": Fault(_s3(HTTPFault("cut")), LOADS, "s3"),
    "S3: cut, applied": Fault(_s3(HTTPFault("cut", applied=True)), LOADS, "s3"),
    "S3: half an answer": Fault(_s3(HTTPFault("cut_body")), LOADS, "s3"),
    "Redshift: reset": Fault(_by_proxy("redshift", "reset"), WAREHOUSE, "redshift"),
    # dbt-redshift waits for ever.
    "Redshift: stalled": Fault(_by_proxy("redshift", "stall"), (*LOADS, PUBLISH), "redshift"),
    "Redshift: gone": Fault(_refused("redshift"), WAREHOUSE, "redshift"),
    "Redshift: sessions ended": Fault(_end_backends, WAREHOUSE, "redshift"),
    "Redshift: crashed": Fault(_crash_redshift, WAREHOUSE, "redshift"),
    "Redshift: restarted": Fault(_restart_redshift, WAREHOUSE, "redshift"),
    "Redshift: disk full": Fault(
        _full("redshift"), (*LOADS, BUILD), "disk of the redshift", is_refusal=True
    ),
    "Google: 503": Fault(_sheet(SheetFault(action="status", status=503)), GOOGLE),
    "Google: 503, applied": Fault(
        _sheet(SheetFault(action="status", status=503, applied=True)), GOOGLE
    ),
    "Google: 429": Fault(_sheet(SheetFault(action="status", status=429, retry_after=0)), GOOGLE),
    "Google: cut": Fault(_sheet(SheetFault(action="cut")), GOOGLE),
    "Google: cut, applied": Fault(_sheet(SheetFault(action="cut", applied=True)), GOOGLE),
    "Google: half an answer": Fault(_sheet(SheetFault(action="cut_body")), GOOGLE),
}
"""By name."""


def possible(world: World, stage: str) -> list[str]:
    """The faults that a stage can meet in a world."""
    return [
        name
        for name, fault in FAULTS.items()
        if stage in fault.stages
        and (fault.needs is None or fault.needs in world.breakable)
        and not (stage == BUILD and fault.ends_in_error)
    ]
