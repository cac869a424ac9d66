"""Statements that are neither queries nor DDL: sessions, privileges, comments, SHOW."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redshift_standin.lexer import Kind, Tokens, literal, quote, words
from redshift_standin.query import Query
from redshift_standin.reader import Reader, written
from redshift_standin.statements import SYNTAX_ERROR, Answer, RedshiftError, Run, Several
from redshift_standin.types import parse_type

if TYPE_CHECKING:
    from collections.abc import Callable

    from redshift_standin.statements import Translated

# Settings that have the same meaning in PostgreSQL.
_SHARED_SETTINGS = words(
    """
    application_name client_encoding datestyle extra_float_digits
    idle_in_transaction_session_timeout intervalstyle lock_timeout search_path
    statement_timeout timezone
    """
)
# Redshift's own settings. They steer what the stand-in does not have, so it only remembers them.
_OWN_SETTINGS = words(
    """
    analyze_threshold_percent auto_analyze compound_sortkey_scan enable_numeric_rounding
    enable_result_cache_for_session enable_vacuum_boost json_serialization_enable
    json_serialization_parse_nested_strings max_concurrency_scaling_clusters
    max_cursor_result_set_size mv_enable_aqmv_for_session query_group spectrum_enable_pseudo_columns
    use_fips_ssl wlm_query_slot_count
    """
)
# Settings that change what names, comparisons and values mean: only their defaults are accepted.
_FIXED_SETTINGS = {
    "cast_super_null_on_error": ("on", "true"),
    "downcase_delimited_identifier": ("on", "true"),
    "enable_case_sensitive_super_attribute": ("off", "false"),
    "error_on_nondeterministic_update": ("off", "false"),
    "json_parse_dedup_attributes": ("off", "false"),
    "json_parse_truncate_strings": ("off", "false"),
    "navigate_super_null_on_error": ("on", "true"),
    "parse_super_null_on_error": ("off", "false"),
    "enable_case_sensitive_identifier": ("off", "false"),
    "describe_field_name_in_uppercase": ("off", "false"),
    "default_collation": ("case_sensitive",),
}
_SETTING_PREFIX = "redshift."


def transaction(tokens: Tokens) -> Translated:
    """BEGIN, COMMIT, ROLLBACK and their synonyms."""
    first, *rest = [token.word for token in tokens.all]
    rest = [word for word in rest if word not in ("work", "transaction")]
    if first in ("begin", "start"):
        allowed = {
            "isolation",
            "level",
            "serializable",
            "snapshot",
            "read",
            "write",
            "only",
            "committed",
            "uncommitted",
            "repeatable",
            ",",
        }
        if not set(rest) <= allowed:
            raise _unexpected(tokens, rest[0])
        # Redshift accepts every isolation level, and uses the one of the database.
        access = " read only" if "only" in rest else ""
        return Run(f"begin{access}")
    if rest:
        raise _unexpected(tokens, rest[0])
    return Run("commit" if first in ("commit", "end") else "rollback")


def _unexpected(tokens: Tokens, word: str) -> RedshiftError:
    text = next(token.text for token in tokens.all if token.word == word)
    return RedshiftError(f'syntax error at or near "{text}"', SYNTAX_ERROR)


def set_parameter(tokens: Tokens) -> Translated:
    """SET parameter TO value."""
    reader = Reader(tokens)
    reader.expect("set")
    scope = "local " if reader.take("local") else ""
    reader.take("session")
    if reader.take("authorization"):
        if reader.take("default"):
            return Run("set session authorization default")
        user = reader.string() if reader.is_string() else reader.name()
        return Run(f"set session authorization {quote(user)}")
    if reader.take("characteristics"):
        return Answer("SET")
    if reader.take("role"):
        return Run(f"set role {quote(reader.name())}")
    if reader.take("time", "zone"):
        return Run(f"set time zone {tokens.source(reader.index, reader.end)}")
    name = ".".join(reader.path())
    if not reader.one_of("to", "="):
        raise reader.unexpected()
    value = tokens.source(reader.index, reader.end)
    if not value:
        raise reader.unexpected()
    if name in _FIXED_SETTINGS:
        if value.strip("'\"").lower() not in (*_FIXED_SETTINGS[name], "default"):
            raise RedshiftError(f"SET {name} TO {value} is not covered by the Redshift stand-in.")
        return Answer("SET")
    if name == "timezone" or name in _SHARED_SETTINGS:
        return Run(f"set {scope}{name} to {value}")
    if name in _OWN_SETTINGS:
        return Run(f"set {scope}{_SETTING_PREFIX}{name} to {value}")
    if "." in name:
        return Run(f"set {scope}{name} to {value}")
    raise _no_setting(name)


def _no_setting(name: str) -> RedshiftError:
    return RedshiftError(f'unrecognized configuration parameter "{name}"', "42704")


def reset(tokens: Tokens) -> Translated:
    """RESET parameter."""
    reader = Reader(tokens)
    reader.expect("reset")
    if reader.take("all"):
        return Run("reset all")
    if reader.take("session", "authorization"):
        return Run("reset session authorization")
    name = reader.name()
    if name in _FIXED_SETTINGS or name == "use":
        return Answer("RESET")
    if name in _SHARED_SETTINGS:
        return Run(f"reset {name}")
    if name in _OWN_SETTINGS:
        return Run(f"reset {_SETTING_PREFIX}{name}")
    raise _no_setting(name)


def show(tokens: Tokens) -> Translated:
    """SHOW parameter, TABLES, SCHEMAS, COLUMNS, GRANTS or DATABASES."""
    reader = Reader(tokens)
    reader.expect("show")
    if reader.take("tables", "from", "schema"):
        return _show_listing(reader, "tables", ("schema_name",))
    if reader.take("schemas", "from", "database"):
        return _show_listing(reader, "schemas", ("database_name",))
    if reader.take("columns", "from", "table"):
        return _show_listing(reader, "columns", ("schema_name", "table_name"))
    if reader.take("grants", "on"):
        reader.take("table")
        return _show_listing(reader, "grants", ("schema_name", "object_name"))
    if reader.take("column", "grants", "on", "table"):
        return _show_listing(reader, "column_grants", ("schema_name", "table_name"))
    if reader.take("constraints"):
        return _show_constraints(reader)
    if what := reader.one_of("functions", "procedures"):
        reader.expect("from", "schema")
        return _show_listing(reader, what, ("schema_name",))
    if reader.take("parameters", "of"):
        return _show_parameters(reader)
    if reader.take("databases"):
        return Run("select * from pg_redshift.show_databases")
    if reader.take("server_version"):
        return Run("select '8.0.2'::varchar as server_version")
    if reader.take("time", "zone"):
        return Run("show timezone")
    if reader.take("transaction", "isolation", "level"):
        return Run("show transaction_isolation")
    name = reader.name()
    reader.finish()
    if name in _SHARED_SETTINGS or name in (
        "is_superuser",
        "standard_conforming_strings",
        "session_authorization",
        "transaction_isolation",
    ):
        return Run(f"show {name}")
    if name in _FIXED_SETTINGS:
        return Run(f"select {literal(_FIXED_SETTINGS[name][0])}::varchar as {name}")
    if name in _OWN_SETTINGS:
        setting = literal(_SETTING_PREFIX + name)
        return Run(f"select coalesce(current_setting({setting}, true), '')::varchar as {name}")
    raise _no_setting(name)


# The column that LIKE compares.
_LISTED = {
    "tables": "table_name",
    "schemas": "schema_name",
    "columns": "column_name",
    "functions": "function_name",
    "procedures": "procedure_name",
    "function_parameters": "parameter_name",
    "procedure_parameters": "parameter_name",
}
# The columns to show: not argument_list, which only serves to find the function.
_PARAMETERS = (
    "database_name, schema_name, {}, parameter_name, ordinal_position, parameter_type, data_type, "
    "character_maximum_length, numeric_precision, numeric_scale"
)
_ORDERS = {
    "columns": "ordinal_position",
    "primary_keys": "key_seq",
    "foreign_keys": "1, 2, 3, 9",
    "function_parameters": "ordinal_position",
    "procedure_parameters": "ordinal_position",
}


def _show_constraints(reader: Reader) -> Translated:
    if reader.take("primary", "keys", "from", "table"):
        return _show_listing(reader, "primary_keys", ("schema_name", "table_name"))
    reader.expect("foreign", "keys")
    side = "pk" if reader.take("exported") else "fk"
    reader.expect("from", "table")
    return _show_listing(reader, "foreign_keys", ("schema_name", "table_name"), f"{side}_")


def _show_parameters(reader: Reader) -> Translated:
    what = reader.one_of("function", "procedure")
    if what is None:
        raise reader.unexpected()
    return _show_listing(reader, f"{what}_parameters", ("schema_name", f"{what}_name"))


def _show_listing(
    reader: Reader, view: str, columns: tuple[str, ...], prefix: str = ""
) -> Translated:
    path = [_text_or_parameter(reader)]
    while reader.take("."):
        path.append(_text_or_parameter(reader))
    if len(path) == len(columns) + 1:
        columns = ("database_name", *columns)
    if len(path) != len(columns):
        raise RedshiftError(
            f"SHOW {view.upper()} needs a name with {len(columns)} parts", SYNTAX_ERROR
        )
    wanted = [f"{prefix}{column} = {part}" for column, part in zip(columns, path, strict=True)]
    if view.endswith("_parameters"):
        wanted.append(f"argument_list = {_argument_list(reader)}")
    if view in _LISTED and reader.take("like"):
        wanted.append(f"{_LISTED[view]} like {_text_or_parameter(reader)}")
    limit = f" limit {reader.number()}" if reader.take("limit") else ""
    reader.finish()
    order = _ORDERS.get(view, "1, 2, 3")
    where = " and ".join(wanted)
    shown = _PARAMETERS.format(columns[-1]) if view.endswith("_parameters") else "*"
    rows = f"pg_redshift.show_{view} where {where} order by {order}{limit}"
    return Run(f"select {shown} from {rows}")  # noqa: S608


def _text_or_parameter(reader: Reader) -> str:
    """A name or a string as a literal; drivers bind even the parts of names."""
    if not reader.at_end and reader.tokens.at(reader.index).kind is Kind.PARAMETER:
        reader.index += 1
        return reader.tokens.at(reader.index - 1).text
    return literal(reader.string() if reader.is_string() else reader.name())


def _argument_list(reader: Reader) -> str:
    """The types in brackets as an expression for their list."""
    opening = reader.index
    reader.expect("(")
    reader.index = reader.tokens.closing[opening] + 1
    types = []
    for start, end in reader.tokens.separated(opening + 1, reader.index - 1):
        if reader.tokens.at(start).kind is Kind.PARAMETER:
            types.append(reader.tokens.at(start).text)
        else:
            name, _ = parse_type(reader.tokens, start, end)
            types.append(f"pg_catalog.format_type({literal(name)}::regtype, null)")
    return " || ', ' || ".join(types) or "''"


def grant(tokens: Tokens) -> Translated:
    """GRANT and REVOKE."""
    reader = Reader(tokens)
    command = reader.one_of("grant", "revoke")
    option = reader.take("grant", "option", "for")
    on = tokens.find(reader.index, reader.end, "on")
    if on is None:
        return _grant_role(reader, str(command))
    for start, end in tokens.separated(reader.index, on):
        privilege = tokens.word(start)
        known = {
            "select",
            "insert",
            "update",
            "delete",
            "references",
            "usage",
            "create",
            "temp",
            "temporary",
            "execute",
            "all",
            "truncate",
        }
        if privilege not in known:
            raise RedshiftError(
                f"The privilege {tokens.source(start, end).upper()} is not covered by the Redshift "
                "stand-in."
            )
    text = _grantable(tokens, reader.index, reader.end)
    return Run(f"{command} {'grant option for ' if option else ''}{text}")


def _grantable(tokens: Tokens, start: int, end: int) -> str:
    """The rest of a GRANT with names folded, and without ROLE before a grantee.

    PostgreSQL does not have that word there.
    """
    pieces = []
    for index in range(start, end):
        token = tokens.at(index)
        if token.word == "role" and tokens.word(index - 1) in ("to", "from", ","):
            continue
        if index > start:
            pieces.append(tokens.gap(index))
        pieces.append(quote(token.name) if token.kind is Kind.QUOTED else token.text)
    return "".join(pieces)


def _grant_role(reader: Reader, command: str) -> Translated:
    reader.expect("role")
    roles = [quote(reader.name())]
    while reader.take(","):
        reader.take("role")
        roles.append(quote(reader.name()))
    preposition = "to" if command == "grant" else "from"
    reader.expect(preposition)
    grantees = []
    while True:
        reader.take("role")
        grantees.append(quote(reader.name()))
        if not reader.take(","):
            break
    admin = " with admin option" if reader.take("with", "admin", "option") else ""
    reader.finish()
    return Run(f"{command} {', '.join(roles)} {preposition} {', '.join(grantees)}{admin}")


def comment(tokens: Tokens) -> Translated:
    """COMMENT ON a table, view, column, schema or database."""
    reader = Reader(tokens)
    reader.expect("comment", "on")
    what = reader.one_of("table", "view", "column", "schema", "database")
    if what is None:
        raise reader.unexpected()
    path = reader.path()
    reader.expect("is")
    text = "null" if reader.take("null") else literal(reader.string())
    reader.finish()
    name = written(path[-1:] if what == "schema" else path)
    return Run(f"comment on {what} {name} is {text}")


def explain(tokens: Tokens, translate: Callable[[str], Translated]) -> Translated:
    """EXPLAIN [VERBOSE] query."""
    reader = Reader(tokens)
    reader.expect("explain")
    if reader.word in ("analyze", "("):
        raise reader.unexpected()
    verbose = "verbose " if reader.take("verbose") else ""
    inner = translate(tokens.source(reader.index, reader.end))
    if not isinstance(inner, Run) and not hasattr(inner, "sql"):
        raise RedshiftError("EXPLAIN of this statement is not covered by the Redshift stand-in.")
    return Run(f"explain {verbose}{inner.sql}")


def lock(tokens: Tokens) -> Translated:
    """LOCK [TABLE] table."""
    reader = Reader(tokens)
    reader.expect("lock")
    reader.take("table")
    names = [written(reader.path())]
    while reader.take(","):
        names.append(written(reader.path()))
    reader.finish()
    return Run(f"lock table {', '.join(names)}")


def truncate(tokens: Tokens) -> Translated:
    """TRUNCATE commits the transaction that it runs in."""
    reader = Reader(tokens)
    reader.expect("truncate")
    reader.take("table")
    name = written(reader.path())
    reader.finish()
    return Several((Run(f"truncate table {name}"), Run("commit")))


def refresh(tokens: Tokens) -> Translated:
    """REFRESH MATERIALIZED VIEW name."""
    reader = Reader(tokens)
    reader.expect("refresh", "materialized", "view")
    name = written(reader.path())
    reader.one_of("restrict", "cascade")
    reader.finish()
    return Run(f"call pg_redshift.refresh_materialized_view({literal(name)})")


def cursor(tokens: Tokens) -> Translated:
    """DECLARE, FETCH and CLOSE."""
    reader = Reader(tokens)
    word = reader.one_of("declare", "fetch", "close")
    if word == "declare":
        name = quote(reader.name())
        reader.expect("cursor", "for")
        text = Query(tokens, writes=False).rewrite(reader.index, reader.end)
        return Run(f"declare {name} cursor for {text}")
    return Run(tokens.source(0, reader.end))


def prepared(tokens: Tokens, translate: Callable[[str], Translated]) -> Translated:
    """PREPARE, EXECUTE and DEALLOCATE."""
    reader = Reader(tokens)
    word = reader.one_of("prepare", "execute", "deallocate")
    if word != "prepare":
        return Run(tokens.source(0, reader.end))
    name = quote(reader.name())
    types = ""
    if reader.word == "(":
        after = tokens.after(reader.index)
        types = f" {tokens.source(reader.index, after)}"
        reader.index = after
    reader.expect("as")
    inner = translate(tokens.source(reader.index, reader.end))
    if not isinstance(inner, Run):
        raise RedshiftError("PREPARE of this statement is not covered by the Redshift stand-in.")
    return Run(f"prepare {name}{types} as {inner.sql}")
