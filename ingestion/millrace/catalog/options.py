"""The options that every kind of source and destination has; each kind's package adds its own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from millrace.catalog.due_time import DueTime


class Pii(StrEnum):
    """What happens to a column with personal data before it is landed.

    ``NONE`` says that a column holds none, although it may look so.
    """

    HASH = "hash"
    DROP = "drop"
    MASK = "mask"
    NONE = "none"


class SchemaPolicy(StrEnum):
    """What a load does when the columns of the source and of the raw table differ."""

    EVOLVE = "evolve"
    ADDITIVE = "additive"
    FREEZE = "freeze"


class OnBadValue(StrEnum):
    """What happens to a value that cannot be loaded: its type, or the warehouse, cannot hold it."""

    FAIL = "fail"
    NULL = "null"
    QUARANTINE = "quarantine"


class Period(BaseModel):
    """A span of time, written as dbt writes one for freshness: ``{count: 2, period: hour}``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(ge=0)
    period: Literal["second", "minute", "hour", "day"]

    @property
    def span(self) -> timedelta:
        """The span."""
        return timedelta(**{f"{self.period}s": self.count})


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        raise ValueError("not a time zone such as America/New_York or UTC") from None
    return value


TimeZone = Annotated[str, AfterValidator(_known_zone)]
"""The IANA name of a time zone."""


class Cursor(BaseModel):
    """The column whose intervals make the batches; declared by its name if no other key is needed.

    Attributes:
        column: Its name.
        time_zone: IANA name of the zone that a DATETIME or DATE is written in. Default: UTC, if
            the server is on UTC. A TIMESTAMP is always in UTC.
        settle: How long a statement may run before it writes its first row. Millrace waits that
            long if the account may not see other sessions. Default: MySQL's lock wait timeout and
            ten seconds.
        lookback: Each batch reads this much of the loaded time again, and replaces its rows: for a
            replica, and for a column that an application fills. Transactions are not checked then.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    time_zone: TimeZone | None = None
    settle: Period | None = None
    lookback: Period | None = None


class SoftDeletes(BaseModel):
    """How a source marks the rows that it deletes.

    Attributes:
        soft: The column that is set in such a row: a time, or a flag that is neither 0 nor NULL.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    soft: str


@dataclass(frozen=True)
class AwaitedFile:
    """A file in S3 that a run waits for.

    Attributes:
        bucket: Its bucket.
        key: Its key, with places for the times of the run's interval.
        at_most: How long the run waits.
    """

    bucket: str
    key: str
    at_most: timedelta


