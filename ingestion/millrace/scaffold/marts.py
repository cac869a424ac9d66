"""Begins a mart with what a model has, and declares that a mart is published."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from millrace.dbt.project import Project
from millrace.errors import ProjectError
from millrace.scaffold import names
from millrace.scaffold.declarations import described, ingest_block, unique_together
from millrace.scaffold.files import Change, Files
from millrace.scaffold.proposal import quoted
from millrace.scaffold.yaml_text import flow, line, scalar

_MART = Template("""\
with

source as (

    select * from {{ ref('$reads') }}

),

final as (

    select
        $columns
    from source$only

)

select * from final
""")
_DEDUPLICATED = Template("""\
{{ config(materialized='incremental', unique_key=$unique_key) }}

with

delivered as (

    select * from {{ ref('$model') }}
    {%- if is_incremental() %}
        where _loaded_at > (
            select coalesce(max(known._loaded_at), cast('1970-01-01' as {{ dbt.type_timestamp() }}))
            from {{ this }} as known
        )
    {%- endif %}

),

candidates as (

    select * from delivered
    {%- if is_incremental() %}
        union all
        -- A version that arrives late may be older than the one in this table: compare both.
        select
            $columns
        from {{ this }} as known
        where exists (select 1 from delivered where $equal)
    {%- endif %}

),

final as (

    select versions.* from candidates as versions
    qualify
        row_number() over (
            partition by $partition
            order by $newest
        ) = 1

)

