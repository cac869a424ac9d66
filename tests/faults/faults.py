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
from tests.faults.child import BUILD, PUBLISH
from tests.faults.http_faults import HTTPFault
from tests.faults.world import CUSTOMERS, INGESTED, ORDERS, STAGES, TARGETS

if TYPE_CHECKING:
    from tests.faults.world import Attempt, World

Deed = Callable[["World", "Attempt", Random], None]

FROM_MYSQL = (ORDERS, CUSTOMERS)
LOADS = INGESTED


@dataclass(frozen=True)
class Fault:
    """One kind of fault.

    Attributes:
        begin: Does it to the world, while the stage waits or runs.
        stages: Those that it can meet.
        needs: The proxy that it goes by; it is healed afterwards.
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


def _s3(fault: HTTPFault) -> Deed:
    return lambda world, attempt, random: world.s3_answers.set(
        replace(fault, times=random.choice((1, 99)))
    )


def _sheet(fault: SheetFault) -> Deed:
    return lambda world, attempt, random: world.sheets.admin().add_fault(
        fault.model_copy(update={"times": random.choice((1, 9))})
    )


FAULTS: Mapping[str, Fault] = {
    "SIGKILL": Fault(_signalled(signal.SIGKILL), ends_process=True),
    "SIGTERM": Fault(_signalled(signal.SIGTERM), ends_process=True),
    "Ctrl-C": Fault(_signalled(signal.SIGINT), ends_in_error=True),
    "MySQL: KILL CONNECTION": Fault(_kill_mysql("CONNECTION"), FROM_MYSQL),
    "MySQL: KILL QUERY": Fault(_kill_mysql("QUERY"), FROM_MYSQL),
    "MySQL: reset": Fault(_by_proxy("mysql", "reset"), FROM_MYSQL, "mysql"),
    "MySQL: stalled": Fault(_by_proxy("mysql", "stall"), FROM_MYSQL, "mysql"),
    "MySQL: half open": Fault(_by_proxy("mysql", "half_open"), FROM_MYSQL, "mysql"),
    "MySQL: gone": Fault(_refused("mysql"), FROM_MYSQL, "mysql"),
    "S3: reset": Fault(_by_proxy("s3", "reset"), LOADS, "s3"),
    "S3: stalled": Fault(_by_proxy("s3", "stall"), LOADS, "s3"),
    "S3: gone": Fault(_refused("s3"), LOADS, "s3"),
    "S3: 500": Fault(_s3(HTTPFault("status", status=500, code="InternalError")), LOADS),
    "S3: 503": Fault(_s3(HTTPFault("status")), LOADS),
    "S3: 503, applied": Fault(_s3(HTTPFault("status", applied=True)), LOADS),
    "S3: 403": Fault(
        _s3(HTTPFault("status", status=403, code="AccessDenied")), LOADS, is_refusal=True
    ),
    "S3: cut": Fault(_s3(HTTPFault("cut")), LOADS),
    "S3: cut, applied": Fault(_s3(HTTPFault("cut", applied=True)), LOADS),
    "S3: half an answer": Fault(_s3(HTTPFault("cut_body")), LOADS),
    "Redshift: reset": Fault(_by_proxy("redshift", "reset"), LOADS, "redshift"),
    "Redshift: stalled": Fault(_by_proxy("redshift", "stall"), LOADS, "redshift"),
    "Redshift: gone": Fault(_refused("redshift"), LOADS, "redshift"),
    "Redshift: sessions ended": Fault(_end_backends, LOADS, "redshift"),
    "Google: 503": Fault(_sheet(SheetFault(action="status", status=503)), (TARGETS, PUBLISH)),
    "Google: 503, applied": Fault(
        _sheet(SheetFault(action="status", status=503, applied=True)), (TARGETS, PUBLISH)
    ),
    "Google: 429": Fault(
        _sheet(SheetFault(action="status", status=429, retry_after=0)), (TARGETS, PUBLISH)
    ),
    "Google: cut": Fault(_sheet(SheetFault(action="cut")), (TARGETS, PUBLISH)),
    "Google: cut, applied": Fault(
        _sheet(SheetFault(action="cut", applied=True)), (TARGETS, PUBLISH)
    ),
    "Google: half an answer": Fault(_sheet(SheetFault(action="cut_body")), (TARGETS, PUBLISH)),
}
"""By name."""


def possible(world: World, stage: str) -> list[str]:
    """The faults that a stage can meet in a world."""
    return [
        name
        for name, fault in FAULTS.items()
        if stage in fault.stages
        and (fault.needs is None or fault.needs in world.proxies)
        and not (stage == BUILD and fault.ends_in_error)
    ]


def heal(world: World) -> None:
    """Undo what faults have done."""
    for proxy in world.proxies.values():
        proxy.heal()
    world.s3_answers.heal()
    world.sheets.admin().clear_faults()
