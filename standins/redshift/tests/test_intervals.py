"""An INTERVAL is read and sent as Redshift's driver has it: microseconds and months, no days."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from typing import Any

import pytest
import redshift_connector
from redshift_connector.interval import Interval

from standins.redshift.tests.conftest import run

pytestmark = [pytest.mark.service, pytest.mark.redshift]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("interval '3 days'", timedelta(days=3)),
        ("interval '1 day 02:03:04.5'", timedelta(days=1, hours=2, minutes=3, seconds=4.5)),
        ("interval '-30 hours'", timedelta(hours=-30)),
        ("interval '14 months'", Interval(months=14)),
        ("interval '1 month 1 second'", Interval(microseconds=1_000_000, months=1)),
        ("timestamp '2020-03-01' - timestamp '2020-01-01'", timedelta(days=60)),
        ("cast(null as interval)", None),
    ],
)
def test_an_interval_is_read_as_long_as_it_is(
    connection: Any, expression: str, expected: object
) -> None:
    # The rows have columns before and after the interval.
    assert run(connection, f"select 1, {expression}, 'x' union all select 2, null, 'y'") == [
        *((1, expected, "x"), (2, None, "y"))
    ]


@pytest.mark.parametrize("days", [3, -3, 400])
def test_an_interval_is_sent_as_long_as_it_is(connection: Any, days: int) -> None:
    ((at, back, text),) = run(
        connection,
        "select timestamp '2020-01-01' + %s, %s, %s",
        timedelta(days=days),
        timedelta(days=days, hours=1),
        "x",
    )
    assert at == datetime(2020, 1, 1) + timedelta(days=days)
    assert (back, text) == (timedelta(days=days, hours=1), "x")


@pytest.mark.parametrize(
    "statement",
    [
        "create table {}.t (a interval)",
        "create table {}.t as select interval '3 days' as a",
        "select interval '3 days' as a into {}.t",
        "create table {}.t (a interval day to second)",
        "select interval '3' day",
        "select cast('3' as interval year to month)",
    ],
)
def test_an_interval_that_is_not_covered_is_refused(
    connection: Any, schema: str, statement: str
) -> None:
    with (
        pytest.raises(redshift_connector.ProgrammingError, match=r"(?i)interval") as error,
        closing(connection.cursor()) as cursor,
    ):
        cursor.execute(statement.format(schema))
    assert error.value.args[0]["C"] == "0A000"
    assert run(connection, f"select count(*) from svv_tables where table_schema = '{schema}'") == [
        (0,)
    ]
