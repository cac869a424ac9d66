"""What several requests of ``spreadsheets.batchUpdate`` are made of."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from sheets_standin.a1 import Area

Index = Annotated[int, Field(ge=0)]


class Model(BaseModel):
    """A message of the API; a field that is not known is refused."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", populate_by_name=True)


class GridRange(Model):
    """Cells of a tab; an end that is missing is the end of the grid."""

    sheet_id: int = 0
    start_row_index: Index = 0
    end_row_index: Index | None = None
    start_column_index: Index = 0
    end_column_index: Index | None = None

    @property
    def area(self) -> Area:
        """The cells, without their tab."""
        return Area(
            self.start_row_index,
            self.end_row_index,
            self.start_column_index,
            self.end_column_index,
        )


class GridCoordinate(Model):
    """A cell of a tab."""

    sheet_id: int = 0
    row_index: Index = 0
    column_index: Index = 0
