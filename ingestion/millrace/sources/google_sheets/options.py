"""The options of a table that is read from a tab of a Google Sheet."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from millrace.catalog import IngestOptions
from millrace.google_sheets.headings import checked_labels, column_name, composed


class GoogleSheetOptions(IngestOptions):
    """A tab of a Google Sheet, read whole.

    Attributes:
        spreadsheet: Its URL, or the key in the URL.
        tab: Title of the tab.
        columns: Type by column name: ``string``, ``integer``, ``double``, ``decimal(p,s)``,
            ``percent``, ``boolean``, ``date`` or ``datetime``. A heading is matched without
            regard to case, spaces and punctuation: "Target NPS" is ``target_nps``.
        labels: Heading by column name, where it differs from the name.
        other_columns: What to do with columns that are not declared; default: ignore them, as they
            may hold anything.
        range: Part of the tab, in A1 notation without the tab: ``B3:F``.
        header_row: Row of the headings, counted from the tab's first; default: the first row that
            is read, or the one under a title.
        skip_blank_rows: Whether rows without a value are left out, rather than all NULL.
    """

    kind: Literal["google_sheet"]
    cursor: None = None
    spreadsheet: str
    tab: str
    columns: dict[str, str] = Field(min_length=1)
    labels: dict[str, str] = Field(default_factory=dict)
    other_columns: Literal["ignore", "load"] = "ignore"
    range: str | None = Field(default=None, pattern=r"^[A-Z]{1,3}\d*:[A-Z]{1,3}\d*$")
    header_row: int | None = Field(default=None, ge=1)
    skip_blank_rows: bool = True

    @field_validator("columns")
    @classmethod
    def _types_are_known(cls, value: dict[str, str]) -> dict[str, str]:
        for name, type_ in value.items():
            if not _SHEET_TYPE.fullmatch(type_):
                raise ValueError(
                    f"{name}: '{type_}' is not a type; string, integer, double, decimal(p,s), "
                    "percent, boolean, date and datetime are"
                )
            if column_name(name) != composed(name):
                raise ValueError(f"{name}: write it in lower case, with underscores for spaces")
        return {composed(name): type_ for name, type_ in value.items()}

    @field_validator("primary_key")
    @classmethod
    def _key_is_composed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(composed, value))

    @field_validator("labels")
    @classmethod
    def _labels_are_headings(cls, value: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        labels = checked_labels(value)
        # Invalid columns have been reported already.
        columns = info.data.get("columns", labels)
        if unknown := sorted(set(labels) - set(columns)):
            raise ValueError(f"{unknown[0]} is no declared column")
        headings = [column_name(labels.get(name, name)) for name in columns]
        if len(set(headings)) < len(headings):
            raise ValueError("two columns would have the same heading")
        return labels


_SHEET_TYPE = re.compile(
    r"string|integer|double|percent|boolean|date|datetime"
    r"|decimal\(([1-9]|[12][0-9]|3[0-8]), ?([0-9]|1[0-5])\)"
)
