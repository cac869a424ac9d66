"""Answers what is behind a published cell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from sqlglot import exp

from millrace.catalog import IngestTable, Publication
from millrace.destinations.base import Shown
from millrace.errors import MillraceError, WarehouseError
from millrace.manifest import Part
from millrace.pipeline import Pipeline
from millrace.provenance.relations import Relation, Relations
from millrace.provenance.rows import keys_query
from millrace.provenance.trails import NotFollowed, Queries, Trail, projection
from millrace.warehouses.base import BATCH_COLUMN, LedgerRow

LISTED_KEYS = 20


@dataclass(frozen=True)
class Step:
    """What makes the columns of one relation on the way to a cell.

    Attributes:
        relation: Its name.
        columns: Its columns that go into the cell; none: its rows are counted.
        made_by: What makes them, as SQL; without what is only passed on.
    """

    relation: str
    columns: tuple[str, ...]
    made_by: tuple[str, ...]


@dataclass(frozen=True)
class BatchBehind:
    """A loaded batch with rows that can have contributed to a cell.

    Attributes:
        batch_id: Names it.
        ledger: What the ledger says of it; None: the ledger does not have it.
        rows: How many of its rows can have contributed; None: that is not known.
        keys: The primary keys of the first of them.
        parts: The files that were loaded.
        problem: Why the files are not known; empty if they are.
    """

    batch_id: str
    ledger: LedgerRow | None
    rows: int | None
    keys: tuple[tuple[str, ...], ...]
    parts: tuple[Part, ...]
    problem: str


@dataclass(frozen=True)
class TableBehind:
    """A raw table behind a cell.

    Attributes:
        table: Its declaration.
        not_followed: Why rows could not be followed to it; without any, all were.
        batches: The batches, oldest load first.
    """

    table: IngestTable
    not_followed: tuple[str, ...]
    batches: tuple[BatchBehind, ...]


@dataclass(frozen=True)
class Answer:
    """What is behind a published cell.

    Attributes:
        shown: The cell.
        value: Its value in the mart.
        mart: The mart's name.
        row: The values of the columns that identify the mart's row.
        steps: The relations on the way, the mart first.
        tables: The raw tables at its end.
    """

    shown: Shown
    value: str
    mart: str
    row: Mapping[str, str]
    steps: tuple[Step, ...]
    tables: tuple[TableBehind, ...]


def why(pipeline: Pipeline, publication: Publication, cell: str) -> Answer:
    """Find what is behind a published cell.

    The models' SQL has to be compiled (``Project.compile``).

    Args:
        pipeline: The pipeline of the project.
        publication: The publication.
        cell: The cell, as the destination names it.

    Raises:
        CellNotPublished: it is no published cell, or shows what the mart does not have now.
        WarehouseError: the mart cannot be read.
        SheetError: the sheet cannot be read.
    """
    options = publication.options
    mart_rows = pipeline.warehouse.read(
        publication.schema, publication.identifier, options.columns, options.order_by
    )
    shown = pipeline.destination(publication).shown(
        publication, mart_rows, cell, warehouse=pipeline.origin(publication)
    )
    row = _identity(mart_rows, shown.row, options.order_by)
    relations = Relations.read(pipeline.project.compiled_path, pipeline.catalog.tables)
    queries = Queries(
        relations, lambda found: pipeline.warehouse.columns(found.schema, found.identifier)
    )
    mart = relations.at(publication.schema, publication.identifier)
    trails = _trails(queries, mart, shown.column) if mart else []
    finder = _Finder(pipeline, queries, row)
    return Answer(
        shown=shown,
        value=_text(mart_rows[shown.column][shown.row].as_py()),
        mart=publication.mart,
        row={name: _text(value) for name, value in row.items()},
        steps=tuple(_steps(queries, trails)),
        tables=tuple(finder.tables(trails)),
    )


def _trails(queries: Queries, mart: Relation, column: str) -> list[Trail]:
    try:
        return queries.trails(mart, column.lower())
    except NotFollowed as error:
        return [Trail((), mart, frozenset({column}), str(error))]


def _identity(rows: pa.Table, at: int, key: Sequence[str]) -> dict[str, Any]:
    """The values that tell a row of the mart from all others; else those of all its columns."""
    names = [name for name in key if name in rows.column_names]
    keys = list(zip(*(rows[name].to_pylist() for name in names), strict=True))
    chosen = names if keys.count(keys[at]) == 1 else rows.column_names
    return {name: rows[name][at].as_py() for name in chosen}


def _steps(queries: Queries, trails: Iterable[Trail]) -> list[Step]:
    """The relations on some trails, each once."""
    columns: dict[str, dict[str, None]] = {}
    made_by: dict[str, dict[str, None]] = {}
    for trail in trails:
        for hop in trail.hops:
            name = hop.model.name
            if hop.scope is queries.scope(hop.model):
                columns.setdefault(name, {}).update(dict.fromkeys(sorted(hop.values)))
            made_by.setdefault(name, {}).update(dict.fromkeys(_made_by(queries, hop)))
        columns.setdefault(trail.end.name, {}).update(dict.fromkeys(sorted(trail.values)))
    return [
        Step(name, tuple(found), tuple(made_by.get(name, ()))) for name, found in columns.items()
    ]


def _made_by(queries: Queries, hop: Any) -> list[str]:
    if not isinstance(hop.scope.expression, exp.Select):
        return []
    within = hop.scope.expression.parent
    of_cte = f"{within.alias}." if isinstance(within, exp.CTE) else ""
    made = {name: projection(hop.scope, name) for name in sorted(hop.values)}
    return [
        f"{of_cte}{name} = {_sql(expression, queries.relations.dialect)}"
        for name, expression in made.items()
        if not isinstance(expression, exp.Column)
    ]


def _sql(expression: exp.Expr, dialect: str) -> str:
    plain = expression.copy()
    for name in plain.find_all(exp.Identifier):
        name.set("quoted", False)
    return plain.sql(dialect=dialect, comments=False)


@dataclass(frozen=True)
class _Finder:
    """Finds the rows, batches and parts at the ends of trails."""

    pipeline: Pipeline
    queries: Queries
    row: Mapping[str, Any]

    def tables(self, trails: Sequence[Trail]) -> list[TableBehind]:
        followed: dict[str, list[Trail]] = {}
        broken: dict[str, dict[str, None]] = {}
        found: dict[str, IngestTable] = {}
        for trail in trails:
            for table in self.queries.relations.tables_behind(trail.end):
                found[table.key] = table
                if trail.broken:
                    broken.setdefault(table.key, {})[trail.broken] = None
                else:
                    followed.setdefault(table.key, []).append(trail)
        ledgers = self.pipeline.warehouse.ledgers(list(found.values()))
        return [
            self._table(table, followed.get(key, []), list(broken.get(key, ())), ledgers[key])
            for key, table in found.items()
        ]

    def _table(
        self,
        table: IngestTable,
        trails: Sequence[Trail],
        not_followed: list[str],
        ledger: Sequence[LedgerRow],
    ) -> TableBehind:
        rows: dict[str, tuple[int, list[tuple[str, ...]]]] = {}
        try:
            rows = self._rows(table, trails) if trails else {}
        except NotFollowed as error:
            not_followed.append(str(error))
        except WarehouseError as error:
            not_followed.append(f"the warehouse does not run the query for them ({error.message})")
        of_batch = {loaded.batch_id: loaded for loaded in ledger}
        names = [*of_batch, *[name for name in rows if name not in of_batch]]
        return TableBehind(
            table,
            tuple(not_followed),
            tuple(
                self._batch(name, of_batch.get(name), rows.get(name))
                for name in names
                if not_followed or name in rows
            ),
        )

    def _rows(
        self, table: IngestTable, trails: Sequence[Trail]
    ) -> dict[str, tuple[int, list[tuple[str, ...]]]]:
        """By batch: how many rows can have contributed, and the keys of the first of them."""
        keys = [*table.options.primary_key, BATCH_COLUMN]
        names = [f"millrace_key_{at}" for at in range(len(keys))]
        batch, order = names[-1], ", ".join(names[:-1]) or names[-1]
        query = keys_query(self.queries, trails, keys, self.row)
        found = self.pipeline.warehouse.query(
            f"SELECT {', '.join(names)}, of_batch FROM (SELECT {', '.join(names)}, "
            f"COUNT(*) OVER (PARTITION BY {batch}) AS of_batch, "
            f"ROW_NUMBER() OVER (PARTITION BY {batch} ORDER BY {order}) AS place "
            f"FROM ({query}) AS millrace_keys) AS millrace_counted "
            f"WHERE place <= {LISTED_KEYS} ORDER BY {batch}, place"
        )
        rows: dict[str, tuple[int, list[tuple[str, ...]]]] = {}
        for *key, name, count in found:
            rows.setdefault(name, (count, []))[1].append(tuple(map(_text, key)))
        return rows

    def _batch(
        self,
        batch_id: str,
        ledger: LedgerRow | None,
        rows: tuple[int, list[tuple[str, ...]]] | None,
    ) -> BatchBehind:
        parts: tuple[Part, ...] = ()
        problem = "" if ledger else "The ledger does not have this batch."
        if ledger:
            try:
                parts = self.pipeline.landing.read_manifest(ledger.manifest_url).parts
            except MillraceError as error:
                problem = error.message
        count, keys = rows or (None, [])
        return BatchBehind(batch_id, ledger, count, tuple(keys), parts, problem)


def _text(value: Any) -> str:
    return "NULL" if value is None else str(value)
