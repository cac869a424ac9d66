"""UNLOAD: a query's rows into objects on S3.

https://docs.aws.amazon.com/redshift/latest/dg/r_UNLOAD.html
"""

from __future__ import annotations

import asyncio
import bz2
import csv
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import obstore
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from redshift_standin.statements import FEATURE_NOT_SUPPORTED
from redshift_standin.storage import Cluster, Storage, explained
from redshift_standin.wire import SUPER_OID, VARBYTE_OID, Column, ServerError

if TYPE_CHECKING:
    from redshift_standin.statements import Unload
    from redshift_standin.text_values import Options
    from redshift_standin.wire import Backend

BATCH_ROWS = 32 * 1024
MAX_FILE_BYTES = int(6.2 * 1024**3)

_OPTIONS = frozenset(
    (
        *("MANIFEST", "VERBOSE", "HEADER", "DELIMITER", "GZIP", "BZIP2", "ADDQUOTES", "NULL"),
        *("ESCAPE", "ALLOWOVERWRITE", "CLEANPATH", "PARALLEL", "MAXFILESIZE", "ROWGROUPSIZE"),
        # S3 encrypts by itself; a key of the client's own is not covered.
        *("REGION", "EXTENSION", "ENCODING", "ENCRYPTED"),
    )
)
_NUMERIC_OID = 1700
# PostgreSQL's OID of a type, Arrow's type, and its name in a manifest.
_TYPES: dict[int, tuple[pa.DataType, str]] = {
    16: (pa.bool_(), "boolean"),
    20: (pa.int64(), "bigint"),
    21: (pa.int16(), "smallint"),
    23: (pa.int32(), "integer"),
    700: (pa.float32(), "real"),
    701: (pa.float64(), "double precision"),
    1082: (pa.date32(), "date"),
    1114: (pa.timestamp("us"), "timestamp without time zone"),
    1184: (pa.timestamp("us", "UTC"), "timestamp with time zone"),
    VARBYTE_OID: (pa.binary(), "binary varying"),
    SUPER_OID: (pa.string(), "super"),
}
_UNESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v"}


@dataclass(frozen=True)
class _File:
    url: str
    size: int
    rows: int


async def unload(statement: Unload, backend: Backend, cluster: Cluster) -> int:
    """Run an UNLOAD.

    Args:
        statement: The UNLOAD.
        backend: The client's session, in whose transaction the query runs.
        cluster: What it may use.

    Returns:
        The number of rows unloaded.

    Raises:
        ServerError: It is refused or fails.
    """
    unknown = sorted(set(statement.options) - _OPTIONS)
    if unknown or statement.format not in ("PARQUET", "CSV", "TEXT", "JSON"):
        what = unknown[0] if unknown else f"FORMAT {statement.format}"
        raise ServerError.make(
            f"UNLOAD with {what} is not covered by the Redshift stand-in.", FEATURE_NOT_SUPPORTED
        )
    storage = Storage(cluster, statement.credentials)
    columns = await backend.describe(statement.query)
    await asyncio.to_thread(_clear_destination, statement, storage)
    make_writer = _ParquetFile if statement.format == "PARQUET" else _TextFile
    shape = "csv" if statement.format == "PARQUET" else "text"
    out = _Output(statement, storage, columns, make_writer)
    try:
        rows: list[bytes] = []
        async for row in backend.copy_out(f"copy ({statement.query}) to stdout (format {shape})"):
            rows.append(row)
            if len(rows) >= BATCH_ROWS:
                await asyncio.to_thread(out.write, rows)
                rows = []
        await asyncio.to_thread(out.write, rows)
        await asyncio.to_thread(out.finish)
    except BaseException:
        await asyncio.to_thread(out.abort)
        raise
    return sum(file.rows for file in out.files)


def _clear_destination(statement: Unload, storage: Storage) -> None:
    existing = storage.find(statement.url)
    if "CLEANPATH" in statement.options:
        for file in existing:
            store, key = storage.open(file.url)
            with explained(file.url):
                obstore.delete(store, key)
    elif existing and "ALLOWOVERWRITE" not in statement.options:
        raise ServerError.make(
            "Specified unload destination on S3 is not empty. Consider using a different bucket / "
            "prefix, manually removing the target files in S3, or using the ALLOWOVERWRITE option."
        )


