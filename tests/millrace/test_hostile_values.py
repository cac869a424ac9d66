"""Hostile values arrive exactly, or are told: from both servers, in both warehouses, to a sheet."""

from __future__ import annotations

from collections.abc import Iterator
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
from millrace.warehouses.redshift.warehouse import RedshiftWarehouse
from millrace.warehouses.sql import quote, raw
from sheets_standin import TabSpec
from tests.millrace.hostile_values import (
    IN_A_SHEET,
    IN_MYSQL,
    MORE_ROWS_THAN_A_CHUNK,
    TEXTS,
    Hostile,
)
from tests.millrace.sheets import Workbook

if TYPE_CHECKING:
    from pathlib import Path

    from millrace.sources.base import Source
    from sheets_standin import GoogleSheetsServer
    from tests.millrace.conftest import Database

pytestmark = pytest.mark.service


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


@pytest.fixture
def hostile(mysql: Database) -> list[Hostile]:
    """A table with a row and a column for each hostile value."""
    values = [value for value in IN_MYSQL if value.on_mysql or mysql.is_mariadb]
    columns = ", ".join(f"{value.name} {value.definition}" for value in values)
    mysql.execute(f"CREATE TABLE hostile (id INT PRIMARY KEY, {columns})")
    mysql.execute("SET SESSION sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'")
    for number, value in enumerate(values):
        mysql.execute(f"INSERT INTO hostile (id, {value.name}) VALUES ({number}, {value.literal})")
    return values


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
        assert {number for (number,) in place.rows()} == set(range(len(hostile))) - bad
        place_of_bad = raw(quarantine_of(place.table))
        found = place.query(f"SELECT row_key, column_name, reason FROM {place_of_bad}")
        told = {key: (column, reason) for key, column, reason in found}
        assert len(found) == len(told) == len(bad)
        for number in bad:
            column, reason = told[f'{{"id": {number}}}']
            assert column == hostile[number].name
            assert str(bad_for(hostile[number], place)) in reason
    else:
        assert (row.rows, row.quarantined) == (len(hostile), 0)
    for number, value in enumerate(hostile):
        if number in bad and policy is OnBadValue.QUARANTINE:
            continue
        shown = value.shown.format(quote(value.name))
        ((arrived,),) = place.query(f"SELECT {shown} FROM {raw(place.table)} WHERE id = {number}")
        assert arrived == (None if number in bad else value.arrives), value.name


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
