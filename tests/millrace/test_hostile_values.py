"""Hostile values arrive exactly, or are told: from both servers, in both warehouses, to a sheet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pytest

from millrace.catalog import Catalog, IngestTable, OnBadValue
from millrace.errors import PublicationRefused, ValueDoesNotFit
from millrace.landing.landing import Landing
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace.sources.google_sheets.source import GoogleSheetSource
from millrace.testing import Place, declared
from millrace.warehouses.base import LedgerRow, quarantine_of
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse
from millrace.warehouses.expressions import quote, raw
from millrace.warehouses.redshift.warehouse import RedshiftWarehouse
from sheets_standin import TabSpec
from tests.millrace.hostile_values import (
    IN_A_SHEET,
    IN_MYSQL,
    MORE_ROWS_THAN_A_CHUNK,
    NO_DATE,
    TEXTS,
    TOO_LONG,
    Hostile,
)
from tests.millrace.sheets import Workbook
from tests.millrace.test_mysql_types import MATRIX

if TYPE_CHECKING:
    from pathlib import Path

    from millrace.sources.base import Source
    from sheets_standin import GoogleSheetsServer
    from tests.millrace.conftest import Database

pytestmark = pytest.mark.service

LONGEST_IN_REDSHIFT = 65_535


@pytest.fixture(params=["duckdb", pytest.param("redshift", marks=pytest.mark.redshift)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "redshift":
        yield request.getfixturevalue("redshift_place")
        return
    yield Place(
        DuckDBWarehouse(tmp_path / "w.duckdb"), Landing((tmp_path / "l").as_uri()), declared()
    )


def carry(place: Place, source: Source, table: IngestTable, policy: OnBadValue) -> LedgerRow:
    """Ingest a table into a place, as the command and Airflow do."""
    options = table.options.model_copy(update={"on_bad_value": policy, "verify": "values"})
    place.table = replace(table, schema=place.table.schema, options=options)
    kind = "redshift" if isinstance(place.warehouse, RedshiftWarehouse) else "duckdb"
    pipeline = Pipeline(cast("Any", None), Settings(), cast("Any", None))
    vars(pipeline).update(
        catalog=Catalog((place.table,), warehouse=kind),
        warehouse=place.warehouse,
        landing=place.landing,
        _sources={(options.kind, options.connection): source},
    )
    row = pipeline.ingest(place.table)
    assert row is not None
    return row


def bad_for(value: Hostile, place: Place) -> str | None:
    """What is said of a value in this place, if it does not fit."""
    on_redshift = isinstance(place.warehouse, RedshiftWarehouse)
    return value.bad or (value.bad_on_redshift if on_redshift else None)


def edge(name: str, definition: str, literal: str, arrives: Any) -> Hostile:
    """An edge of a type, as the test of types has it."""
    on_redshift = None
    if isinstance(arrives, str) and "\0" in arrives:
        on_redshift = "NUL"
    elif isinstance(arrives, str) and len(arrives.encode()) > LONGEST_IN_REDSHIFT:
        on_redshift = TOO_LONG
    return Hostile(
        name,
        definition,
        literal,
        arrives,
        bad=NO_DATE if arrives is None else None,
        bad_on_redshift=on_redshift,
        on_mysql=definition not in ("UUID", "INET6"),
        shown="CAST({} AS DOUBLE PRECISION)" if definition.startswith("FLOAT") else "{}",
    )


# Every type at its edges.
EDGES = [
    edge(f"edge_{number}_{at}", definition, literal, arrives)
    for number, (definition, _, pairs) in enumerate(MATRIX)
    for at, (literal, arrives) in enumerate(pairs)
]


@pytest.fixture
def hostile(mysql: Database) -> list[Hostile]:
    """A table with a row and a column for each hostile value."""
    values = [value for value in [*IN_MYSQL, *EDGES] if value.on_mysql or mysql.is_mariadb]
    columns = ", ".join(f"{value.name} {value.definition}" for value in values)
    mysql.execute(f"CREATE TABLE hostile (id INT PRIMARY KEY, {columns})")
    mysql.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'")
    for number, value in enumerate(values):
        mysql.execute(f"INSERT INTO hostile (id, {value.name}) VALUES ({number}, {value.literal})")
    return values


def arrived(place: Place, values: Sequence[Hostile]) -> dict[int, Any]:
    """What the raw table has of each value, by the number of its row."""
    on_redshift = isinstance(place.warehouse, RedshiftWarehouse)

    def asked(value: Hostile) -> str:
        # The driver takes a VARBYTE for text.
        is_binary = on_redshift and isinstance(value.arrives, bytes)
        shown = "FROM_VARBYTE({}, 'hex')" if is_binary else value.shown
        return shown.format(quote(value.name))

    columns = ", ".join(map(asked, values))
    found = {
        row[0]: row[1:] for row in place.query(f"SELECT id, {columns} FROM {raw(place.table)}")
    }
    return {
        number: bytes.fromhex(row[number])
        if on_redshift and isinstance(values[number].arrives, bytes) and row[number] is not None
        else row[number]
        for number, row in found.items()
    }


@pytest.mark.both_servers
@pytest.mark.parametrize("policy", [OnBadValue.NULL, OnBadValue.QUARANTINE])
def test_every_value_arrives_or_is_told(
    mysql: Database, hostile: list[Hostile], place: Place, policy: OnBadValue
) -> None:
    row = carry(place, mysql.source(), mysql.table("hostile"), policy)

    bad = {number for number, value in enumerate(hostile) if bad_for(value, place)}
    assert row.verified == "values"
    if policy is OnBadValue.QUARANTINE:
        assert (row.rows, row.quarantined) == (len(hostile) - len(bad), len(bad))
        place_of_bad = raw(quarantine_of(place.table))
        records = place.query(f"SELECT row_key, column_name, reason FROM {place_of_bad}")
        told = {key: (column, reason) for key, column, reason in records}
        assert len(records) == len(told) == len(bad)
        for number in bad:
            column, reason = told[f'{{"id": {number}}}']
            assert column == hostile[number].name
            assert str(bad_for(hostile[number], place)) in reason
    else:
        assert (row.rows, row.quarantined) == (len(hostile), 0)
    kept = set(range(len(hostile))) - (bad if policy is OnBadValue.QUARANTINE else set())
    found = arrived(place, hostile)
    assert found.keys() == kept
    for number in kept:
        expected = None if number in bad else hostile[number].arrives
        assert found[number] == expected, hostile[number].name


@pytest.mark.both_servers
def test_by_default_the_first_bad_value_refuses_the_table(
    mysql: Database, hostile: list[Hostile], tmp_path: Path
) -> None:
    place = Place(
        DuckDBWarehouse(tmp_path / "w.duckdb"), Landing((tmp_path / "l").as_uri()), declared()
    )
    with pytest.raises(ValueDoesNotFit) as refused:
        carry(place, mysql.source(), mysql.table("hostile"), OnBadValue.FAIL)
    said = str(refused.value)
    misfits = {value.name for value in hostile if value.bad}
    # What stands for no date at all becomes NULL.
    nothing = {"zero_date", "zero_datetime", "zero_timestamp", "no_day", "no_month"}
    nothing |= {value.name for value in EDGES}
    for name in misfits - nothing:
        assert f"column {name}: " in said
    for name in nothing:
        assert name not in said


def test_texts_come_to_a_sheet_as_they_are(
    mysql: Database, hostile: list[Hostile], tmp_path: Path, workbook: Workbook
) -> None:
    place = Place(
        DuckDBWarehouse(tmp_path / "w.duckdb"), Landing((tmp_path / "l").as_uri()), declared()
    )
    carry(place, mysql.source(), mysql.table("hostile"), OnBadValue.QUARANTINE)
    short = [value for value in TEXTS if not value.bad and len(value.arrives) < 50]
    names = ["id", *(value.name for value in short)]
    schema, identifier = place.table.schema, place.table.identifier
    workbook.publish(place.warehouse.read(schema, identifier, names, ["id"]), order_by=["id"])
    rows = workbook.read()
    headings = next(row for row in rows if row[:1] == ["id"])
    cells = {
        (row[0], name): cell for row in rows for name, cell in zip(headings, row, strict=False)
    }
    for number, value in enumerate(hostile):
        if value in short:
            assert cells.get((number, value.name), "") == value.arrives, value.name
    # What a sheet cannot hold is refused, not cut.
    for name in ("unsigned_long", "medium", "long_blob"):
        rows_of_one = place.warehouse.read(schema, identifier, ["id", name], ["id"])
        with pytest.raises(PublicationRefused, match=name):
            workbook.publish(rows_of_one, order_by=["id"])


@pytest.mark.parametrize("policy", [OnBadValue.NULL, OnBadValue.QUARANTINE])
def test_every_cell_arrives_or_is_told(
    google_sheets: GoogleSheetsServer, place: Place, policy: OnBadValue
) -> None:
    types = {f"c{number}": type_ for number, (type_, *_) in enumerate(IN_A_SHEET)}
    rows = [
        [number, *([None] * number), typed] for number, (_, typed, _, _) in enumerate(IN_A_SHEET)
    ]
    workbook = Workbook(google_sheets, TabSpec("targets", [["id", *types], *rows]))
    table = workbook.table(columns={"id": "integer", **types}, primary_key=["id"])

    row = carry(place, GoogleSheetSource(workbook.connection()), table, policy)

    bad = {number for number, (*_, said) in enumerate(IN_A_SHEET) if said}
    is_set_aside = policy is OnBadValue.QUARANTINE
    assert row.quarantined == (len(bad) if is_set_aside else 0)
    if is_set_aside:
        place_of_bad = raw(quarantine_of(place.table))
        told = dict(place.query(f"SELECT row_key, reason FROM {place_of_bad}"))
        for number in bad:
            assert f"targets!{chr(ord('B') + number)}{number + 2}: " in told[f'{{"id": {number}}}']
            assert str(IN_A_SHEET[number][3]) in told[f'{{"id": {number}}}']
    for number, (_, _, arrives, _) in enumerate(IN_A_SHEET):
        found = place.query(f"SELECT c{number} FROM {raw(place.table)} WHERE id = {number}")
        expected = [] if number in bad and is_set_aside else [(arrives,)]
        assert found == expected, IN_A_SHEET[number]


def test_moments_stay_with_their_rows_whatever_the_number_of_rows(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATETIME NOT NULL)")
    numbers = mysql.seq(0, MORE_ROWS_THAN_A_CHUNK)
    mysql.execute(f"INSERT INTO t SELECT seq, '2026-01-01' + INTERVAL seq HOUR FROM {numbers} AS n")
    rows = mysql.extract(mysql.table("t"))
    hours = rows["at"].cast(pa.int64()).to_numpy() // 3_600_000_000
    assert (hours - hours[0] == rows["id"].to_numpy() - rows["id"][0].as_py()).all()
