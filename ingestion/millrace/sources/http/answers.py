"""What is in an answer: the rows, and what it says of the next page.

A small answer is read into memory. A large one is parsed twice from its file, once to see that it
is whole and has what is declared, and once for its rows, which are never in memory all at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal

import ijson

from millrace.errors import SourceMismatch
from millrace.sources.json_values import MISSING, at, parsed

Row = tuple[Any, ...]
"""A row's values as JSON has them, in the order of the columns."""

_IN_MEMORY_BYTES = 8 * 1024 * 1024
_LISTED = 20
_SCALARS = frozenset({"null", "boolean", "number", "string"})
_BEGINS = _SCALARS | {"start_map", "start_array"}


class BrokenAnswer(ValueError):
    """An answer that is no JSON, or breaks off."""


@dataclass(frozen=True)
class Cell:
    """Where a column is in a row.

    Attributes:
        name: The column.
        path: Where it is.
        optional: Whether a row may lack it.
    """

    name: str
    path: tuple[str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Layout:
    """Where everything is in an answer.

    Attributes:
        where: What answers, for messages.
        cells: The columns.
        rows: Where the rows are.
        shape: See ``HttpOptions``.
        told: Where an answer tells of pages, by name.
    """

    where: str
    cells: Sequence[Cell]
    rows: tuple[str, ...] = ()
    shape: Literal["objects", "arrays", "object"] = "objects"
    told: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Whereabouts:
    """Where an answer was found.

    Attributes:
        url: Its URL, without the key.
        link: The URL of the next page in its header ``Link``, perhaps relative to its own.
    """

    url: str
    link: str | None = None


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        rows: Its rows.
        told: What it tells of pages, by the names that were asked for; what it lacks is None.
        here: Where it was found.
        body: Its file, to be closed.
    """

    rows: Iterator[Row]
    told: Mapping[str, Any]
    here: Whereabouts
    body: IO[bytes]


def read_answer(
    body: IO[bytes],
    here: Whereabouts,
    layout: Layout,
    *,
    in_memory_bytes: int = _IN_MEMORY_BYTES,
) -> Answer:
    """Read an answer.

    Args:
        body: Its file, at its beginning.
        here: Where it was found.
        layout: Where everything is.
        in_memory_bytes: The size up to which it is read into memory.

    Raises:
        BrokenAnswer: it is no JSON, or breaks off.
        SourceMismatch: the rows or a column are not where they are declared to be; of a row, only
            once it is read.
    """
    if os.fstat(body.fileno()).st_size > in_memory_bytes:
        return _Large(body, layout).answer(here)
    document = _parsed(body.read())
    told = {name: at(document, path) for name, path in layout.told.items()}
    found = {name: None if value is MISSING else value for name, value in told.items()}
    return Answer(_rows(document, layout), found, here, body)


def keys_of(body: IO[bytes], layout: Layout) -> dict[str, Any]:
    """The first row's values by name, whether they are declared or not; empty: there is none."""
    rows = at(_parsed(body.read()), layout.rows)
    if layout.shape == "arrays" and isinstance(rows, dict):
        return {
            name: next(iter(value), None) if isinstance(value, list) else value
            for name, value in rows.items()
        }
    first = next(iter(rows), None) if isinstance(rows, list) else rows
    return first if isinstance(first, dict) else {}


def _parsed(text: bytes) -> Any:
    try:
        return parsed(text)
    except ValueError as error:
        raise BrokenAnswer(str(error)) from None


def _why(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def _rows(document: Any, layout: Layout) -> Iterator[Row]:
    found = at(document, layout.rows)
    if found is MISSING:
        raise _no_rows(layout, document)
    # Some write an empty list as null.
    if found is None:
        return iter(())
    if layout.shape == "object":
        return _of_objects([found], layout)
    if layout.shape == "objects":
        if not isinstance(found, list):
            raise _not_a_list(layout, _kind(found))
        return _of_objects(found, layout)
    if not isinstance(found, dict):
        raise _no_arrays(layout, _kind(found))
    columns = {cell.name: at(found, cell.path) for cell in layout.cells}
    lengths: dict[str, int] = {}
    for cell in layout.cells:
        column = columns[cell.name]
        if isinstance(column, list):
            lengths[cell.name] = len(column)
        elif not (column is MISSING and cell.optional):
            raise _no_array(layout, cell, column is MISSING, list(found))
    return _side_by_side(layout, lengths, columns)


def _of_objects(rows: Iterable[Any], layout: Layout) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict | list):
            raise SourceMismatch(
                f"{layout.where}: row {number} of the answer is {_kind(row)}, not an object.",
                fix="Correct `rows` or `shape` in the declaration.",
            )
        yield tuple(_cell(row, cell, number, layout) for cell in layout.cells)


def _cell(row: Any, cell: Cell, number: int, layout: Layout) -> Any:
    value = at(row, cell.path)
    if value is not MISSING:
        return value
    if cell.optional:
        return None
    has = row if isinstance(row, dict) else map(str, range(len(row)))
    raise SourceMismatch(
        f"{layout.where}: row {number} of the answer has no '{'.'.join(cell.path)}', where the "
        f"column {cell.name} is declared to be; it has: {_listed(has)}.",
        fix="Correct the column's `path`, or declare it as `optional` if the API leaves it out "
        "where it has no value. The raw table keeps what it has.",
    )


def _side_by_side(
    layout: Layout, lengths: Mapping[str, int], columns: Mapping[str, Iterable[Any]]
) -> Iterator[Row]:
    """Rows of arrays, which must be equally long."""
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length:,}" for name, length in lengths.items())
        raise SourceMismatch(
            f"{layout.where}: the arrays of the answer are not equally long: {told}.",
            fix="Rows cannot be told apart. Look at the answer: some of these columns may be of "
            "another part of it. The raw table keeps what it has.",
        )
    rows = next(iter(lengths.values()), 0)
    sides = [
        iter(columns[cell.name]) if cell.name in lengths else iter([None] * rows)
        for cell in layout.cells
    ]
    return zip(*sides, strict=True) if sides else iter([()] * rows)


