"""What every source can do, and how one is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from millrace.batch import EVERY_KEY, DeliveredFile, Interval, KeyRange
from millrace.catalog import IngestOptions, IngestTable
from millrace.catalog.kinds import SOURCES, needing
from millrace.connections import Connection
from millrace.datasets import Dataset, service
from millrace.errors import DeclarationError
from millrace.keyed_rows import KeyedRows

if TYPE_CHECKING:
    import pyarrow as pa

    from millrace.bad_values import Sieve
    from millrace.checksums.digests import Compared, Key
    from millrace.checksums.figures import SourceFigures


@dataclass(frozen=True)
class Extraction:
    """Rows on their way out of a source.

    Attributes:
        schema: The columns.
        streams: The rows as record batches of that schema, produced lazily: a whole table is never
            in memory. If there are several streams, threads may read them at the same time.
        figures: What the source itself says of the rows, as of the moments in which they are read;
            complete once all streams have been read.
        sieve: What the record batches are sifted with; it knows which rows were set aside. None:
            every value of the source fits.
        expected_rows: About how many rows there are, where that is known.
    """

    schema: pa.Schema
    streams: tuple[Iterator[pa.RecordBatch], ...]
    figures: SourceFigures
    sieve: Sieve | None = None
    expected_rows: int | None = None

    @property
    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows of all streams, one stream after another."""
        return chain.from_iterable(self.streams)


@dataclass(frozen=True)
class Closing:
    """How much of an interval is closed: no transaction can write into it any more.

    Attributes:
        end: Where the closed part ends, in UTC; before the interval's start if none is.
        now: The source's clock.
        held_by: What holds the rest up, for a person; None where nothing does.
        warnings: What else a person should know.
    """

    end: datetime
    now: datetime
    held_by: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceColumn:
    """A column as its source has it now.

    Attributes:
        name: The name under which it is landed.
        declared_type: Its type in the source's own words, such as ``bigint unsigned``.
        type: The type with which it is read; None if it is left out.
    """

    name: str
    declared_type: str
    type: pa.DataType | None


class Source(Protocol):
    """A place that rows are read from."""

    def check(self, tables: Sequence[IngestTable] = ()) -> str:
        """Connect, and check the declared tables.

        Returns:
            What was reached, for a person.

        Raises:
            SourceUnavailable: the source is down.
            SourceRefused: it refuses our account.
            SourceMismatch: a declared table, column or key is not there.
        """

    def closed(self, table: IngestTable, interval: Interval) -> Closing:
        """How much of an interval no transaction can write into any more.

        Args:
            table: The declared table, which has a cursor.
            interval: The interval that is asked for; without an end, up to the source's now.

        Raises:
            SourceUnavailable: the source is down, or the connection breaks.
            SourceRefused: it refuses our account.
            SourceMismatch: what is declared is not there, or rows have no time at all.
        """

    def ranges(self, table: IngestTable, interval: Interval) -> tuple[KeyRange, ...]:
        """Split an interval into ranges of keys with about equally many rows.

        Each row is in exactly one range, even a row that is written later. If a source cannot be
        split, or an interval is too small to be worth it, there is one range: ``EVERY_KEY``.

        Raises:
            SourceUnavailable: the source is down, or the connection breaks.
            SourceRefused: it refuses our account.
            SourceMismatch: a declared table, column or key is not there.
        """

    def estimated_rows(self, table: IngestTable, interval: Interval) -> int | None:
        """About how many rows an interval has; None if only reading them would tell.

        Raises:
            As ``ranges``.
        """

    def columns(
        self, table: IngestTable, *, without: frozenset[str] = frozenset()
    ) -> tuple[SourceColumn, ...]:
        """The columns that a table has now, in the order in which they are read.

        Args:
            table: The declared table.
            without: Columns that must not be read; they may be of a type that cannot be.

        Raises:
            As ``extract``.
        """

    def extract(
        self,
        table: IngestTable,
        interval: Interval,
        *,
        without: frozenset[str] = frozenset(),
        ranges: Sequence[KeyRange] = (EVERY_KEY,),
    ) -> AbstractContextManager[Extraction]:
        """Read a table's rows of an interval.

        All rows are read as of one moment if the table is declared so
        (``IngestTable.is_as_of_one_moment``). Otherwise a row that does not change meanwhile is
        read exactly once, and one that changes at most once for each of its keys.

        A ``Sieve`` does what the table declares with values that their column's type cannot hold.
        ``figures`` are of all rows, also of those that it sets aside.

        Args:
            table: The declared table.
            interval: The interval of its cursor; without bounds, the whole table.
            without: Columns that must not be read at all.
            ranges: Keys to read, one stream for each range.

        Raises:
            SourceUnavailable: the source is down, or the connection breaks.
            SourceBusy: it suffers more than the table declares that it may.
            SourceRefused: it refuses our account.
            SourceMismatch: a declared table, column or key is not there.
            ValueDoesNotFit: a value that its column's type cannot hold.
        """


