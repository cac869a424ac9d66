"""The entries of a proposal in dbt's YAML: the source, its tables, the staging models."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from millrace.catalog import Pii
from millrace.scaffold.proposal import Proposal, StagingColumn
from millrace.scaffold.yaml_text import flow, indented, line, scalar
from millrace.sources.base import FoundColumn

# They are among Millrace's columns of every raw table.
_UNIQUE = "test_unique_combination_of_columns"
_LOADED = "When the row was loaded, in UTC."


@dataclass(frozen=True)
class Writer:
    """Writes entries.

    Attributes:
        now: The time, by which a table is fresh.
        unique_together: The generic test of several columns that the project has; empty: none.
    """

    now: datetime
    unique_together: str = ""

    def source(
        self, name: str, kind: str, connection: str, tables: Iterable[Proposal]
    ) -> list[str]:
        """A source with its tables."""
        lines = [
            f"name: {scalar(name)}",
            f'schema: "{{{{ target.schema }}}}_raw_{name}"',
            "loader: millrace",
            "config:",
            "  loaded_at_field: _loaded_at",
            "  meta:",
            f'    ingest: {{kind: {kind}, connection: {connection}, schedule: "@daily"}}',
            "tables:",
        ]
        for table in tables:
            first, *others = self.table(table)
            lines += [f"  - {first}", *indented(others, 4), ""]
        return lines[:-1]

    def table(self, proposal: Proposal) -> list[str]:
        """A table of a source."""
        found = proposal.found
        said = _sentence(found.description) or f"{found.place}, as it was loaded."
        if found.key:
            load = " and load" if proposal.is_incremental else ""
            said += f" Grain: one row per {', '.join(found.key)}{load}."
        lines = [
            f"name: {scalar(proposal.table)}",
            f"description: {described(said)}",
            "config:",
        ]
        if period := proposal.freshness(self.now):
            count, unit = period
            lines.append(f"  freshness: {{warn_after: {{count: {count}, period: {unit}}}}}")
        named = found.options or {"table": found.place}
        options = [f"{name}: {_value(value)}" for name, value in named.items()]
        if found.key:
            options.append(f"primary_key: {flow(found.key)}")
        if found.cursor:
            options.append(f"cursor: {scalar(found.cursor)}")
        if found.deleted:
            options.append(f"deletes: {{soft: {scalar(found.deleted)}}}")
        if found.is_empty and not proposal.is_incremental:
            options.append("min_rows: 0")
        about = "cursor" if found.cursor else "no cursor"
        lines += [
            "  meta:",
            f"    # {about}: {' '.join(found.cursor_why.split())}",
            f"    ingest: {{{', '.join(options)}}}",
            "columns:",
        ]
        for column in found.columns:
            first, *others = self.table_column(proposal, column)
            lines += [f"  - {first}", *indented(others, 4)]
        return lines

    def table_column(self, proposal: Proposal, column: FoundColumn) -> list[str]:
        """A column of a table."""
        lines = [f"name: {scalar(column.name)}"]
        if column.description:
            lines.append(f"description: {described(column.description)}")
        if column.name in proposal.left_out:
            lines.append(f"# {column.declared} has no decided form.")
            lines.append("config: {meta: {ingest: false}}")
        elif column.name in proposal.policies:
            policy, why = proposal.policies[column.name]
            kept = " Its hash still joins." if policy is Pii.HASH else ""
            lines.append(f"# Personal: {why}.{kept}")
            lines.append(f"config: {{meta: {{pii: {policy.value}}}}}")
        elif column.name in proposal.found.key:
            is_alone = len(proposal.found.key) == 1 and not proposal.is_incremental
            lines.append(f"data_tests: {flow(['not_null', *(['unique'] if is_alone else [])])}")
        return lines

    def model(self, proposal: Proposal) -> list[str]:
        """A staging model."""
        found = proposal.found
        said = _sentence(found.description) or f"{found.place} with this project's names and types."
        lines = [f"name: {proposal.model}", f"description: {described(said)}"]
        is_alone = len(proposal.key) == 1 and not proposal.is_incremental
        if proposal.key and not is_alone and self.unique_together:
            together = [*proposal.key, *(["_loaded_at"] if proposal.is_incremental else [])]
            lines += [
                "data_tests:",
                f"  - {self.unique_together}:",
                "      arguments:",
                f"        combination_of_columns: {flow(together)}",
            ]
        lines.append("columns:")
        for column in proposal.columns:
            first, *others = self.model_column(proposal, column)
            lines += [f"  - {first}", *indented(others, 4)]
        return [*lines, "  - name: _loaded_at", f"    description: {line(_LOADED)}"]

    def model_column(self, proposal: Proposal, column: StagingColumn) -> list[str]:
        """A column of a staging model."""
        lines = [f"name: {scalar(column.name)}"]
        if column.found.description:
            lines.append(f"description: {described(column.found.description)}")
        is_key = proposal.key == (column.name,) and not proposal.is_incremental
        plain = [] if column.found.is_nullable else ["not_null"]
        plain += ["unique"] if is_key else []
        if column.references is None:
            return [*lines, f"data_tests: {flow(plain)}"] if plain else lines
        model, field = column.references
        # A row may come before the one that it refers to: they are loaded one after the other.
        return [
            *lines,
            "data_tests:",
            *[f"  - {test}" for test in plain],
            "  - relationships:",
            f"      arguments: {{to: ref('{model}'), field: {scalar(field)}}}",
            "      config: {severity: warn}",
        ]


def ingest_block(source: Mapping[str, Any]) -> dict[str, Any]:
    """The ingest block of a source table in dbt's manifest, with what its source gives it."""
    of_source = source.get("source_meta", {}).get("ingest") or {}
    return {**of_source, **(source.get("meta", {}).get("ingest") or {})}


def unique_together(manifest: Mapping[str, Any]) -> str:
    """The project's own generic test of several columns, or that of dbt_utils; empty: none."""
    project = manifest["metadata"]["project_name"]
    for package, name in ((project, ""), ("dbt_utils", "dbt_utils.")):
        if f"macro.{package}.{_UNIQUE}" in manifest["macros"]:
            return name + _UNIQUE.removeprefix("test_")
    return ""


def _value(value: Any) -> str:
    """A value of an option, in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{scalar(key)}: {_value(of)}" for key, of in value.items()) + "}"
    return scalar(value) if isinstance(value, str) else json.dumps(value)


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def described(text: str) -> str:
    """A description as YAML writes it, in which dbt would else look for Jinja."""
    text = " ".join(text.split())
    if "{{" in text or "{%" in text or "{#" in text:
        text = f"{{% raw %}}{text}{{% endraw %}}"
    return line(text)
