"""The dbt manifest, read as declarations: which tables are ingested and which marts published.

A source table with an ``ingest`` block in its meta is an extraction job. The source's own block
gives defaults; the table's block adds to it key by key. An exposure with a ``publish`` block is a
publishing job of the mart that it depends on.
"""

from __future__ import annotations

import difflib
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from millrace.errors import DeclarationError, ProjectError
from millrace.headings import column_name

MANIFEST_SCHEMA = "https://schemas.getdbt.com/dbt/manifest/v12.json"


class Pii(StrEnum):
    """What happens to a column with personal data before it is landed."""

    HASH = "hash"
    DROP = "drop"
    MASK = "mask"


class RedshiftOptions(BaseModel):
    """How Redshift keeps a raw table.

    Attributes:
        distkey: Column that spreads the rows over the slices; the primary key's first, unless told.
        sortkey: Columns that order them after ``_loaded_at``; the cursor, unless told.
        super: Columns with JSON in them, kept as SUPER instead of as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    distkey: str | None = None
    sortkey: tuple[str, ...] | None = None
    super: tuple[str, ...] = ()


class Period(BaseModel):
    """A span of time, written as dbt writes one for freshness: ``{count: 2, period: hour}``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(ge=0)
    period: Literal["second", "minute", "hour", "day"]

    @property
    def span(self) -> timedelta:
        """The span."""
        return timedelta(**{f"{self.period}s": self.count})


