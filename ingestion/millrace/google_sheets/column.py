"""A column of a sheet, to read and to publish."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

_ARROW_TYPES = {
    "string": pa.string(),
    "integer": pa.int64(),
    "double": pa.float64(),
    "percent": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
}


@dataclass(frozen=True)
class SheetColumn:
    """A column of a sheet.

    Attributes:
        name: Its name in the warehouse.
        type: ``string``, ``integer``, ``double``, ``percent``, ``decimal(p,s)``, ``boolean``,
            ``date`` or ``datetime``.
        label: Its heading, where that differs from the name.
    """

    name: str
    type: str
    label: str = ""

    @property
    def heading(self) -> str:
        """What is written above it."""
        return self.label or self.name

    @property
    def number_format(self) -> dict[str, str] | None:
        """The format that its values need to look like their type; None if they need none."""
        if self.type == "date":
            return {"type": "DATE", "pattern": "yyyy-mm-dd"}
        if self.type == "datetime":
            return {"type": "DATE_TIME", "pattern": "yyyy-mm-dd hh:mm:ss"}
        if self.type.startswith("decimal"):
            scale = int(self.type.rstrip(")").split(",")[1])
            return {"type": "NUMBER", "pattern": "0." + "0" * scale if scale else "0"}
        return None

    @property
    def arrow_type(self) -> pa.DataType:
        """The Arrow type of its values."""
        if match := re.fullmatch(r"decimal\((\d+), ?(\d+)\)", self.type):
            return pa.decimal128(int(match[1]), int(match[2]))
        return _ARROW_TYPES[self.type]
