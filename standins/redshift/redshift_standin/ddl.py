"""CREATE, ALTER and DROP; tables have their own module."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from redshift_standin.lexer import Kind, Tokens, literal, quote, words
from redshift_standin.query import Query
from redshift_standin.reader import Reader, written
from redshift_standin.statements import (
    SYNTAX_ERROR,
    Answer,
    RedshiftError,
    Run,
    Translated,
)
from redshift_standin.tables import (
    Table,
    alter_table,
    create_table,
    said_attributes,
    table_attribute,
)
from redshift_standin.types import parse_type

if TYPE_CHECKING:
    from collections.abc import Callable


def create(tokens: Tokens) -> Translated:
    """CREATE anything."""
    reader = Reader(tokens)
    reader.expect("create")
    replace = reader.take("or", "replace")
    if reader.one_of("local", "global"):
        pass
    temporary = reader.one_of("temp", "temporary") is not None
    if reader.take("table"):
        return create_table(reader, temporary)
    if reader.take("materialized", "view"):
        return _create_materialized_view(reader)
    if reader.take("view"):
        return _create_view(reader, replace)
    makers: dict[str, Callable[[Reader], Translated]] = {
        "schema": _create_schema,
        "user": _create_user,
        "group": _create_group,
        "role": lambda each: Run(f"create role {quote(each.name())}"),
        "function": lambda each: _create_function(each, replace),
    }
    word = reader.word
    if word in makers:
        reader.index += 1
        return makers[word](reader)
    if word in (
        "index",
        "unique",
        "sequence",
        "type",
        "domain",
        "extension",
        "trigger",
        "rule",
        "aggregate",
        "operator",
        "cast",
        "tablespace",
        "foreign",
        "server",
    ):
        what = "INDEX" if word == "unique" else word.upper()
        raise RedshiftError(
            f'SQL command "CREATE {what}" not supported on Redshift.',
            hint="Redshift has no indexes; it has sort keys." if what == "INDEX" else None,
        )
    raise RedshiftError(f"CREATE {word.upper()} is not covered by the Redshift stand-in.")


def _rest(reader: Reader) -> str:
    text = reader.tokens.source(reader.index, reader.end)
    reader.index = reader.end
    return text


def _create_schema(reader: Reader) -> Translated:
    exists = "if not exists " if reader.take("if", "not", "exists") else ""
    if reader.take("authorization"):
        return Run(f"create schema {exists}authorization {quote(reader.name())}")
    name = quote(_schema_name(reader))
    owner = f" authorization {quote(reader.name())}" if reader.take("authorization") else ""
    if reader.take("quota") and not reader.take("unlimited"):
        reader.number()
        reader.one_of("mb", "gb", "tb")
    reader.finish()
    return Run(f"create schema {exists}{name}{owner}")


def _schema_name(reader: Reader) -> str:
    return reader.path()[-1]


def _create_user(reader: Reader) -> Translated:
    name = quote(reader.name())
    reader.take("with")
    return Run(f"create user {name}{_user_options(reader)}")


def _create_group(reader: Reader) -> Translated:
    name = quote(reader.name())
    users = []
    if reader.take("with", "user") or reader.take("user"):
        users.append(quote(reader.name()))
        while reader.take(","):
            users.append(quote(reader.name()))
    reader.finish()
    members = f" user {', '.join(users)}" if users else ""
    # PostgreSQL's groups are roles. NOINHERIT marks a group, and has no effect on one: a group is
    # in no other group.
    return Run(f"create group {name} noinherit{members}")


def _user_options(reader: Reader) -> str:
    options = []
    while not reader.at_end:
        if reader.take("password"):
            disabled = reader.take("disable")
            options.append("password null" if disabled else f"password {literal(reader.string())}")
        elif reader.take("createuser"):
            options.append("superuser")
        elif reader.take("nocreateuser"):
            options.append("nosuperuser")
        elif reader.take("syslog", "access"):
            if not reader.one_of("restricted", "unrestricted"):
                raise reader.unexpected()
        elif reader.take("session", "timeout"):
            reader.number()
        elif reader.take("externalid"):
            reader.string()
        elif reader.take("in", "group"):
            groups = [quote(reader.name())]
            while reader.take(","):
                groups.append(quote(reader.name()))
            options.append(f"in role {', '.join(groups)}")
        elif reader.take("valid", "until"):
            options.append(f"valid until {literal(reader.string())}")
        elif reader.take("connection", "limit"):
            limit = -1 if reader.take("unlimited") else reader.number()
            options.append(f"connection limit {limit}")
        elif option := reader.one_of("createdb", "nocreatedb"):
            options.append(option)
        else:
            raise reader.unexpected()
    return "".join(f" {option}" for option in options)


def _create_function(reader: Reader, replace: bool) -> Translated:
    path = written(reader.path())
    tokens = reader.tokens
    opening = reader.index
    reader.expect("(")
    closing = tokens.closing[opening]
    types = []
    for start, end in tokens.separated(opening + 1, closing):
        begin = start + 1 if end - start > 1 and tokens.at(start + 1).kind is Kind.NAME else start
        # PostgreSQL does not keep the lengths of arguments, as in varchar(10).
        types.append(parse_type(tokens, begin, end)[0])
    reader.index = closing + 1
    reader.expect("returns")
    returns, reader.index = parse_type(tokens, reader.index, reader.end)
    volatility = reader.one_of("volatile", "stable", "immutable")
    if volatility is None:
        raise reader.unexpected()
    reader.expect("as")
    body = Tokens(reader.string())
    reader.expect("language")
    if not reader.take("sql"):
        raise RedshiftError(
            f"Functions in {reader.word} are not covered by the Redshift stand-in; SQL is."
        )
    reader.finish()
    text = Query(body, writes=False).rewrite(0, len(body.all))
    command = "create or replace function" if replace else "create function"
    return Run(
        f"{command} {path}({', '.join(types)}) returns {returns} {volatility} "
        f"as {literal(text)} language sql"
    )


def _create_view(reader: Reader, replace: bool) -> Translated:
    tokens = reader.tokens
    path = reader.path()
    columns = ""
    if reader.word == "(":
        columns = f" ({', '.join(quote(name) for name in reader.names())})"
    reader.expect("as")
    end = reader.end
    unbound = end - 4 >= reader.index and tokens.starts(end - 4, "with", "no", "schema", "binding")
    if unbound:
        end -= 4
    query = Query(tokens, writes=False)
    text = query.rewrite(reader.index, end)
    if not unbound:
        command = "create or replace view" if replace else "create view"
        return Run(f"{command} {written(path)}{columns} as {text}")
    for source in query.sources:
        if len(source.path) == 1 and not source.is_cte and not source.in_catalog:
            raise RedshiftError(
                "All the relation names inside should be qualified when creating views "
                "with no schema binding.",
                hint=f"Write the schema of {source.path[0]}.",
            )
    return Run(
        f"call pg_redshift.create_late_binding_view({literal(written(path))}, "
        f"{literal(columns)}, {literal(text)}, {str(replace).lower()})"
    )


# A materialized view with one of these words is refreshed in full.
_FULL_REFRESH = words("""
    approximate avg current_date current_time current_timestamp date_part date_trunc distinct except
    exists full getdate intersect left listagg max median min minus over percentile_cont random
    right stddev_pop stddev_samp sysdate timeofday to_timestamp union
    """)


def _create_materialized_view(reader: Reader) -> Translated:
    tokens = reader.tokens
    path = reader.path()
    table = Table(diststyle="EVEN")
    auto_refresh = False
    while not reader.take("as"):
        if reader.take("auto", "refresh"):
            auto_refresh = _yes_or_no(reader)
        elif not table_attribute(reader, table):
            raise reader.unexpected()
    if table.distkey:
        table.diststyle = "KEY"
    elif table.diststyle == "KEY":
        raise RedshiftError("DISTSTYLE KEY requires a DISTKEY column", SYNTAX_ERROR)
    _refuse_order(tokens, reader.index, reader.end)
    text = Query(tokens, writes=True).rewrite(reader.index, reader.end)
    recomputed = any(token.word in _FULL_REFRESH for token in tokens.all[reader.index :])
    place = "".join(f"{quote(part)}." for part in path[:-1])
    arguments = (
        *(literal(place), literal(path[-1]), literal(text)),
        literal(f"{tokens.source(0, reader.end)};"),
        *(str(auto_refresh).lower(), str(int(not recomputed))),
        literal(json.dumps(said_attributes(table.attributes()))),
    )
    return Run(f"call pg_redshift.create_materialized_view({', '.join(arguments)})")


def _refuse_order(tokens: Tokens, start: int, end: int) -> None:
    """Refuse ORDER BY, LIMIT and OFFSET in the query of a materialized view."""
    while tokens.word(start) == "(" and tokens.closing[start] == end - 1:
        start, end = start + 1, end - 1
    if found := tokens.find(start, end, "order", "limit", "offset"):
        raise RedshiftError(
            f"A materialized view cannot have {tokens.word(found).upper()} in its definition."
        )


def _yes_or_no(reader: Reader) -> bool:
    answer = reader.one_of("yes", "no")
    if answer is None:
        raise reader.unexpected()
    return answer == "yes"


def alter(tokens: Tokens) -> Translated:
    """ALTER anything."""
    reader = Reader(tokens)
    reader.expect("alter")
    if reader.take("table"):
        return alter_table(reader)
    if reader.take("schema"):
        name = quote(_schema_name(reader))
        if reader.take("rename", "to"):
            return Run(f"alter schema {name} rename to {quote(reader.name())}")
        if reader.take("owner", "to"):
            return Run(f"alter schema {name} owner to {quote(reader.name())}")
        if reader.take("quota"):
            return Answer("ALTER SCHEMA")
        raise reader.unexpected()
    if reader.take("database"):
        return _alter_database(reader)
    if reader.take("user"):
        name = quote(reader.name())
        if reader.take("rename", "to"):
            return Run(f"alter user {name} rename to {quote(reader.name())}")
        reader.take("with")
        return Run(f"alter user {name}{_user_options(reader)}")
    if reader.take("group"):
        return Run(f"alter group {_rest(reader)}")
    if reader.take("materialized", "view"):
        name = literal(written(reader.path()))
        reader.expect("auto", "refresh")
        auto_refresh = str(_yes_or_no(reader)).lower()
        reader.finish()
        return Run(f"call pg_redshift.alter_materialized_view({name}, {auto_refresh})")
    if reader.take("default", "privileges"):
        return Run(f"alter default privileges {_without_role_word(reader)}")
    raise RedshiftError(f"ALTER {reader.word.upper()} is not covered by the Redshift stand-in.")


def _alter_database(reader: Reader) -> Translated:
    name = quote(reader.name())
    reader.expect("isolation", "level")
    levels = {"snapshot": "repeatable read", "serializable": "serializable"}
    level = reader.one_of(*levels)
    if level is None:
        raise reader.unexpected()
    reader.finish()
    return Run(f"alter database {name} set default_transaction_isolation = '{levels[level]}'")


def _without_role_word(reader: Reader) -> str:
    """The rest, without ROLE before a grantee, which PostgreSQL does not have."""
    pieces = []
    for index in range(reader.index, reader.end):
        if reader.tokens.word(index) == "role" and reader.tokens.word(index - 1) in (
            "to",
            "from",
            ",",
        ):
            continue
        token = reader.tokens.at(index)
        pieces.append(reader.tokens.gap(index))
        pieces.append(quote(token.name) if token.kind is Kind.QUOTED else token.text)
    return "".join(pieces).strip()


def drop(tokens: Tokens) -> Translated:
    """DROP anything."""
    reader = Reader(tokens)
    reader.expect("drop")
    what = "materialized view" if reader.take("materialized", "view") else reader.word
    if what in ("index", "type", "sequence", "domain", "extension", "trigger"):
        raise RedshiftError(f'SQL command "DROP {what.upper()}" not supported on Redshift.')
    if what not in (
        "table",
        "view",
        "materialized view",
        "schema",
        "user",
        "group",
        "role",
        "function",
        "procedure",
    ):
        raise RedshiftError(f"DROP {what.upper()} is not covered by the Redshift stand-in.")
    if what != "materialized view":
        reader.index += 1
    exists = "if exists " if reader.take("if", "exists") else ""
    if what in ("function", "procedure"):
        return Run(f"drop {what} {exists}{_rest(reader)}")
    names = [reader.path()]
    while reader.take(","):
        names.append(reader.path())
    option = reader.one_of("cascade", "restrict", "force")
    reader.finish()
    if what == "schema":
        names = [path[-1:] for path in names]
    if what == "materialized view":
        return _drop_materialized_view(reader, names, bool(exists), option)
    targets = ", ".join(written(path) for path in names)
    return Run(
        f"drop {what} {exists}{targets}{f' {option}' if option in ('cascade', 'restrict') else ''}"
    )


def _drop_materialized_view(
    reader: Reader, names: list[tuple[str, ...]], if_exists: bool, option: str | None
) -> Translated:
    if len(names) > 1:
        raise reader.unexpected()
    name = literal(written(names[0]))
    behaviour = literal(option if option in ("cascade", "restrict") else "")
    return Run(
        f"call pg_redshift.drop_materialized_view({name}, {str(if_exists).lower()}, {behaviour})"
    )
