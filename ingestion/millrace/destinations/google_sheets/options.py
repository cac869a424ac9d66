"""The options of a publication to a tab of a Google Sheet."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from millrace.catalog import PublishOptions
from millrace.google_sheets.headings import checked_labels


class ChartOptions(BaseModel):
    """A chart beside the published table.

    Attributes:
        kind: How it is drawn, as Google Sheets calls it.
        x: The column along the bottom.
        y: The columns that are drawn.
        title: What is written above it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["line", "column", "area"]
    x: str
    y: tuple[str, ...] = Field(min_length=1)
    title: str = ""

    @field_validator("y", mode="before")
    @classmethod
    def _one_column_is_drawn(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class GoogleSheetPublishOptions(PublishOptions):
    """A tab of a Google Sheet that a mart is published to.

    Attributes:
        spreadsheet: Its URL, or the key in the URL.
        tab: Title of the tab; it is added where it is missing.
        at: The cell of the first heading of a new table; people may move the table later.
        labels: Heading by column name, where it differs from the name.
        key: Columns that identify a row; default: those that order the rows.
        follow_rows: Whether rows of the sheet are inserted, moved and removed with the mart's, so
            that what people write beside a row stays beside it.
        min_row_ratio: A mart with fewer rows than this share of those in the tab is refused.
        chart: A chart beside the table. It is made once; then it is its readers'.
    """

    kind: Literal["google_sheet"]
    spreadsheet: str
    tab: str
    at: str = Field(default="A1", pattern=r"^[A-Z]{1,3}[1-9][0-9]*$")
    labels: dict[str, str] = Field(default_factory=dict)
    key: tuple[str, ...] = ()
    follow_rows: bool = False
    min_row_ratio: float = Field(default=0.5, ge=0, le=1)
    chart: ChartOptions | None = None

    @field_validator("key", mode="before")
    @classmethod
    def _one_column_is_a_key(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("labels")
    @classmethod
    def _labels_are_headings(cls, value: dict[str, str]) -> dict[str, str]:
        return checked_labels(value)

    @property
    def published_columns(self) -> Mapping[str, Sequence[str]]:
        """The columns that each option names among those that are published."""
        chart = {} if self.chart is None else {"chart": (self.chart.x, *self.chart.y)}
        return {"labels": tuple(self.labels), "key": self.key, **chart}

    @property
    def row_key(self) -> tuple[str, ...]:
        """Columns that identify a row."""
        return self.key or self.order_by

    @property
    def place(self) -> Hashable:
        """The spreadsheet and the tab, whose title Google compares without its case."""
        in_url = re.search(r"/d/([^/?#]+)", self.spreadsheet)
        return (in_url[1] if in_url else self.spreadsheet, self.tab.casefold())

    @property
    def where(self) -> str:
        """The place, for a person."""
        return f"the tab '{self.tab}' of {self.spreadsheet}"
