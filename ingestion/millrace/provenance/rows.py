"""The query for the raw rows behind a row of a mart, made of the models' own queries.

Each query on a trail is written anew so that it also gives the keys of the raw rows: a query that
keeps its rows passes them on; of one that groups rows, the grouped rows are taken, which the
columns that it groups by tell. Everything that is not on the trail stays as it is, and reads what
the warehouse has.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from millrace.provenance.trails import (
    Hop,
    NotFollowed,
    Queries,
    Trail,
    branches,
    inner_names,
    projection,
    select_of,
)

_KEY = "millrace_key_{}"
_GROUP = "millrace_group_{}"
# What sqlglot calls these parts of a query.
_WITH, _FROM = "with_", "from_"
_GROUPED, _ROWS, _BRANCH = "millrace_grouped", "millrace_rows", "millrace_branch"

Pins = Mapping[str, exp.Expr]
"""Columns of a query whose value is known."""


@dataclass(frozen=True)
class _Written:
    """A query with the keys of raw rows beside its own columns.

    Attributes:
        query: The query.
        repeats: Whether one row of the model's query can be several rows here.
    """

    query: exp.Select
    repeats: bool


def keys_query(
    queries: Queries, trails: Sequence[Trail], keys: Sequence[str], row: Mapping[str, Any]
) -> str:
    """SQL that gives the keys of the raw rows that can have contributed to a row of a mart.

    Args:
        queries: The queries of the models.
        trails: The ways from the mart to one raw table.
        keys: The columns of that table that identify its rows.
        row: The values of columns that identify the mart's row.

    Returns:
        A query of the columns ``millrace_key_0`` and so on, each row once.

    Raises:
        NotFollowed: rows cannot be followed on one of these ways.
    """
    writer = _Writer(queries, keys)
    pins = {name.lower(): exp.convert(value) for name, value in row.items()}
    selects = []
    for trail in trails:
        written = writer.written(trail.hops, set(pins), pins)
        select = exp.select(*[_column(_KEY.format(at), _ROWS) for at in range(len(keys))])
        select = select.from_(written.query.subquery(_ROWS, copy=False), copy=False).distinct()
        for name, value in pins.items():
            select = select.where(_equals(_column(name, _ROWS), value))
        # The other side of an outer join has no key.
        last = _column(_KEY.format(len(keys) - 1), _ROWS)
        selects.append(select.where(last.is_(exp.null()).not_()))
    dialect = queries.relations.dialect
    return " UNION ".join(select.sql(dialect=dialect, identify=True) for select in selects)


class _Writer:
    """Writes the queries of a trail anew.

    Args:
        queries: The queries of the models.
        keys: The columns that identify the rows of the raw table.
    """

    def __init__(self, queries: Queries, keys: Sequence[str]) -> None:
        self._queries = queries
        self._keys = keys

    def written(self, hops: Sequence[Hop], out: Collection[str], pins: Pins) -> _Written:
        """Write the first query of a trail anew.

        Args:
            hops: The trail from that query on.
            out: The columns that are needed of it.
            pins: Columns whose value is known: rows with other values need not come.
        """
        hop = hops[0]
        if not hop.source:
            return self._of_branch(hops, out, pins)
        groups = _groups(hop)
        if groups is None:
            return self._of_rows(hops, out, pins)
        return self._of_groups(hops, groups, out, pins)

    def _of_branch(self, hops: Sequence[Hop], out: Collection[str], pins: Pins) -> _Written:
        """One query of a set operation, whose columns get the operation's names."""
        hop = hops[0]
        inner = inner_names(hop.scope, branches(hop.scope)[hop.branch])
        known = {inner[name]: value for name, value in pins.items()}
        written = self.written(hops[1:], {inner[name] for name in out}, known)
        query = exp.select(
            *[_named(_column(inner[name], _BRANCH), name) for name in out], *self._passed(_BRANCH)
        ).from_(written.query.subquery(_BRANCH, copy=False), copy=False)
        _take_with(query, hop.scope.expression)
        is_distinct = bool(hop.scope.expression.args.get("distinct"))
        return _Written(query, written.repeats or is_distinct)

    def _of_rows(self, hops: Sequence[Hop], out: Collection[str], pins: Pins) -> _Written:
        """A query each of whose rows is made of one row of each source."""
        scope = hops[0].scope
        select = select_of(scope).copy()
        is_limited = any(select.args.get(part) for part in ("limit", "offset"))
        if not is_limited:
            # What orders the rows may be any of the columns.
            _set_projections(select, {name: projection(scope, name) for name in out})
        is_windowed = bool(select.args.get("qualify") or _windows(select.selects))
        is_distinct = select.args.get("distinct") is not None
        _without(select, "distinct", *([] if is_limited else ["order"]))
        known = pins if not (is_limited or is_windowed) else {}
        repeats = self._fill(select, hops, {name: projection(scope, name) for name in known}, known)
        if repeats and (is_limited or is_windowed):
            raise NotFollowed("ranks or limits rows that were grouped before")
        return _Written(select, repeats or is_distinct)

    def _of_groups(
        self,
        hops: Sequence[Hop],
        groups: Sequence[exp.Expr],
        out: Collection[str],
        pins: Pins,
    ) -> _Written:
        """A query that makes one row, or one value, of several rows of its sources."""
        scope = hops[0].scope
        made_by = {name: projection(scope, name) for name in {*out, *pins}}
        known = {name: value for name, value in pins.items() if made_by[name] in groups}
        rows = select_of(scope).copy()
        _without(rows, "group", "having", "qualify", "order", "limit", "offset", "distinct")
        parts = ("having", "limit", "offset")
        is_filtered = any(scope.expression.args.get(part) for part in parts)
        if all(made_by[name] in groups for name in out) and not is_filtered:
            _set_projections(rows, {name: made_by[name] for name in out})
            self._fill(rows, hops, made_by, known)
            return _Written(rows, repeats=True)
        of_groups = {_GROUP.format(at): group for at, group in enumerate(groups)}
        _set_projections(rows, of_groups)
        self._fill(rows, hops, made_by, known)
        grouped = select_of(scope).copy()
        for name, group in of_groups.items():
            grouped.select(_named(group.copy(), name), copy=False)
        query = (
            exp.select(*[_named(_column(name, _GROUPED), name) for name in out])
            .select(*self._passed(_ROWS))
            .from_(grouped.subquery(_GROUPED, copy=False), copy=False)
            .join(
                rows.subquery(_ROWS, copy=False),
                on=exp.and_(exp.true(), *[self._same(name) for name in of_groups]),
                copy=False,
            )
        )
        return _Written(query, repeats=True)

    def _fill(
        self,
        select: exp.Select,
        hops: Sequence[Hop],
        made_by: Mapping[str, exp.Expr],
        known: Pins,
    ) -> bool:
        """Let a query read its source with the keys, and pass them on.

        Args:
            select: The query; it is changed.
            hops: The trail from that query on.
            made_by: What makes those of its columns whose value is known.
            known: These values.

        Returns:
            Whether rows of the source can come several times.
        """
        hop, rest = hops[0], hops[1:]
        for name, value in known.items():
            select.where(_equals(made_by[name].copy(), value), copy=False)
        names = self._queries.names(self._queries.source(hop))
        needed = sorted(_columns_of(select, hop.source) & set(names))
        below = {
            column.name: known[name]
            for name, column in made_by.items()
            if name in known and isinstance(column, exp.Column) and column.table == hop.source
        }
        source = hop.scope.sources[hop.source]
        if isinstance(source, exp.Table) and not rest:
            written = _Written(self._of_table(source, needed), repeats=False)
        else:
            written = self.written(rest, needed, below)
        _replace_source(select, hop.source, written.query)
        select.select(*self._passed(hop.source), copy=False)
        return written.repeats

    def _of_table(self, table: exp.Table, needed: Sequence[str]) -> exp.Select:
        """The raw table itself, with its keys under their own names."""
        plain = exp.table_(table.name, db=table.db or None, catalog=table.catalog or None)
        keys = (
            _named(exp.column(key, quoted=True), _KEY.format(at))
            for at, key in enumerate(self._keys)
        )
        return exp.select(*[_named(exp.column(name), name) for name in needed], *keys).from_(plain)

    def _passed(self, source: str) -> list[exp.Expr]:
        """The keys, as a source gives them."""
        names = [_KEY.format(at) for at in range(len(self._keys))]
        return [_named(_column(name, source), name) for name in names]

    def _same(self, group: str) -> exp.Expr:
        """Whether rows are of one group; in a group, NULL is a value."""
        one, other = _column(group, _GROUPED), _column(group, _ROWS)
        if self._queries.relations.dialect == "duckdb":
            return exp.NullSafeEQ(this=one, expression=other)
        both_null = exp.and_(one.is_(exp.null()), other.is_(exp.null()))
        return exp.paren(exp.or_(one.eq(other), both_null))


