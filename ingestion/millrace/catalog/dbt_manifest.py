"""The dbt manifest, read as declarations: which tables are ingested and which marts published.

A source table with an ``ingest`` block in its meta is an extraction job. The source's own block
gives defaults, which the table's block overrides key by key. An exposure with a ``publish`` block
is a publishing job of the mart that it depends on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from millrace.catalog.declarations import Catalog, IngestTable, Model, Publication
from millrace.catalog.kinds import DESTINATIONS, SOURCES, WAREHOUSES, Kinds
from millrace.catalog.options import Period, Pii, PublishOptions
from millrace.catalog.suggestions import did_you_mean
from millrace.errors import DeclarationError, ProjectError

MANIFEST_SCHEMA = "https://schemas.getdbt.com/dbt/manifest/v12.json"
_READING = frozenset({"model", "snapshot"})


def load_catalog(manifest_path: Path) -> Catalog:
    """Read and validate dbt's manifest.

    Args:
        manifest_path: ``manifest.json`` in dbt's target folder.

    Returns:
        The declarations, ordered by key.

    Raises:
        ProjectError: there is no manifest, or not one that this version understands.
        DeclarationError: a block has an unknown, missing or invalid key.
    """
    try:
        manifest = json.loads(manifest_path.read_text())
    except FileNotFoundError:
        raise ProjectError(
            f"There is no dbt manifest at {manifest_path}.",
            fix="Run `dbt parse`.",
        ) from None
    except ValueError as error:
        raise ProjectError(
            f"{manifest_path} is not JSON: {error}.",
            fix="Delete it and run `dbt parse`.",
        ) from error
    version = manifest.get("metadata", {}).get("dbt_schema_version")
    if version != MANIFEST_SCHEMA:
        raise ProjectError(
            f"{manifest_path} was written by another version of dbt "
            f"(its schema is {version}; {MANIFEST_SCHEMA} is understood).",
            fix="Run `dbt parse` with the dbt that is installed beside Millrace (1.11).",
        )
    nodes = sorted(manifest["sources"].values(), key=lambda node: str(node["unique_id"]))
    tables = tuple(_tables(nodes))
    _refuse_shared_raw_tables(tables)
    publications = tuple(_publications(manifest))
    _refuse_shared_places(publications)
    metadata = manifest["metadata"]
    return Catalog(
        tables,
        publications,
        project=metadata.get("project_name", ""),
        warehouse=metadata.get("adapter_type", ""),
        readers=_readers(manifest),
        owners=_owners(manifest),
    )


def _tables(nodes: list[dict[str, Any]]) -> Iterator[IngestTable]:
    for node in nodes:
        # dbt overrides the source's meta with the table's, one top-level key at a time; it keeps
        # the source's own as source_meta.
        of_source = node.get("source_meta", {}).get("ingest") or {}
        of_table = node.get("meta", {}).get("ingest")
        if of_table is None:
            continue
        where = f"{node['original_file_path']}: source table {node['source_name']}.{node['name']}"
        _refuse_name(_SOURCE_NAME, node["source_name"], f"{where}: the source's name")
        _refuse_name(_TABLE_NAME, node["name"], f"{where}: the table's name")
        for what in ("schema", "identifier"):
            _refuse_relation_name(node[what], f"{where}: {what}")
        for block in (of_source, of_table):
            if not isinstance(block, Mapping):
                raise DeclarationError(
                    f"{where}: meta.ingest is {block!r}, not a block of keys.",
                    fix="Write e.g. `ingest: {kind: mysql, connection: mysql_prod, "
                    "table: shop.orders}`.",
                )
        block = {**of_source, **of_table}
        of_warehouse = {
            kind: _warehouse_options(kind, block.pop(kind), f"{where}: meta.ingest.{kind}")
            for kind in WAREHOUSES.names()
            if kind in block
        }
        policies = _pii(node["columns"], where)
        yield IngestTable(
            source=node["source_name"],
            name=node["name"],
            schema=node["schema"],
            identifier=node["identifier"],
            options=_options(block, SOURCES, f"{where}: meta.ingest"),
            columns=tuple(node["columns"]),
            of_warehouse=of_warehouse,
            pii={name: policy for name, policy in policies.items() if policy is not Pii.NONE},
            not_personal=frozenset(name for name, policy in policies.items() if policy is Pii.NONE),
            not_ingested=_not_ingested(node["columns"], where),
            file=node["original_file_path"],
            owner=_name_of(node.get("meta", {}).get("owner")),
            max_age=_max_age(node.get("freshness"), where),
        )


# These names become folders of the landing, and ids of DAGs.
_SOURCE_NAME = re.compile(r"[\w-]{1,100}")
_TABLE_NAME = re.compile(r"[\w-][\w.-]{0,99}")


def _refuse_name(pattern: re.Pattern[str], name: str, where: str) -> None:
    if not pattern.fullmatch(name):
        raise DeclarationError(
            f"{where} is {name!r}, which cannot name a folder and a DAG.",
            fix="Use letters, digits, _ and -, at most 100 of them, and in a table's name dots "
            "inside; `identifier` and `schema` keep the warehouse's own names.",
        )


def _refuse_relation_name(name: str, where: str) -> None:
    """Refuse what dbt cannot quote: it does not double a quotation mark inside a name."""
    if '"' in name or not name.isprintable():
        raise DeclarationError(
            f"{where} is {name!r}, which dbt cannot quote.",
            fix="Use a name without quotation marks, line breaks and other control characters.",
        )


def _refuse_shared_raw_tables(tables: tuple[IngestTable, ...]) -> None:
    owners: dict[tuple[str, str], IngestTable] = {}
    for table in tables:
        other = owners.setdefault((table.schema.lower(), table.identifier.lower()), table)
        if other is not table:
            raise DeclarationError(
                f"{table.file}: source tables {other.key} and {table.key} would both load into "
                f"{table.schema}.{table.identifier}.",
                fix="Give one of them another `identifier`, or its source another `schema`.",
            )


def _refuse_shared_places(publications: tuple[Publication, ...]) -> None:
    owners: dict[Hashable, Publication] = {}
    for publication in publications:
        options = publication.options
        other = owners.setdefault((options.kind, options.place), publication)
        if other is not publication:
            raise DeclarationError(
                f"{publication.file}: exposures {other.name} and {publication.name} would both "
                f"publish to {options.where}.",
                fix="Declare another place for one of them.",
            )


def _publications(manifest: Mapping[str, Any]) -> Iterator[Publication]:
    exposures = manifest.get("exposures", {}).values()
    for node in sorted(exposures, key=lambda node: str(node["unique_id"])):
        block = node.get("meta", {}).get("publish")
        if block is None:
            continue
        where = f"{node['original_file_path']}: exposure {node['name']}"
        if not isinstance(block, Mapping):
            raise DeclarationError(
                f"{where}: meta.publish is {block!r}, not a block of keys.",
                fix="Write e.g. `publish: {kind: google_sheet, connection: google_sheets, "
                "spreadsheet: …, tab: …, order_by: [date]}`.",
            )
        models = [name for name in node["depends_on"]["nodes"] if name.startswith("model.")]
        if len(models) != 1:
            raise DeclarationError(
                f"{where}: a publication depends on one model; this one on {len(models)}.",
                fix="Write `depends_on: [ref('the_mart')]`, and an exposure for each mart.",
            )
        mart = manifest["nodes"][models[0]]
        options = _options(block, DESTINATIONS, f"{where}: meta.publish")
        _refuse_unknown_columns(options, mart, f"{where}: meta.publish")
        yield Publication(
            name=node["name"],
            mart=mart["name"],
            schema=mart["schema"],
            identifier=mart["alias"],
            options=options,
            file=node["original_file_path"],
            tables=_tables_behind(manifest, models[0]),
            owner=_name_of(node.get("owner")),
        )


def _refuse_unknown_columns(options: PublishOptions, mart: Mapping[str, Any], where: str) -> None:
    """Refuse columns that the mart does not have, as far as its contract tells.

    Raises:
        DeclarationError: says which option names which column.
    """
    has_contract = mart.get("config", {}).get("contract", {}).get("enforced")
    of_mart = tuple(mart["columns"]) if has_contract else None
    of_all: dict[str, Sequence[str]] = {
        "columns": options.columns or (),
        "order_by": options.order_by,
    }
    for key, names in of_all.items():
        _refuse_unknown(names, of_mart, f"{where}: `{key}`", f"which {mart['name']} does not have")
    for key, names in options.published_columns.items():
        _refuse_unknown(
            names, options.columns or of_mart, f"{where}: `{key}`", "which is not published"
        )


def _refuse_unknown(
    names: Sequence[str], known: Sequence[str] | None, where: str, why: str
) -> None:
    # Warehouses differ in whether upper and lower case do.
    folded = {name.casefold() for name in known or names}
    for name in names:
        if name.casefold() not in folded:
            raise DeclarationError(
                f"{where} names the column '{name}', {why}.",
                fix=did_you_mean(name, known or (), "Columns"),
            )


def _tables_behind(manifest: Mapping[str, Any], node: str) -> tuple[str, ...]:
    """The keys of the ingested tables upstream of a node."""
    upstream, waiting = set(), [node]
    while waiting:
        found = waiting.pop()
        if found not in upstream:
            upstream.add(found)
            waiting += manifest["nodes"].get(found, {}).get("depends_on", {}).get("nodes", ())
    sources = (manifest["sources"][name] for name in upstream & manifest["sources"].keys())
    return tuple(
        sorted(
            f"{source['source_name']}.{source['name']}"
            for source in sources
            if source.get("meta", {}).get("ingest") is not None
        )
    )


def _readers(manifest: Mapping[str, Any]) -> dict[str, tuple[Model, ...]]:
    """The models and snapshots that read each source table, by the table's key."""
    keys = {
        node["unique_id"]: f"{node['source_name']}.{node['name']}"
        for node in manifest["sources"].values()
    }
    readers: dict[str, list[Model]] = {}
    for node in manifest.get("nodes", {}).values():
        if node.get("resource_type") not in _READING:
            continue
        model = Model(node["name"], node["schema"], node["alias"], node["raw_code"])
        for parent in node["depends_on"]["nodes"]:
            if parent in keys:
                readers.setdefault(keys[parent], []).append(model)
    return {key: tuple(models) for key, models in readers.items()}


