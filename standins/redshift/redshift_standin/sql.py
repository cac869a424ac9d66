"""Redshift's SQL, translated for PostgreSQL. Pure: no database is asked.

A statement is of a kind known here, or it is refused; so are the functions, types and operators in
it. docs/redshift-standin.md says what is covered and which of Redshift's pages each part follows.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from redshift_standin import bulk, commands, ddl
from redshift_standin.lexer import Kind, Tokens, split
from redshift_standin.query import Query
from redshift_standin.reader import Reader, written
from redshift_standin.statements import (
    SYNTAX_ERROR,
    AlterTable,
    Answer,
    Copy,
    CreateTable,
    KeyConstraint,
    RedshiftError,
    Run,
    Several,
    TableAttributes,
    Translated,
    Unload,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "AlterTable",
    "Answer",
    "Copy",
    "CreateTable",
    "KeyConstraint",
    "RedshiftError",
    "Run",
    "Several",
    "TableAttributes",
    "Translated",
    "Unload",
    "split",
    "translate",
]


def translate(statement: str) -> Translated:
    """What the stand-in does for a statement.

    Args:
        statement: One statement of Redshift's SQL, which may hold $1 … $n.

    Raises:
        RedshiftError: Redshift refuses it, or the stand-in does not cover it.
    """
    tokens = Tokens(statement)
    while tokens.all and tokens.all[-1].word == ";":
        statement = statement[: tokens.all[-1].start]
        tokens = Tokens(statement)
    if not tokens.all:
        return Run("")
    word = tokens.word(0)
    if word not in _KINDS:
        text = tokens.all[0].text
        raise RedshiftError(
            f'syntax error at or near "{text}"',
            SYNTAX_ERROR,
            "The Redshift stand-in does not know this statement: see docs/redshift-standin.md.",
        )
    _refuse_long_names(tokens)
    translated = _KINDS[word](tokens)
    return _with_comment(translated, statement[: tokens.all[0].start].strip())


# What PostgreSQL keeps of a name; it cuts off the rest.
_MAX_NAME_BYTES = 63


def _refuse_long_names(tokens: Tokens) -> None:
    """Refuse names that PostgreSQL would cut off where the client sees it.

    A temporary table's own name is let through, because dbt makes long ones: PostgreSQL cuts it off
    in the same way wherever it is used again.
    """
    creates = tokens.word(0) in ("create", "alter")
    temporary = any(tokens.word(index) in ("temp", "temporary") for index in (1, 2))
    for index, token in enumerate(tokens.all):
        if token.kind not in (Kind.NAME, Kind.QUOTED):
            continue
        size = len(token.name.encode())
        is_shown = (creates and not temporary) or tokens.word(index - 1) == "as"
        if size > _MAX_NAME_BYTES and is_shown:
            raise RedshiftError(
                f'The name "{token.name}" has {size} bytes. Redshift takes 127, the stand-in '
                f"{_MAX_NAME_BYTES}.",
                hint="Choose a shorter name, or an alias for the model in dbt.",
            )


def _with_comment(translated: Translated, comment: str) -> Translated:
    """Keep the leading comment, in which dbt and others say who asks, for PostgreSQL's log."""
    if not comment:
        return translated
    match translated:
        case Run() | CreateTable() | AlterTable():
            return replace(translated, sql=f"{comment}\n{translated.sql}")
    return translated


def _query(tokens: Tokens) -> Translated:
    writes = _makes_table(tokens)
    return Run(Query(tokens, writes=writes).rewrite(0, len(tokens.all)))


def _makes_table(tokens: Tokens) -> bool:
    """Whether a query is SELECT … INTO."""
    return tokens.word(0) != "(" and tokens.find(0, len(tokens.all), "into") is not None


def _change(tokens: Tokens) -> Translated:
    query = Query(tokens, writes=True)
    return Run(query.rewrite(0, len(tokens.all)), _changed(query))


def _changed(query: Query) -> str | None:
    """The table that an INSERT, UPDATE, DELETE or MERGE changes: the first that it names."""
    return written(query.sources[0].path) if query.sources else None


