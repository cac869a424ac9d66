"""Splits a MySQL table into ranges of its key, or cuts it into pieces one after another.

The table is not read for that. The server estimates how many rows lie between two keys by looking
them up in the index (EXPLAIN). The piece with most rows is halved, at the key next to the middle of
its values, until the pieces are small enough to be combined into equal ranges. So gaps and skew
cost only a few look-ups more, and every boundary is a key that exists. ``split`` knows how many
ranges are wanted; ``Cutter`` is told the size of each piece when it is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

import pyarrow as pa

from millrace.batch import EVERY_KEY, KeyRange
from millrace.sources.mysql.types import Column, quote

# A table is split into this many pieces per range, so that the ranges differ by little.
_PIECES_A_RANGE = 8
_MAX_LOOKUPS = 512
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

Key = tuple[str, ...]


class Session(Protocol):
    """A connection that takes and returns text."""

    def rows(self, query: str, arguments: Sequence[str] = ()) -> list[tuple[str | None, ...]]:
        """A small result, as text."""

    def estimated_rows(self, query: str, arguments: Sequence[str] = ()) -> int:
        """How many rows the server expects to look at."""


@dataclass(frozen=True)
class Condition:
    """A condition of a WHERE clause, with its bound values."""

    sql: str
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Piece:
    """The keys in ``(low, high]``."""

    low: Key
    high: Key
    rows: int


def splittable(key: Sequence[Column]) -> tuple[Column, ...]:
    """The leading columns of a key that MySQL sorts in the order in which it compares literals.

    It orders an ENUM by its position in the list, and compares it as text: boundaries would be
    in another order than the rows.
    """
    leading = []
    for column in key:
        if not column.is_ordered:
            break
        leading.append(column)
    return tuple(leading)


def in_range(key: Sequence[Column], key_range: KeyRange) -> list[Condition]:
    """The conditions that a range sets."""
    conditions = []
    # A range's bounds may have only the leading columns.
    if key_range.after is not None:
        conditions.append(_compare(key[: len(key_range.after)], ">", key_range.after))
    if key_range.through is not None:
        conditions.append(_compare(key[: len(key_range.through)], "<=", key_range.through))
    return conditions


def split(
    session: Session, relation: str, key: Sequence[Column], count: int
) -> tuple[KeyRange, ...]:
    """Ranges that together hold every key, each key once.

    Args:
        session: The session to use.
        relation: The table's quoted name.
        key: The key's columns, in the order of its index.
        count: How many ranges are wanted; there may be fewer.
    """
    columns = splittable(key)
    if count < 2 or not columns:
        return (EVERY_KEY,)
    table = _Table(session, relation, columns)
    first, last = table.edge("ASC"), table.edge("DESC")
    if first is None or last is None or first == last:
        return (EVERY_KEY,)
    pieces = _pieces(table, first, last, count * _PIECES_A_RANGE)
    bounds: list[Key] = []
    share = sum(piece.rows for piece in pieces) / count
    seen = 0
    for piece in pieces[:-1]:
        seen += piece.rows
        if seen >= share * (len(bounds) + 1) and len(bounds) < count - 1:
            bounds.append(piece.high)
    return tuple(
        KeyRange(after, through)
        for after, through in zip([None, *bounds], [*bounds, None], strict=True)
    )


@dataclass(frozen=True)
class Piece:
    """A part of a range of keys.

    Attributes:
        keys: Its keys.
        rows: About how many rows the server looks at for it.
    """

    keys: KeyRange
    rows: int


class Cutter:
    """Cuts a range of keys into pieces, from the first key to the last.

    Args:
        session: The session to use.
        relation: The table's quoted name.
        key: The columns of an index, in its order; those after a column without a certain order are
            not cut by.
        whole: The range.
        inside: The conditions of the range, or of what is read of it.
        rows: About how many rows it has.

    Attributes:
        is_divisible: Whether it may have more than one piece.
    """

    def __init__(
        self,
        session: Session,
        relation: str,
        key: Sequence[Column],
        whole: KeyRange,
        inside: Sequence[Condition],
        rows: int,
    ) -> None:
        self._table = _Table(session, relation, splittable(key))
        self.is_divisible = bool(splittable(key))
        self._whole = whole
        self._inside = inside
        self._rows = rows
        self._after = whole.after
        self._is_at_end = False
        # What is left, the next piece last; None: its ends have not been looked up.
        self._left: list[_Piece] | None = None

    def take(self, rows: int) -> Piece | None:
        """The next piece, the same until it is ``done``; None: there is none.

        Args:
            rows: About how many rows it may have.
        """
        if self._is_at_end:
            return None
        while self._rows_at_hand > rows and self.halve():
            pass
        self._join(rows)
        is_last = self._left is None or len(self._left) == 1
        through = self._whole.through if is_last else self._at_hand.high
        return Piece(KeyRange(self._after, through), self._rows_at_hand)

    def halve(self) -> bool:
        """Cut the next piece in two; returns whether it could be cut."""
        if self._left is None and not self._look_up():
            return False
        piece = self._at_hand
        between = self._table.key_near_the_middle(piece.low, piece.high)
        if between is None:
            return False
        low, high = self._table.halves(piece, between)
        self._left = [*(self._left or [])[:-1], high, low]
        return True

    def done(self) -> None:
        """Go on to the piece after this one."""
        self._is_at_end = self._left is None or len(self._left) == 1
        if self._left and not self._is_at_end:
            self._after = self._left.pop().high

    @property
    def _at_hand(self) -> _Piece:
        if not self._left:
            raise ValueError("the ends of the range have not been looked up")
        return self._left[-1]

    @property
    def _rows_at_hand(self) -> int:
        return self._left[-1].rows if self._left else self._rows

    def _look_up(self) -> bool:
        """Find the first and the last key; returns whether there is anything between them."""
        if not self.is_divisible:
            return False
        first, last = (self._table.edge(direction, self._inside) for direction in ("ASC", "DESC"))
        self.is_divisible = first is not None and last is not None and first != last
        if self.is_divisible and first and last:
            self._left = [_Piece(first, last, self._table.rows(first, last))]
        return self.is_divisible

    def _join(self, rows: int) -> None:
        """Join the next piece with those after it, as far as they are small."""
        left = self._left or []
        while len(left) > 1 and left[-1].rows + left[-2].rows <= rows:
            one, other = left.pop(), left.pop()
            left.append(_Piece(one.low, other.high, one.rows + other.rows))


def _pieces(table: _Table, first: Key, last: Key, count: int) -> list[_Piece]:
    pieces = [_Piece(first, last, table.rows(first, last))]
    total = pieces[0].rows
    indivisible: set[Key] = set()
    for _ in range(_MAX_LOOKUPS):
        divisible = [piece for piece in pieces if piece.low not in indivisible]
        heaviest = max(divisible, key=lambda piece: piece.rows, default=None)
        if heaviest is None or heaviest.rows <= max(total / count, 1):
            break
        between = table.key_near_the_middle(heaviest.low, heaviest.high)
        if between is None:
            indivisible.add(heaviest.low)
            continue
        at = pieces.index(heaviest)
        pieces[at : at + 1] = table.halves(heaviest, between)
        total = max(total, sum(piece.rows for piece in pieces))
    return pieces


class _Table:
    def __init__(self, session: Session, relation: str, key: Sequence[Column]) -> None:
        self._session = session
        self._relation = relation
        self._key = key

    def edge(self, direction: str, inside: Sequence[Condition] = ()) -> Key | None:
        """The first or the last key."""
        return self._next(inside, direction)

    def halves(self, piece: _Piece, between: Key) -> tuple[_Piece, _Piece]:
        """The two parts of a piece, cut at a key."""
        return (
            _Piece(piece.low, between, self.rows(piece.low, between)),
            _Piece(between, piece.high, self.rows(between, piece.high)),
        )

    def rows(self, low: Key, high: Key) -> int:
        """About how many rows lie between two keys."""
        conditions = [_compare(self._key, ">", low), _compare(self._key, "<=", high)]
        where, arguments = where_clause(conditions)
        return self._session.estimated_rows(
            f"SELECT {self._names} FROM {self._relation}{where}", arguments
        )

    def key_near_the_middle(self, low: Key, high: Key) -> Key | None:
        """A key between two others, next to the middle of their values; None: there is none."""
        at = next(at for at, (one, other) in enumerate(zip(low, high, strict=True)) if one != other)
        middle = _middle(self._key[at], low[at], high[at])
        inside = [_compare(self._key, ">", low), _compare(self._key, "<", high)]
        if middle is None:
            return self._next(inside, "DESC")
        leading, point = self._key[: at + 1], (*low[:at], middle)
        below = self._next([*inside, _compare(leading, "<=", point)], "DESC")
        return below or self._next([*inside, _compare(leading, ">", point)], "ASC")

    @property
    def _names(self) -> str:
        return ", ".join(quote(column.name) for column in self._key)

    def _next(self, conditions: Sequence[Condition], direction: str) -> Key | None:
        where, arguments = where_clause(conditions)
        selected = ", ".join(
            f"HEX({quote(column.name)})" if pa.types.is_binary(column.type) else quote(column.name)
            for column in self._key
        )
        order = ", ".join(f"{quote(column.name)} {direction}" for column in self._key)
        found = self._session.rows(
            f"SELECT {selected} FROM {self._relation}{where} ORDER BY {order} LIMIT 1", arguments
        )
        return tuple(str(value) for value in found[0]) if found else None


def where_clause(conditions: Sequence[Condition]) -> tuple[str, list[str]]:
    """A WHERE clause, empty without conditions, and its bound values."""
    arguments = [value for condition in conditions for value in condition.arguments]
    if not conditions:
        return "", arguments
    return f" WHERE {' AND '.join(f'({condition.sql})' for condition in conditions)}", arguments


def _compare(key: Sequence[Column], operator: str, values: Key) -> Condition:
    """Compare a key with values, by column: for a row comparison, MySQL uses no index range."""
    column, *others = key
    value, *other_values = values
    name, bound = quote(column.name), literal(column, value)
    if not others:
        return Condition(f"{name} {operator} {bound.sql}", bound.arguments)
    strict = Condition(f"{name} {operator[0]} {bound.sql}", bound.arguments)
    rest = _compare(others, operator, tuple(other_values))
    return Condition(
        f"{strict.sql} OR ({name} = {bound.sql} AND ({rest.sql}))",
        (*bound.arguments, *bound.arguments, *rest.arguments),
    )


def literal(column: Column, value: str) -> Condition:
    """A value as MySQL compares it exactly: a number as a number, not as text."""
    if pa.types.is_integer(column.type) or pa.types.is_decimal(column.type):
        return Condition(str(Decimal(value)))
    if pa.types.is_binary(column.type):
        return Condition(f"x'{bytes.fromhex(value).hex()}'")
    return Condition("%s", (value,))


def _middle(column: Column, low: str, high: str) -> str | None:
    """A value about in the middle of two others; None if it cannot be told.

    It only has to be near: the keys around it are looked up.
    """
    if pa.types.is_integer(column.type):
        return str((int(low) + int(high)) // 2)
    if pa.types.is_decimal(column.type):
        exponent = Decimal(1).scaleb(-column.type.scale)
        return str(((Decimal(low) + Decimal(high)) / 2).quantize(exponent))
    if pa.types.is_temporal(column.type):
        return _middle_time(low, high)
    if pa.types.is_binary(column.type):
        width = max(len(low), len(high))
        both = int(low.ljust(width, "0") or "0", 16) + int(high.ljust(width, "0") or "0", 16)
        return f"{both // 2:0{width}x}"
    return _middle_text(low, high)


def _middle_time(low: str, high: str) -> str | None:
    try:
        start, end = datetime.fromisoformat(low), datetime.fromisoformat(high)
    except ValueError:
        # '0000-00-00'.
        return None
    middle = start + (end - start) / 2
    return str(middle.date()) if len(high) == len(str(date.max)) else str(middle)


def _middle_text(low: str, high: str) -> str | None:
    """The middle of two texts: letters and digits, as in most keys, in a collation without case."""
    if not (low + high).isascii():
        return None
    same = 0
    while same < min(len(low), len(high)) and low[same].lower() == high[same].lower():
        same += 1
    # Ten digits in base 36 tell apart more keys than any table has.
    numbers = [
        int("".join(_digit(letter) for letter in text[same : same + 10].ljust(10, "0")), 36)
        for text in (low, high)
    ]
    middle = sum(numbers) // 2
    digits = ""
    for _ in range(10):
        middle, digit = divmod(middle, len(_DIGITS))
        digits = _DIGITS[digit] + digits
    return high[:same] + digits


def _digit(letter: str) -> str:
    lower = letter.lower()
    if lower in _DIGITS:
        return lower
    return "0" if lower < "0" else "z"