select * from final
""")

_LOADED = "_loaded_at"
_DELETED = "is_deleted"
_NOBODY = "data@example.com"
# As staging models call dates and times, and as people call them besides.
_TIME = re.compile(r"(^|_)(at|date|day|week|month|quarter|timestamp|datetime)$")


@dataclass(frozen=True)
class _Model:
    """A model of the project.

    Attributes:
        name: Its name.
        file: Its SQL.
        columns: What its columns are, by the names that its YAML has.
        key: The columns that identify one of its rows, as its tests say; none: they do not say.
        newest: What tells which of a row's versions is the newest: the source's cursor, then the
            load.
        owner: Who is told of it.
    """

    name: str
    file: Path
    columns: Mapping[str, str]
    key: tuple[str, ...]
    newest: tuple[str, ...]
    owner: str

    @property
    def has_versions(self) -> bool:
        """Whether it has a row for each version of a row that was loaded."""
        return _LOADED in self.key

    @property
    def of_a_row(self) -> tuple[str, ...]:
        """The columns that identify a row in all its versions."""
        return tuple(name for name in self.key if name != _LOADED)


class MartScaffold:
    """What a project has, and what it is to get.

    Args:
        project: The project, whose manifest is fresh.
    """

    def __init__(self, project: Project) -> None:
        self._project = project
        self._manifest = json.loads(project.manifest_path.read_text())

    def mart(self, name: str, model: str) -> list[Change]:
        """Begin a mart with the rows of a model.

        Args:
            name: The mart's name.
            model: The staging model that it begins with.

        Returns:
            The files to write.

        Raises:
            ProjectError: there is no such model, or there is a model of that name; or the model's
                YAML names no column, or no key where it has several versions of a row.
        """
        if not names.is_plain(name):
            raise ProjectError(
                f"A model cannot be called {name!r}.",
                fix="Use small letters, digits and underscores.",
            )
        found = self._model(model)
        current = f"int_{name}_deduplicated"
        there = {node["name"] for node in self._models()}
        for new in (name, *([current] if found.has_versions else [])):
            if new in there:
                raise ProjectError(
                    f"The project has a model {new} already. Nothing was written.",
                    fix="Name the mart otherwise.",
                )
        if not found.columns:
            raise ProjectError(
                f"{model} has no columns in a YAML file, so a mart cannot begin with them.",
                fix="List them under `columns`, as `millrace scaffold mysql` does.",
            )
        files = Files()
        reads = model
        if found.has_versions:
            reads = current
            self._add(
                *(files, "intermediate", reads, _deduplicated(found)),
                self._described(reads, found),
            )
            tests = self._project.folder / "models" / "intermediate/_intermediate__unit_tests.yml"
            files.add(tests, "unit_tests", _newest_wins(reads, found))
        left_out = frozenset({_LOADED, _DELETED})
        self._add(files, "marts", name, _mart(reads, found), self._described(name, found, left_out))
        return list(files.changes())

    def publication(
        self, mart: str, spreadsheet: str, tab: str | None, connection: str
    ) -> list[Change]:
        """Declare that a mart is published to a tab of a Google Sheet.

        Args:
            mart: The mart.
            spreadsheet: The spreadsheet's URL, or the key in it.
            tab: The title of the tab; default: the mart's name.
            connection: The id of the connection.

        Raises:
            ProjectError: there is no such mart, or it is published by that name already; or neither
                its tests nor its YAML name a column to order its rows by.
        """
        found = self._model(mart)
        name = f"{mart}_sheet"
        if name in {node["name"] for node in self._manifest["exposures"].values()}:
            raise ProjectError(
                f"The project has an exposure {name} already. Nothing was written.",
                fix="Change that one, or write a second one by hand.",
            )
        order = found.key or self._never_null(found) or tuple(found.columns)[:1]
        if not order:
            raise ProjectError(
                f"{mart} has neither a key that is tested nor columns in a YAML file, so its rows "
                "have no order.",
                fix="List its columns under `columns`, with a test `unique` of the key.",
            )
        folder = found.file.parent
        label = mart.replace("_", " ").capitalize()
        entry = [
            f"name: {name}",
            f"label: {label} sheet",
            "type: dashboard",
            f"description: {line(f'The sheet that shows {mart}, published after its tests.')}",
            f"depends_on: [ref('{mart}')]",
            f"owner: {{email: {scalar(found.owner)}}}",
            "config:",
            "  meta:",
            "    publish:",
            "      kind: google_sheet",
            f"      connection: {scalar(connection)}",
            f"      spreadsheet: {json.dumps(spreadsheet, ensure_ascii=False)}",
            f"      tab: {scalar(tab or mart)}",
            f"      order_by: {flow(order)}",
        ]
        files = Files()
        files.add(folder / f"_{folder.name}__exposures.yml", "exposures", entry)
        return list(files.changes())

    def _add(self, files: Files, room: str, name: str, sql: str, entry: Sequence[str]) -> None:
        folder = self._project.folder / "models" / room
        files.write(folder / f"{name}.sql", sql)
        files.add(folder / f"_{room}__models.yml", "models", entry)

    def _described(
        self, name: str, model: _Model, left_out: frozenset[str] = frozenset()
    ) -> list[str]:
        """The entry of a model with the current rows of another one."""
        key = model.of_a_row
        said = f"Grain: one row per {_and(key)}." if key else f"What {model.name} has."
        lines = [f"name: {name}", f"description: {line(said)}"]
        if len(key) > 1 and (together := unique_together(self._manifest)):
            lines += [
                "data_tests:",
                f"  - {together}:",
                "      arguments:",
                f"        combination_of_columns: {flow(key)}",
            ]
        lines.append("columns:")
        for column, about in model.columns.items():
            if column in left_out:
                continue
            lines.append(f"  - name: {scalar(column)}")
            if about:
                lines.append(f"    description: {described(about)}")
            if column in key:
                alone = ["unique"] if len(key) == 1 else []
                lines.append(f"    data_tests: {flow(['not_null', *alone])}")
        return lines

    def _models(self) -> Iterator[dict[str, Any]]:
        project = self._manifest["metadata"]["project_name"]
        for node in self._manifest["nodes"].values():
            if node["resource_type"] == "model" and node["package_name"] == project:
                yield node

    def _model(self, name: str) -> _Model:
        known = {node["name"]: node for node in self._models()}
        node = known.get(name)
        if node is None:
            raise ProjectError(
                f"The project has no model {name}.",
                fix=f"Its models: {', '.join(sorted(known)) or 'none'}.",
            )
        return _Model(
            name,
            self._project.folder / node["original_file_path"],
            {column["name"]: column["description"] for column in node["columns"].values()},
            self._declared_key(node) or self._tested_key(node["unique_id"]),
            self._newest(node),
            str(node["config"].get("meta", {}).get("owner") or _NOBODY),
        )

    def _declared_key(self, node: dict[str, Any]) -> tuple[str, ...]:
        """The key of the one source table that a staging model reads, by its names there.

        Raises:
            ProjectError: the table has a row for each version, and the model no such columns.
        """
        ingest = self._ingested(node)
        key = [_renamed(node, column) for column in ingest.get("primary_key", ())]
        if not ingest.get("cursor"):
            return tuple(name for name in key if name) if all(key) else ()
        if not key or not all(key) or _LOADED not in node["columns"]:
            raise ProjectError(
                f"{node['name']} has every version of a row, and it cannot be seen by which "
                "columns they are versions of one.",
                fix=f"Select the table's primary_key and {_LOADED} in it, as `millrace scaffold` "
                "does, and list them under `columns`.",
            )
        return (*(name for name in key if name), _LOADED)

    def _ingested(self, node: dict[str, Any]) -> dict[str, Any]:
        """The ingest block of the one source table that a model reads."""
        reads = node["depends_on"]["nodes"]
        if len(reads) != 1 or reads[0] not in self._manifest["sources"]:
            return {}
        return ingest_block(self._manifest["sources"][reads[0]])

    def _tested_key(self, unique_id: str) -> tuple[str, ...]:
        """The columns that a test of the model says are unique."""
        for node in self._manifest["nodes"].values():
            test = node.get("test_metadata")
            if not test or node.get("attached_node") != unique_id:
                continue
            if test["name"] == "unique":
                return (str(test["kwargs"]["column_name"]),)
            if test["name"] == "unique_combination_of_columns":
                return tuple(map(str, test["kwargs"]["combination_of_columns"]))
        return ()

    def _never_null(self, model: _Model) -> tuple[str, ...]:
        """The columns that a test says are never NULL: those of the key, if no test names it."""
        tested = {
            node["column_name"]
            for node in self._manifest["nodes"].values()
            if (node.get("attached_node") or "").endswith(f".{model.name}")
            and (node.get("test_metadata") or {}).get("name") == "not_null"
        }
        return tuple(name for name in model.columns if name in tested)

    def _newest(self, node: dict[str, Any]) -> tuple[str, ...]:
        cursor = self._ingested(node).get("cursor")
        column = cursor.get("column") if isinstance(cursor, dict) else cursor
        changed = _renamed(node, str(column))
        return (changed, _LOADED) if changed else (_LOADED,)


def _renamed(node: dict[str, Any], column: str) -> str | None:
    """What a staging model calls a column of the table that it reads; None: that is not seen."""
    own = rf"[\"`]?{re.escape(column)}[\"`]?"
    written = rf"^\s*(?:cast\(\s*)?{own}(?:\s+as\s+[^\n]*?\))?\s+as\s+[\"`]?(\w+)[\"`]?\s*,?\s*$"
    found = re.search(written, node["raw_code"], re.MULTILINE | re.IGNORECASE)
    name = found[1] if found else column
    return name if name in node["columns"] else None


def _mart(reads: str, model: _Model) -> str:
    shown = [name for name in model.columns if name != _LOADED]
    only = ""
    if _DELETED in shown:
        shown.remove(_DELETED)
        only = f"\n    where not {_DELETED}"
    return _MART.substitute(reads=reads, columns=_listed(shown, 8), only=only)


def _deduplicated(model: _Model) -> str:
    key = [quoted(name) for name in model.of_a_row]
    equal = " and ".join(f"delivered.{name} = known.{name}" for name in key)
    return _DEDUPLICATED.substitute(
        model=model.name,
        unique_key=repr(model.of_a_row[0] if len(key) == 1 else list(model.of_a_row)),
        columns=_listed([f"known.{quoted(name)}" for name in model.columns], 12),
        equal=equal,
        partition=", ".join(f"versions.{name}" for name in key),
        newest=", ".join(f"versions.{quoted(name)} desc" for name in model.newest),
    )


def _newest_wins(name: str, model: _Model) -> list[str]:
    """A unit test of the model that keeps the newest versions: here one that came first."""
    key = {column: _example(column) for column in model.of_a_row}
    changing = [column for column in model.newest if column not in key]
    newest = {**key, **dict.fromkeys(changing, "2026-01-02")}
    late = {**key, **dict.fromkeys(changing, "2026-01-01")}
    if len(changing) > 1:
        late[_LOADED] = "2026-01-03"
    rows = [_row(newest), _row(late)]
    said = "The version that changed last is kept, whichever came last."
    return [
        f"name: newest_version_wins_in_{name}",
        f"description: {line(said)}",
        f"model: {name}",
        "overrides:",
        "  macros: {is_incremental: false}",
        "given:",
        f"  - input: ref('{model.name}')",
        "    rows:",
        *(f"      - {row}" for row in rows),
        "expect:",
        "  rows:",
        f"    - {rows[0]}",
    ]


def _row(values: Mapping[str, str]) -> str:
    cells = (f"{scalar(column)}: {json.dumps(value)}" for column, value in values.items())
    return f"{{{', '.join(cells)}}}"


def _example(column: str) -> str:
    """A value of a key's column, by its name: its type is known only once the model is built."""
    return "2026-01-01" if _TIME.search(column) else "1"


def _listed(columns: Sequence[str], indent: int) -> str:
    return f",\n{' ' * indent}".join(columns)


def _and(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
