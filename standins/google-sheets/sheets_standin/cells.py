"""One cell: what is in it and how it looks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from sheets_standin import formats
from sheets_standin.errors import invalid
from sheets_standin.fields import Mask, patch, project


class ErrorType(StrEnum):
    """An ``ErrorValue``: the API's name of its type, and what a person sees."""

    ERROR = "#ERROR!"
    NULL_VALUE = "#NULL!"
    DIVIDE_BY_ZERO = "#DIV/0!"
    VALUE = "#VALUE!"
    REF = "#REF!"
    NAME = "#NAME?"
    NUM = "#NUM!"
    N_A = "#N/A"
    LOADING = "Loading..."


Scalar = bool | float | str
"""A cell's value; a text may be an `ErrorType`, which only a formula results in."""

Json = dict[str, Any]

MAX_TEXT = 50_000
"""The most characters that a cell can hold."""

FORMAT_FIELDS = {
    "numberFormat",
    "backgroundColor",
    "backgroundColorStyle",
    "borders",
    "padding",
    "horizontalAlignment",
    "verticalAlignment",
    "wrapStrategy",
    "textDirection",
    "textFormat",
    "hyperlinkDisplayType",
    "textRotation",
}


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        value: A number is always a double; None when the cell is empty.
        formula: Shown instead of the value where formulas are asked for. Nothing evaluates it:
            whoever makes such a cell gives its value too.
        format: A ``CellFormat`` of the API.
        validation: A ``DataValidationRule`` of the API, such as a check box.
    """

    value: Scalar | None = None
    formula: str | None = None
    note: str | None = None
    format: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def number_format(self) -> Mapping[str, str]:
        """Its ``NumberFormat``, empty when it has none."""
        return self.format.get("numberFormat") or {}

    @property
    def formatted(self) -> str:
        """The text that a person sees."""
        return formats.format_value(self.value, self.number_format)

    @property
    def raw(self) -> Scalar | int | None:
        """The value as JSON carries it: doubles without a fraction are written as integers."""
        return json_number(self.value) if isinstance(self.value, float) else self.value

    def with_value(self, value: Scalar | None) -> Cell:
        """The cell with another value, its note and its format kept."""
        return replace(self, value=value, formula=None)


EMPTY = Cell()


def json_number(value: float) -> float | int:
    """A double as Google writes it: ``5``, not ``5.0``, up to 17 digits."""
    return int(value) if value.is_integer() and abs(value) < 1e17 else value


def scalar(value: Any, where: str) -> Scalar | None:
    """What a cell holds when this JSON value is written into it.

    Raises:
        ApiError: 400, it is a list, an object, or too long a text.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise invalid(f"Invalid {where}: {value} is not a double")
        return number
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise invalid(
                f"Invalid {where}: Your input contains more than the maximum of "
                f"{MAX_TEXT} characters in a single cell."
            )
        return value or None
    kind = "list_value" if isinstance(value, list) else "struct_value"
    raise invalid(f"Invalid {where}: {kind} is not a cell's value")


def cell_data(cell: Cell, mask: Mask) -> Json:
    """The parts of the cell that a mask names, as the API's ``CellData``."""
    data = _entered(cell)
    if cell.value is not None:
        data["effectiveValue"] = _extended_value(cell)
        # Formatting takes most of the time, and most masks leave it out.
        if not mask or "formattedValue" in mask:
            data["formattedValue"] = cell.formatted
    if cell.format:
        data["effectiveFormat"] = dict(cell.format)
    if cell.validation:
        data["dataValidation"] = dict(cell.validation)
    named: Json = project(data, mask)
    return named


def patch_cell(cell: Cell, data: Json, mask: Mask, where: str) -> Cell:
    """The cell after a ``CellData`` was written into it through a field mask.

    Raises:
        ApiError: 400, the mask or the data name what a cell does not have.
    """
    known = {"userEnteredValue", "userEnteredFormat", "note"}
    for name in [*data, *mask]:
        if name not in known:
            raise invalid(f"{where}: the stand-in does not know the cell field '{name}'.")
    wanted = data.get("userEnteredFormat") or {}
    _check_objects({"userEnteredFormat": wanted}, where)
    _check_objects({name: wanted.get(name) or {} for name in ("numberFormat", "textFormat")}, where)
    for name in [*wanted, *mask.get("userEnteredFormat", {})]:
        if name not in FORMAT_FIELDS:
            raise invalid(f"{where}: Unknown name \"{name}\" at 'userEnteredFormat'.")
    if mask.get("userEnteredValue"):
        raise invalid(f"{where}: a value is written whole, as 'userEnteredValue'.")
    patched = patch(_entered(cell), data, mask or {name: {} for name in known})
    value, formula = cell.value, cell.formula
    if not mask or "userEnteredValue" in mask:
        value, formula = _from_extended(data.get("userEnteredValue"), where), None
    format_ = patched.get("userEnteredFormat") or {}
    number_format = format_.get("numberFormat")
    if number_format is not None:
        formats.check(number_format, where)
    note = patched.get("note") or None
    if note is not None and not isinstance(note, str):
        raise invalid(f"{where}: a note is a text.")
    return Cell(value, formula, note, format_, cell.validation)