@runtime_checkable
class KeyedSource(Source, Protocol):
    """A source that computes by itself what its rows are, and finds rows by their keys."""

    def by_key(
        self, table: IngestTable, compared: Compared, interval: Interval
    ) -> AbstractContextManager[SourceRows]:
        """A table's rows by their keys, as they are now.

        Args:
            table: The declared table.
            compared: Which columns are compared.
            interval: The interval of the cursor that is compared.

        Raises:
            As ``extract``.
        """

    def rows_of(
        self,
        table: IngestTable,
        compared: Compared,
        keys: Sequence[Key],
        interval: Interval,
    ) -> AbstractContextManager[Extraction]:
        """Read the rows with these keys whose cursor lies in an interval.

        Args:
            table: The declared table; what it leaves out is not read.
            compared: Its key, with the types whose texts the keys are.
            keys: The keys; a key that is not there brings no row.
            interval: The interval of its cursor.

        Raises:
            As ``extract``.
        """


@runtime_checkable
class FileSource(Source, Protocol):
    """A source of files that others deliver, each of which is taken once."""

    def files(self, table: IngestTable) -> list[DeliveredFile]:
        """The files that are there now, those that were delivered first at the beginning.

        Raises:
            As ``extract``.
        """

    def extract_files(
        self,
        table: IngestTable,
        files: Sequence[DeliveredFile],
        *,
        without: frozenset[str] = frozenset(),
    ) -> AbstractContextManager[Extraction]:
        """Read files.

        Args:
            table: The declared table.
            files: The files; one that is gone, or was delivered again, is refused.
            without: Columns that must not be read at all.

        Raises:
            As ``extract``.
        """


class SourceRows(KeyedRows, Protocol):
    """A source's rows by their keys."""

    @property
    def pieces(self) -> Sequence[KeyRange]:
        """Ranges of the key, none of which takes long to read."""


def _by_key(table: IngestTable, connection: Connection) -> Dataset:
    return Dataset(service(table.options.kind, connection), table.key)


@dataclass(frozen=True)
class FoundColumn:
    """A column that a source has.

    Attributes:
        name: Its name.
        declared: Its type in the source's own words.
        type: Its type as it would land; None: it has no decided form.
        is_nullable: Whether the source allows NULL in it.
        is_boolean: Whether it is meant to hold 0 and 1.
        description: What the source says of it.
        sample: Some of its values, if they are texts.
    """

    name: str
    declared: str
    type: pa.DataType | None
    is_nullable: bool = True
    is_boolean: bool = False
    description: str = ""
    sample: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundTable:
    """A table that a source has, as far as it can be known without a declaration.

    Attributes:
        place: Its name there, with that of its database.
        name: Its name.
        columns: Its columns, in order.
        description: What the source says of it.
        key: The columns that identify a row; none: the source knows no such key.
        cursor: The column that changes with every edit, as far as can be seen; None: there is none.
        cursor_why: Why it is that one, or why there is none.
        is_empty: Whether it is known to have no row.
        deleted: The column that marks deleted rows, if there is one.
        references: The table and column (``place``, name) that a column's values must be in.
        newest: When a row was changed last, in UTC, where that is known.
        options: The options of its kind that a declaration has to have; default: ``table``, its
            place.
    """

    place: str
    name: str
    columns: tuple[FoundColumn, ...]
    description: str = ""
    key: tuple[str, ...] = ()
    cursor: str | None = None
    cursor_why: str = ""
    is_empty: bool = False
    deleted: str | None = None
    references: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    newest: datetime | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class DescribingSource(Protocol):
    """A source that knows its tables without their declarations."""

    def describe(self, patterns: Sequence[str]) -> list[FoundTable]:
        """The tables and views whose places match one of some patterns, by place.

        Args:
            patterns: Such as ``prod.orders``, ``prod.*`` or ``ord*``; none: all of them.

        Raises:
            SourceError: the source cannot be read.
            SourceMismatch: a pattern matches nothing.
        """


