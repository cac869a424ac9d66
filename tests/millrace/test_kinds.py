"""Kinds are found by their entry points, even those of other distributions."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from millrace.catalog import kinds, load_catalog
from millrace.catalog.dbt_manifest import MANIFEST_SCHEMA
from millrace.connections import Connection
from millrace.errors import DeclarationError, NotInstalled, ProjectError
from millrace.settings import Settings
from millrace.sources.base import open_source
from millrace.warehouses.base import open_warehouse

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULE = """
from millrace.catalog import IngestOptions
from millrace.sources.base import SourceKind
from millrace.warehouses.base import WarehouseKind
from pydantic import BaseModel


class Options(IngestOptions):
    path: str


class TableOptions(BaseModel, extra="forbid"):
    cluster_by: str


def open_(connection):
    import a_client_that_nobody_has


KIND = SourceKind(Options, lambda connection: ("opened", connection.conn_id), "my-kinds")
LACKING = SourceKind(Options, open_, "my-kinds[client]")
WAREHOUSE = WarehouseKind(
    lambda credentials, root, settings: "opened", "my-kinds", TableOptions
)
"""
ENTRY_POINTS = """
[millrace.sources]
ftp = my_kinds:KIND
lacking = my_kinds:LACKING

[millrace.warehouses]
mywarehouse = my_kinds:WAREHOUSE
"""


@pytest.fixture
def my_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed distribution of somebody else's."""
    metadata = tmp_path / "my_kinds-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-kinds\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "my_kinds.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    kinds._registered.cache_clear()
    yield
    kinds._registered.cache_clear()
    sys.modules.pop("my_kinds", None)


def catalog_of(tmp_path: Path, **ingest: object):
    node = {
        "unique_id": "source.shop.files.orders",
        "source_name": "files",
        "name": "orders",
        "schema": "raw_files",
        "identifier": "orders",
        "original_file_path": "models/_files.yml",
        "columns": {},
        "meta": {"ingest": {"connection": "files", **ingest}},
    }
    file = tmp_path / "manifest.json"
    file.write_text(
        json.dumps(
            {
                "metadata": {"dbt_schema_version": MANIFEST_SCHEMA, "project_name": "shop"},
                "sources": {node["unique_id"]: node},
                "exposures": {},
                "nodes": {},
            }
        )
    )
    return load_catalog(file)


@pytest.mark.usefixtures("my_kinds")
def test_a_kind_of_another_distribution_is_declared_and_opened(tmp_path: Path) -> None:
    (table,) = catalog_of(tmp_path, kind="ftp", path="/orders.csv").tables
    assert table.options.path == "/orders.csv"
    opened: object = open_source("ftp", Connection("files", "ftp"))
    assert opened == ("opened", "files")


@pytest.mark.usefixtures("my_kinds")
def test_its_options_are_its_own(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="lacks the key 'path'"):
        catalog_of(tmp_path, kind="ftp")
    with pytest.raises(DeclarationError, match="unknown key 'table'"):
        catalog_of(tmp_path, kind="ftp", path="/orders.csv", table="orders")


@pytest.mark.usefixtures("my_kinds")
def test_a_warehouse_says_what_a_table_may_say_of_it(tmp_path: Path) -> None:
    declared = {"kind": "ftp", "path": "/orders.csv"}
    (table,) = catalog_of(tmp_path, **declared, mywarehouse={"cluster_by": "id"}).tables
    assert table.of_warehouse["mywarehouse"].cluster_by == "id"
    with pytest.raises(DeclarationError, match=r"meta\.ingest\.mywarehouse .*'clusterby'"):
        catalog_of(tmp_path, **declared, mywarehouse={"clusterby": "id"})
    with pytest.raises(DeclarationError, match="duckdb takes no options"):
        catalog_of(tmp_path, **declared, duckdb={})


@pytest.mark.usefixtures("my_kinds")
def test_a_missing_client_library_is_told_with_what_to_install() -> None:
    with pytest.raises(NotInstalled, match="a_client_that_nobody_has") as told:
        open_source("lacking", Connection("files", "ftp"))
    assert told.value.fix == "pip install 'my-kinds[client]'"


@pytest.mark.usefixtures("my_kinds")
def test_an_unknown_kind_is_told_with_all_that_are_installed(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="kind is 'fpt'") as told:
        catalog_of(tmp_path, kind="fpt")
    assert told.value.fix.startswith("Did you mean 'ftp'? Kinds: ftp, google_sheet, http, lacking")
    with pytest.raises(ProjectError, match="'snowflake'") as refused:
        open_warehouse(Credentials("snowflake"), tmp_path, Settings())
    assert "duckdb, mywarehouse, redshift" in refused.value.fix


class Credentials:
    """As much of a dbt adapter's credentials as is asked for."""

    def __init__(self, type_: str) -> None:
        self.type = type_