class _Output:
    """The files of one UNLOAD: one after the other, each up to MAXFILESIZE."""

    def __init__(
        self,
        statement: Unload,
        storage: Storage,
        columns: list[Column],
        make_file: Callable[[Any, list[Column], Unload], _ParquetFile | _TextFile],
    ) -> None:
        self.files: list[_File] = []
        self._statement = statement
        self._storage = storage
        self._columns = columns
        self._make_file = make_file
        self._limit = _max_file_bytes(statement.options)
        self._file: _ParquetFile | _TextFile | None = None
        self._upload: Any = None

    def write(self, rows: list[bytes]) -> None:
        """Write rows, beginning a new file when the current one is full."""
        if self._file and self._file.size >= self._limit:
            self._close()
        if self._file is None:
            store, key = self._storage.open(self._url(len(self.files)))
            self._upload = obstore.open_writer(store, key)
            self._file = self._make_file(self._upload, self._columns, self._statement)
        with explained(self._statement.url):
            self._file.write(rows)

    def finish(self) -> None:
        """Close the last file and write the manifest."""
        self._close()
        if "MANIFEST" in self._statement.options:
            url = f"{self._statement.url}manifest"
            store, key = self._storage.open(url)
            with explained(url):
                obstore.put(store, key, json.dumps(self._manifest(), indent=2).encode())

    def abort(self) -> None:
        """Discard the file that is being written."""
        if self._upload is not None:
            failure = RuntimeError("the unload failed")
            self._upload.__exit__(RuntimeError, failure, None)

    def _close(self) -> None:
        if self._file is None:
            return
        with explained(self._statement.url):
            self._file.close()
            self._upload.close()
        self.files.append(_File(self._url(len(self.files)), self._file.size, self._file.rows))
        self._file = self._upload = None

    def _url(self, number: int) -> str:
        options = self._statement.options
        parallel = str(options.get("PARALLEL", "ON")).upper() not in ("OFF", "FALSE")
        name = f"{number:04d}_part_00" if parallel else f"{number:03d}"
        if "EXTENSION" in options:
            return f"{self._statement.url}{name}.{str(options['EXTENSION']).lstrip('.')}"
        suffixes = {"GZIP": ".gz", "BZIP2": ".bz2"}
        suffix = "".join(end for option, end in suffixes.items() if option in options)
        if self._statement.format == "PARQUET":
            suffix = ".parquet"
        return f"{self._statement.url}{name}{suffix}"

    def _manifest(self) -> dict[str, Any]:
        options = self._statement.options
        if "VERBOSE" not in options and str(options["MANIFEST"]).upper() != "VERBOSE":
            return {"entries": [{"url": file.url} for file in self.files]}
        return {
            "entries": [
                {"url": file.url, "meta": {"content_length": file.size, "record_count": file.rows}}
                for file in self.files
            ],
            "schema": {"elements": [_element(column) for column in self._columns]},
            "meta": {
                "content_length": sum(file.size for file in self.files),
                "record_count": sum(file.rows for file in self.files),
            },
            "author": {"name": "Amazon Redshift", "version": "1.0.0"},
        }


class _Counter(io.RawIOBase):
    """Passes bytes on and counts them."""

    def __init__(self, target: Any) -> None:
        super().__init__()
        self._target = target
        self.count = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._target.write(bytes(data))
        self.count += len(data)
        return len(data)


