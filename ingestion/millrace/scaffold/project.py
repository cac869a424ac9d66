"""Finds the files of a dbt project in which declarations and staging models have their place."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from millrace.dbt.project import Project
from millrace.scaffold.declarations import Writer, ingest_block, unique_together
from millrace.scaffold.files import Change, Files
from millrace.scaffold.proposal import Proposal, propose
from millrace.scaffold.staging import sql_of, with_columns
from millrace.scaffold.yaml_text import Way, YamlText
from millrace.sources.base import FoundTable


@dataclass(frozen=True)
class Origin:
    """Where tables come from.

    Attributes:
        source: The dbt source.
        kind: The kind of source.
        connection: The id of its connection.
    """

    source: str
    kind: str
    connection: str


@dataclass(frozen=True)
class Scaffolding:
    """What is to be written, for review.

    Attributes:
        new: The tables that were not declared.
        columns: The columns that were not declared, of tables that were, by the table's key.
        changes: The files.
        told: What a person has to do.
    """

    new: tuple[Proposal, ...]
    columns: Mapping[str, tuple[str, ...]]
    changes: tuple[Change, ...]
    told: tuple[str, ...]


@dataclass(frozen=True)
class Declared:
    """A table that is declared already.

    Attributes:
        table: The name of the dbt source's table.
        place: What its ingest block calls it.
        file: The YAML file.
        columns: The columns that it names, in lower case.
        model: The staging model that reads it; None: there is none, or there are several.
    """

    table: str
    place: str
    file: Path
    columns: frozenset[str]
    model: StagingModel | None

    def is_at(self, place: str) -> bool:
        """Whether it is the table at a place."""
        return self.place == place or place.endswith(f".{self.place}")


@dataclass(frozen=True)
class StagingModel:
    """A staging model of the project.

    Attributes:
        name: Its name.
        file: Its SQL.
        described_in: The YAML file that describes it, if one does.
    """

    name: str
    file: Path
    described_in: Path | None


class Scaffold:
    """What a project has of a source, and what it is to get.

    Args:
        project: The project, whose manifest is fresh.
        origin: The source.
        now: The time.
    """

    def __init__(self, project: Project, origin: Origin, now: datetime) -> None:
        self._project = project
        self._origin = origin
        self._manifest = json.loads(project.manifest_path.read_text())
        self._files = Files()
        self._told: list[str] = []
        self._writer = Writer(now, unique_together(self._manifest))
        self._declared = list(self._find_declared())

    def is_declared(self, place: str) -> bool:
        """Whether the table at a place is declared."""
        return self._of(place) is not None

    def plan(self, found: Sequence[FoundTable], beside: Sequence[FoundTable] = ()) -> Scaffolding:
        """Decide what is to be written.

        Args:
            found: The tables that are asked for.
            beside: Declared tables that these refer to.
        """
        every = [*found, *beside]
        known = {
            table.place: (declared.model.name if declared.model else "", declared.table)
            for table in every
            if (declared := self._of(table.place))
        }
        asked = {table.place for table in found}
        proposals = [
            proposal
            for proposal in propose(every, self._origin.source, known)
            if proposal.found.place in asked
        ]
        new = [proposal for proposal in proposals if not self.is_declared(proposal.found.place)]
        self._add_tables(new)
        self._add_models(new)
        columns = {
            f"{self._origin.source}.{declared.table}": names
            for proposal in proposals
            if (declared := self._of(proposal.found.place))
            and (names := self._add_columns(proposal, declared))
        }
        return Scaffolding(tuple(new), columns, tuple(self._files.changes()), tuple(self._told))

    @property
    def _folder(self) -> Path:
        """Where the source's files are."""
        if self._declared:
            return self._declared[0].file.parent
        return self._project.folder / "models" / "staging" / self._origin.source

    def _of(self, place: str) -> Declared | None:
        return next((declared for declared in self._declared if declared.is_at(place)), None)

    def _find_declared(self) -> Iterator[Declared]:
        for node in self._manifest["sources"].values():
            if node["source_name"] != self._origin.source:
                continue
            yield Declared(
                node["name"],
                _place(ingest_block(node)),
                self._project.folder / node["original_file_path"],
                frozenset(name.lower() for name in node["columns"]),
                self._model_of(node["unique_id"]),
            )

    def _model_of(self, unique_id: str) -> StagingModel | None:
        readers = [
            node
            for node in self._manifest["nodes"].values()
            if node["resource_type"] == "model" and node["depends_on"]["nodes"] == [unique_id]
        ]
        if len(readers) != 1:
            return None
        (node,) = readers
        _, _, described_in = (node.get("patch_path") or "").partition("://")
        return StagingModel(
            node["name"],
            self._project.folder / node["original_file_path"],
            self._project.folder / described_in if described_in else None,
        )

    def _add_tables(self, new: Sequence[Proposal]) -> None:
        if not new:
            return
        source = self._origin.source
        declared = next((one.file for one in self._declared), None)
        path = declared or self._folder / f"_{source}__sources.yml"
        if declared is None:
            entry = self._writer.source(source, self._origin.kind, self._origin.connection, new)
            self._files.add(path, "sources", entry)
            return
        yaml = YamlText(self._files.read(path) or "", path)
        place: Way = ["sources", ("name", source), "tables"]
        yaml.append(place, *map(self._writer.table, new), apart=True)
        self._files.write(path, yaml.text)

    def _add_models(self, new: Sequence[Proposal]) -> None:
        missing = []
        for proposal in new:
            path = self._folder / f"{proposal.model}.sql"
            if self._files.read(path) is not None:
                self._told.append(f"{path.name} is there already, and is left as it is.")
                continue
            self._files.write(path, sql_of(proposal))
            missing.append(proposal)
        if missing:
            described_in = self._folder / f"_{self._origin.source}__models.yml"
            self._files.add(described_in, "models", *map(self._writer.model, missing))

    def _add_columns(self, proposal: Proposal, declared: Declared) -> tuple[str, ...]:
        """Add what a declared table does not name yet; a table that names no column wants none."""
        missing = [
            column
            for column in proposal.found.columns
            if declared.columns and column.name.lower() not in declared.columns
        ]
        if not missing:
            return ()
        source = YamlText(self._files.read(declared.file) or "", declared.file)
        way: Way = [
            "sources",
            ("name", self._origin.source),
            "tables",
            ("name", declared.table),
            "columns",
        ]
        for column in missing:
            source.append(way, self._writer.table_column(proposal, column))
        self._files.write(declared.file, source.text)
        names = tuple(column.name for column in missing)
        if declared.model is not None:
            self._add_to_model(proposal, declared.model, names)
        return names

    def _add_to_model(self, proposal: Proposal, model: StagingModel, names: Sequence[str]) -> None:
        sql = self._files.read(model.file) or ""
        columns = [
            column
            for column in proposal.columns
            if column.found.name in names
            and not re.search(rf"\b{re.escape(column.found.name)}\b", sql)
        ]
        if not columns:
            return
        changed = with_columns(sql, columns)
        if changed is None:
            listed = ", ".join(column.found.name for column in columns)
            self._told.append(f"{model.name} has no place for new columns: add {listed} by hand.")
            return
        self._files.write(model.file, changed)
        if model.described_in is None:
            return
        described = YamlText(self._files.read(model.described_in) or "", model.described_in)
        for column in columns:
            entry = self._writer.model_column(proposal, column)
            described.append(["models", ("name", model.name), "columns"], entry)
        self._files.write(model.described_in, described.text)


def _place(block: Mapping[str, Any]) -> str:
    """Where a declared table is at its source."""
    if "spreadsheet" in block:
        # It imports gspread, which only projects with a sheet have.
        from millrace.sources.google_sheets.source import tab_place

        return tab_place(str(block["spreadsheet"]), str(block.get("tab", "")))
    return str(block.get("table", ""))
