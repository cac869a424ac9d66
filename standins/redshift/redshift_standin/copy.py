"""COPY: objects on S3 into a table, whole or not at all.

https://docs.aws.amazon.com/redshift/latest/dg/r_COPY.html
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import TYPE_CHECKING

from redshift_standin import load_parquet
from redshift_standin.load_text import LoadError, TextLoad, TooManyErrorsError
from redshift_standin.statements import FEATURE_NOT_SUPPORTED
from redshift_standin.storage import Cluster, DataFile, Storage, detailed_error
from redshift_standin.text_values import TargetColumn
from redshift_standin.wire import ServerError, cell

if TYPE_CHECKING:
    from redshift_standin.statements import Copy
    from redshift_standin.wire import Backend

# The options of each format. Those without effect here tune what Redshift has and the stand-in
# does not.
_COMMON = frozenset(
    ("MANIFEST", "REGION", "STATUPDATE", "COMPUPDATE", "COMPROWS", "NOLOAD", "MAXERROR")
)
_CONVERSIONS = frozenset(
    (
        *("ACCEPTINVCHARS", "BLANKSASNULL", "DATEFORMAT", "EMPTYASNULL", "ENCODING", "GZIP"),
        *("BZIP2", "ZSTD", "IGNOREBLANKLINES", "IGNOREHEADER", "NULL", "ROUNDEC", "TIMEFORMAT"),
        *("TRIMBLANKS", "TRUNCATECOLUMNS", "FILLRECORD"),
    )
)
_OPTIONS = {
    "PARQUET": (_COMMON - {"MAXERROR"}) | {"FILLRECORD", "SERIALIZETOJSON", "ACCEPTINVCHARS"},
    "CSV": _COMMON | _CONVERSIONS | {"DELIMITER", "QUOTE"},
    "TEXT": _COMMON | _CONVERSIONS | {"DELIMITER", "ESCAPE", "REMOVEQUOTES"},
    "JSON": _COMMON | _CONVERSIONS | {"JSON"},
}
_TARGET = """
    select a.attname, t.typname, b.typname, a.atttypmod, a.attnotnull or t.typnotnull,
        a.attidentity <> ''
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = a.atttypid
    left join pg_catalog.pg_type b on b.oid = t.typbasetype
    where a.attrelid = {table}::pg_catalog.regclass and a.attnum > 0 and not a.attisdropped
    order by a.attnum"""
_INSERT_ERRORS = """
    insert into pg_catalog.stl_load_errors (
        userid, slice, tbl, starttime, session, query, filename, line_number, colname, type,
        col_length, position, raw_line, raw_field_value, err_code, err_reason, is_partial,
        start_offset
    ) values """
_INSERT_FILES = """
    insert into pg_catalog.stl_load_commits (
        userid, query, slice, name, filename, byte_offset, lines_scanned, errors, curtime, status,
        file_format, is_partial, start_offset
    ) values """
# They rise even across restarts of the proxy, and fit into an integer until 2038.
_query_ids = itertools.count(int(time.time()))
_OWN_TYPES = frozenset(("super", "varbyte"))


async def load(statement: Copy, backend: Backend, cluster: Cluster) -> int:
    """Run a COPY in the session's transaction.

    Args:
        statement: The COPY.
        backend: The client's session.
        cluster: What it may use.

    Returns:
        The number of rows loaded.

    Raises:
        ServerError: It is refused or fails; bad rows are in STL_LOAD_ERRORS then.
    """
    _check_options(statement)
    storage = Storage(cluster, statement.credentials)
    columns = await _target_columns(statement, backend)
    files = await asyncio.to_thread(_find_files, statement, storage)
    names = ", ".join(_quoted(column.name) for column in columns)
    copy_sql = f"copy {statement.table} ({names}) from stdin with (format "
    counts: Counter[str] = Counter({file.url: 0 for file in files})
    query_id = next(_query_ids)
    if statement.format == "PARQUET":
        chunks = load_parquet.chunks(files, storage, columns, statement.options, counts)
        rows = await _feed(statement, copy_sql + "csv)", chunks, backend)
    else:
        text = TextLoad(storage, statement.format, columns, statement.options, counts=counts)
        try:
            rows = await _feed(statement, copy_sql + "text)", text.chunks(files), backend)
        except TooManyErrorsError as error:
            raise _load_failed(statement, text.errors) from error
        finally:
            await _record_errors(statement, query_id, text.errors, backend, cluster)
    if "NOLOAD" in statement.options:
        return sum(counts.values())
    await _record_files(statement, query_id, counts, cluster)
    # What pg_last_copy_count() and pg_last_copy_id() read.
    await backend.query(
        f"select pg_redshift.rows_changed({_literal(statement.table)}, {rows}), "
        f"pg_catalog.set_config('redshift.last_copy_count', '{rows}', false), "
        f"pg_catalog.set_config('redshift.last_copy_id', '{query_id}', false)"
    )
    return rows


def loaded_message(statement: Copy, rows: int) -> str:
    """What Redshift tells the client after a COPY."""
    table = _bare(statement.table)
    return f"Load into table '{table}' completed, {rows} record(s) loaded successfully."


async def in_thread(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    """The chunks, each made in a thread while the one before is used."""
    advance = partial(next, chunks, None)
    upcoming = asyncio.create_task(asyncio.to_thread(advance))
    try:
        while (chunk := await upcoming) is not None:
            upcoming = asyncio.create_task(asyncio.to_thread(advance))
            yield chunk
    finally:
        # A generator cannot be closed while a thread is in it.
        await asyncio.wait([upcoming])


def _check_options(statement: Copy) -> None:
    if statement.format not in _OPTIONS:
        raise ServerError.make(
            f"COPY FORMAT {statement.format} is not covered by the Redshift stand-in.",
            FEATURE_NOT_SUPPORTED,
        )
    unknown = sorted(set(statement.options) - _OPTIONS[statement.format])
    if unknown:
        said = (
            f"{unknown[0]} argument is not supported for PARQUET based COPY"
            if statement.format == "PARQUET"
            else f"COPY with {unknown[0]} is not covered by the Redshift stand-in."
        )
        raise ServerError.make(said, FEATURE_NOT_SUPPORTED)
    encoding = str(statement.options.get("ENCODING", "UTF8")).upper()
    if encoding not in ("UTF8", "AUTO"):
        raise ServerError.make(
            f"COPY ENCODING {encoding} is not covered by the Redshift stand-in.",
            FEATURE_NOT_SUPPORTED,
        )


async def _target_columns(statement: Copy, backend: Backend) -> list[TargetColumn]:
    try:
        found = await backend.query(_TARGET.format(table=_literal(statement.table)))
    except ServerError as error:
        if error.fields.get("C") == "42P01":
            raise ServerError.make(
                f"Cannot COPY into nonexistent table {_bare(statement.table)}", "42P01"
            ) from error
        raise
    columns = {}
    identities = set()
    for name, type_, base, modifier, is_not_null, is_identity in found.rows:
        column = _target_column(
            cell(name), cell(type_), base, int(cell(modifier)), is_not_null != "t"
        )
        columns[column.name] = column
        if is_identity == "t":
            identities.add(column.name)
    if not statement.columns:
        return [column for name, column in columns.items() if name not in identities]
    for name in statement.columns:
        if name not in columns:
            raise ServerError.make(
                f'column "{name}" of relation "{_bare(statement.table)}" does not exist', "42703"
            )
        if name in identities:
            raise ServerError.make(
                f"cannot set an identity column to a value: {name}", FEATURE_NOT_SUPPORTED
            )
    return [columns[name] for name in statement.columns]


def _target_column(
    name: str, type_: str, base: str | None, modifier: int, is_nullable: bool
) -> TargetColumn:
    # A domain counts as its base type, except for Redshift's own types.
    kind = type_ if type_ in _OWN_TYPES else base or type_
    length = precision = scale = None
    if kind in ("varchar", "bpchar", "varbyte") and modifier >= 4:
        length = modifier - 4
    if kind == "numeric" and modifier >= 4:
        precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0x7FF
    return TargetColumn(name, kind, length, precision, scale, is_nullable)


def _find_files(statement: Copy, storage: Storage) -> list[DataFile]:
    if "MANIFEST" in statement.options:
        return storage.read_manifest(statement.url, is_parquet=statement.format == "PARQUET")
    files = storage.find(statement.url)
    if not files:
        key = statement.url.removeprefix("s3://").partition("/")[2]
        raise detailed_error(f"The specified S3 prefix '{key}' does not exist", 8001)
    return files


async def _feed(statement: Copy, copy_sql: str, chunks: Iterator[bytes], backend: Backend) -> int:
    if "NOLOAD" not in statement.options:
        return await backend.copy_in(copy_sql, in_thread(chunks))
    async for _ in in_thread(chunks):
        pass
    return 0


def _load_failed(statement: Copy, errors: list[LoadError]) -> ServerError:
    return detailed_error(
        f"Load into table '{_bare(statement.table)}' failed.  Check 'stl_load_errors' system "
        "table for details.",
        errors[-1].code,
        "; ".join(_described(each) for each in errors[-3:]),
    )


def _described(error: LoadError) -> str:
    column = f", column {error.column.name}" if error.column else ""
    return f"{error.url}, line {error.line_number}{column}: {error.reason} ({error.raw_value!r})"


async def _record_errors(
    statement: Copy, query_id: int, errors: list[LoadError], backend: Backend, cluster: Cluster
) -> None:
    """Write STL_LOAD_ERRORS."""
    if not errors:
        return
    rows = ", ".join(_error_row(statement, error, query_id, backend.process_id) for error in errors)
    await _write_log(_INSERT_ERRORS + rows, cluster)


async def _record_files(
    statement: Copy, query_id: int, counts: Counter[str], cluster: Cluster
) -> None:
    """Write STL_LOAD_COMMITS."""
    if not counts:
        return
    rows = ", ".join(
        f"(100, {query_id}, 0, {_literal(url)}, {_literal(url)}, 0, {rows}, 0, "
        f"pg_catalog.clock_timestamp(), 1, {_literal(statement.format.title())}, 0, 0)"
        for url, rows in counts.items()
    )
    await _write_log(_INSERT_FILES + rows, cluster)


async def _write_log(sql: str, cluster: Cluster) -> None:
    # Over a separate connection: a rollback leaves Redshift's logs as they are.
    superuser = await cluster.log_in_superuser()
    try:
        await superuser.query(sql)
    finally:
        await superuser.close()


def _error_row(statement: Copy, error: LoadError, query_id: int, session: int) -> str:
    column = error.column
    length = "" if column is None or column.length is None else str(column.length)
    values = (
        "100",
        "0",
        # Another connection does not see a table that this transaction has created.
        f"coalesce(pg_catalog.to_regclass({_literal(statement.table)})::oid::bigint, 0)",
        "pg_catalog.clock_timestamp()",
        str(session),
        str(query_id),
        _literal(error.url[:256]),
        str(error.line_number),
        _literal(column.name[:127] if column else ""),
        _literal(column.type[:10] if column else ""),
        _literal(length),
        "0",
        _literal(error.raw_line.rstrip("\r\n")[:1024]),
        _literal(error.raw_value[:1024]),
        str(error.code),
        _literal(error.reason[:100]),
        "0",
        "0",
    )
    return f"({', '.join(values)})"


def _bare(table: str) -> str:
    """A table's name without its schema and quotes, as messages have it."""
    return re.split(r'\.(?=(?:[^"]*"[^"]*")*[^"]*$)', table)[-1].strip('"')


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    escaped = text.replace("\0", "").replace("\\", "\\\\").replace("'", "''")
    return f"E'{escaped}'"
