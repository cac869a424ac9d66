"""Queries and expressions: what differs is rewritten, what Redshift lacks is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from redshift_standin import functions
from redshift_standin.lexer import Kind, fold, quote, words
from redshift_standin.sources import ALIAS_STOPS, Source, find_sources
from redshift_standin.statements import SYNTAX_ERROR, UNDEFINED_FUNCTION, RedshiftError
from redshift_standin.types import parse_type, refuse_interval_units

if TYPE_CHECKING:
    from redshift_standin.lexer import Tokens

# Words before a bracket that are no function's name.
_NOT_FUNCTIONS = words("""
    all and any as between by case cross cube distinct else end except exists filter from full
    group grouping having ilike in inner insert intersect into is join like limit materialized
    minus natural not offset on or order outer over partition qualify recursive rollup select set
    sets similar some table then to top union using values when where with within
    """)
_SET_OPERATORS = ("union", "intersect", "except", "minus")
_OPERATORS = words("""
    + - * / % ^ |/ ||/ @ & | # ~ << >> = <> != < <= > >= || !~ ~* !~* ~~ !~~ ~~* !~~*
    """)
# Sequences of words that Redshift refuses, with its error, and a hint on what to use instead.
_REFUSED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (("distinct", "on", "("), "SELECT DISTINCT ON is not supported", "Use QUALIFY ROW_NUMBER()."),
    (("on", "conflict"), 'syntax error at or near "conflict"', "Redshift has MERGE."),
    (("lateral",), 'syntax error at or near "lateral"', "Redshift has no LATERAL."),
    (("tablesample",), 'syntax error at or near "tablesample"', "Redshift has no TABLESAMPLE."),
    (("for", "update"), "SELECT FOR UPDATE is not supported", "Use LOCK."),
    (("for", "share"), "SELECT FOR SHARE is not supported", "Use LOCK."),
    (("with", "ordinality"), 'syntax error at or near "ordinality"', ""),
    (("as", "materialized"), 'syntax error at or near "materialized"', ""),
    (("distinct", "from"), 'syntax error at or near "distinct"', "Compare with NVL or IS NULL."),
    (("array", "["), "Array constructors are not supported", "SUPER has ARRAY(…)."),
    (("fetch", "first"), 'syntax error at or near "fetch"', "Use LIMIT."),
    (("fetch", "next"), 'syntax error at or near "fetch"', "Use LIMIT."),
)
_NOT_COVERED = {
    "pivot": "PIVOT",
    "unpivot": "UNPIVOT",
    "match_recognize": "MATCH_RECOGNIZE",
    "exclude": "SELECT * EXCLUDE",
    "connect": "CONNECT BY",
}
_IGNORING_NULLS = ("first_value", "last_value")
# Tables of the catalog that clients read through a view of the same name (catalog.sql).
_VEILED = frozenset(("pg_attribute", "pg_class", "pg_index", "pg_indexes", "pg_proc", "pg_views"))
_LEADER_ONLY = (
    "Specified types or functions (one per INFO message) not supported on Redshift tables."
)


@dataclass(frozen=True)
class _Call:
    """A function call in the text: its bracket and what stands after it."""

    name: str
    opening: int
    closing: int


class Query:
    """Rewrites the queries and expressions of one statement.

    Args:
        tokens: The statement.
        writes: Whether it makes or changes a table, so that the compute nodes run it.
    """

    def __init__(self, tokens: Tokens, *, writes: bool) -> None:
        self._tokens = tokens
        self._sources = find_sources(tokens)
        self._by_start = {source.start: source for source in self._sources}
        self._names = {source.name for source in self._sources}
        self._qualifiers = {part for source in self._sources for part in source.path[:-1]}
        self._names |= {source.path[-1] for source in self._sources if source.path}
        self._aliases = {source.end - 1 for source in self._sources if source.has_alias}
        # In QUALIFY the SELECT's own aliases stand for their expressions.
        self._own_aliases: dict[str, str] = {}
        self._unnested = {source.name for source in self._sources if source.unnests}
        tables = [source for source in self._sources if source.path and not source.unnests]
        # A query that reads no user's table runs on Redshift's leader node, a PostgreSQL.
        self._on_leader = not writes and all(source.in_catalog for source in tables)
        self._reads_catalog = self._on_leader and any(source.path for source in tables)

    @property
    def sources(self) -> list[Source]:
        """The tables, subqueries and functions that stand in FROM, JOIN, USING or INTO."""
        return self._sources

    def rewrite(self, start: int, end: int) -> str:
        """The text of the tokens [start, end) for PostgreSQL.

        Raises:
            RedshiftError: Redshift refuses it, or the stand-in does not cover it.
        """
        pieces: list[str] = []
        index = start
        while index < end:
            text, after = self._piece(index, end)
            pieces.append(self._gap(index) if index > start else "")
            pieces.append(text)
            index = after
        return "".join(pieces)

    def _gap(self, index: int) -> str:
        gap = self._tokens.gap(index)
        # PostgreSQL 15 does not split 4WHEN into 4 and WHEN any more.
        after_number = self._tokens.at(index - 1).kind is Kind.NUMBER
        if not gap and after_number and self._tokens.at(index).kind is Kind.NAME:
            return " "
        return gap

    def _piece(self, index: int, end: int) -> tuple[str, int]:
        token = self._tokens.at(index)
        if token.kind in (Kind.NAME, Kind.QUOTED):
            return self._name(index, end)
        if token.kind is Kind.STRING:
            return self._string(index), index + 1
        if token.kind is Kind.OPERATOR and token.word not in _OPERATORS and not self._on_leader:
            raise RedshiftError(
                f"operator does not exist: {token.text}",
                UNDEFINED_FUNCTION,
                "Redshift has no such operator.",
            )
        if token.word == "(":
            return self._bracket(index, end)
        if token.word == "::":
            text, after = parse_type(self._tokens, index + 1, end, on_leader=self._on_leader)
            return f"::{text}", after
        if token.word == "[" and not self._reads_catalog:
            raise RedshiftError(
                "Subscripts are not supported here.",
                hint="The stand-in takes them after a column of type SUPER: column[0].attribute",
            )
        return token.text, index + 1

    def _string(self, index: int) -> str:
        text = self._tokens.at(index).text
        if text[:1] in "bBxX":
            raise RedshiftError(f'type "bit" does not exist: {text}', "42704")
        return text

    def _bracket(self, index: int, end: int) -> tuple[str, int]:
        closing = self._tokens.closing[index]
        if self._tokens.word(index + 1) == "+" and closing == index + 2:
            raise RedshiftError("The outer join operator (+) is not covered by the stand-in.")
        text = f"({self.rewrite(index + 1, closing)}{self._tokens.gap(closing)})"
        source = self._by_start.get(index)
        if source and not source.has_alias and self._is_subquery(index):
            # Redshift needs no alias here, PostgreSQL 15 does.
            return f"{text} as subquery_{index}", closing + 1
        return self._navigated(text, closing + 1, end)

    def _is_subquery(self, opening: int) -> bool:
        first = opening + 1
        while self._tokens.word(first) == "(":
            first += 1
        inside_joins = self._tokens.find(opening + 1, self._tokens.closing[opening], "join")
        is_select = self._tokens.word(opening + 1) in ("select", "with")
        return is_select or (
            self._tokens.word(first) in ("select", "with") and inside_joins is None
        )

    def _name(self, index: int, end: int) -> tuple[str, int]:
        tokens = self._tokens
        if index in self._by_start:
            return self._source(self._by_start[index], end)
        if tokens.at(index).kind is Kind.NAME:
            self._refuse_words(index)
            word = tokens.word(index)
            if word == "select":
                return self._select(index, end)
            if word == "over":
                raise RedshiftError(
                    f'syntax error at or near "{tokens.word(index + 1)}"', SYNTAX_ERROR
                )
            if word == "minus" and self._is_set_operator(index):
                return "except", index + 1
            if word == "approximate" and tokens.word(index + 1) in ("count", "percentile_disc"):
                return self._name(index + 1, end)
            if word == "sysdate":
                return f"{functions.SCHEMA}.sysdate()", index + 1
            if word in ("current_timestamp", "localtimestamp", "current_time", "localtime"):
                self._only_on_leader(word)
            if word == "values" and not self._belongs_to_insert(index):
                raise RedshiftError(
                    'syntax error at or near "values"',
                    SYNTAX_ERROR,
                    "Redshift takes VALUES in INSERT only; use SELECT … UNION ALL.",
                )
            if word == "filter" and tokens.word(index + 1) == "(":
                raise RedshiftError(
                    'syntax error at or near "("', SYNTAX_ERROR, "Redshift has no FILTER; use CASE."
                )
            if word == "interval" and tokens.at(index + 1).kind is Kind.STRING:
                refuse_interval_units(tokens, index + 2)
                return "interval", index + 1
        return self._chain(index, end)

    def _refuse_words(self, index: int) -> None:
        tokens = self._tokens
        for refused, message, hint in _REFUSED:
            if tokens.starts(index, *refused):
                raise RedshiftError(message, hint=hint or None)
        word = tokens.word(index)
        if word == "returning" and self._writes_rows() and tokens.word(index - 1) not in (".", ","):
            raise RedshiftError('syntax error at or near "returning"', SYNTAX_ERROR)
        what = _NOT_COVERED.get(word)
        if what and tokens.word(index + 1) == "(":
            raise RedshiftError(f"{what} is not covered by the Redshift stand-in.")

    def _writes_rows(self) -> bool:
        return any(self._tokens.word(0) == word for word in ("insert", "update", "delete", "merge"))

    def _is_set_operator(self, index: int) -> bool:
        return self._tokens.word(index + 1) in ("select", "(", "all", "distinct", "with")

    def _belongs_to_insert(self, index: int) -> bool:
        tokens = self._tokens
        return (
            tokens.word(0) in ("insert", "merge")
            and index not in tokens.closing
            and (tokens.word(index - 1) != "(")
        )

    def _only_on_leader(self, name: str) -> None:
        if not self._on_leader:
            raise RedshiftError(
                _LEADER_ONLY, hint=f'Function "{name}" runs on the leader node only.'
            )

    def _chain(self, index: int, end: int) -> tuple[str, int]:
        """A name with its qualifiers, which may turn out to be a function or a SUPER's path."""
        tokens = self._tokens
        first = index
        while tokens.word(index + 1) == "." and index + 2 < end:
            if tokens.at(index + 2).kind not in (Kind.NAME, Kind.QUOTED):
                break
            index += 2
        after = index + 1
        if after < end and tokens.word(after) == "(" and self._is_call(first, index):
            return self._call(first, index, end)
        parts = [tokens.at(each) for each in range(first, after, 2)]
        if len(parts) == 3 and parts[0].name == "pg_catalog" and parts[1].name in _VEILED:
            parts = parts[1:]
        if len(parts) > 1 and tokens.word(after) != "*":
            column = self._column_length([part.name for part in parts])
            if column < len(parts):
                base = ".".join(_written(part.text) for part in parts[:column])
                if column == 1 and parts[0].name in self._unnested:
                    base = f"{base}.{base}"
                for part in parts[column:]:
                    base = _attribute(base, part.name)
                return self._navigated(base, after, end)
        if len(parts) == 1 and parts[0].name in self._own_aliases:
            return self._own_aliases[parts[0].name], after
        text = ".".join(_written(part.text) for part in parts)
        if first == after - 1 and tokens.at(first).word in ALIAS_STOPS:
            return text, after
        return self._navigated(text, after, end)

    def _column_length(self, parts: list[str]) -> int:
        """How many of a chain's parts name the column; what follows is a path inside a SUPER."""
        if parts[0] in self._unnested:
            return 1
        if parts[0] in self._names and parts[0] not in self._qualifiers:
            return min(2, len(parts))
        if parts[0] in self._qualifiers or not self._sources:
            return len(parts)
        return 1

    def _navigated(self, text: str, index: int, end: int) -> tuple[str, int]:
        """A value with the subscripts and attributes after it."""
        tokens = self._tokens
        if self._reads_catalog:
            return text, index
        begun = False
        while index < end:
            if tokens.word(index) == "[":
                closing = tokens.closing[index]
                text = f"{functions.SCHEMA}.element({text}, {self.rewrite(index + 1, closing)})"
                index = closing + 1
                begun = True
            elif begun and tokens.word(index) == ".":
                text = _attribute(text, tokens.at(index + 1).name)
                index += 2
            else:
                break
        return text, index

    def _is_call(self, first: int, last: int) -> bool:
        tokens = self._tokens
        if (
            first == last
            and tokens.at(last).kind is Kind.NAME
            and tokens.word(last) in _NOT_FUNCTIONS
        ):
            return False
        # A table's alias or a common table expression may have a list of columns in brackets.
        closing = tokens.closing[last + 1]
        return first not in self._aliases and not tokens.starts(closing + 1, "as", "(")

    def _source(self, source: Source, end: int) -> tuple[str, int]:
        """An item of FROM, up to its alias."""
        tokens = self._tokens
        if source.unnests:
            path = self.rewrite_path(source)
            name = quote(source.name)
            text = f"lateral {functions.SCHEMA}.elements({path}) as {name}({name})"
            return text, source.end
        if not source.path:
            return self._chain(source.start, end)
        if source.path[0] == "pg_temp" and len(source.path) > 1:
            return tokens.source(source.start, source.stop), source.stop
        if source.in_catalog and not source.is_cte and source.path[-1] in _VEILED:
            return f"{functions.SCHEMA}.{source.path[-1]}", source.stop
        return self._folded(source.start, source.stop), source.stop

    def rewrite_path(self, source: Source) -> str:
        """The SUPER whose elements an item of FROM lists, as an expression."""
        parts = [self._tokens.at(index) for index in range(source.start, source.stop, 2)]
        if parts[0].name in self._unnested:
            base, rest = f"{_written(parts[0].text)}.{_written(parts[0].text)}", parts[1:]
        else:
            base = f"{_written(parts[0].text)}.{_written(parts[1].text)}"
            rest = parts[2:]
        for part in rest:
            base = _attribute(base, part.name)
        return base

    def _folded(self, start: int, end: int) -> str:
        """Tokens as they stand, with names folded as Redshift folds them."""
        pieces = []
        for index in range(start, end):
            token = self._tokens.at(index)
            pieces.append(self._tokens.gap(index) if index > start else "")
            is_name = token.kind in (Kind.NAME, Kind.QUOTED)
            pieces.append(_written(token.text) if is_name else token.text)
        return "".join(pieces)

    def _call(self, first: int, last: int, end: int) -> tuple[str, int]:
        tokens = self._tokens
        name = tokens.at(last).name
        opening = last + 1
        call = _Call(name, opening, tokens.closing[opening])
        if first < last:
            schema = tokens.at(last - 2).name
            if schema not in ("pg_catalog", "information_schema"):
                arguments = self.rewrite(opening + 1, call.closing)
                return f"{self._folded(first, last + 1)}({arguments})", call.closing + 1
        special = {
            "cast": self._cast,
            "convert": self._convert,
            "extract": self._extract,
            "listagg": self._listagg,
            "ratio_to_report": self._ratio,
        }.get(name)
        if special:
            text = special(call)
            after = call.closing + 1
            if name == "listagg":
                after = self._after_within_group(after)
        else:
            text = self._plain_call(call)
            after = call.closing + 1
        return self._call_suffixes(call, text, after, end)

    def _call_suffixes(self, call: _Call, text: str, after: int, end: int) -> tuple[str, int]:
        tokens = self._tokens
        if tokens.starts(after, "within", "group", "("):
            closing = tokens.closing[after + 2]
            text += f" within group ({self.rewrite(after + 3, closing)})"
            after = closing + 1
        if tokens.word(after) in ("ignore", "respect") and tokens.word(after + 1) == "nulls":
            if tokens.word(after) == "ignore":
                text = self._ignoring_nulls(call, call.closing)
            after += 2
        if tokens.word(after) == "over" and after < end:
            window = self._window(call.name, after + 1)
            if call.name == "ratio_to_report":
                text = f"({text} / nullif(sum({text}) over {window}, 0))"
            else:
                text = f"{text} over {window}"
            return text, tokens.after(after + 1)
        return self._navigated(text, after, end)

    def _plain_call(self, call: _Call) -> str:
        tokens = self._tokens
        inner_end = call.closing
        if tokens.starts(inner_end - 2, "ignore", "nulls"):
            return self._ignoring_nulls(call, inner_end - 2)
        if tokens.starts(inner_end - 2, "respect", "nulls"):
            inner_end -= 2
        name = call.name
        inner = tokens.source(call.opening + 1, inner_end)
        if self._reads_catalog and name in ("array", "array_to_string"):
            # The leader node's function of arrays, not that of SUPER. ARRAY(SELECT …) takes no
            # schema.
            own = name if name == "array" else f"pg_catalog.{name}"
            return f"{own}({self.rewrite(call.opening + 1, inner_end)})"
        if name in functions.REWRITTEN:
            fewest, most, rewrite = functions.REWRITTEN[name]
            arguments = self._arguments(call.opening + 1, inner_end)
            if not fewest <= len(arguments) <= most:
                raise functions.no_function(name, arguments)
            return rewrite(arguments)
        if name in functions.OWN:
            own = f"{functions.SCHEMA}.{functions.OWN[name]}"
            arguments_text = self.rewrite(call.opening + 1, inner_end)
            if name == "percentile_cont" and self._is_descending(call.closing + 1):
                # The aggregate does not see the order of WITHIN GROUP: count from the other end.
                arguments_text = f"1 - ({arguments_text})"
            return f"{own}({arguments_text})"
        if name in functions.LEADER_ONLY or (
            name.startswith(functions.CATALOG_PREFIXES)
            and name not in functions.SHARED
            and name not in functions.ANYWHERE
        ):
            self._only_on_leader(f"{name}({inner})")
        elif (
            name not in functions.SHARED
            and name not in functions.ANYWHERE
            and not (self._reads_catalog or name.startswith("f_"))
        ):
            raise functions.no_function(name, self._arguments(call.opening + 1, inner_end))
        return f"{name}({self.rewrite(call.opening + 1, inner_end)})"

    def _arguments(self, start: int, end: int) -> list[str]:
        return [self.rewrite(*each) for each in self._tokens.separated(start, end)]

    def _ignoring_nulls(self, call: _Call, inner_end: int) -> str:
        if call.name not in _IGNORING_NULLS:
            raise RedshiftError(
                f"{call.name} IGNORE NULLS is not covered by the Redshift stand-in."
            )
        return f"{functions.SCHEMA}.{call.name}({self.rewrite(call.opening + 1, inner_end)})"

    def _cast(self, call: _Call) -> str:
        tokens = self._tokens
        divider = tokens.find(call.opening + 1, call.closing, "as")
        if divider is None:
            raise RedshiftError('syntax error at or near ")"', SYNTAX_ERROR)
        text, after = parse_type(tokens, divider + 1, call.closing, on_leader=self._on_leader)
        if after != call.closing:
            raise RedshiftError(f'syntax error at or near "{tokens.at(after).text}"', SYNTAX_ERROR)
        return f"cast({self.rewrite(call.opening + 1, divider)} as {text})"

    def _convert(self, call: _Call) -> str:
        text, after = parse_type(self._tokens, call.opening + 1, call.closing)
        return f"cast({self.rewrite(after + 1, call.closing)} as {text})"

    def _extract(self, call: _Call) -> str:
        divider = self._tokens.find(call.opening + 1, call.closing, "from")
        if divider is None:
            raise functions.no_function("extract", [])
        part = functions.date_part(self._tokens.source(call.opening + 1, divider))
        value = self.rewrite(divider + 1, call.closing)
        return f"{functions.SCHEMA}.date_part({part}, {value})"

    def _listagg(self, call: _Call) -> str:
        tokens = self._tokens
        inner = self.rewrite(call.opening + 1, call.closing)
        after = call.closing + 1
        order = ""
        if tokens.starts(after, "within", "group", "("):
            closing = tokens.closing[after + 2]
            order = f" {self.rewrite(after + 3, closing)}"
            after = closing + 1
        if tokens.word(after) == "over" and order:
            raise RedshiftError(
                "LISTAGG … WITHIN GROUP (ORDER BY …) OVER (…) is not covered by the Redshift "
                "stand-in; LISTAGG without OVER and GROUP BY is."
            )
        return f"{functions.SCHEMA}.listagg({inner}{order})"

    def _is_descending(self, index: int) -> bool:
        """Whether a WITHIN GROUP that begins here orders from the largest to the smallest."""
        tokens = self._tokens
        if not tokens.starts(index, "within", "group", "("):
            return False
        return tokens.find(index + 3, tokens.closing[index + 2], "desc") is not None

    def _ratio(self, call: _Call) -> str:
        if self._tokens.word(call.closing + 1) != "over":
            raise RedshiftError("Function ratio_to_report requires an OVER clause", SYNTAX_ERROR)
        return f"cast({self.rewrite(call.opening + 1, call.closing)} as double precision)"

    def _after_within_group(self, index: int) -> int:
        if self._tokens.starts(index, "within", "group", "("):
            return self._tokens.closing[index + 2] + 1
        return index

    def _window(self, name: str, opening: int) -> str:
        tokens = self._tokens
        if tokens.word(opening) != "(":
            raise RedshiftError(
                f'syntax error at or near "{tokens.at(opening).text}"',
                SYNTAX_ERROR,
                "Redshift has no named windows.",
            )
        closing = tokens.closing[opening]
        if found := tokens.find(opening + 1, closing, "range", "groups", "exclude"):
            raise RedshiftError(
                f'syntax error at or near "{tokens.at(found).text}"',
                SYNTAX_ERROR,
                "Redshift's window frames are ROWS.",
            )
        if name == "ratio_to_report" and tokens.find(opening + 1, closing, "order", "rows"):
            raise RedshiftError(
                "ratio_to_report cannot have an ORDER BY or a frame in its OVER clause",
                SYNTAX_ERROR,
            )
        has_order = tokens.find(opening + 1, closing, "order") is not None
        has_frame = tokens.find(opening + 1, closing, "rows") is not None
        if has_order and not has_frame and name in functions.FRAMED:
            raise RedshiftError(
                "Aggregate window functions with an ORDER BY clause require a frame clause",
                hint="Add ROWS UNBOUNDED PRECEDING, or the frame that is meant.",
            )
        return f"({self.rewrite(opening + 1, closing)})"

    def _select(self, index: int, end: int) -> tuple[str, int]:
        tokens = self._tokens
        stop = self._select_end(index, end)
        if tokens.find(index, stop, "qualify"):
            return self._qualified(index, stop), stop
        top = index + 1
        if tokens.word(top) in ("distinct", "all"):
            top += 1
        if tokens.word(top) == "top" and tokens.at(top + 1).kind in (Kind.NUMBER, Kind.PARAMETER):
            if tokens.find(index, stop, "limit"):
                raise RedshiftError('syntax error at or near "limit"', SYNTAX_ERROR)
            body = f"{tokens.source(index, top)} {self.rewrite(top + 2, stop)}"
            limited = f"{body} limit {tokens.at(top + 1).text}"
            in_set = stop < end or self._follows_set_operator(index)
            return (f"({limited})" if in_set else limited), stop
        return tokens.at(index).text, index + 1

    def _follows_set_operator(self, index: int) -> bool:
        before = self._tokens.word(index - 1)
        if before in ("all", "distinct"):
            before = self._tokens.word(index - 2)
        return before in _SET_OPERATORS

    def _select_end(self, index: int, end: int) -> int:
        stop = self._tokens.find(index + 1, end, *_SET_OPERATORS)
        return end if stop is None else stop

    def _qualified(self, index: int, stop: int) -> str:
        """A SELECT with QUALIFY: the condition becomes a column that the outer query filters by."""
        tokens = self._tokens
        qualify = tokens.find(index, stop, "qualify")
        first_from = tokens.find(index, stop, "from")
        if qualify is None or first_from is None:
            raise RedshiftError('syntax error at or near "qualify"', SYNTAX_ERROR)
        self._check_alias_before_qualify(first_from, qualify)
        tail = tokens.find(qualify, stop, "order", "limit", "offset") or stop
        begin = index + 1
        distinct = ""
        if tokens.word(begin) in ("distinct", "all"):
            distinct, begin = f"{tokens.word(begin)} ", begin + 1
        outer: list[str] = []
        inner: list[str] = []
        aliases: dict[str, str] = {}
        for start, end in tokens.separated(begin, first_from):
            expression_end, alias = self._projection(start, end)
            if tokens.word(end - 1) == "*":
                for row, source in enumerate(self._starred(start, end, first_from, qualify)):
                    outer.append(f"(qualified.row_{len(inner)}_{row}).*")
                    inner_name = f"row_{len(inner)}_{row}"
                    inner.append(f"{quote(source.name)} as {inner_name}")
                continue
            name = alias or self._implied_name(start, expression_end)
            expression = self.rewrite(start, expression_end)
            if alias:
                aliases[alias] = f"({expression})"
            outer.append(f"qualified.{quote(name)}")
            inner.append(f"{expression} as {quote(name)}")
        self._own_aliases = aliases
        condition = self.rewrite(qualify + 1, tail)
        self._own_aliases = {}
        body = self.rewrite(first_from, qualify)
        filtered = f"select {', '.join(inner)}, ({condition}) as qualifies {body}"
        return (
            f"select {distinct}{', '.join(outer)} from ({filtered}) as qualified "  # noqa: S608
            f"where qualified.qualifies {self.rewrite(tail, stop)}"
        ).rstrip()

    def _check_alias_before_qualify(self, first_from: int, qualify: int) -> None:
        if self._tokens.find(first_from, qualify, "where", "group", "having", "join", ","):
            return
        source = next((each for each in self._sources if each.end == qualify), None)
        if source and source.path and not source.has_alias:
            raise RedshiftError(
                'syntax error at or near "qualify"',
                SYNTAX_ERROR,
                "A table that QUALIFY follows needs an alias.",
            )

    def _starred(self, start: int, end: int, first: int, last: int) -> list[Source]:
        local = [
            each
            for each in self._sources
            if first < each.start < last and self._level_of(first, each.start, last)
        ]
        if end - start == 1:
            return local
        name = self._tokens.at(end - 3).name
        return [each for each in local if each.name == name]

    def _level_of(self, first: int, index: int, last: int) -> bool:
        step = first
        while step < last and step < index:
            step = self._tokens.after(step)
        return step == index

    def _projection(self, start: int, end: int) -> tuple[int, str | None]:
        tokens = self._tokens
        last = tokens.at(end - 1)
        if (
            end - start > 1
            and last.kind in (Kind.NAME, Kind.QUOTED)
            and tokens.word(end - 2) != "."
        ):
            if tokens.word(end - 2) == "as":
                return end - 2, last.name
            before = tokens.at(end - 2)
            if last.word != "end" and before.kind is not Kind.OPERATOR and before.word != "::":
                return end - 1, last.name
        return end, None

    def _implied_name(self, start: int, end: int) -> str:
        last = self._tokens.at(end - 1)
        if last.kind in (Kind.NAME, Kind.QUOTED):
            return "case" if last.word == "end" else last.name
        first = self._tokens.at(start)
        return first.name if first.kind is Kind.NAME else "?column?"


def _attribute(base: str, name: str) -> str:
    return f"{functions.SCHEMA}.attribute({base}, '{name.replace(chr(39), chr(39) * 2)}')"


def _written(text: str) -> str:
    """A name as PostgreSQL has to be given it."""
    if text.startswith("#"):
        return quote(fold(text))
    if text.startswith('"'):
        return fold(text)
    return text
