"""Columns that a declaration names with their types."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from millrace.sources.json_values import is_type


def _steps(value: Any) -> Any:
    return value.split(".") if isinstance(value, str) else value


Path = Annotated[
    tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(_steps), Field(min_length=1)
]
"""Where something is in JSON: ``data.items``, or a list where a name has a dot in it."""


class TypedColumn(BaseModel):
    """A column.

    Attributes:
        type: ``string``, ``integer``, ``double``, ``decimal(p,s)``, ``boolean``, ``date``,
            ``datetime``, ``timestamp``, ``unix_seconds``, ``unix_milliseconds`` or ``json``.
        path: Where it is in a row. Default: its name.
        optional: Whether it may be missing; it is NULL then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: str
    path: Path | None = None
    optional: bool = False

    @field_validator("type")
    @classmethod
    def _type_is_known(cls, value: str) -> str:
        if not is_type(value):
            raise ValueError(
                f"'{value}' is not a type; string, integer, double, decimal(p,s), boolean, date, "
                "datetime, timestamp, unix_seconds, unix_milliseconds and json are"
            )
        return value


def by_type(columns: Any) -> Any:
    """Declared columns, where a column may be declared by its type alone."""
    if not isinstance(columns, dict):
        return columns
    return {
        name: {"type": column} if isinstance(column, str) else column
        for name, column in columns.items()
    }