def _groups(hop: Hop) -> list[exp.Expr] | None:
    """What tells which rows of the sources go into one row, or one followed value, of a query.

    Returns:
        Expressions over the sources; none of them: all rows go in. None: each row is made of one
        row of each source.

    Raises:
        NotFollowed: it groups in several ways at once.
    """
    select = select_of(hop.scope)
    group = select.args.get("group")
    if group or select.args.get("having") or any(map(_aggregates, select.selects)):
        return _grouped_by(hop, group) if group else []
    windows = _windows([projection(hop.scope, name) for name in hop.values])
    if not windows:
        return None
    first, *others = ([*window.args.get("partition_by", ())] for window in windows)
    return [each for each in first if all(each in other for other in others)]


def _grouped_by(hop: Hop, group: exp.Group) -> list[exp.Expr]:
    if group.find(exp.Rollup, exp.Cube, exp.GroupingSets):
        raise NotFollowed(f"{hop.model.name} groups rows in several ways at once")
    select = select_of(hop.scope)
    if group.args.get("all"):
        return [made.unalias() for made in select.selects if not _aggregates(made)]
    named = {made.alias_or_name: made.unalias() for made in select.selects}
    return [
        named[found.name]
        if isinstance(found, exp.Column) and not found.table and found.name in named
        else found
        for found in group.expressions
    ]


