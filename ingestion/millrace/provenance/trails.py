"""The ways from a column of a mart down to raw tables, through the SQL of the models.

A way leads through those sources of each query whose columns go into the value. A count of rows
goes through every source but those of a left join, which removes no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from millrace.provenance.relations import Relation, Relations

_MOST = 100


class NotFollowed(Exception):
    """A query that rows are not followed through; its text says why."""


@dataclass(frozen=True)
class Hop:
    """One query on a way.

    Attributes:
        model: The model that it is part of.
        scope: The query.
        values: The columns of it that are followed.
        source: The source that the way goes on to; empty for a set operation.
        branch: Which query of a set operation the way goes on to.
    """

    model: Relation
    scope: Scope
    values: frozenset[str]
    source: str = ""
    branch: int = 0


@dataclass(frozen=True)
class Trail:
    """A way from a column of a mart to a relation that no query of the project makes.

    Attributes:
        hops: The queries on the way, the mart's first.
        end: Where it ends.
        values: The columns that are taken there.
        broken: Why rows cannot be followed to the end; empty if they can.
    """

    hops: tuple[Hop, ...]
    end: Relation
    values: frozenset[str]
    broken: str = ""


class Queries:
    """The queries of the models, with each column's source resolved.

    Args:
        relations: The relations of the project.
        columns: Gives the columns, with their types, of a relation that no model makes.
    """

    def __init__(
        self, relations: Relations, columns: Callable[[Relation], Mapping[str, str]]
    ) -> None:
        self.relations = relations
        self._physical = columns
        self.scope = cache(self._scope)
        self.columns = cache(self._columns)

    def trails(self, mart: Relation, column: str) -> list[Trail]:
        """Every way from a column of a mart."""
        found: list[Trail] = []
        for trail in self._from_relation(mart, frozenset({column}), ()):
            found.append(trail)
            if len(found) > _MOST:
                raise NotFollowed(f"{mart.name} reads its sources in more than {_MOST} ways")
        return found

    def source(self, hop: Hop) -> Scope | Relation | None:
        """What the source of a hop is; None: no relation of the project."""
        source = hop.scope.sources[hop.source]
        if isinstance(source, exp.Table):
            return self.relations.at(source.db, source.name)
        return source if isinstance(source, Scope) else None

    def names(self, source: Scope | Relation | None) -> list[str]:
        """The names of a source's columns."""
        if isinstance(source, Scope):
            return names_of(source)
        return list(self.columns(source)) if source else []

    def _from_relation(
        self, relation: Relation, values: frozenset[str], before: tuple[Hop, ...]
    ) -> Iterator[Trail]:
        if relation.sql is None:
            yield Trail(before, relation, values, "" if relation.table else relation.not_followed)
            return
        try:
            scope = self.scope(relation)
        except NotFollowed as error:
            yield Trail(before, relation, values, f"{relation.name} {error}")
            return
        yield from self._from_scope(relation, scope, values, before)

    def _from_scope(
        self, model: Relation, scope: Scope, values: frozenset[str], before: tuple[Hop, ...]
    ) -> Iterator[Trail]:
        try:
            if isinstance(scope.expression, exp.SetOperation):
                yield from self._from_branches(model, scope, values, before)
            else:
                yield from self._from_select(model, scope, values, before)
        except NotFollowed as error:
            yield Trail(before, model, values, f"{model.name} {error}")

    def _from_branches(
        self, model: Relation, scope: Scope, values: frozenset[str], before: tuple[Hop, ...]
    ) -> Iterator[Trail]:
        for at, branch in enumerate(branches(scope)):
            if at and isinstance(scope.expression, exp.Except):
                continue
            inner = inner_names(scope, branch)
            taken = frozenset(inner[name] for name in values)
            hop = Hop(model, scope, values, branch=at)
            yield from self._from_scope(model, branch, taken, (*before, hop))

    def _from_select(
        self, model: Relation, scope: Scope, values: frozenset[str], before: tuple[Hop, ...]
    ) -> Iterator[Trail]:
        for name, columns in _fed_by(scope, values).items():
            hop = Hop(model, scope, values, name)
            source = self.source(hop)
            if isinstance(source, Scope):
                yield from self._from_scope(model, source, columns, (*before, hop))
            elif source:
                yield from self._from_relation(source, columns, (*before, hop))
            else:
                yield Trail(
                    before, model, values, f"{model.name} reads {name}, which dbt does not know"
                )

    def _scope(self, relation: Relation) -> Scope:
        dialect = self.relations.dialect
        schema: dict[str, Any] = {}
        for name in relation.parents:
            if parent := self.relations.by_id.get(name):
                in_database = schema.setdefault(parent.database, {})
                in_database.setdefault(parent.schema, {})[parent.identifier] = dict(
                    self.columns(parent)
                )
        try:
            parsed = parse_one(relation.sql or "", dialect=dialect)
            scope = build_scope(qualify(parsed, dialect=dialect, schema=schema))
        except SqlglotError as error:
            raise NotFollowed(f"is not understood: {_said(error)}") from None
        if scope is None:
            raise NotFollowed("is not a query")
        if any(ctes.args.get("recursive") for ctes in scope.expression.find_all(exp.With)):
            raise NotFollowed("is a recursive query")
        return scope

    def _columns(self, relation: Relation) -> Mapping[str, str]:
        if relation.sql is not None:
            with suppress(NotFollowed):
                return dict.fromkeys(names_of(self.scope(relation)), "unknown")
        return self._physical(relation)