def _owners(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Who answers for each model and snapshot that says so, by its name."""
    owners = {
        node["name"]: _name_of(node.get("meta", {}).get("owner"))
        for node in manifest.get("nodes", {}).values()
        if node.get("resource_type") in _READING
    }
    return {name: owner for name, owner in owners.items() if owner}


def _name_of(owner: Any) -> str:
    """An owner as a person reads it: dbt has a block with a name and an address, or a text."""
    if isinstance(owner, Mapping):
        name, email = owner.get("name"), owner.get("email")
        return f"{name} ({email})" if name and email else str(name or email or "")
    return str(owner or "")


def _max_age(freshness: Any, where: str) -> timedelta | None:
    """The age of the last load above which dbt's `source freshness` fails, or else warns."""
    ages = freshness or {}
    for name in ("error_after", "warn_after"):
        age = ages.get(name) or {}
        if age.get("count") is not None:
            found: Period = _validated(age, Period, f"{where}: freshness.{name}")  # type: ignore[assignment]
            return found.span
    return None


def _not_ingested(columns: Mapping[str, Mapping[str, Any]], where: str) -> frozenset[str]:
    names = set()
    for name, column in columns.items():
        value = column.get("meta", {}).get("ingest", True)
        if not isinstance(value, bool):
            raise DeclarationError(
                f"{where}: column {name}: meta.ingest is {value!r}.",
                fix="Write `ingest: false` to leave the column out; a column is read otherwise.",
            )
        if not value:
            names.add(name)
    return frozenset(names)


def _options(block: Mapping[str, Any], kinds: Kinds, where: str) -> Any:
    """Validate a block by the model of its kind."""
    kind = kinds.find(str(block.get("kind")))
    if kind is None:
        raise DeclarationError(
            f"{where}.kind is {block['kind']!r}."
            if "kind" in block
            else f"{where} lacks the key 'kind'.",
            fix=did_you_mean(str(block.get("kind")), kinds.names(), "Kinds"),
        )
    return _validated(block, kind.options, where)


def _warehouse_options(name: str, block: Any, where: str) -> BaseModel:
    """Validate what an ingest block says for one kind of warehouse."""
    kind = WAREHOUSES.find(name)
    model = kind and kind.table_options
    if model is None:
        raise DeclarationError(f"{where}: {name} takes no options.", fix="Leave the key out.")
    return _validated(block, model, where)


def _validated(block: Any, model: type[BaseModel], where: str) -> BaseModel:
    try:
        return model.model_validate(block)
    except ValidationError as error:
        raise _explain(error, model, where) from None


_REPLACED = dict.fromkeys(
    ["new_columns", "missing_columns"],
    "The key `schema` has replaced it: `additive` (the default) adds new columns and keeps missing "
    "ones, `freeze` refuses both. `ingest: false` under a column leaves that column out.",
)
"""What to write instead of keys of earlier versions."""


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> DeclarationError:
    """Explain all problems of one block in one message; the fix is for the last unknown key."""
    allowed = [field.alias or name for name, field in model.model_fields.items()]
    fix = f"Allowed: {', '.join(allowed)}."
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(f"has an unknown key '{key}'")
            fix = _REPLACED.get(key) or did_you_mean(key, allowed, "Allowed")
        elif problem["type"] == "missing":
            problems.append(f"lacks the key '{key}'")
        elif key:
            problems.append(f"has {key}: {problem['input']!r}: {problem['msg']}")
        else:
            problems.append(problem["msg"].removeprefix("Value error, "))
    return DeclarationError(f"{where} {'; '.join(problems)}.", fix=fix)


def _pii(columns: Mapping[str, Mapping[str, Any]], where: str) -> dict[str, Pii]:
    policies = {}
    for name, column in columns.items():
        policy = column.get("meta", {}).get("pii")
        if policy is None:
            continue
        if policy not in set(Pii):
            raise DeclarationError(
                f"{where}: column {name}: meta.pii is {policy!r}.",
                fix=did_you_mean(str(policy), list(Pii), "Allowed"),
            )
        policies[name] = Pii(policy)
    return policies
