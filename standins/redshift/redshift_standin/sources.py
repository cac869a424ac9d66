"""The tables that a statement names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from redshift_standin.lexer import Kind, words

if TYPE_CHECKING:
    from redshift_standin.lexer import Tokens

# Words after a table that are not its alias.
ALIAS_STOPS = words("""
    all and as between by case cross distinct else end except fetch for from full group having
    ilike in inner intersect into is join lateral left like limit minus natural not null offset on
    or order outer pivot qualify remove returning right select set similar some tablesample then
    union unpivot using values when where window with
    """)
_CLAUSES = (
    "where",
    "group",
    "having",
    "order",
    "limit",
    "qualify",
    "window",
    "set",
    "when",
    "union",
    "intersect",
    "except",
    "minus",
    "offset",
    "for",
    "fetch",
    "select",
    "values",
)
_JOINS = ("join",)
# Functions that have a FROM of their own inside their brackets.
_OWN_FROM = frozenset(("extract", "substring", "trim", "overlay"))
_CATALOG_PREFIXES = ("pg_", "stl_", "stv_", "svl_", "svv_", "svcs_", "sys_")


@dataclass(frozen=True)
class Source:
    """An item of FROM, JOIN, USING, INTO or UPDATE.

    Attributes:
        path: Its name's parts, lower case; empty for a subquery or a function.
        name: What columns are qualified with: its alias, else its own name.
        start: Its first token.
        stop: The index after its name or bracket.
        end: The index after its alias.
        unnests: Whether it lists the elements of an earlier item's array:
            ``FROM t, t.items AS item``.
        is_cte: Whether it names a common table expression of this statement.
    """

    path: tuple[str, ...]
    name: str
    start: int
    stop: int
    end: int
    has_alias: bool
    unnests: bool = False
    is_cte: bool = False

    @property
    def in_catalog(self) -> bool:
        """Whether the leader node can read it by itself."""
        if self.is_cte or not self.path:
            return True
        schema = self.path[-2] if len(self.path) > 1 else ""
        if schema in ("pg_catalog", "information_schema"):
            return True
        return not schema and self.path[-1].startswith(_CATALOG_PREFIXES)


def find_sources(tokens: Tokens) -> list[Source]:
    """Every item, in the order of the text."""
    ctes = _common_table_expressions(tokens)
    found: list[Source] = []
    known: set[str] = set()
    for index in _starts(tokens):
        source = _source_at(tokens, index, known, ctes)
        if source is not None:
            found.append(source)
            known.add(source.name)
    return found


def _common_table_expressions(tokens: Tokens) -> frozenset[str]:
    if not any(token.word == "with" for token in tokens.all):
        return frozenset()
    names = set()
    for index, token in enumerate(tokens.all):
        if token.word != "as" or tokens.word(index + 1) != "(" or index == 0:
            continue
        before = index - 1
        if tokens.word(before) == ")":
            before = next(key for key, value in tokens.closing.items() if value == before) - 1
        if tokens.at(before).kind in (Kind.NAME, Kind.QUOTED):
            names.add(tokens.at(before).name)
    return frozenset(names)


def _starts(tokens: Tokens) -> list[int]:
    """Where the items begin."""
    found: list[int] = []
    inside = _inside_own_from(tokens)
    for index, token in enumerate(tokens.all):
        if token.kind is not Kind.NAME or index in inside:
            continue
        before_one = (
            token.word == "into"
            or (token.word == "using" and tokens.word(index + 1) != "(")
            or (token.word == "update" and index == 0)
        )
        if token.word == "from" and tokens.word(index - 1) != "distinct":
            found += _from_items(tokens, index)
        elif before_one:
            found.append(index + 1)
    return sorted(set(found))


def _inside_own_from(tokens: Tokens) -> set[int]:
    inside: set[int] = set()
    for opening, closing in tokens.closing.items():
        if opening and tokens.word(opening - 1) in _OWN_FROM:
            inside |= {
                index
                for index in range(opening, closing)
                if tokens.word(index) == "from"
                and tokens.find(opening + 1, closing, "from") == index
            }
    return inside


def _from_items(tokens: Tokens, index: int) -> list[int]:
    found = [index + 1]
    step = index + 1
    while step < len(tokens.all):
        word = tokens.word(step)
        if word in (")", ";") or (word in _CLAUSES and tokens.at(step).kind is Kind.NAME):
            break
        if word == "," or word in _JOINS:
            found.append(step + 1)
        step = tokens.after(step)
    return found


def _source_at(tokens: Tokens, start: int, known: set[str], ctes: frozenset[str]) -> Source | None:
    if start >= len(tokens.all):
        return None
    if tokens.word(start) == "only":
        start += 1
    token = tokens.at(start)
    if token.word == "(":
        stop = tokens.after(start)
        parts: tuple[str, ...] = ()
    elif token.kind in (Kind.NAME, Kind.QUOTED) and token.word not in (
        "select",
        "values",
        "lateral",
    ):
        stop = start + 1
        names = [token.name]
        while tokens.word(stop) == "." and stop + 1 < len(tokens.all):
            names.append(tokens.at(stop + 1).name)
            stop += 2
        parts = tuple(names)
        # INSERT INTO t (columns) is no function call.
        if tokens.word(stop) == "(" and tokens.word(start - 1) != "into":
            stop, parts = tokens.after(stop), ()
    else:
        return None
    end, alias = _alias(tokens, stop)
    is_cte = len(parts) == 1 and parts[0] in ctes
    unnests = len(parts) > 1 and parts[0] in known and tokens.word(start - 1) == ","
    name = alias or (parts[-1] if parts else "")
    return Source(parts, name, start, stop, end, alias is not None, unnests, is_cte)


def _alias(tokens: Tokens, index: int) -> tuple[int, str | None]:
    if tokens.word(index) == "as" and index + 1 < len(tokens.all):
        return index + 2, tokens.at(index + 1).name
    if index < len(tokens.all):
        token = tokens.at(index)
        if token.kind is Kind.QUOTED or (token.kind is Kind.NAME and token.word not in ALIAS_STOPS):
            return index + 1, token.name
    return index, None
