"""A table whose rows come in files: each is taken once."""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from millrace.bad_values import Misfit, Sieve, counted
from millrace.batch import EVERY_KEY, DeliveredFile, Interval, KeyRange
from millrace.catalog import IngestTable, OnBadValue
from millrace.checksums.columns import Tally
from millrace.checksums.figures import SourceFigures
from millrace.errors import DeclarationError, SourceFailed, SourceMismatch, ValueDoesNotFit
from millrace.sources.base import Closing, Extraction, SourceColumn
from millrace.sources.json_values import MISSING, arrow_type, json_text, printable
from millrace.sources.s3_files import parquet, vectors
from millrace.sources.s3_files.bucket import Bucket, try_account
from millrace.sources.s3_files.options import DELIVERED, FILE, LINE, OWN, Column, S3FilesOptions
from millrace.sources.s3_files.texts import (
    BrokenFile,
    Line,
    by_name,
    headings,
    lines,
    unpacked,
)

if TYPE_CHECKING:
    from millrace.connections import Connection

log = logging.getLogger(__name__)

# As Python's objects, rows take many times their size.
_ROWS = 2_000
_LONGEST = 1_000

_OWN_TYPES = {FILE: pa.string(), LINE: pa.int64(), DELIVERED: pa.timestamp("us", "UTC")}

_FIX = (
    "Ask who delivers the file to correct it and deliver it again, correct the column's type in "
    "the declaration, or declare `on_bad_value: quarantine`. Nothing was loaded."
)

# What the readers of files raise where one breaks off, or is something else than it seems.
_BROKEN = (BrokenFile, EOFError, gzip.BadGzipFile, zlib.error, pa.ArrowException, OSError)


class S3FilesSource:
    """The buckets that an account may read.

    Args:
        connection: As for a landing on S3.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._buckets: dict[str, Bucket] = {}

    def check(self, tables: Sequence[IngestTable] = ()) -> str:
        """List the files of each table, and look into the newest; without tables, only sign in."""
        for table in tables:
            self.columns(table)
        if not tables:
            return try_account(self._connection)
        return "; ".join(
            f"{table.key}: {counted(len(self.files(table)), 'file')}" for table in tables
        )

    def closed(self, table: IngestTable, interval: Interval) -> Closing:
        """Up to now: a file that comes later is taken later, whatever its time is."""
        now = datetime.now(UTC)
        return Closing(min(interval.end or now, now), now)

    def ranges(self, table: IngestTable, interval: Interval) -> tuple[KeyRange, ...]:
        """Files are read one after another."""
        return (EVERY_KEY,)

    def estimated_rows(self, table: IngestTable, interval: Interval) -> int | None:
        """Only reading the files would tell."""
        return None

    def files(self, table: IngestTable) -> list[DeliveredFile]:
        """The files that are there now; see ``FileSource.files``."""
        options = _options(table)
        return self._bucket(options).files(options.files, options.skip)

    def columns(
        self, table: IngestTable, *, without: frozenset[str] = frozenset()
    ) -> tuple[SourceColumn, ...]:
        """The declared columns and our own, and others of the newest file, which are not read."""
        options = _options(table)
        newest = self._there(table)[-1]
        with self._bucket(options).copy(newest) as body, _explained(table, options, newest):
            others = _others(body, options)
        declared = {name: (column.type, column.type) for name, column in options.columns.items()}
        own = {FILE: "string", LINE: "integer", DELIVERED: "timestamp"}
        read = {name: type_ for name, (type_, _) in declared.items()} | own
        return (
            *(
                SourceColumn(name, type_, None if name in without else _type(name, options))
                for name, type_ in read.items()
            ),
            *(SourceColumn(name, type_, None) for name, type_ in others.items()),
        )

    @contextmanager
    def extract(
        self,
        table: IngestTable,
        interval: Interval,
        *,
        without: frozenset[str] = frozenset(),
        ranges: Sequence[KeyRange] = (EVERY_KEY,),
    ) -> Iterator[Extraction]:
        """Read the files that were delivered in an interval, taken or not."""
        files = [
            file
            for file in self._there(table)
            if (interval.start is None or interval.start <= file.delivered_at)
            and (interval.end is None or file.delivered_at < interval.end)
        ]
        with self.extract_files(table, files, without=without) as extraction:
            yield extraction

    @contextmanager
    def extract_files(
        self,
        table: IngestTable,
        files: Sequence[DeliveredFile],
        *,
        without: frozenset[str] = frozenset(),
    ) -> Iterator[Extraction]:
        """Read files; see ``FileSource.extract_files``."""
        options = _options(table)
        _refuse_to_leave_out(table, without)
        schema = pa.schema(
            [
                (name, _type(name, options))
                for name in (*options.columns, *OWN)
                if name not in without
            ]
        )
        sieve = Sieve(table, schema, fix=_FIX)
        is_compared = options.verify in (None, "values")
        figures = SourceFigures(is_counted=True, is_compared=is_compared)
        batches = self._batches(table, files, schema, sieve, figures)
        try:
            yield Extraction(schema, (batches,), figures, sieve)
        finally:
            batches.close()

    def _batches(
        self,
        table: IngestTable,
        files: Sequence[DeliveredFile],
        schema: pa.Schema,
        sieve: Sieve,
        figures: SourceFigures,
    ) -> Generator[pa.RecordBatch]:
        options = _options(table)
        bucket = self._bucket(options)
        for number, file in enumerate(files, start=1):
            log.info(
                "%s: file %s of %s: %s, %s bytes",
                *(table.key, f"{number:,}", f"{len(files):,}", file.name, f"{file.size:,}"),
            )
            with bucket.copy(file) as body, _explained(table, options, file):
                for batch, misfits in _read(body, table, file, schema):
                    if figures.is_compared:
                        tally = Tally(schema)
                        tally.add(batch)
                        figures.add(batch.num_rows, tally.checksums)
                    else:
                        figures.add(batch.num_rows)
                    kept = sieve.sift(batch, misfits)
                    if kept.num_rows:
                        yield kept

    def _there(self, table: IngestTable) -> list[DeliveredFile]:
        """The files that are there now.

        Raises:
            SourceMismatch: there are none.
        """
        files = self.files(table)
        if not files:
            raise SourceMismatch(
                f"{table.key}: no file is like {_options(table).files.url}.",
                fix="Correct `files` in the declaration, or wait for the first delivery.",
            )
        return files

    def _bucket(self, options: S3FilesOptions) -> Bucket:
        name = options.files.bucket
        if name not in self._buckets:
            self._buckets[name] = Bucket(name, self._connection)
        return self._buckets[name]


def _read(
    body: IO[bytes], table: IngestTable, file: DeliveredFile, schema: pa.Schema
) -> Iterator[tuple[pa.RecordBatch, list[Misfit]]]:
    """A file's rows, with the values that their columns cannot hold."""
    options = _options(table)
    # Nothing is in an empty file, not even columns.
    if file.size == 0:
        log.warning("%s: %s is empty", table.key, file.name)
    elif options.format_of_files == "parquet":
        yield from _of_parquet(body, table, file, schema)
    else:
        yield from _of_texts(body, table, file, schema)


