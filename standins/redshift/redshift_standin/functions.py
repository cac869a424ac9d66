"""Which functions Redshift has, and what each becomes in PostgreSQL.

A function is one of these, or it does not exist: a function that only PostgreSQL has must not work
here. Redshift's own functions are in the schema `pg_redshift` (bootstrap.sql). Each has the name
that Redshift gives the column of its result.
"""

from __future__ import annotations

from collections.abc import Callable

from redshift_standin.lexer import fold, words
from redshift_standin.statements import UNDEFINED_FUNCTION, RedshiftError

SCHEMA = "pg_redshift"

# The same in PostgreSQL 15: name, arguments and meaning.
SHARED = words("""
    abs acos ascii asin atan atan2 bit_and bit_or bool_and bool_or btrim cbrt ceil ceiling chr
    coalesce cos cot count cume_dist current_database current_schema current_schemas
    current_setting degrees dense_rank first_value floor greatest has_any_column_privilege
    has_column_privilege has_database_privilege has_function_privilege has_schema_privilege
    has_table_privilege initcap lag last_value lead least ln lower lpad ltrim max min mod nth_value
    ntile nullif percent_rank percentile_disc pi position quote_ident quote_literal quote_nullable
    radians random rank repeat replace reverse row_number rpad rtrim set_config sign sin strpos
    substr substring sum tan timezone to_char to_date to_number to_timestamp translate trim upper
    """)

# Functions that only Redshift has, or that mean something else there: each is in the schema
# pg_redshift under this name.
_OWN = words("""
    add_months any_value array_concat array_to_string avg can_json_parse charindex convert_timezone
    date_cmp date_part_year from_hex from_varbyte get_array_length getdate is_array is_boolean
    is_object is_valid_json is_valid_json_array is_varchar json_array_length
    json_extract_array_element_text json_parse json_serialize json_typeof last_day left len length
    listagg md5 median months_between next_day octet_length percentile_cont regexp_count
    regexp_instr regexp_replace regexp_substr replicate right round sha2 split_part split_to_array
    stddev stddev_pop stddev_samp strtol subarray timeofday timestamp_cmp to_hex to_varbyte trunc
    var_pop var_samp variance version
    """)
# Other names of these functions.
_SYNONYMS = {
    "char_length": "len",
    "character_length": "len",
    "textlen": "len",
}
OWN = {name: name for name in _OWN} | _SYNONYMS

# PostgreSQL's functions that run on the leader node only: not together with a user's tables.
LEADER_ONLY = words("""
    age array_length array_lower array_upper col_description format_type generate_series
    inet_client_addr isfinite now obj_description oidvectortypes to_ascii to_regclass
    string_to_array
    """)
# Functions whose names begin so read the catalog; PostgreSQL decides which of them exist.
CATALOG_PREFIXES = ("pg_", "_pg_", "has_")
# These may be used with tables, although their names begin like the leader node's.
ANYWHERE = frozenset(
    ("pg_last_copy_count", "pg_last_copy_id", "pg_last_query_id", "pg_backend_pid")
)

# As window functions these need a frame when they have an ORDER BY.
FRAMED = words("""
    avg count first_value last_value max min nth_value stddev stddev_pop stddev_samp sum var_pop
    var_samp variance
    """)

_DATE_PARTS = {
    "millennium": "millennium millennia mil mils",
    "century": "century centuries c cent cents",
    "decade": "decade decades dec decs",
    "epoch": "epoch",
    "year": "year years y yr yrs",
    "quarter": "quarter quarters qtr qtrs",
    "month": "month months mon mons",
    "week": "week weeks w",
    "dow": "dayofweek dow dw weekday",
    "doy": "dayofyear doy dy yearday",
    "day": "day days d",
    "hour": "hour hours h hr hrs",
    "minute": "minute minutes m min mins",
    "second": "second seconds s sec secs",
    "millisecond": "millisecond milliseconds ms msec msecs msecond mseconds millisec millisecs "
    "millisecon",
    "microsecond": "microsecond microseconds microsec microsecs usecond useconds us usec usecs",
    "timezone": "timezone",
    "timezone_hour": "timezone_hour",
    "timezone_minute": "timezone_minute",
}
DATE_PARTS = {word: part for part, names in _DATE_PARTS.items() for word in names.split()}


def date_part(argument: str) -> str:
    """A date part, bare or in quotes, as a literal with its one name.

    Raises:
        RedshiftError: Redshift knows no such part.
    """
    word = fold(argument.strip().strip("'\""))
    if word not in DATE_PARTS:
        raise RedshiftError(f'timestamp units "{word}" not recognized', "22023")
    return f"'{DATE_PARTS[word]}'"


