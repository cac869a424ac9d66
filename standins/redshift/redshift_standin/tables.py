"""CREATE TABLE and ALTER TABLE."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from redshift_standin.lexer import Kind, Tokens, literal, quote, words
from redshift_standin.query import Query
from redshift_standin.reader import Reader, written
from redshift_standin.statements import (
    SYNTAX_ERROR,
    AlterTable,
    CreateTable,
    KeyConstraint,
    RedshiftError,
    Run,
    TableAttributes,
    Translated,
)
from redshift_standin.types import parse_type

if TYPE_CHECKING:
    from collections.abc import Callable

_NAMES = (Kind.NAME, Kind.QUOTED)
_DISTSTYLES = ("auto", "even", "all", "key")
_ENCODINGS = words("""
    az64 auto bytedict delta delta32k lzo mostly8 mostly16 mostly32 none raw runlength text255
    text32k zstd
    """)


@dataclass
class Table:
    """A table's definition while it is being read."""

    columns: list[str] = field(default_factory=list)
    diststyle: str | None = None
    distkey: str | None = None
    sortstyle: str | None = None
    sortkeys: tuple[str, ...] = ()
    encodings: dict[str, str] = field(default_factory=dict)
    constraints: list[KeyConstraint] = field(default_factory=list)

    def attributes(self) -> TableAttributes:
        """The attributes that the database has to remember."""
        return TableAttributes(
            diststyle=self.diststyle,
            distkey=self.distkey,
            sortstyle=self.sortstyle,
            sortkeys=self.sortkeys,
            encodings=self.encodings,
            constraints=tuple(self.constraints),
        )


def said_attributes(attributes: TableAttributes, like: str | None = None) -> dict[str, object]:
    """What a statement says of a table, as the database remembers it (`pg_redshift.remember`)."""
    found: dict[str, object] = {
        "diststyle": attributes.diststyle,
        "distkey": attributes.distkey,
        "sortstyle": attributes.sortstyle,
        "sortkeys": attributes.sortkeys,
        "encodings": attributes.encodings,
        "constraints": [
            {
                "kind": each.kind,
                "columns": each.columns,
                "name": each.name,
                "references": each.references,
                "referenced": each.referenced,
            }
            for each in attributes.constraints
        ],
        "like": like,
    }
    return {key: value for key, value in found.items() if value}


def attributes_comment(attributes: TableAttributes, like: str | None = None) -> str:
    """The attributes as the comment that the database's event trigger reads."""
    said = said_attributes(attributes, like)
    if not said:
        return ""
    # A star could end the comment.
    return f" /*redshift {json.dumps(said).replace('*', chr(92) + 'u002a')}*/"


def create_table(reader: Reader, temporary: bool) -> Translated:
    """CREATE [TEMPORARY] TABLE, from the name on."""
    exists = "if not exists " if reader.take("if", "not", "exists") else ""
    path = reader.path()
    temporary = temporary or path[-1].startswith("#")
    head = f"create {'temporary ' if temporary else ''}table {exists}{written(path)}"
    table = Table()
    like = None
    body = ""
    if reader.word == "(":
        opening = reader.index
        closing = reader.tokens.closing[opening]
        if _is_column_names(reader.tokens, opening, closing):
            body = f" ({', '.join(quote(name) for name in reader.names())})"
        else:
            query = Query(reader.tokens, writes=True)
            for start, end in reader.tokens.separated(opening + 1, closing):
                item = Reader(reader.tokens, start, end)
                like = _table_item(item, query, table, path[-1]) or like
                item.finish()
            body = f" ({', '.join(table.columns)})"
            reader.index = closing + 1
    while not reader.at_end and reader.word != "as":
        if not table_attribute(reader, table):
            raise reader.unexpected()
    if reader.take("as"):
        if reader.at_end:
            raise reader.unexpected()
        body += " as " + Query(reader.tokens, writes=True).rewrite(reader.index, reader.end)
    elif not body:
        raise reader.unexpected()
    _check_keys(table)
    attributes = table.attributes()
    return CreateTable(f"{head}{body}{attributes_comment(attributes, like)}", attributes)


def _is_column_names(tokens: Tokens, opening: int, closing: int) -> bool:
    return all(
        end - start == 1 and tokens.at(start).kind in _NAMES
        for start, end in tokens.separated(opening + 1, closing)
    )


def _check_keys(table: Table) -> None:
    if table.diststyle == "KEY" and table.distkey is None:
        raise RedshiftError("DISTSTYLE KEY requires a DISTKEY column", SYNTAX_ERROR)
    if table.distkey is not None:
        if table.diststyle not in (None, "KEY"):
            raise RedshiftError(
                f"DISTKEY cannot be specified with DISTSTYLE {table.diststyle}", SYNTAX_ERROR
            )
        table.diststyle = "KEY"


