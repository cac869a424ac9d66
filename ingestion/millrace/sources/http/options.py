"""The options of a table that an HTTP API serves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from millrace.catalog import IngestOptions, Period
from millrace.sources import templates
from millrace.sources.columns import Path, TypedColumn, by_type

Scalar = bool | int | float | str


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(TypedColumn):
    """A column of the table; declared by its type alone where no other key is needed.

    Attributes:
        value: What it holds in every row, instead: a text with places such as ``{city}``.
    """

    value: str | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.value is not None and (self.path or self.optional):
            raise ValueError("`value` makes the column: it has no `path`, and is never missing")
        return self


class _Pages(_Model):
    """What all ways of paging have.

    Attributes:
        size: Rows a page, sent as ``size_param``. An API may give fewer.
        size_param: The parameter for it.
        total: Where an answer says how many rows all pages have.
        more: Where an answer says whether there is another page.
        max_pages: More pages are refused: an API that never ends would be read for ever.
    """

    size: int | None = Field(default=None, ge=1)
    size_param: str | None = None
    total: Path | None = None
    more: Path | None = None
    max_pages: int = Field(default=10_000, ge=1)

    @model_validator(mode="after")
    def _size_has_a_parameter(self) -> Self:
        if (self.size is None) != (self.size_param is None):
            raise ValueError("`size` and `size_param` belong together")
        return self


class NumberedPages(_Pages):
    """Pages with numbers: an empty page is the last, or the one that ``total`` or ``more`` tells.

    Attributes:
        param: The parameter for the number.
        first: Number of the first page.
    """

    by: Literal["page"]
    param: str = "page"
    first: int = Field(default=1, ge=0)


class OffsetPages(_Pages):
    """Pages that begin after so many rows; they end as numbered pages do.

    Attributes:
        param: The parameter for the number of rows that were read already.
    """

    by: Literal["offset"]
    param: str = "offset"


class CursorPages(_Pages):
    """Each answer has a token for the next page; the last has none.

    Attributes:
        param: The parameter for the token.
        next: Where the token is.
    """

    by: Literal["cursor"]
    param: str
    next: Path


class UrlPages(_Pages):
    """Each answer has the URL of the next page; the last has none.

    Attributes:
        next: Where the URL is.
    """

    by: Literal["url"]
    next: Path


class LinkPages(_Pages):
    """Each answer's header ``Link`` has the URL of the next page (``rel="next"``)."""

    by: Literal["link"]


Pages = NumberedPages | OffsetPages | CursorPages | UrlPages | LinkPages


class Rate(_Model):
    """How many requests are sent at most: ``{requests: 60, per: minute}``.

    Attributes:
        requests: How many.
        per: In which span of time; they are spread evenly over it.
    """

    requests: int = Field(ge=1)
    per: Literal["second", "minute", "hour", "day"] = "second"

    @property
    def spacing_s(self) -> float:
        """The time from one request to the next, in seconds."""
        return timedelta(**{f"{self.per}s": 1}).total_seconds() / self.requests


# So long Airflow's task that plans a batch waits for its interval to close.
_LONGEST_SETTLE = timedelta(minutes=30)

# A key belongs into the connection, where it is masked and can be changed.
_KEYS = re.compile(
    r"(x[_-])?(api|access|auth|app)[_-]?(key|token|id|secret)|token|(client[_-]?)?secret|password",
    re.IGNORECASE,
)


