"""COPY and UNLOAD."""

from __future__ import annotations

from redshift_standin.lexer import Tokens, words
from redshift_standin.query import Query
from redshift_standin.reader import Reader, written
from redshift_standin.statements import SYNTAX_ERROR, Copy, RedshiftError, Unload

_FORMATS = ("parquet", "csv", "json", "avro", "orc", "shapefile")
_CREDENTIALS = ("iam_role", "credentials", "access_key_id", "secret_access_key", "session_token")
# What each option takes: nothing, a string, a number, or a word of these.
_COPY_FLAGS = words("""
    acceptanydate blanksasnull bzip2 emptyasnull encrypted escape explicit_ids fillrecord gzip
    ignoreallerrors ignoreblanklines lzop manifest noload removequotes roundec serializetojson ssh
    trimblanks truncatecolumns zstd
    """)
_COPY_STRINGS = words(
    "dateformat delimiter encoding fixedwidth master_symmetric_key null quote region timeformat"
)
_COPY_NUMBERS = frozenset(("comprows", "ignoreheader", "maxerror", "readratio"))
_UNLOAD_FLAGS = words("addquotes allowoverwrite bzip2 cleanpath escape gzip header zstd")
_UNLOAD_STRINGS = words(
    "delimiter extension fixedwidth kms_key_id master_symmetric_key null region"
)

Options = dict[str, str | int | bool]


def copy(tokens: Tokens) -> Copy:
    """Parse ``COPY table FROM …``.

    Raises:
        RedshiftError: It is not Redshift's COPY.
    """
    reader = Reader(tokens)
    reader.expect("copy")
    table = written(reader.path())
    columns = reader.names() if reader.word == "(" else ()
    reader.expect("from")
    if reader.take("stdin"):
        raise RedshiftError(
            "COPY FROM STDIN is not supported on Redshift.",
            hint="Redshift copies from S3: COPY table FROM 's3://…' IAM_ROLE '…'",
        )
    url = reader.string()
    credentials: dict[str, str] = {}
    options: Options = {}
    data_format = "TEXT"
    while not reader.at_end:
        if not _credential(reader, credentials):
            data_format = _copy_option(reader, options) or data_format
    return Copy(table, columns, url, data_format, credentials, options)


def unload(tokens: Tokens) -> Unload:
    """Parse ``UNLOAD ('select …') TO …``.

    Raises:
        RedshiftError: It is not Redshift's UNLOAD.
    """
    reader = Reader(tokens)
    reader.expect("unload", "(")
    inner = Tokens(reader.string())
    reader.expect(")", "to")
    query = Query(inner, writes=True).rewrite(0, len(inner.all))
    url = reader.string()
    credentials: dict[str, str] = {}
    options: Options = {}
    data_format = "TEXT"
    while not reader.at_end:
        if not _credential(reader, credentials):
            data_format = _unload_option(reader, options) or data_format
    return Unload(query, url, data_format, credentials, options)


def _credential(reader: Reader, credentials: dict[str, str]) -> bool:
    reader.take("with")
    name = reader.one_of(*_CREDENTIALS)
    if name is None:
        return False
    reader.take("as")
    if name == "iam_role" and reader.take("default"):
        credentials[name] = "default"
    else:
        credentials[name] = reader.string()
    return True


def _copy_option(reader: Reader, options: Options) -> str | None:
    """Read an option; the format is returned when it is one."""
    if found := _format(reader, options):
        return found
    word = reader.word
    reader.index += 1
    reader.take("as")
    if word in _COPY_FLAGS:
        options[word.upper()] = True
    elif word in _COPY_NUMBERS:
        options[word.upper()] = reader.number()
    elif word == "encoding" and not reader.is_string():
        options["ENCODING"] = reader.name()
    elif word in _COPY_STRINGS:
        options[word.upper()] = reader.string()
        if word == "fixedwidth":
            return "FIXEDWIDTH"
    elif word == "acceptinvchars":
        options["ACCEPTINVCHARS"] = reader.string() if reader.is_string() else "?"
    elif word in ("compupdate", "statupdate"):
        options[word.upper()] = reader.one_of("on", "off", "preset", "true", "false") or "on"
    else:
        reader.index -= 1
        raise reader.unexpected()
    return None


def _format(reader: Reader, options: Options) -> str | None:
    named = reader.take("format")
    if named:
        reader.take("as")
    found = reader.one_of(*_FORMATS)
    if found is None:
        if named:
            raise reader.unexpected()
        return None
    if found in ("json", "avro"):
        reader.take("as")
        if reader.is_string():
            options["JSON" if found == "json" else "AVRO"] = reader.string()
    return found.upper()


def _unload_option(reader: Reader, options: Options) -> str | None:
    if found := _format(reader, options):
        if found not in ("PARQUET", "CSV", "JSON"):
            raise RedshiftError(f"UNLOAD has no format {found}", SYNTAX_ERROR)
        return found
    word = reader.word
    reader.index += 1
    reader.take("as")
    if word in _UNLOAD_FLAGS:
        options[word.upper()] = True
    elif word in _UNLOAD_STRINGS:
        options[word.upper()] = reader.string()
        if word == "fixedwidth":
            return "FIXEDWIDTH"
    elif word == "manifest":
        options["MANIFEST"] = "verbose" if reader.take("verbose") else True
    elif word == "parallel":
        options["PARALLEL"] = reader.one_of("on", "off", "true", "false") or "on"
    elif word == "encrypted":
        options["ENCRYPTED"] = reader.one_of("auto") or True
    elif word in ("maxfilesize", "rowgroupsize"):
        size = reader.number()
        options[word.upper()] = size * (1024 if reader.one_of("mb", "gb") == "gb" else 1)
    elif word == "partition":
        reader.expect("by")
        options["PARTITION"] = ",".join(reader.names())
        if reader.take("include"):
            options["INCLUDE"] = True
    else:
        reader.index -= 1
        raise reader.unexpected()
    return None