class _ParquetFile:
    """Rows of CSV, written as Parquet."""

    def __init__(self, target: Any, columns: list[Column], statement: Unload) -> None:
        del statement
        self.rows = 0
        self._counter = _Counter(target)
        self._schema = pa.schema([(column.name, _arrow_type(column)) for column in columns])
        # A query's columns may share a name, but Arrow's CSV reader needs distinct ones.
        self._names = [f"c{index}" for index in range(len(columns))]
        self._texts = {
            name: pa.string() if pa.types.is_binary(type_) else type_
            for name, type_ in zip(self._names, self._schema.types, strict=True)
        }
        self._writer = pq.ParquetWriter(pa.PythonFile(self._counter, "w"), self._schema)

    @property
    def size(self) -> int:
        return self._counter.count

    def write(self, rows: list[bytes]) -> None:
        if not rows:
            return
        table = pacsv.read_csv(
            pa.BufferReader(b"".join(rows)),
            read_options=pacsv.ReadOptions(column_names=self._names, block_size=2**30),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=pacsv.ConvertOptions(
                column_types=self._texts,
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
        arrays = [
            _from_hex(array) if pa.types.is_binary(type_) else array
            for array, type_ in zip(table.columns, self._schema.types, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self.rows += table.num_rows

    def close(self) -> None:
        self._writer.close()


class _TextFile:
    """Rows of PostgreSQL's text format, written as CSV, delimited text or JSON."""

    def __init__(self, target: Any, columns: list[Column], statement: Unload) -> None:
        self.rows = 0
        self._counter = _Counter(target)
        options = statement.options
        self._out: Any = self._counter
        if "GZIP" in options:
            self._out = gzip.GzipFile(fileobj=self._counter, mode="wb")
        elif "BZIP2" in options:
            self._out = bz2.BZ2File(self._counter, "wb")
        self._format = _row_formatter(columns, statement)
        if "HEADER" in options and statement.format != "JSON":
            self._out.write(self._format([column.name for column in columns]).encode())

    @property
    def size(self) -> int:
        return self._counter.count

    def write(self, rows: list[bytes]) -> None:
        texts = (self._format(_fields(row.decode())) for row in rows)
        self._out.write("".join(texts).encode())
        self.rows += len(rows)

    def close(self) -> None:
        if self._out is not self._counter:
            self._out.close()


def _fields(row: str) -> list[str | None]:
    return [
        None if text == r"\N" else _unescape(text) if "\\" in text else text
        for text in row.removesuffix("\n").split("\t")
    ]


def _unescape(text: str) -> str:
    characters = iter(text)
    return "".join(
        _UNESCAPED.get(escaped := next(characters), escaped) if each == "\\" else each
        for each in characters
    )


def _row_formatter(columns: list[Column], statement: Unload) -> Callable[[list[str | None]], str]:
    options = statement.options
    null = str(options.get("NULL", ""))
    if statement.format == "JSON":
        return lambda values: _json_row(columns, values)
    if statement.format == "CSV":
        delimiter = str(options.get("DELIMITER", ","))
        return lambda values: _csv_row(values, delimiter, null)
    delimiter = str(options.get("DELIMITER", "|"))
    escapes, quotes = "ESCAPE" in options, "ADDQUOTES" in options
    marked = f"\\\n\r{delimiter}" + ('"' if quotes else "")

    def format_(values: list[str | None]) -> str:
        texts = []
        for value in values:
            text = null if value is None else value
            if escapes and value is not None:
                text = "".join(f"\\{each}" if each in marked else each for each in text)
            texts.append(f'"{text}"' if quotes else text)
        return delimiter.join(texts) + "\n"

    return format_


def _csv_row(values: list[str | None], delimiter: str, null: str) -> str:
    line = io.StringIO()
    csv.writer(line, delimiter=delimiter, lineterminator="\n").writerow(
        null if value is None else value for value in values
    )
    return line.getvalue()


def _json_row(columns: list[Column], values: list[str | None]) -> str:
    row = {
        column.name: None if value is None else _json_value(column, value)
        for column, value in zip(columns, values, strict=True)
    }
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def _json_value(column: Column, value: str) -> Any:
    type_ = _arrow_type(column)
    if pa.types.is_boolean(type_):
        return value == "t"
    if pa.types.is_integer(type_):
        return int(value)
    if pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return float(value)
    return json.loads(value) if column.type_oid == SUPER_OID else value


def _arrow_type(column: Column) -> pa.DataType:
    if column.type_oid == _NUMERIC_OID:
        return pa.decimal128(*_digits(column))
    return _TYPES.get(column.type_oid, (pa.string(), ""))[0]


def _digits(column: Column) -> tuple[int, int]:
    if column.modifier < 4:
        return 38, 10
    return (column.modifier - 4) >> 16, (column.modifier - 4) & 0x7FF


def _element(column: Column) -> dict[str, Any]:
    if column.type_oid == _NUMERIC_OID:
        precision, scale = _digits(column)
        return {
            "name": column.name,
            "type": {"base": "numeric", "precision": precision, "scale": scale},
        }
    if column.type_oid in _TYPES:
        return {"name": column.name, "type": {"base": _TYPES[column.type_oid][1]}}
    length = column.modifier - 4 if column.modifier >= 4 else 65535
    return {"name": column.name, "type": {"base": "character varying", "max_length": length}}


def _from_hex(array: pa.ChunkedArray) -> pa.Array:
    values = [None if text is None else bytes.fromhex(text[2:]) for text in array.to_pylist()]
    return pa.array(values, pa.binary())


def _max_file_bytes(options: Options) -> int:
    # MAXFILESIZE is in MB.
    return int(options["MAXFILESIZE"]) * 1024**2 if "MAXFILESIZE" in options else MAX_FILE_BYTES