def table_attribute(reader: Reader, table: Table) -> bool:
    """Step over one of the attributes after the columns; False when there is none."""
    if reader.take("backup"):
        if not reader.one_of("yes", "no"):
            raise reader.unexpected()
    elif reader.take("diststyle"):
        style = reader.one_of(*_DISTSTYLES)
        if style is None:
            raise reader.unexpected()
        table.diststyle = style.upper()
    elif reader.take("distkey"):
        (table.distkey,) = _one_name(reader)
    elif reader.word in ("compound", "interleaved", "sortkey"):
        style = reader.one_of("compound", "interleaved")
        reader.expect("sortkey")
        if style is None and reader.take("auto"):
            table.sortstyle = "AUTO"
        else:
            table.sortstyle = (style or "compound").upper()
            table.sortkeys = reader.names() if reader.word == "(" else (reader.name(),)
    elif not reader.take("encode", "auto"):
        return False
    return True


def _one_name(reader: Reader) -> tuple[str, ...]:
    names = reader.names() if reader.word == "(" else (reader.name(),)
    if len(names) != 1:
        raise RedshiftError("Only one column can be the DISTKEY", SYNTAX_ERROR)
    return names


def _table_item(reader: Reader, query: Query, table: Table, table_name: str) -> str | None:
    """Read a column, a key or LIKE; the table that LIKE names is returned."""
    if reader.take("like"):
        source = written(reader.path())
        options = ""
        if including := reader.one_of("including", "excluding"):
            reader.expect("defaults")
            options = f" {including} defaults"
        table.columns.append(f"like {source}{options}")
        return source
    if key := _key_constraint(reader):
        table.constraints.append(key)
        return None
    if reader.word == "check" or reader.word == "exclude":
        raise RedshiftError(f"{reader.word.upper()} constraints are not supported on Redshift.")
    table.columns.append(_column(reader, query, table, table_name))
    return None


def _key_constraint(reader: Reader) -> KeyConstraint | None:
    start = reader.index
    name = reader.name() if reader.take("constraint") else None
    if reader.take("primary", "key"):
        return KeyConstraint("p", reader.names(), name)
    if reader.word == "unique" and reader.tokens.word(reader.index + 1) == "(":
        reader.index += 1
        return KeyConstraint("u", reader.names(), name)
    if reader.take("foreign", "key"):
        columns = reader.names()
        reader.expect("references")
        return _reference(reader, columns, name)
    reader.index = start
    return None


def _reference(reader: Reader, columns: tuple[str, ...], name: str | None) -> KeyConstraint:
    target = written(reader.path())
    referenced = reader.names() if reader.word == "(" else ()
    return KeyConstraint("f", columns, name, target, referenced)


def _column(reader: Reader, query: Query, table: Table, table_name: str) -> str:
    tokens = reader.tokens
    name = reader.name()
    if reader.at_end:
        raise reader.unexpected()
    try:
        column_type, reader.index = parse_type(tokens, reader.index, reader.end, in_table=True)
    except RedshiftError as error:
        if error.sqlstate != "42704":
            raise
        written_type = tokens.source(reader.index, reader.index + 1)
        raise RedshiftError(
            f'Column "{table_name}.{name}" has unsupported type "{written_type}".', hint=error.hint
        ) from None
    parts = [quote(name), column_type]
    while not reader.at_end:
        _column_attribute(reader, query, table, name, parts)
    return " ".join(parts)


def _column_attribute(
    reader: Reader, query: Query, table: Table, name: str, parts: list[str]
) -> None:
    if reader.take("not", "null"):
        parts.append("not null")
    elif reader.take("null"):
        parts.append("null")
    elif reader.take("encode"):
        table.encodings[name] = _encoding(reader)
    elif reader.take("distkey"):
        table.distkey = name
    elif reader.take("sortkey"):
        table.sortstyle = "COMPOUND"
        table.sortkeys = (*table.sortkeys, name)
    elif reader.take("primary", "key"):
        table.constraints.append(KeyConstraint("p", (name,)))
    elif reader.take("unique"):
        table.constraints.append(KeyConstraint("u", (name,)))
    elif reader.take("references"):
        table.constraints.append(_reference(reader, (name,), None))
    elif reader.take("identity"):
        parts.append(f"generated always as identity {_identity(reader)}")
    elif reader.take("generated", "by", "default", "as", "identity"):
        parts.append(f"generated by default as identity {_identity(reader)}")
    elif reader.take("default"):
        parts.append(f"default {_default(reader, query)}")
    elif reader.take("collate"):
        if reader.one_of("case_insensitive", "ci"):
            raise RedshiftError("COLLATE CASE_INSENSITIVE is not covered by the Redshift stand-in.")
        if not reader.one_of("case_sensitive", "cs"):
            raise reader.unexpected()
    elif reader.word == "check":
        raise RedshiftError("CHECK constraints are not supported on Redshift.")
    else:
        raise reader.unexpected()


def _encoding(reader: Reader) -> str:
    encoding = reader.one_of(*_ENCODINGS)
    if encoding is None:
        raise RedshiftError(f"invalid encoding type {reader.word}", SYNTAX_ERROR)
    return "none" if encoding == "raw" else encoding