def _of_parquet(
    body: IO[bytes], table: IngestTable, file: DeliveredFile, schema: pa.Schema
) -> Iterator[tuple[pa.RecordBatch, list[Misfit]]]:
    options = _options(table)
    where = f"{table.key} ({file.name})"
    before = 0
    for columns in parquet.columns_of(body, options, where):
        rows = len(next(iter(columns.values())).values)
        numbers = range(before + 1, before + rows + 1)
        before += rows
        misfits = [
            Misfit(row, name, reason, text, where=f"{file.name}, row {numbers[row]:,}, {name}")
            for name, converted in columns.items()
            for row, (reason, text) in sorted(converted.problems.items())
        ]
        values = {name: converted.values for name, converted in columns.items()}
        yield _batch(table, file, schema, values, list(numbers), misfits)


def _of_texts(
    body: IO[bytes], table: IngestTable, file: DeliveredFile, schema: pa.Schema
) -> Iterator[tuple[pa.RecordBatch, list[Misfit]]]:
    options = _options(table)
    converters = by_name(options, is_json=options.format_of_files == "jsonl")
    rows = lines(unpacked(body), options, f"{table.key} ({file.name})")
    while chunk := list(islice(rows, _ROWS)):
        misfits = [
            _no_row(row, line, table, file) for row, line in enumerate(chunk) if line.values is None
        ]
        values = {}
        for at, (name, convert) in enumerate(converters.items()):
            column = options.columns[name]
            if column.is_plain and options.format_of_files == "csv":
                texts = [None if line.values is None else line.values[at] for line in chunk]
                at_once = vectors.converted(texts, column.type)
                if at_once is not None:
                    values[name] = at_once
                    continue
            converted: list[Any] = []
            for row, line in enumerate(chunk):
                try:
                    found = None if line.values is None else line.values[at]
                    converted.append(_converted(found, convert, column))
                except ValueError as error:
                    text = _text(found)
                    where = f"{file.name}, line {line.number:,}, {name}"
                    misfits.append(Misfit(row, name, str(error), printable(text), where=where))
                    converted.append(None)
            values[name] = pa.array(converted, arrow_type(column.type))
        numbers = [None if line.values is None else line.number for line in chunk]
        yield _batch(table, file, schema, values, numbers, misfits)