class HttpOptions(IngestOptions):
    """A table that an HTTP API serves as JSON, by GET requests.

    The endpoint, the parameters and a column's ``value`` may have places for the interval's times
    and for what ``each`` names; see ``templates``.

    Attributes:
        endpoint: The path below the connection's address.
        params: The parameters of the request; a list is sent as one parameter for each value.
        each: One set of values for each request, by name: every set is asked for on its own.
        rows: Where the rows are in an answer. Default: the whole answer.
        shape: ``objects``: a list with an object a row, or a list of values. ``arrays``: an object
            with an array for each column. ``object``: a single row.
        columns: Type by name of each column, or a block with more options; see ``Column``.
        pages: How the next page is asked for. Default: there is one page.
        since: What ``{start}`` is in the first batch, which has no start. In UTC.
        readable_for: How long after its end an interval may be read: for an API that only tells how
            things are now. Default: for ever.
        rate: How many requests are sent at most. Default: any.
        timeout_s: How long an answer may pause, in seconds; it may take ten times as long in all.
    """

    # Asked again, many an API answers something else: a forecast, a rate, what has moved meanwhile.
    is_auditable: ClassVar[bool] = False

    kind: Literal["http"]
    endpoint: str = Field(pattern=r"^/[^?#\s]*$")
    params: dict[str, Scalar | list[Scalar]] = Field(default_factory=dict)
    each: tuple[dict[str, Scalar], ...] = ()
    rows: Path | None = None
    shape: Literal["objects", "arrays", "object"] = "objects"
    columns: dict[str, Column] = Field(min_length=1)
    pages: Pages | None = Field(default=None, discriminator="by")
    since: datetime | None = None
    readable_for: Period | None = None
    rate: Rate | None = None
    timeout_s: float = Field(default=60, gt=0, le=3600)

    @field_validator("columns", mode="before")
    @classmethod
    def _a_type_is_a_column(cls, value: Any) -> Any:
        return by_type(value)

    @field_validator("params")
    @classmethod
    def _no_keys(cls, value: dict[str, Scalar]) -> dict[str, Scalar]:
        for name in value:
            if _KEYS.fullmatch(name):
                raise ValueError(
                    f"'{name}' looks like a key, and a declaration is no place for one: put it "
                    "into the `params` or `headers` of the connection's extra"
                )
        return value

    @field_validator("since")
    @classmethod
    def _since_is_in_utc(cls, value: datetime | None) -> datetime | None:
        if value is None or value.tzinfo is None:
            return value and value.replace(tzinfo=UTC)
        return value.astimezone(UTC)

    @model_validator(mode="after")
    def _it_makes_sense(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    def readable_since(self, now: datetime) -> datetime | None:
        """See ``IngestOptions.readable_since``."""
        return now - self.readable_for.span if self.readable_for else None

    def texts(self) -> Iterator[str]:
        """All texts that may have places."""
        yield self.endpoint
        for value in self.params.values():
            yield from map(str, value if isinstance(value, list) else [value])
        yield from (column.value for column in self.columns.values() if column.value is not None)

    def _problems(self) -> Iterator[str]:
        yield from self._problems_of_each()
        others = frozenset(self.each[0]) if self.each else frozenset[str]()
        for text in self.texts():
            yield from templates.problems(text, others)
        for name in self.primary_key:
            if name not in self.columns:
                yield f"primary_key names '{name}', which is no declared column"
        yield from self._problems_of_interval()
        if self.deletes == "keys":
            yield "`deletes: keys` is not for an HTTP API, which cannot be asked for its keys alone"
        if self.shape == "object" and self.pages:
            yield "`shape: object` is a single row: it has no `pages`"
        if self.as_of_one_moment and (self.pages or len(self.each) > 1):
            yield "`as_of_one_moment`: several answers are not of one moment"

    def _problems_of_each(self) -> Iterator[str]:
        if len({frozenset(values) for values in self.each}) > 1:
            yield "`each`: every set must have the same names"
        for name in self.each[0] if self.each else ():
            if name in templates.MOMENTS or not re.fullmatch(r"[A-Za-z_]\w*", name):
                yield f"`each`: '{name}' cannot be a name; take letters, digits and underscores"
        if len({tuple(sorted(values.items())) for values in self.each}) < len(self.each):
            yield "`each`: two sets are the same"

    def _problems_of_interval(self) -> Iterator[str]:
        used = set[str]().union(*map(templates.names, self.texts())) & {*templates.OF_INTERVAL}
        if self.cursor is None:
            if used:
                yield f"{{{min(used)}}} needs a cursor: without one, every batch is the whole table"
            if self.since or self.readable_for:
                yield "`since` and `readable_for` are for a table with a cursor"
            return
        if not self.primary_key:
            yield "lacks the key 'primary_key', which a table with a cursor needs"
        column = self.columns.get(self.cursor.column)
        if column is None:
            yield f"cursor names '{self.cursor.column}', which is no declared column"
            return
        if column.type not in (
            "date",
            "datetime",
            "timestamp",
            "unix_seconds",
            "unix_milliseconds",
        ):
            yield f"the cursor {self.cursor.column} is of the type {column.type}, not a time"
        if "start" in used and self.since is None:
            yield "{start} needs `since`: the first batch has no start"
        if self.cursor.settle and self.cursor.settle.span > _LONGEST_SETTLE:
            yield "`settle` is half an hour at most; for rows that come later, use `lookback`"
        if column.value is None and not (self.cursor.settle or self.cursor.lookback):
            yield (
                "cursor needs `settle` or `lookback`: an API does not say which rows may still "
                "change. `settle` waits until rows are final; `lookback` reads them again"
            )