@runtime_checkable
class ListingSource(Protocol):
    """A source that can list what it has."""

    def undeclared(self, tables: Sequence[IngestTable]) -> list[str]:
        """What the account may read that none of some tables declares, by its place.

        Args:
            tables: All that are declared with the source's connection; at least one.

        Raises:
            SourceError: the source cannot be read.
        """


@dataclass(frozen=True)
class Right:
    """A right that a source's account has or lacks.

    Attributes:
        name: In the server's words.
        where: On what the account has it; empty: nowhere.
        use: What it is for.
        without: How it is without it.
        grant: What grants it where it is missing; empty: it is there already.
        is_needed: Whether nothing works without it.
    """

    name: str
    where: str
    use: str
    without: str
    grant: str
    is_needed: bool = False


@dataclass(frozen=True)
class Access:
    """What an account may do at a source.

    Attributes:
        reached: What was reached, for a person.
        rights: What Millrace can use.
        beyond: What the account may do besides, and needs for nothing.
    """

    reached: str
    rights: tuple[Right, ...] = ()
    beyond: tuple[str, ...] = ()

    @property
    def is_enough(self) -> bool:
        """Whether the source can be read."""
        return all(right.where for right in self.rights if right.is_needed)


@dataclass(frozen=True)
class SourceKind:
    """A kind of source, as its distribution registers it (see ``millrace.catalog.kinds``).

    Attributes:
        options: The model of the options that a table of it declares.
        open: Opens one, given its credentials; it imports the kind's client library.
        requirement: What pip has to install to bring that library.
        dataset: What a table is called outside, given its credentials; default: by its server and
            its key.
        conn_types: The types of Airflow connections that lead to such a source.
        access: Tries what an account may do; default: only whether it is let in.
    """

    options: type[IngestOptions]
    open: Callable[[Connection], Source]
    requirement: str
    dataset: Callable[[IngestTable, Connection], Dataset] = _by_key
    conn_types: tuple[str, ...] = ()
    access: Callable[[Connection], Access] | None = None


def source_dataset(table: IngestTable, connection: Connection) -> Dataset:
    """What a table is called outside, at its source.

    Args:
        table: The table.
        connection: The source's credentials.

    Raises:
        DeclarationError: there is no such kind of source.
    """
    kind: SourceKind = SOURCES.get(table.options.kind)
    return kind.dataset(table, connection)


def access_of(connection: Connection) -> Access:
    """Connect to whatever a connection leads to, and try what its account may do there.

    Raises:
        DeclarationError: no kind of source has connections of that type.
        NotInstalled: its client library is missing.
        SourceError, SheetError: it does not answer, or refuses the account.
    """
    known: dict[str, str] = {}
    for name in SOURCES.names():
        kind: SourceKind = SOURCES.get(name)
        known |= dict.fromkeys(kind.conn_types, name)
        if connection.conn_type in kind.conn_types:
            with needing(kind.requirement, name):
                if kind.access is not None:
                    return kind.access(connection)
                return Access(kind.open(connection).check())
    raise DeclarationError(
        f"No kind of source has connections of the type '{connection.conn_type}'.",
        fix=f"Types: {', '.join(sorted(known))}.",
    )


def open_source(name: str, connection: Connection) -> Source:
    """Open the source of a kind.

    Raises:
        DeclarationError: there is no such kind.
        NotInstalled: its client library is missing.
    """
    kind: SourceKind = SOURCES.get(name)
    with needing(kind.requirement, name):
        return kind.open(connection)
