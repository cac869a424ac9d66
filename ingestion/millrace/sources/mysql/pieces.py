"""Reads in pieces: each by statements that take about a second, whatever the size of the table.

A piece is as large as the speed of those before it allows. The server itself ends a statement that
takes too long all the same, and its piece is then asked for in halves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from millrace.batch import EVERY_KEY, KeyRange
from millrace.sources.mysql.client import MySQLError
from millrace.sources.mysql.limits import Limits
from millrace.sources.mysql.ranges import Condition, Cutter, Piece, in_range
from millrace.sources.mysql.relation import Relation
from millrace.sources.mysql.session import Session, has_timed_out
from millrace.sources.mysql.types import Column
from millrace.sources.pace import Pace

Answer = TypeVar("Answer")


class Pieces:
    """Some rows of a table, asked for piece by piece.

    Args:
        key: The columns that the pieces are cut by.
        cutter: Cuts them.
        limits: What the table declares.
        pace: How large they are.
    """

    def __init__(self, key: Sequence[Column], cutter: Cutter, limits: Limits, pace: Pace) -> None:
        self._key = key
        self._cutter = cutter
        self._limits = limits
        self._pace = pace

    @classmethod
    def of(
        cls,
        session: Session,
        relation: Relation,
        scope: Sequence[Condition],
        limits: Limits,
        pace: Pace,
        *,
        key_range: KeyRange = EVERY_KEY,
        cursor: str | None = None,
    ) -> Pieces:
        """The pieces of a table.

        Args:
            session: The session that looks for the boundaries.
            relation: The table.
            scope: Which of its rows are asked for.
            limits: What the table declares.
            pace: How large the pieces are.
            key_range: The keys that are asked for.
            cursor: The column of the scope, if it has an index by which the pieces are cut;
                default: they are cut by the primary key.
        """
        key, inside = relation.key, in_range(relation.key, key_range)
        rows = relation.estimated_rows(session, [*scope, *inside]) if key else 0
        if cursor is not None:
            # Every index of InnoDB ends in the primary key.
            key, inside = (relation.column(cursor), *key), list(scope)
        cutter = Cutter(session, relation.quoted, key, key_range, inside, rows)
        return cls(key, cutter, limits, pace)

    def each(
        self,
        ask: Callable[[list[Condition]], Answer],
        size_of: Callable[[Answer], int] = lambda _: 0,
    ) -> Iterator[Answer]:
        """Ask for one piece after another.

        Args:
            ask: Asks for the rows that some conditions choose.
            size_of: The size of an answer in bytes, if it is kept in memory.

        Raises:
            SourceBusy: the server suffers more than the table declares that it may.
        """
        self._limits.limit_statements(can_be_smaller=self._cutter.is_divisible)
        while (piece := self._take()) is not None:
            self._limits.wait()
            began = time.monotonic()
            try:
                answer = ask(in_range(self._key, piece.keys))
            except MySQLError as error:
                if not has_timed_out(error):
                    raise
                self._halve(piece)
                continue
            self._pace.learn(piece.rows, time.monotonic() - began, size_of(answer))
            self._cutter.done()
            yield answer

    def _take(self) -> Piece | None:
        try:
            return self._cutter.take(self._pace.rows)
        except MySQLError as error:
            if not has_timed_out(error):
                raise
            # Even a look into the index takes too long: the table is locked, or its server busy.
            self._limits.lift()
            return self._cutter.take(self._pace.rows)

    def _halve(self, piece: Piece) -> None:
        """Make smaller pieces of one that took too long."""
        self._pace.slow_down(piece.rows)
        try:
            is_smaller = self._cutter.halve()
        except MySQLError as error:
            if not has_timed_out(error):
                raise
            is_smaller = False
        if not is_smaller:
            self._limits.lift()