def _identity(reader: Reader) -> str:
    reader.expect("(")
    seed = reader.number()
    reader.expect(",")
    step = reader.number()
    reader.expect(")")
    bounds = f" minvalue {seed}" if step > 0 else f" maxvalue {seed}"
    return f"(start with {seed} increment by {step}{bounds})"


def _default(reader: Reader, query: Query) -> str:
    stops = (
        "not",
        "null",
        "encode",
        "distkey",
        "sortkey",
        "primary",
        "unique",
        "references",
        "identity",
        "collate",
        "check",
    )
    start = reader.index
    if reader.take("null"):
        return "null"
    stop = reader.tokens.find(start, reader.end, *stops)
    reader.index = reader.end if stop is None else stop
    if reader.index == start:
        raise reader.unexpected()
    return query.rewrite(start, reader.index)


def alter_table(reader: Reader) -> Translated:
    """ALTER TABLE, from the name on."""
    path = reader.path()
    head = f"alter table {written(path)}"
    if reader.take("append", "from"):
        return _append(reader, path)
    actions: tuple[tuple[tuple[str, ...], Callable[[Reader, str, str], Translated]], ...] = (
        (("add",), _add),
        (("drop",), _drop_part),
        (("rename", "to"), lambda each, _, head: Run(f"{head} rename to {quote(each.name())}")),
        (("rename",), _rename_column),
        (("owner", "to"), lambda each, _, head: Run(f"{head} owner to {quote(each.name())}")),
        (("alter",), _alter_part),
    )
    for beginning, action in actions:
        if reader.take(*beginning):
            statement = action(reader, path[-1], head)
            reader.finish()
            return statement
    raise reader.unexpected()


def _append(reader: Reader, target: tuple[str, ...]) -> Translated:
    source = reader.path()
    option = reader.one_of("ignoreextra", "filltarget") or ""
    reader.finish()
    return Run(
        f"call pg_redshift.append({literal(written(target))}, {literal(written(source))}, "
        f"{literal(option)})"
    )


def _add(reader: Reader, table_name: str, head: str) -> Translated:
    if key := _key_constraint(reader):
        attributes = TableAttributes(constraints=(key,))
        # SET WITHOUT OIDS changes nothing, but runs the event trigger, which reads the comment.
        return AlterTable(f"{head} set without oids{attributes_comment(attributes)}", attributes)
    reader.take("column")
    if reader.word == "if":
        raise reader.unexpected()
    table = Table()
    query = Query(reader.tokens, writes=True)
    column = _column(reader, query, table, table_name)
    if " not null" in column and " default " not in column:
        raise RedshiftError(
            "ALTER TABLE ADD COLUMN defined as NOT NULL must have a non-null default expression"
        )
    attributes = table.attributes()
    return AlterTable(f"{head} add column {column}{attributes_comment(attributes)}", attributes)


def _drop_part(reader: Reader, table_name: str, head: str) -> Translated:
    what = "constraint" if reader.take("constraint") else "column"
    reader.take("column")
    name = quote(reader.name())
    option = reader.one_of("restrict", "cascade")
    return Run(f"{head} drop {what} {name}{f' {option}' if option else ''}")


def _rename_column(reader: Reader, table_name: str, head: str) -> Translated:
    reader.take("column")
    old = quote(reader.name())
    reader.expect("to")
    return Run(f"{head} rename column {old} to {quote(reader.name())}")


def _alter_part(reader: Reader, table_name: str, head: str) -> Translated:
    table = Table()
    if reader.take("column"):
        name = reader.name()
        if reader.take("type"):
            return _alter_type(reader, head, name)
        reader.expect("encode")
        table.encodings[name] = _encoding(reader)
    elif reader.take("distkey"):
        table.diststyle, table.distkey = "KEY", reader.name()
    elif reader.take("diststyle"):
        style = reader.one_of(*_DISTSTYLES)
        if style is None:
            raise reader.unexpected()
        table.diststyle = style.upper()
        if style == "key":
            reader.expect("distkey")
            table.distkey = reader.name()
    elif reader.take("sortkey", "none"):
        table.sortstyle = "NONE"
    elif not table_attribute(reader, table):
        raise reader.unexpected()
    attributes = table.attributes()
    return AlterTable(f"{head} set without oids{attributes_comment(attributes)}", attributes)


def _alter_type(reader: Reader, head: str, name: str) -> Translated:
    start = reader.index
    new_type, reader.index = parse_type(reader.tokens, start, reader.end, in_table=True)
    if not new_type.startswith(("varchar", "varbyte")):
        raise RedshiftError(
            f'cannot alter type of column "{name}": only the size of a VARCHAR or VARBYTE column '
            "can be changed",
            hint="Add a column, copy the values, drop the old one and rename the new one.",
        )
    # PostgreSQL itself refuses the change where a text is too long for the new size.
    return Run(f"{head} alter column {quote(name)} type {new_type}")
