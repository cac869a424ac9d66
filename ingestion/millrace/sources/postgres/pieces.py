"""Reads in pieces: each by statements that take about a second, whatever the size of the table.

A table is cut by the pages that it is stored in, which takes no look-up, needs no key and is not
upset by gaps or skew. An interval that an index finds is cut by the values of its cursor. The
server itself ends a statement that takes too long all the same, and less is asked for then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from millrace.batch import EVERY_KEY, KeyRange
from millrace.errors import SourceMismatch
from millrace.sources.pace import Pace
from millrace.sources.postgres.limits import Limits
from millrace.sources.postgres.relation import Relation, where_clause
from millrace.sources.postgres.session import PostgresError, Session, has_timed_out
from millrace.sources.postgres.types import literal, quote

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Piece:
    """A part of a table.

    Attributes:
        conditions: They choose its rows.
        size: How large it is, in what its cutter counts: pages or rows.
        is_smallest: Whether it cannot be smaller.
        is_last: Whether none comes after it.
    """

    conditions: tuple[str, ...]
    size: int
    is_smallest: bool
    is_last: bool


class Cutter(Protocol):
    """Cuts a table into pieces, one after another."""

    def take(self, size: int) -> Piece:
        """The next piece, of about that size; the same place again until it is ``done``."""

    def done(self) -> None:
        """Go on to what follows the piece that was taken last."""


class Whole:
    """Does not cut: a view, or what lies on another server."""

    def take(self, size: int) -> Piece:
        """Everything."""
        return Piece((), size, is_smallest=True, is_last=True)

    def done(self) -> None:
        """Nothing follows."""


class Pages:
    """Cuts a range of pages; the last piece also has what is added at the end of the table.

    Args:
        pages: How many the table has.
        key_range: The pages, as ``page_ranges`` writes them.
    """

    def __init__(self, pages: int, key_range: KeyRange = EVERY_KEY) -> None:
        self._through = key_range.through
        self._at = _page(key_range.after) if key_range.after else 0
        self._end = _page(key_range.through) if key_range.through else pages
        self._next = self._at

    def take(self, size: int) -> Piece:
        """The next pages."""
        size = max(size, 1)
        is_last = self._at + size >= self._end
        self._next = self._end if is_last else self._at + size
        conditions = [f"ctid > '({self._at},0)'"] if self._at else []
        if not is_last or self._through:
            conditions.append(f"ctid <= '({self._next},0)'")
        count = self._next - self._at
        return Piece(tuple(conditions), count, is_smallest=count <= 1, is_last=is_last)

    def done(self) -> None:
        """Go on to the pages behind them."""
        self._at = self._next


class CursorValues:
    """Cuts an interval by the values of its cursor, which has an index.

    Args:
        session: Looks for the boundaries.
        relation: The table.
        cursor: The cursor column.
        scope: The conditions of the interval.
    """

    def __init__(
        self, session: Session, relation: Relation, cursor: str, scope: Sequence[str]
    ) -> None:
        self._session = session
        self._relation = relation
        self._name = quote(cursor)
        self._scope = scope
        self._since: str | None = None
        self._until: str | None = None

    def take(self, size: int) -> Piece:
        """The rows of the next values of the cursor; those with the same value stay together."""
        size = max(size, 1)
        begun = [f"{self._name} >= {self._since}"] if self._since else []
        self._until = self._value(begun, size)
        is_smallest = size == 1
        if self._until is not None and self._until == self._since:
            is_smallest = True
            self._until = self._value([f"{self._name} > {self._since}"], 0)
        ended = [f"{self._name} < {self._until}"] if self._until else []
        return Piece((*begun, *ended), size, is_smallest, is_last=self._until is None)

    def done(self) -> None:
        """Go on to the value behind them."""
        self._since = self._until

    def _value(self, conditions: Sequence[str], behind: int) -> str | None:
        """The value that so many rows come before, as SQL writes it; None: there are fewer rows."""
        found = self._session.rows(
            f"SELECT {self._name}::text FROM {self._relation.quoted}"
            f"{where_clause([*self._scope, *conditions])} ORDER BY {self._name} "
            f"OFFSET {behind} LIMIT 1"
        )
        return literal(found[0][0]) if found else None


def pieces(
    cutter: Cutter,
    limits: Limits,
    pace: Pace,
    ask: Callable[[Sequence[str]], Answer],
    size_of: Callable[[Answer], int] = lambda _: 0,
) -> Iterator[Answer]:
    """Ask for one piece after another.

    Args:
        cutter: Cuts them.
        limits: What the table declares.
        pace: How large they are.
        ask: Asks for the rows that some conditions choose.
        size_of: The size of an answer in bytes, if it is kept in memory.

    Raises:
        SourceBusy: the server suffers more than the table declares that it may.
    """
    limits.limit_statements(can_be_smaller=not isinstance(cutter, Whole))
    is_last = False
    while not is_last:
        limits.wait()
        is_smallest = True
        began = time.monotonic()
        try:
            piece = cutter.take(pace.rows)
            is_smallest = piece.is_smallest
            answer = ask(piece.conditions)
        except PostgresError as error:
            if not has_timed_out(error):
                raise
            if is_smallest:
                limits.lift()
            else:
                pace.slow_down(piece.size)
            continue
        pace.learn(piece.size, time.monotonic() - began, size_of(answer))
        cutter.done()
        is_last = piece.is_last
        yield answer


def page_ranges(relation: Relation, count: int) -> tuple[KeyRange, ...]:
    """Ranges of pages that together hold every row, each once.

    A range also says in which files the table is stored: written anew, its rows lie elsewhere.
    """
    bounds = sorted({relation.pages * part // count for part in range(1, count)} - {0})
    marks = [(f"({page},0)", relation.stored) for page in bounds]
    return tuple(
        KeyRange(after, through)
        for after, through in zip([None, *marks], [*marks, None], strict=True)
    )


def moved(relation: Relation) -> SourceMismatch:
    """The error of a table that was written anew while it was read."""
    return SourceMismatch(
        f"{relation} was written anew (VACUUM FULL, CLUSTER, TRUNCATE, ALTER TABLE) while it was "
        "read.",
        fix="Ingest again; nothing was loaded.",
    )


def _page(mark: Sequence[str]) -> int:
    """The page of a bound: ``(7,0)`` comes before the first row of the page 7."""
    return int(mark[0].strip("()").partition(",")[0])
