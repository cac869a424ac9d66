"""From the warehouse to the sheet: who owns the tab, and what its readers are told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import duckdb
import pytest

from millrace.catalog import Publication
from millrace.dbt.project import Project
from millrace.destinations.google_sheets.options import GoogleSheetPublishOptions
from millrace.errors import PublicationRefused, RelationNotFound
from millrace.pipeline import Pipeline
from millrace.settings import Settings
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse
from millrace.warehouses.redshift.warehouse import RedshiftWarehouse
from tests.millrace.sheets import Workbook


class FileProject:
    """A project whose target is a DuckDB file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.root = file.parent

    def known_credentials(self) -> Any:
        return SimpleNamespace(type="duckdb", path=str(self.file), database=self.file.stem)


def pipeline(workbook: Workbook, file: Path) -> Pipeline:
    project = cast("Project", FileProject(file))
    return Pipeline(project, Settings(), lambda _: workbook.connection())


def publication(workbook: Workbook, schema: str = "analytics") -> Publication:
    options = {
        "kind": "google_sheet",
        "connection": "google_sheets",
        "spreadsheet": workbook.key,
        "tab": "nps_summary",
        "order_by": ["day"],
    }
    return Publication(
        name="nps_summary_sheet",
        mart="nps_summary",
        schema=schema,
        identifier="nps_summary",
        options=GoogleSheetPublishOptions.model_validate(options),
    )


def build(file: Path, schema: str = "analytics") -> None:
    with duckdb.connect(str(file)) as connection:
        connection.execute(f"create schema if not exists {schema}")
        connection.execute(f"create or replace table {schema}.nps_summary as select 1 as day")


@pytest.mark.service
def test_a_mart_that_is_gone_leaves_stale_since_in_the_sheet(workbook: Workbook, tmp_path: Path):
    file = tmp_path / "w.duckdb"
    build(file)
    pipeline(workbook, file).publish(publication(workbook), run="run 1")
    with duckdb.connect(str(file)) as connection:
        connection.execute("drop table analytics.nps_summary")
    with pytest.raises(RelationNotFound):
        pipeline(workbook, file).publish(publication(workbook), run="run 2")
    assert workbook.read() == [["day"], [1]]
    note = workbook.state().notes["A1"]
    assert note.startswith("Stale since 20")
    assert "run 2: There is no analytics.nps_summary" in note.splitlines()[0]
    build(file)
    pipeline(workbook, file).publish(publication(workbook), run="run 3")
    assert workbook.state().notes["A1"].startswith("Refreshed 20")


@pytest.mark.service
def test_two_warehouses_do_not_publish_to_one_tab(workbook: Workbook, tmp_path: Path):
    mine, other = tmp_path / "w.duckdb", tmp_path / "other" / "w.duckdb"
    other.parent.mkdir()
    for file in (mine, other):
        build(file)
    build(mine, "dbt_ann")
    pipeline(workbook, mine).publish(publication(workbook), run="run 1")
    with pytest.raises(PublicationRefused, match="belongs to nps_summary_sheet"):
        pipeline(workbook, other).publish(publication(workbook), run="run 2")
    with pytest.raises(PublicationRefused, match="dbt_ann"):
        pipeline(workbook, mine).publish(publication(workbook, "dbt_ann"), run="run 3")
    pipeline(workbook, mine).publish(publication(workbook), run="run 4")
    assert str(tmp_path) not in workbook.state().notes["A1"]


def test_a_warehouse_has_a_name_that_readers_may_see():
    redshift = SimpleNamespace(host="h.example", database="prod", password="secret")
    assert RedshiftWarehouse(redshift).name == "redshift h.example prod"
    one, two = (DuckDBWarehouse(Path(path)).name for path in ("/a/w.db", "/b/w.db"))
    assert one != two
    assert one.startswith("duckdb w.db ")