class Cursor(BaseModel):
    """The column whose intervals make the batches; its name alone where the rest need not be said.

    Attributes:
        column: Its name.
        time_zone: The zone that a DATETIME or DATE is written in, by its IANA name; UTC where the
            server is on UTC. A TIMESTAMP has none.
        settle: How long a statement may work before it writes its first row. As long is waited
            where the account may not see what others do; MySQL's own time-out for locks and ten
            seconds, unless told.
        lookback: Each batch reads so much of what is loaded again, and replaces it: for a replica,
            and for a column that an application fills. No transaction is looked at then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    time_zone: str | None = None
    settle: Period | None = None
    lookback: Period | None = None

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, value: str | None) -> str | None:
        try:
            if value is not None:
                ZoneInfo(value)
        except (ValueError, OSError, ZoneInfoNotFoundError):
            raise ValueError("not a time zone such as America/New_York or UTC") from None
        return value


class IngestOptions(BaseModel):
    """What every kind of source declares.

    Attributes:
        connection: Id of the Airflow connection with the credentials.
        pool: An Airflow pool that bounds how many tasks read from the source at a time.
        schedule: Cron expression or preset of the table's DAG.
        primary_key: Columns that name a row.
        cursor: Column whose intervals make the batches, or a block that says more of it; without
            it, each batch is the whole table.
        min_rows: A batch with fewer rows is refused. A whole table must have one row at least,
            unless told; an interval may be empty.
        min_row_ratio: A whole table with fewer rows than this share of those loaded last is
            refused.
        new_columns: What to do with a column that the raw table does not have yet.
        missing_columns: What to do when a column of the raw table no longer comes.
        redshift: How Redshift keeps the raw table.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    connection: str
    pool: str | None = None
    schedule: str = "@daily"
    primary_key: tuple[str, ...] = ()
    cursor: Cursor | None = None
    min_rows: int | None = Field(default=None, ge=0)
    min_row_ratio: float | None = Field(default=None, gt=0, le=1)
    new_columns: Literal["add", "ignore", "refuse"] = "add"
    missing_columns: Literal["refuse", "keep"] = "refuse"
    redshift: RedshiftOptions = RedshiftOptions()

    @field_validator("schedule")
    @classmethod
    def _schedule_is_cron(cls, value: str) -> str:
        if not croniter.is_valid(value):
            raise ValueError("not a cron expression such as '0 6 * * *', nor a preset like @daily")
        return value

    @field_validator("cursor", mode="before")
    @classmethod
    def _a_name_is_a_cursor(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @field_validator("primary_key", mode="before")
    @classmethod
    def _one_column_is_a_key(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class MySQLOptions(IngestOptions):
    """A table of a MySQL or MariaDB server.

    Attributes:
        primary_key: Columns that name a row; a table without any is read whole.
        table: ``database.table``, or ``table`` in the connection's database.
        partitions: Connections that read a large batch at the same time, each a range of the
            primary key of a million rows at least; chosen by the number of rows, unless told.
    """

    kind: Literal["mysql"]
    table: str = Field(pattern=r"^[^.`]+(\.[^.`]+)?$")
    partitions: int | None = Field(default=None, ge=1, le=16)

    @model_validator(mode="after")
    def _a_cursor_needs_a_key(self) -> Self:
        # An edited row comes again: only a key tells which one it replaces.
        if self.cursor and not self.primary_key:
            raise ValueError("lacks the key 'primary_key', which a table with a cursor needs")
        return self


class GoogleSheetOptions(IngestOptions):
    """A tab of a Google Sheet, read whole.

    Attributes:
        spreadsheet: Its URL, or the key in the URL.
        tab: Title of the tab.
        columns: Type by column name: ``string``, ``integer``, ``double``, ``decimal(p,s)``,
            ``percent``, ``boolean``, ``date`` or ``datetime``. A heading is matched without
            regard to case, spaces and punctuation: "Target NPS" is ``target_nps``.
        labels: Heading by column name, where it is another than the name.
        other_columns: What to do with columns that are not declared: they may hold anything, so
            they are left where they are, unless told.
        range: Part of the tab, in A1 notation without the tab: ``B3:F``.
        header_row: Row of the headings, counted from the tab's first; by default the first row
            that is read, or the one under a title.
        skip_blank_rows: Whether rows without a value are left out, rather than all NULL.
    """

    kind: Literal["google_sheet"]
    cursor: None = None
    spreadsheet: str
    tab: str
    columns: dict[str, str] = Field(min_length=1)
    labels: dict[str, str] = Field(default_factory=dict)
    other_columns: Literal["ignore", "load"] = "ignore"
    range: str | None = Field(default=None, pattern=r"^[A-Z]{1,3}\d*:[A-Z]{1,3}\d*$")
    header_row: int | None = Field(default=None, ge=1)
    skip_blank_rows: bool = True

    @field_validator("columns")
    @classmethod
    def _types_are_known(cls, value: dict[str, str]) -> dict[str, str]:
        for name, type_ in value.items():
            if not _SHEET_TYPE.fullmatch(type_):
                raise ValueError(
                    f"{name}: '{type_}' is not a type; string, integer, double, decimal(p,s), "
                    "percent, boolean, date and datetime are"
                )
            if column_name(name) != _composed(name):
                raise ValueError(f"{name}: write it in lower case, with underscores for spaces")
        return {_composed(name): type_ for name, type_ in value.items()}

    @field_validator("primary_key")
    @classmethod
    def _key_is_composed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_composed, value))

    @field_validator("labels")
    @classmethod
    def _labels_are_headings(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        labels = _checked_labels(value)
        # Columns that do not fit have been told already.
        columns = info.data.get("columns", labels)
        if unknown := sorted(set(labels) - set(columns)):
            raise ValueError(f"{unknown[0]} is no declared column")
        headings = [column_name(labels.get(name, name)) for name in columns]
        if len(set(headings)) < len(headings):
            raise ValueError("two columns would have the same heading")
        return labels


_SHEET_TYPE = re.compile(
    r"string|integer|double|percent|boolean|date|datetime"
    r"|decimal\(([1-9]|[12][0-9]|3[0-8]), ?([0-9]|1[0-5])\)"
)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _checked_labels(labels: dict[str, str]) -> dict[str, str]:
    for name, label in labels.items():
        if not column_name(label):
            raise ValueError(f"{name}: a label is not blank")
    return {_composed(name): label for name, label in labels.items()}


_KINDS: dict[str, type[IngestOptions]] = {
    "mysql": MySQLOptions,
    "google_sheet": GoogleSheetOptions,
}


class GoogleSheetPublishOptions(BaseModel):
    """A tab of a Google Sheet that a mart is published to.

    Attributes:
        connection: Id of the Airflow connection with the service account's key.
        spreadsheet: Its URL, or the key in the URL.
        tab: Title of the tab; it is added where it is missing.
        at: The cell of the first heading of a new table; where people move it later is theirs.
        order_by: Columns that order the rows.
        columns: Columns to publish, in this order; all of them, unless told.
        labels: Heading by column name, where it is another than the name.
        key: Columns by which a row is known; those that order the rows, unless told.
        follow_rows: Whether rows of the sheet are inserted, moved and removed with the mart's, so
            that what people write beside a row stays beside it.
        min_row_ratio: A mart with fewer rows than this share of those in the tab is refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["google_sheet"]
    connection: str
    spreadsheet: str
    tab: str
    at: str = Field(default="A1", pattern=r"^[A-Z]{1,3}[1-9][0-9]*$")
    order_by: tuple[str, ...] = Field(min_length=1)
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    labels: dict[str, str] = Field(default_factory=dict)
    key: tuple[str, ...] = ()
    follow_rows: bool = False
    min_row_ratio: float = Field(default=0.5, ge=0, le=1)

    @field_validator("key", mode="before")
    @classmethod
    def _one_column_is_a_key(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("labels")
    @classmethod
    def _labels_are_headings(cls, value: dict[str, str]) -> dict[str, str]:
        return _checked_labels(value)

    @property
    def row_key(self) -> tuple[str, ...]:
        """Columns by which a row is known."""
        return self.key or self.order_by


_PUBLISH_KINDS: dict[str, type[GoogleSheetPublishOptions]] = {
    "google_sheet": GoogleSheetPublishOptions
}


@dataclass(frozen=True)
class Publication:
    """A mart that Millrace publishes.

    Attributes:
        name: The exposure's name.
        mart: Name of the dbt model.
        schema: The mart's schema.
        identifier: The mart's name there.
        options: The validated ``publish`` block.
        file: Where it is declared, relative to the dbt project.
    """

    name: str
    mart: str
    schema: str
    identifier: str
    options: GoogleSheetPublishOptions
    file: str = ""


@dataclass(frozen=True)
class IngestTable:
    """A source table that Millrace ingests.

    Attributes:
        source: Name of the dbt source.
        name: Name of the table in that source.
        schema: The raw table's schema.
        identifier: The raw table's name there.
        options: The validated ``ingest`` block.
        pii: Policy by column name.
        not_ingested: Columns whose meta says ``ingest: false``.
        file: Where it is declared, relative to the dbt project.
    """

    source: str
    name: str
    schema: str
    identifier: str
    options: IngestOptions
    pii: Mapping[str, Pii] = field(default_factory=dict)
    not_ingested: frozenset[str] = frozenset()
    file: str = ""

    @property
    def left_out(self) -> frozenset[str]:
        """Columns that are never even read: ``ingest: false``, or ``pii: drop``."""
        dropped = {name for name, policy in self.pii.items() if policy is Pii.DROP}
        return self.not_ingested | dropped

    @property
    def key(self) -> str:
        """``<source>.<table>``: what the command line and the ledger call it."""
        return f"{self.source}.{self.name}"

    @property
    def cursor_column(self) -> str | None:
        """The column whose intervals make the batches; None for a full refresh."""
        return self.options.cursor.column if self.options.cursor else None

    @property
    def is_full_refresh(self) -> bool:
        """Whether each batch is the whole table."""
        return self.options.cursor is None

    @property
    def min_rows(self) -> int:
        """Fewer rows in one batch are refused."""
        if self.options.min_rows is not None:
            return self.options.min_rows
        return 1 if self.is_full_refresh else 0


@dataclass(frozen=True)
class Catalog:
    """Everything that the dbt project declares to Millrace."""

    tables: tuple[IngestTable, ...]
    publications: tuple[Publication, ...] = ()

    def publication(self, name: str) -> Publication:
        """The publication of the exposure called so.

        Raises:
            DeclarationError: none is.
        """
        for publication in self.publications:
            if publication.name == name:
                return publication
        raise DeclarationError(
            f"No exposure '{name}' with a `publish` block is declared.",
            fix=_did_you_mean(name, [found.name for found in self.publications], "Declared"),
        )

    def table(self, key: str) -> IngestTable:
        """The table called ``<source>.<table>``.

        Raises:
            DeclarationError: none is.
        """
        for table in self.tables:
            if table.key == key:
                return table
        raise DeclarationError(
            f"No source table '{key}' with an `ingest` block is declared.",
            fix=_did_you_mean(key, [table.key for table in self.tables], "Declared"),
        )


def load_catalog(manifest_path: Path) -> Catalog:
    """Read and validate dbt's manifest.

    Args:
        manifest_path: ``manifest.json`` in dbt's target folder.

    Returns:
        The declarations, ordered by key.

    Raises:
        ProjectError: there is no manifest, or not one that this version understands.
        DeclarationError: a block has an unknown, missing or unfit key.
    """
    try:
        manifest = json.loads(manifest_path.read_text())
    except FileNotFoundError:
        raise ProjectError(
            f"There is no dbt manifest at {manifest_path}.",
            fix="Run `dbt parse --project-dir dbt_project --profiles-dir .`.",
        ) from None
    except ValueError as error:
        raise ProjectError(
            f"{manifest_path} is not JSON: {error}.",
            fix="Delete it and run `dbt parse --project-dir dbt_project --profiles-dir .`.",
        ) from error
    version = manifest.get("metadata", {}).get("dbt_schema_version")
    if version != MANIFEST_SCHEMA:
        raise ProjectError(
            f"{manifest_path} was written by another version of dbt "
            f"(its schema is {version}; {MANIFEST_SCHEMA} is understood).",
            fix="Run `dbt parse` with the dbt of this environment (`uv run dbt --version`).",
        )
    nodes = sorted(manifest["sources"].values(), key=lambda node: str(node["unique_id"]))
    tables = tuple(_tables(nodes))
    _refuse_shared_raw_tables(tables)
    publications = tuple(_publications(manifest))
    _refuse_shared_tabs(publications)
    return Catalog(tables, publications)


def _tables(nodes: list[dict[str, Any]]) -> Iterator[IngestTable]:
    for node in nodes:
        # dbt replaces the source's meta by the table's, key by key, and keeps the former.
        of_source = node.get("source_meta", {}).get("ingest") or {}
        of_table = node.get("meta", {}).get("ingest")
        if of_table is None:
            continue
        where = f"{node['original_file_path']}: source table {node['source_name']}.{node['name']}"
        _refuse_name(_SOURCE_NAME, node["source_name"], f"{where}: the source's name")
        _refuse_name(_TABLE_NAME, node["name"], f"{where}: the table's name")
        for block in (of_source, of_table):
            if not isinstance(block, Mapping):
                raise DeclarationError(
                    f"{where}: meta.ingest is {block!r}, not a block of keys.",
                    fix="Write it as in docs/adding-a-source.md.",
                )
        yield IngestTable(
            source=node["source_name"],
            name=node["name"],
            schema=node["schema"],
            identifier=node["identifier"],
            options=_options({**of_source, **of_table}, _KINDS, f"{where}: meta.ingest"),
            pii=_pii(node["columns"], where),
            not_ingested=_not_ingested(node["columns"], where),
            file=node["original_file_path"],
        )


# They become folders of the landing, and ids of DAGs.
_SOURCE_NAME = re.compile(r"[\w-]{1,100}")
_TABLE_NAME = re.compile(r"[\w-][\w.-]{0,99}")


def _refuse_name(pattern: re.Pattern[str], name: str, where: str) -> None:
    if not pattern.fullmatch(name):
        raise DeclarationError(
            f"{where} is {name!r}, which cannot name a folder and a DAG.",
            fix="Use letters, digits, _ and -, at most 100 of them, and in a table's name dots "
            "inside; `identifier` and `schema` keep the warehouse's own names.",
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


def _refuse_shared_tabs(publications: tuple[Publication, ...]) -> None:
    owners: dict[tuple[str, str], Publication] = {}
    for publication in publications:
        options = publication.options
        in_url = re.search(r"/d/([^/?#]+)", options.spreadsheet)
        spreadsheet = in_url[1] if in_url else options.spreadsheet
        # Titles of tabs differ by more than their case.
        other = owners.setdefault((spreadsheet, options.tab.casefold()), publication)
        if other is not publication:
            raise DeclarationError(
                f"{publication.file}: exposures {other.name} and {publication.name} would both "
                f"publish to the tab '{options.tab}' of {options.spreadsheet}.",
                fix="Give one of them another `tab`.",
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
                fix="Write it as in docs/publishing.md.",
            )
        models = [name for name in node["depends_on"]["nodes"] if name.startswith("model.")]
        if len(models) != 1:
            raise DeclarationError(
                f"{where}: a publication depends on one model; this one on {len(models)}.",
                fix="Write `depends_on: [ref('the_mart')]`, and an exposure for each mart.",
            )
        mart = manifest["nodes"][models[0]]
        yield Publication(
            name=node["name"],
            mart=mart["name"],
            schema=mart["schema"],
            identifier=mart["alias"],
            options=_options(block, _PUBLISH_KINDS, f"{where}: meta.publish"),
            file=node["original_file_path"],
        )


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


_Options = TypeVar("_Options", bound=BaseModel)


def _options(block: Mapping[str, Any], kinds: Mapping[str, type[_Options]], where: str) -> _Options:
    """Validate a block by the model of its kind."""
    kind = block.get("kind")
    model = kinds.get(str(kind))
    if model is None:
        raise DeclarationError(
            f"{where}.kind is {kind!r}." if "kind" in block else f"{where} lacks the key 'kind'.",
            fix=_did_you_mean(str(kind), list(kinds), "Kinds"),
        )
    try:
        return model.model_validate(block)
    except ValidationError as error:
        raise _explain(error, model, where) from None


def _explain(error: ValidationError, model: type[BaseModel], where: str) -> DeclarationError:
    """All problems of one block in one message; the way out of the first unknown key."""
    allowed = list(model.model_fields)
    fix = f"Allowed: {', '.join(allowed)}."
    problems = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            problems.append(f"has an unknown key '{key}'")
            fix = _did_you_mean(key, allowed, "Allowed")
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
                fix=_did_you_mean(str(policy), list(Pii), "Allowed"),
            )
        policies[name] = Pii(policy)
    return policies


def _did_you_mean(word: str, known: list[str], label: str) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    listing = f"{label}: {', '.join(known) or 'none'}."
    return f"Did you mean '{close[0]}'? {listing}" if close else listing