def _aggregates(made: exp.Expr) -> bool:
    """Whether an expression of a query makes one value of a group of rows."""
    return any(
        found.find_ancestor(exp.Window, exp.Query) is made.find_ancestor(exp.Query)
        for found in made.find_all(exp.AggFunc)
    )


def _windows(expressions: Sequence[exp.Expr]) -> list[exp.Window]:
    return [window for made in expressions for window in made.find_all(exp.Window)]


def _columns_of(select: exp.Select, source: str) -> set[str]:
    """The columns of a source that a query names anywhere, its CTEs aside."""
    return {
        column.name
        for part, value in select.args.items()
        if part != _WITH
        for node in (value if isinstance(value, list) else [value])
        if isinstance(node, exp.Expr)
        for column in node.find_all(exp.Column)
        if column.table == source
    }


def _take_with(query: exp.Select, of: exp.Expr) -> None:
    """Give a query the CTEs of another one."""
    if ctes := of.args.get(_WITH):
        query.set(_WITH, ctes.copy())


def _replace_source(select: exp.Select, source: str, query: exp.Select) -> None:
    for node in (select.args[_FROM].this, *[join.this for join in select.args.get("joins") or ()]):
        if node.alias_or_name == source:
            node.replace(query.subquery(exp.to_identifier(source, quoted=True), copy=False))
            return
    raise NotFollowed(f"reads {source} in a way that is not known")


def _set_projections(select: exp.Select, made_by: Mapping[str, exp.Expr]) -> None:
    select.set("expressions", [_named(made.copy(), name) for name, made in made_by.items()])


def _without(select: exp.Select, *parts: str) -> None:
    for part in parts:
        select.set(part, None)


def _column(name: str, table: str) -> exp.Column:
    return exp.column(name, table=table, quoted=True)


def _named(made: exp.Expr, name: str) -> exp.Expr:
    return exp.alias_(made, name, quoted=True)


def _equals(one: exp.Expr, value: exp.Expr) -> exp.Expr:
    return one.is_(value.copy()) if isinstance(value, exp.Null) else one.eq(value.copy())