def select_of(scope: Scope) -> exp.Select:
    """The query of a scope that is not a set operation.

    Raises:
        NotFollowed: it is no query.
    """
    if not isinstance(scope.expression, exp.Select):
        raise NotFollowed("has a source that is not a query")
    return scope.expression


def names_of(scope: Scope) -> list[str]:
    """The names of a query's columns."""
    return scope.expression.named_selects if isinstance(scope.expression, exp.Query) else []


def branches(scope: Scope) -> list[Scope]:
    """The queries of a set operation, whose columns correspond by their place.

    Raises:
        NotFollowed: they correspond by their names.
    """
    if scope.expression.args.get("by_name"):
        raise NotFollowed("combines queries by name")
    return scope.set_operation_scopes


def projection(scope: Scope, name: str) -> exp.Expr:
    """What makes a column of a query.

    Raises:
        NotFollowed: the query does not name the column: it selects all of an unknown relation.
    """
    made: list[exp.Expr] = select_of(scope).selects
    for found in made:
        if found.alias_or_name == name:
            return found.unalias()
    raise NotFollowed(f"has no column {name} that its SQL names")


def inner_names(scope: Scope, branch: Scope) -> dict[str, str]:
    """What a query of a set operation calls the operation's columns.

    Raises:
        NotFollowed: it does not name all of them.
    """
    outer, inner = names_of(scope), names_of(branch)
    if len(outer) != len(inner) or "*" in (*outer, *inner):
        raise NotFollowed("combines queries whose columns are not known")
    return dict(zip(outer, inner, strict=True))


def _fed_by(scope: Scope, values: frozenset[str]) -> dict[str, frozenset[str]]:
    """The sources whose columns go into some columns of a query, and which columns."""
    select = select_of(scope)
    fed: dict[str, set[str]] = {}
    for name in values:
        made_by = projection(scope, name)
        if made_by.find(exp.Query):
            raise NotFollowed(f"makes {name} by a query of its own")
        for column in made_by.find_all(exp.Column):
            if column.table not in scope.selected_sources:
                raise NotFollowed(f"makes {name} of {column.sql()}, which is no column of a source")
            fed.setdefault(column.table, set()).add(column.name)
    if fed:
        return {name: frozenset(columns) for name, columns in fed.items()}
    beside = {
        join.this.alias_or_name
        for join in select.args.get("joins") or ()
        if join.side == "LEFT" or join.kind in ("SEMI", "ANTI")
    }
    return {name: frozenset() for name in scope.selected_sources if name not in beside}


def _said(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