def _delete(tokens: Tokens) -> Translated:
    # FROM is optional in Redshift.
    if tokens.word(1) != "from":
        text = tokens.text
        tokens = Tokens(f"{text[: tokens.all[0].end]} from {text[tokens.all[0].end :]}")
    return _change(tokens)


def _merge(tokens: Tokens) -> Translated:
    query = Query(tokens, writes=True)
    end = len(tokens.all)
    if tokens.starts(end - 2, "remove", "duplicates"):
        return _merge_without_duplicates(tokens, query)
    when = tokens.find(0, end, "when")
    if when is None:
        raise RedshiftError("syntax error at end of input", SYNTAX_ERROR)
    return Run(query.rewrite(0, end), _changed(query))


def _merge_without_duplicates(tokens: Tokens, query: Query) -> Translated:
    """MERGE … REMOVE DUPLICATES: the source's rows replace what they match."""
    reader = Reader(tokens)
    reader.expect("merge", "into")
    target = written(reader.path())
    reader.expect("using")
    source_start = reader.index
    reader.path()
    source = query.rewrite(source_start, reader.index)
    alias = ""
    if reader.take("as") or reader.word != "on":
        alias = f" as {written((reader.name(),))}"
    reader.expect("on")
    condition = query.rewrite(reader.index, reader.end - 2)
    return Run(
        f"with replaced as (delete from {target} using {source}{alias} where {condition}) "  # noqa: S608
        f"insert into {target} select * from {source}",
        target,
    )


def _refused(tokens: Tokens, hint: str) -> Translated:
    word = tokens.all[0].text.upper()
    raise RedshiftError(f'SQL command "{word}" not supported on Redshift.', hint=hint)


def _not_covered(tokens: Tokens) -> Translated:
    word = tokens.all[0].text.upper()
    raise RedshiftError(f"{word} is not covered by the Redshift stand-in.")


def _nothing(tag: str, tokens: Tokens) -> Translated:
    for token in tokens.all[1:]:
        if token.kind is Kind.STRING:
            raise RedshiftError(f'syntax error at or near "{token.text}"', SYNTAX_ERROR)
    return Answer(tag)


_KINDS: dict[str, Callable[[Tokens], Translated]] = {
    "select": _query,
    "with": _query,
    "(": _query,
    "insert": _change,
    "update": _change,
    "delete": _delete,
    "merge": _merge,
    "create": ddl.create,
    "alter": ddl.alter,
    "drop": ddl.drop,
    "copy": bulk.copy,
    "unload": bulk.unload,
    "begin": commands.transaction,
    "start": commands.transaction,
    "commit": commands.transaction,
    "end": commands.transaction,
    "rollback": commands.transaction,
    "abort": commands.transaction,
    "set": commands.set_parameter,
    "reset": commands.reset,
    "show": commands.show,
    "grant": commands.grant,
    "revoke": commands.grant,
    "comment": commands.comment,
    "explain": lambda tokens: commands.explain(tokens, translate),
    "lock": commands.lock,
    "truncate": commands.truncate,
    "refresh": commands.refresh,
    "declare": commands.cursor,
    "fetch": commands.cursor,
    "close": commands.cursor,
    "prepare": lambda tokens: commands.prepared(tokens, translate),
    "execute": lambda tokens: commands.prepared(tokens, translate),
    "deallocate": lambda tokens: commands.prepared(tokens, translate),
    "vacuum": partial(_nothing, "VACUUM"),
    "analyze": partial(_nothing, "ANALYZE"),
    "analyse": partial(_nothing, "ANALYZE"),
    "savepoint": lambda tokens: _refused(tokens, "Redshift has no savepoints."),
    "release": lambda tokens: _refused(tokens, "Redshift has no savepoints."),
    "reindex": lambda tokens: _refused(tokens, "Redshift has no indexes."),
    "cluster": lambda tokens: _refused(tokens, "Redshift has sort keys."),
    "listen": lambda tokens: _refused(tokens, "Redshift has no notifications."),
    "notify": lambda tokens: _refused(tokens, "Redshift has no notifications."),
    "do": lambda tokens: _refused(tokens, "Redshift has stored procedures."),
    "call": _not_covered,
    "use": _not_covered,
    "cancel": _not_covered,
}
