"""What the driver makes of PostgreSQL's values, in the types that travel through Millrace.

PostgreSQL has values that no warehouse holds: numerics that are no numbers, infinite times, days
before the year 1 and after 9999. They are found here rather than by the server, for which a look at
every value takes longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from millrace.bad_values import Misfit
from millrace.errors import SourceMismatch
from millrace.sources.postgres.types import Column

_NO_NUMBERS = pa.array(["NaN", "Infinity", "-Infinity"])
_FIRST, _LAST = datetime.min, datetime.max  # noqa: DTZ901
# Where the driver has added thirty years to infinity, by which it overflows; to minus infinity, by
# which a time does not.
_YEARS = (date(2000, 1, 1) - date(1970, 1, 1)).days
_YEARS_US = _YEARS * 24 * 3600 * 10**6
_INFINITE = {
    32: {-(2**31) + _YEARS - 1: "infinity", -(2**31) + _YEARS: "-infinity"},
    64: {-(2**63) + _YEARS_US - 1: "infinity", -(2**63) + _YEARS_US: "-infinity"},
}
_YEAR = re.compile(r"(-?\d+)(-\d\d-.*)")


def to_array(raw: pa.Array, column: Column, where: str) -> tuple[pa.Array, Sequence[Misfit]]:
    """One column's values in its type.

    Args:
        raw: What the driver has read.
        column: How to read it.
        where: The table, for the message.

    Returns:
        The values, and those that the type cannot hold, which are NULL among them.

    Raises:
        SourceMismatch: the column is of another type than the server said.
    """
    misfits: list[Misfit] = []
    if column.is_number and pa.types.is_string(raw.type):
        raw, misfits = _without(raw, pc.is_in(raw, _NO_NUMBERS), column)
    elif pa.types.is_temporal(raw.type) and raw.type == column.type:
        raw, misfits = _without(raw, _is_unfit(raw), column)
    if raw.type == column.type:
        return raw, misfits
    try:
        if pa.types.is_string(raw.type) and pa.types.is_decimal(column.type):
            return raw.cast(column.type), misfits
    except pa.ArrowInvalid:
        # More digits than the column had.
        pass
    raise SourceMismatch(
        f"{where}: column {column.name} comes as {raw.type}, which is no {column.type}.",
        fix="Ingest again: the table was altered.",
    )


def _without(raw: pa.Array, is_bad: pa.Array, column: Column) -> tuple[pa.Array, list[Misfit]]:
    """The values with NULL for the bad ones, and these."""
    rows = pc.indices_nonzero(is_bad).to_pylist()
    if not rows:
        return raw, []
    misfits = list(_misfits(raw, rows, column))
    # Where a value is NULL, so is what is said of it.
    kept = pc.if_else(pc.fill_null(is_bad, False), pa.scalar(None, raw.type), raw)
    return kept, misfits


def _misfits(raw: pa.Array, rows: Sequence[int], column: Column) -> Iterator[Misfit]:
    for row in rows:
        if column.is_number:
            shown = str(raw[row].as_py())
            reason = f"'{shown}' is no number that can be counted with"
            yield Misfit(row, column.name, reason, shown, counted=shown.encode())
        else:
            shown = _shown(raw.slice(row, 1))
            reason = f"'{shown}' is not between the years 1 and 9999"
            # The server counts it as NULL, too.
            yield Misfit(row, column.name, reason, shown)


def _is_unfit(times: pa.Array) -> pa.Array:
    first, last = (pa.scalar(bound, pa.timestamp("us")) for bound in (_FIRST, _LAST))
    if pa.types.is_timestamp(times.type):
        times = times.view(pa.timestamp("us"))
    else:
        first, last = first.cast(times.type), pa.scalar(_LAST.date(), times.type)
    return pc.or_(pc.less(times, first), pc.greater(times, last))


def _shown(time: pa.Array) -> str:
    """A time as PostgreSQL writes it, as far as that is known."""
    bits = time.type.bit_width
    (number,) = time.view(pa.int32() if bits == 32 else pa.int64()).to_pylist()
    if number in _INFINITE[bits]:
        return _INFINITE[bits][number]
    if pa.types.is_timestamp(time.type):
        time = time.view(pa.timestamp("us"))
    found = _YEAR.fullmatch(time.cast(pa.string())[0].as_py())
    if found is None:
        return "a time beyond the year 32767"
    year, rest = int(found[1]), found[2]
    return f"{1 - year:04}{rest} BC" if year <= 0 else f"{year}{rest}"