def _converted(value: Any, convert: Callable[[Any], Any], column: Column) -> Any:
    if value is not MISSING:
        return convert(value)
    if column.optional:
        return None
    raise ValueError("is not there (declare it as `optional` if a line may lack it)")


def _text(value: Any) -> str:
    if value is MISSING:
        return ""
    return value if isinstance(value, str) else json_text(value)


def _batch(
    table: IngestTable,
    file: DeliveredFile,
    schema: pa.Schema,
    values: Mapping[str, pa.Array],
    numbers: Sequence[int | None],
    misfits: list[Misfit],
) -> tuple[pa.RecordBatch, list[Misfit]]:
    own = {FILE: file.name, DELIVERED: file.delivered_at}
    columns = {
        **values,
        LINE: pa.array(numbers, pa.int64()),
        **{name: pa.array([value] * len(numbers), _OWN_TYPES[name]) for name, value in own.items()},
    }
    batch = pa.record_batch([columns[name] for name in schema.names], schema=schema)
    without_key = [
        Misfit(row, name, "is null, which no key may be", "null", where=f"{file.name}, {name}")
        for name in table.options.primary_key
        if name in schema.names and batch.column(name).null_count
        for row in _nulls(batch.column(name))
    ]
    told = {(misfit.row, misfit.column) for misfit in misfits}
    lost = {misfit.row for misfit in misfits if misfit.column == LINE}
    misfits += [
        misfit
        for misfit in without_key
        if (misfit.row, misfit.column) not in told and misfit.row not in lost
    ]
    return batch, [misfit for misfit in misfits if misfit.column in schema.names]


def _nulls(column: pa.Array) -> list[int]:
    return [row for row, is_null in enumerate(column.is_null().to_pylist()) if is_null]


def _no_row(row: int, line: Line, table: IngestTable, file: DeliveredFile) -> Misfit:
    """A line that is no row: all of it is a misfit.

    Raises:
        ValueDoesNotFit: the table declares that misfits become NULL, which a row cannot.
    """
    where = f"{file.name}, line {line.number:,}"
    if table.options.on_bad_value is OnBadValue.NULL:
        raise ValueDoesNotFit(
            f"{table.key}: {where}: {line.problem}. A whole row cannot become NULL.", fix=_FIX
        )
    # What is personal in it cannot be told from the rest.
    text = "***" if table.pii else printable(line.text[:_LONGEST])
    return Misfit(row, LINE, line.problem, text, where=where)


@contextmanager
def _explained(table: IngestTable, options: S3FilesOptions, file: DeliveredFile) -> Iterator[None]:
    """Say which file is broken."""
    try:
        yield
    except _BROKEN as error:
        told = " ".join(str(error).split())[:200] or type(error).__name__
        raise SourceFailed(
            f"{table.key}: s3://{options.files.bucket}/{file.name} is broken, or no "
            f"{options.format_of_files} as declared: {told}",
            fix="Ask who delivers it to deliver it again. To go on without it, name it in `skip`. "
            "Nothing was loaded.",
        ) from None


def _others(body: IO[bytes], options: S3FilesOptions) -> dict[str, str]:
    """The columns of a file that are not declared, with what is known of their types."""
    if options.format_of_files == "parquet":
        found = parquet.names_and_types(body)
    else:
        found = dict.fromkeys(headings(unpacked(body), options), "text")
    used = {
        column.path[0]
        if column.path and options.format_of_files == "jsonl"
        else column.heading or name
        for name, column in options.columns.items()
    }
    return {
        name: type_
        for name, type_ in found.items()
        if name not in used and name not in options.columns
    }


def _refuse_to_leave_out(table: IngestTable, without: frozenset[str]) -> None:
    if own := sorted(without.intersection(OWN)):
        raise DeclarationError(
            f"{table.file}: source table {table.key}: {own[0]} cannot be left out, because it "
            "tells where a row is from.",
            fix="Take `ingest: false` or `pii: drop` away from it.",
        )


def _type(name: str, options: S3FilesOptions) -> pa.DataType:
    return _OWN_TYPES[name] if name in OWN else arrow_type(options.columns[name].type)


def _options(table: IngestTable) -> S3FilesOptions:
    options = table.options
    if not isinstance(options, S3FilesOptions):
        raise DeclarationError(
            f"{table.key} is no table of files.", fix="Set its `kind` to s3_files."
        )
    return options