class _Large:
    """An answer that is read from its file.

    Args:
        body: The file.
        layout: Where everything is.
    """

    def __init__(self, body: IO[bytes], layout: Layout) -> None:
        self._body = body
        self._layout = layout
        self._prefix = ".".join(layout.rows)
        self._columns = {cell.name: _join(self._prefix, *cell.path) for cell in layout.cells}

    def answer(self, here: Whereabouts) -> Answer:
        """Read it once, and give its rows."""
        layout = self._layout
        begins, told, keys, lengths = self._looked_through()
        kind = begins.get(self._prefix)
        if kind is None:
            raise _no_rows(layout, dict.fromkeys(keys))
        if kind == "null":
            return Answer(iter(()), told, here, self._body)
        if layout.shape == "object":
            return Answer(_of_objects(self._items(self._prefix), layout), told, here, self._body)
        if layout.shape == "objects":
            if kind != "start_array":
                raise _not_a_list(layout, _EVENTS[kind])
            rows = self._items(_join(self._prefix, "item"))
            return Answer(_of_objects(rows, layout), told, here, self._body)
        if kind != "start_map":
            raise _no_arrays(layout, _EVENTS[kind])
        for cell in layout.cells:
            found = begins.get(self._columns[cell.name])
            if found != "start_array" and not (found is None and cell.optional):
                raise _no_array(layout, cell, found is None, keys)
        lengths = {name: lengths[name] for name in self._columns if name in lengths}
        columns = {name: self._column(name) for name in lengths}
        return Answer(_side_by_side(layout, lengths, columns), told, here, self._body)

    def _looked_through(
        self,
    ) -> tuple[dict[str, str], dict[str, Any], list[str], dict[str, int]]:
        """The first event at each declared place, what is told, the keys on top, the lengths."""
        places = {self._prefix, *self._columns.values()}
        items = {_join(place, "item"): name for name, place in self._columns.items()}
        wanted = {".".join(path): name for name, path in self._layout.told.items()}
        begins: dict[str, str] = {}
        told: dict[str, Any] = dict.fromkeys(self._layout.told)
        keys: list[str] = []
        counts: dict[str, int] = {}
        try:
            for prefix, event, value in ijson.parse(self._body):
                if prefix in places and event in _BEGINS:
                    begins.setdefault(prefix, event)
                    if event == "start_array":
                        counts |= {
                            name: 0 for name, place in self._columns.items() if place == prefix
                        }
                if prefix in items and event in _BEGINS and self._layout.shape == "arrays":
                    counts[items[prefix]] += 1
                if prefix in wanted and event in _SCALARS:
                    told[wanted[prefix]] = value
                if not prefix and event == "map_key":
                    keys.append(value)
        except (ijson.JSONError, UnicodeDecodeError) as error:
            raise BrokenAnswer(_why(error)) from None
        return begins, told, keys, counts

    def _items(self, prefix: str) -> Iterator[Any]:
        self._body.seek(0)
        yield from ijson.items(self._body, prefix)

    def _column(self, name: str) -> Iterator[Any]:
        # Each column is read through a file handle of its own.
        with open(self._body.name, "rb") as file:  # noqa: PTH123
            yield from ijson.items(file, _join(self._columns[name], "item"))


_EVENTS = {
    "null": "null",
    "boolean": "a boolean",
    "number": "a number",
    "string": "a text",
    "start_map": "an object",
    "start_array": "a list",
}


def _join(*steps: str) -> str:
    return ".".join(step for step in steps if step)


def _kind(value: Any) -> str:
    kinds: dict[type, str] = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else kinds.get(type(value), "a number")


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = ", …" if len(found) > _LISTED else ""
    return f"{', '.join(found[:_LISTED])}{more}" if found else "nothing"


def _no_rows(layout: Layout, document: Any) -> SourceMismatch:
    has = _listed(document) if isinstance(document, dict) else _kind(document)
    return SourceMismatch(
        f"{layout.where}: the answer has no '{'.'.join(layout.rows)}', where the rows are declared "
        f"to be; it has: {has}.",
        fix="Correct `rows` in the declaration. The raw table keeps what it has.",
    )


def _not_a_list(layout: Layout, kind: str) -> SourceMismatch:
    place = f"'{'.'.join(layout.rows)}'" if layout.rows else "the answer"
    return SourceMismatch(
        f"{layout.where}: {place} is {kind}, not a list of rows.",
        fix="Correct `rows`, or declare the `shape`: `arrays` for an array for each column, "
        "`object` for a single row.",
    )


def _no_arrays(layout: Layout, kind: str) -> SourceMismatch:
    place = f"'{'.'.join(layout.rows)}'" if layout.rows else "the answer"
    return SourceMismatch(
        f"{layout.where}: {place} is {kind}, not an object with an array for each column.",
        fix="Correct `rows` or `shape` in the declaration.",
    )


def _no_array(layout: Layout, cell: Cell, is_missing: bool, keys: Iterable[str]) -> SourceMismatch:
    what = "is not there" if is_missing else "is no array"
    return SourceMismatch(
        f"{layout.where}: '{'.'.join((*layout.rows, *cell.path))}', where the column {cell.name} "
        f"is declared to be, {what}; there are: {_listed(keys)}.",
        fix="Correct the column's `path`, or the `params` that ask for it. The raw table keeps "
        "what it has.",
    )