class IngestOptions(BaseModel):
    """The options of an ``ingest`` block that every kind of source has.

    Attributes:
        connection: Id of the Airflow connection with the credentials.
        pool: An Airflow pool that bounds how many tasks read from the source at a time.
        schedule: Cron expression or preset of the table's DAG.
        expected_by: The time of day by which what was due before it is loaded; `millrace watch`
            tells if it is not.
        primary_key: Columns that identify a row.
        cursor: Column whose intervals make the batches, or a block with more options; without it,
            each batch is the whole table.
        min_rows: A batch with fewer rows is refused. Default: a whole table must have one row at
            least, an interval may be empty.
        min_row_ratio: A whole table with fewer rows than this share of those loaded last is
            refused.
        as_of_one_moment: Whether all rows of a batch are read as of one moment, for which the
            source has to keep it for as long as the read takes. Default: only for a table without a
            cursor. With a cursor, what changes during the read comes with the next batch.
        verify: How what was read and loaded is compared with the source: ``values`` compares the
            number of rows and a checksum of each column, ``counts`` the number of rows. Default:
            ``values`` for up to 100,000 rows, ``counts`` for more.
        schema_policy: The key ``schema``. ``additive``: a new column is added, a wider type widens
            the raw column, and a column that the source no longer has stays. ``evolve``: a type
            that changed in another way also rewrites the raw column, if every value fits.
            ``freeze``: any difference refuses the batch.
        deletes: What happens to loaded rows whose keys vanish at the source. ``ignore``: they stay.
            ``keys``: after each batch the keys of both are compared, and such a row gets a version
            with ``_deleted_at``. A block ``{soft: column}`` names the column with which the source
            marks deleted rows; ``_deleted_at`` is set by it. Default: ``ignore``.
        on_bad_value: ``fail``: a value that cannot be loaded refuses the batch. ``null``: it
            becomes NULL, unless it is in the key or the cursor. ``quarantine``: its row goes to
            the table ``<raw table>__quarantine``.
        is_auditable: Whether rows that were loaded can be compared with the kind's source later.
        takes_what_is_new: Whether each run takes what is not loaded yet when it runs, whichever
            interval it is for.
    """

    # A field cannot be called `schema`, which is a method of pydantic's models.
    model_config = ConfigDict(extra="forbid", frozen=True, serialize_by_alias=True)

    is_auditable: ClassVar[bool] = True
    takes_what_is_new: ClassVar[bool] = False

    kind: str
    connection: str
    pool: str | None = None
    schedule: str = "@daily"
    expected_by: DueTime | None = None
    primary_key: tuple[str, ...] = ()
    cursor: Cursor | None = None
    min_rows: int | None = Field(default=None, ge=0)
    min_row_ratio: float | None = Field(default=None, gt=0, le=1)
    as_of_one_moment: bool | None = None
    verify: Literal["off", "counts", "values"] | None = None
    deletes: Literal["ignore", "keys"] | SoftDeletes = "ignore"
    schema_policy: SchemaPolicy = Field(default=SchemaPolicy.ADDITIVE, alias="schema")
    on_bad_value: OnBadValue = OnBadValue.FAIL

    def readable_since(self, now: datetime) -> datetime | None:
        """From when on intervals that are loaded may be read again; None: from the beginning.

        Args:
            now: The time, in UTC.
        """
        return None

    @property
    def awaited(self) -> AwaitedFile | None:
        """What a run in Airflow waits for before it begins."""
        return None

    @field_validator("schedule")
    @classmethod
    def _schedule_is_cron(cls, value: str) -> str:
        if not croniter.is_valid(value):
            raise ValueError("not a cron expression such as '0 6 * * *', nor a preset like @daily")
        return value

    @model_validator(mode="after")
    def _keys_need_a_key(self) -> Self:
        if self.deletes == "keys" and (not self.primary_key or self.cursor is None):
            raise ValueError(
                "`deletes: keys` needs a primary_key and a cursor; a table without a cursor is "
                "replaced as a whole"
            )
        return self

    @field_validator("verify", mode="before")
    @classmethod
    def _off_is_no_boolean(cls, value: Any) -> Any:
        # YAML reads `off` as False.
        return "off" if value is False else value

    @field_validator("on_bad_value", mode="before")
    @classmethod
    def _null_is_a_word(cls, value: Any) -> Any:
        # YAML reads `null` as None.
        return OnBadValue.NULL if value is None else value

    @field_validator("cursor", mode="before")
    @classmethod
    def _a_name_is_a_cursor(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value

    @field_validator("primary_key", mode="before")
    @classmethod
    def _one_column_is_a_key(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


class PublishOptions(BaseModel):
    """The options of a ``publish`` block that every kind of destination has.

    Attributes:
        connection: Id of the Airflow connection with the credentials.
        order_by: Columns that order the rows.
        columns: Columns to publish, in this order; default: all of them.
        fresh_by: The time of day by which the mart is published with what was due before it;
            `millrace watch` tells if it is not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    connection: str
    order_by: tuple[str, ...] = Field(min_length=1)
    columns: tuple[str, ...] | None = Field(default=None, min_length=1)
    fresh_by: DueTime | None = None

    @property
    def published_columns(self) -> Mapping[str, Sequence[str]]:
        """The columns that each option of the kind names among those that are published."""
        return {}

    @property
    def place(self) -> Hashable:
        """What no two publications may share."""
        raise NotImplementedError

    @property
    def where(self) -> str:
        """The place, for a person."""
        raise NotImplementedError