def check_validation(rule: Mapping[str, Any], where: str) -> None:
    """Refuse a ``DataValidationRule`` other than a check box.

    Raises:
        ApiError: 400, it is malformed, or of a kind that the stand-in does not know.
    """
    condition = rule.get("condition")
    if not isinstance(condition, dict) or condition.get("type") != "BOOLEAN":
        raise invalid(f"{where}: the stand-in knows no data validation but BOOLEAN.")
    if len(condition.get("values") or []) > 2:
        raise invalid(f"{where}: a BOOLEAN condition has two values at most.")


def to_json(cell: Cell) -> Any:
    """The cell for the state file: its bare value, or an object when it has more than that."""
    error = cell.value.name if isinstance(cell.value, ErrorType) else None
    parts: Json = {
        "error": error,
        "formula": cell.formula,
        "note": cell.note,
        "format": cell.format,
        "validation": cell.validation,
    }
    if not any(parts.values()):
        return cell.raw
    parts["value"] = None if error else cell.raw
    return {name: part for name, part in parts.items() if part not in (None, {})}


def from_json(data: Any, where: str = "cell") -> Cell:
    """A cell from what `to_json` made or the admin sends.

    Raises:
        ApiError: 400, it is neither a scalar nor such an object.
    """
    if not isinstance(data, dict):
        return Cell(scalar(data, where))
    if unknown := set(data) - {"value", "error", "formula", "note", "format", "validation"}:
        raise invalid(f"Invalid {where}: unknown {sorted(unknown)}")
    error = data.get("error")
    if error is not None and error not in ErrorType.__members__:
        raise invalid(f"Invalid {where}: there is no error {error}")
    cell = Cell(
        scalar(data.get("value"), where) if error is None else ErrorType[error],
        data.get("formula"),
        data.get("note"),
        data.get("format") or {},
        data.get("validation") or {},
    )
    if cell.validation:
        check_validation(cell.validation, where)
    if cell.number_format:
        formats.check(cell.number_format, where)
    return cell


def _check_objects(parts: Json, where: str) -> None:
    for name, part in parts.items():
        if not isinstance(part, dict):
            raise invalid(f"{where}: '{name}' is an object, not {part!r}")


def _entered(cell: Cell) -> Json:
    data: Json = {}
    if cell.formula is not None:
        data["userEnteredValue"] = {"formulaValue": cell.formula}
    elif cell.value is not None:
        data["userEnteredValue"] = _extended_value(cell)
    if cell.format:
        data["userEnteredFormat"] = dict(cell.format)
    if cell.note:
        data["note"] = cell.note
    return data


def _extended_value(cell: Cell) -> Json:
    if isinstance(cell.value, ErrorType):
        message = f"The formula ends in {cell.value}"
        return {"errorValue": {"type": cell.value.name, "message": message}}
    kinds = {bool: "boolValue", float: "numberValue", str: "stringValue"}
    return {kinds[type(cell.value)]: cell.raw}


def _from_extended(data: Any, where: str) -> Scalar | None:
    if data in (None, {}):
        return None
    if not isinstance(data, dict) or len(data) != 1:
        raise invalid(f"{where}: a value has one of numberValue, stringValue, boolValue.")
    [(kind, value)] = data.items()
    if kind == "formulaValue":
        raise invalid(f"{where}: the stand-in does not evaluate formulas: {value}")
    kinds: dict[str, tuple[type, ...]] = {
        "numberValue": (int, float),
        "stringValue": (str,),
        "boolValue": (bool,),
    }
    # A bool is an int to Python.
    is_right_bool = isinstance(value, bool) == (kind == "boolValue")
    if not is_right_bool or not isinstance(value, kinds.get(kind, ())):
        raise invalid(f"{where}: Invalid value ({kind}), {value!r}")
    return scalar(value, where)