def no_function(name: str, arguments: list[str]) -> RedshiftError:
    """What Redshift says of a function that it does not have."""
    types = ", ".join(_type_of(argument) for argument in arguments)
    return RedshiftError(
        f"function {name}({types}) does not exist",
        UNDEFINED_FUNCTION,
        "No function matches the given name and argument types. If Redshift has it, the stand-in "
        "does not cover it yet: see docs/redshift-standin.md.",
    )


def _type_of(argument: str) -> str:
    text = argument.strip()
    if text.isdigit():
        return "integer"
    if text.replace(".", "", 1).isdigit():
        return "numeric"
    return '"unknown"'


def _nvl2(arguments: list[str]) -> str:
    value, present, absent = arguments
    return f"case when {value} is not null then {present} else {absent} end"


def _decode(arguments: list[str]) -> str:
    # NULL matches NULL here, unlike in CASE.
    value, *rest = arguments
    whens = []
    while len(rest) > 1:
        search, result, *rest = rest
        whens.append(f"when {_same(value, search)} then {result}")
    default = f" else {rest[0]}" if rest else ""
    return f"case {' '.join(whens)}{default} end"


def _same(value: str, search: str) -> str:
    if search.strip().lower() == "null":
        return f"{value} is null"
    return f"{value} is not distinct from {search}"


def _concat(arguments: list[str]) -> str:
    return "(" + " || ".join(f"cast({argument} as varchar)" for argument in arguments) + ")"


def _part_first(name: str) -> Callable[[list[str]], str]:
    def call(arguments: list[str]) -> str:
        part, *rest = arguments
        # PostgreSQL would take a bare literal for a timestamptz.
        rest = [f"timestamp {each}" if _is_literal(each) else each for each in rest]
        return f"{SCHEMA}.{name}({', '.join([date_part(part), *rest])})"

    return call


def _is_literal(argument: str) -> bool:
    text = argument.strip()
    return text.startswith("'") and text.endswith("'")


def _dateadd(arguments: list[str]) -> str:
    part, number, moment = arguments
    if _is_literal(moment):
        moment = f"timestamp {moment}"
    return f"{SCHEMA}.date_add({date_part(part)}, {number}, {moment})"


def _json_path(arguments: list[str]) -> str:
    text, *path = arguments
    null_if_invalid = "false"
    if path and path[-1].strip().lower() in ("true", "false"):
        null_if_invalid = path.pop()
    elements = ", ".join(path)
    return f"{SCHEMA}.json_extract_path_text({text}, {null_if_invalid}, array[{elements}]::text[])"


def _of_json(name: str) -> Callable[[list[str]], str]:
    def call(arguments: list[str]) -> str:
        values = [f"{SCHEMA}.json_value({argument})" for argument in arguments]
        return f"{SCHEMA}.{name}({', '.join(values)})"

    return call


def _in_double(name: str) -> Callable[[list[str]], str]:
    """A function that always returns DOUBLE PRECISION; PostgreSQL has one for decimals too."""

    def call(arguments: list[str]) -> str:
        values = [f"cast({argument} as double precision)" for argument in arguments]
        return f"{name}({', '.join(values)})"

    return call


# The fewest and the most arguments of each function, and what rewrites a call of it.
REWRITTEN: dict[str, tuple[int, int, Callable[[list[str]], str]]] = {
    "array": (0, 1000, _of_json("array")),
    "object": (0, 1000, _of_json("object")),
    "nvl": (1, 100, lambda arguments: f"coalesce({', '.join(arguments)})"),
    "isnull": (2, 2, lambda arguments: f"coalesce({', '.join(arguments)})"),
    "nvl2": (3, 3, _nvl2),
    "decode": (3, 200, _decode),
    "concat": (2, 2, _concat),
    "dateadd": (3, 3, _dateadd),
    "date_add": (3, 3, _dateadd),
    "datediff": (3, 3, _part_first("date_diff")),
    "date_diff": (3, 3, _part_first("date_diff")),
    "date_part": (2, 2, _part_first("pgdate_part")),
    "pgdate_part": (2, 2, _part_first("pgdate_part")),
    "date_trunc": (2, 2, _part_first("date_trunc")),
    "json_extract_path_text": (2, 7, _json_path),
    "pow": (2, 2, _in_double("power")),
    "power": (2, 2, _in_double("power")),
    "sqrt": (1, 1, _in_double("sqrt")),
    "exp": (1, 1, _in_double("exp")),
    "dexp": (1, 1, _in_double("exp")),
    "dlog1": (1, 1, lambda arguments: f"ln({arguments[0]})"),
    "log": (1, 1, _in_double("log")),
    "dlog10": (1, 1, _in_double("log")),
}
