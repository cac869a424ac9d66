"""What a Redshift statement becomes."""

from __future__ import annotations

from dataclasses import dataclass, field

SYNTAX_ERROR = "42601"
FEATURE_NOT_SUPPORTED = "0A000"
UNDEFINED_FUNCTION = "42883"


class RedshiftError(Exception):
    """The statement is one that Redshift refuses, or that the stand-in does not know.

    Attributes:
        message: What Redshift says, or what the stand-in does not cover.
        sqlstate: Five characters.
        hint: What to do instead.
    """

    def __init__(
        self, message: str, sqlstate: str = FEATURE_NOT_SUPPORTED, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.sqlstate = sqlstate
        self.hint = hint


@dataclass(frozen=True)
class Run:
    """SQL that PostgreSQL runs as it is.

    Attributes:
        changes: The table whose rows it changes, as PostgreSQL takes its name.
    """

    sql: str
    changes: str | None = None


@dataclass(frozen=True)
class TableAttributes:
    """What Redshift knows of a table and PostgreSQL does not.

    `None` and empty mean that the statement does not say.

    Attributes:
        diststyle: EVEN, ALL, KEY or AUTO.
        sortstyle: COMPOUND, INTERLEAVED or AUTO.
        encodings: Column to its compression encoding.
        constraints: Declared keys, which Redshift does not enforce.
    """

    diststyle: str | None = None
    distkey: str | None = None
    sortstyle: str | None = None
    sortkeys: tuple[str, ...] = ()
    encodings: dict[str, str] = field(default_factory=dict)
    constraints: tuple[KeyConstraint, ...] = ()


@dataclass(frozen=True)
class KeyConstraint:
    """A declared key.

    Attributes:
        kind: p (primary key), u (unique) or f (foreign key).
        references: The table that a foreign key names, as it is written in SQL.
        referenced: The columns of that table; empty stands for its primary key.
    """

    kind: str
    columns: tuple[str, ...]
    name: str | None = None
    references: str | None = None
    referenced: tuple[str, ...] = ()


@dataclass(frozen=True)
class CreateTable:
    """SQL that PostgreSQL runs as it is; the attributes travel inside it, in a comment.

    The database's event trigger (bootstrap.sql) reads them there and remembers them.
    """

    sql: str
    attributes: TableAttributes


@dataclass(frozen=True)
class AlterTable:
    """SQL that PostgreSQL runs as it is; see `CreateTable`."""

    sql: str
    attributes: TableAttributes


@dataclass(frozen=True)
class Copy:
    """``COPY table [(columns)] FROM 'url' …``.

    Attributes:
        table: As PostgreSQL takes it, quoted where need be.
        columns: Lower-case names without quotes; empty when none are given.
        url: What is read: a key prefix or a manifest.
        format: PARQUET, CSV, JSON, FIXEDWIDTH, AVRO, ORC, SHAPEFILE, or TEXT (delimited).
        credentials: `iam_role`, or `credentials` with the clause as it stands, or
            `access_key_id` with `secret_access_key` and `session_token`.
        options: The other options in upper case; True for one that has no value.
    """

    table: str
    columns: tuple[str, ...]
    url: str
    format: str
    credentials: dict[str, str] = field(repr=False)
    options: dict[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Unload:
    """``UNLOAD ('select') TO 'prefix' …``; the fields are those of `Copy`.

    Attributes:
        query: The SELECT, already translated for PostgreSQL.
        format: TEXT (delimited), CSV, PARQUET or JSON.
    """

    query: str
    url: str
    format: str
    credentials: dict[str, str] = field(repr=False)
    options: dict[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Answer:
    """A statement that is accepted without anything being done.

    Attributes:
        tag: The command tag to answer with.
    """

    tag: str


@dataclass(frozen=True)
class Several:
    """Statements to be run one after the other; the tag of the first one is the answer."""

    statements: tuple[Translated, ...]


Translated = Run | CreateTable | AlterTable | Copy | Unload | Answer | Several
