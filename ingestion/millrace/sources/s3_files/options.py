"""The options of a table whose rows come in files."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetPydanticSchema,
    field_validator,
    model_validator,
)
from pydantic_core import core_schema

from millrace.catalog import AwaitedFile, Cursor, IngestOptions, Period, TimeZone
from millrace.sources import templates
from millrace.sources.columns import TypedColumn, by_type

FILE = "_file"
"""The column with a row's file: its key."""

LINE = "_line"
"""The column with the line on which a row begins; in Parquet, which row it is. From 1 on."""

DELIVERED = "_delivered_at"
"""The column with the time at which a row's file was delivered."""

OWN = (FILE, LINE, DELIVERED)
"""The columns that every table of files has besides those that are declared."""

Format = Literal["csv", "jsonl", "parquet"]

_FORMATS: dict[str, Format] = {
    "csv": "csv",
    "tsv": "csv",
    "txt": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "parquet": "parquet",
}
_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<pattern>[^\0]+)")
_WILD = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]")


@dataclass(frozen=True)
class Files:
    """Which files of a bucket: ``s3://partner/orders/*.csv.gz``.

    Attributes:
        bucket: The bucket.
        pattern: The keys. ``*`` stands for anything but a slash, ``**`` for anything, ``?`` for one
            character, ``[…]`` for one of some.
    """

    bucket: str
    pattern: str

    @classmethod
    def of(cls, url: str) -> Files:
        """Read a URL.

        Raises:
            ValueError: it is none.
        """
        match = _URL.fullmatch(url)
        if match is None:
            raise ValueError(f"'{url}' is not like s3://bucket/folder/*.csv.gz")
        return cls(match["bucket"], match["pattern"])

    @property
    def url(self) -> str:
        """The URL."""
        return f"s3://{self.bucket}/{self.pattern}"

    @property
    def folder(self) -> str:
        """The folder that all files are below, without a slash at its end."""
        wild = _WILD.search(self.pattern)
        fixed = self.pattern[: wild.start()] if wild else self.pattern
        return fixed.rpartition("/")[0]

    def match(self, key: str) -> bool:
        """Whether a key is one of them."""
        return self._regex.fullmatch(key) is not None

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        return glob(self.pattern)


def glob(pattern: str) -> re.Pattern[str]:
    """A pattern of keys as a regular expression; see ``Files``."""
    found, at = "", 0
    for wild in _WILD.finditer(pattern):
        found += re.escape(pattern[at : wild.start()]) + _as_regex(wild[0])
        at = wild.end()
    return re.compile(found + re.escape(pattern[at:]), re.DOTALL)


def _as_regex(wild: str) -> str:
    if wild[0] != "[":
        return {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}[wild]
    is_negated, characters = wild[1] == "!", wild[1:-1].removeprefix("!")
    # A hyphen stays one: it is a range's.
    escaped = re.sub(r"([\\\]\[^&~|])", r"\\\1", characters)
    return f"[^/{escaped}]" if is_negated else f"[{escaped}]"


def _read_files(value: Any) -> Files:
    if isinstance(value, Files):
        return value
    return Files.of(str(value))


FilesUrl = Annotated[
    Files,
    GetPydanticSchema(
        lambda _type, _handler: core_schema.no_info_plain_validator_function(
            _read_files,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda files: files.url),
        ),
        lambda _schema, _handler: {"type": "string"},
    ),
]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(TypedColumn):
    """A column of the files; declared by its type alone where no other key is needed.

    ``path`` is its heading in CSV, its name in Parquet, and its place in a line of JSON.

    Attributes:
        format: How a text shows a ``date``, ``datetime`` or ``timestamp``, as for Python's
            ``strptime``, such as ``%d.%m.%Y``. Default: ISO 8601.
        time_zone: For a ``timestamp``: IANA name of the zone of values that have none themselves.
    """

    format: str | None = None
    time_zone: TimeZone | None = None

    @model_validator(mode="after")
    def _of_times_only(self) -> Self:
        if self.format is not None and self.type not in ("date", "datetime", "timestamp"):
            raise ValueError("`format` is for a date, datetime or timestamp")
        if self.time_zone is not None and self.type != "timestamp":
            raise ValueError("`time_zone` is for a timestamp: the point in time that it becomes")
        return self

    @property
    def is_plain(self) -> bool:
        """Whether its texts are written as its type is by itself."""
        return self.format is None and self.time_zone is None

    @property
    def heading(self) -> str:
        """What it is called in CSV and Parquet; empty: by its own name."""
        return ".".join(self.path or ())


class Csv(_Model):
    """How the values of a CSV file are written.

    Attributes:
        delimiter: What is between them. Default: a comma; in a file ``….tsv``, a tab.
        quote: What is around one that holds a delimiter or a line break; twice, it is one of them.
        header: Whether the first line has the columns' names. Without it, they are in the order of
            the declaration.
        encoding: Of the text; with UTF-8 a byte order mark may be there.
        nulls: The texts that stand for NULL.
    """

    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    quote: str = Field(default='"', min_length=1, max_length=1)
    header: bool = True
    encoding: str = "utf-8"
    nulls: tuple[str, ...] = ("",)

    @field_validator("encoding")
    @classmethod
    def _encoding_is_known(cls, value: str) -> str:
        try:
            name = codecs.lookup(value).name
            "".encode(name)
        except LookupError:
            raise ValueError(f"'{value}' is no encoding such as utf-8 or cp1252") from None
        return "utf-8-sig" if name == "utf-8" else name


class Wait(_Model):
    """A file that a run in Airflow waits for before it takes what is there.

    Attributes:
        file: Its key, with places for the times of the run's interval, as an HTTP API's texts have:
            ``orders/{start:%Y-%m-%d}.csv.gz``.
        at_most: How long; then the run fails.
    """

    file: str = Field(min_length=1)
    at_most: Period = Period(count=12, period="hour")

    @field_validator("file")
    @classmethod
    def _places_are_times(cls, value: str) -> str:
        for problem in templates.problems(value, frozenset()):
            raise ValueError(problem)
        return value


class S3FilesOptions(IngestOptions):
    """Files that others deliver to a bucket of S3; each is taken once.

    Attributes:
        files: Which: ``s3://bucket/folder/*.csv.gz``; see ``Files``.
        skip: Keys that are left out, as patterns.
        format: ``csv``, ``jsonl`` (a JSON object a line) or ``parquet``. Default: by the pattern's
            ending. Files of the first two may be compressed with gzip.
        columns: Type by name of each column, or a block with more options; see ``Column``.
        csv: How values are written; see ``Csv``.
        wait: A file to wait for; see ``Wait``. Default: a run takes what is there.
        cursor: When a row's file was delivered; not declared.
    """

    # A file may be gone once it is loaded.
    is_auditable: ClassVar[bool] = False
    takes_what_is_new: ClassVar[bool] = True

    kind: Literal["s3_files"]
    files: FilesUrl
    skip: tuple[str, ...] = ()
    format: Format | None = None
    columns: dict[str, Column] = Field(min_length=1)
    csv: Csv = Csv()
    wait: Wait | None = None
    cursor: Cursor = Cursor(column=DELIVERED)

    @field_validator("columns", mode="before")
    @classmethod
    def _a_type_is_a_column(cls, value: Any) -> Any:
        return by_type(value)

    @model_validator(mode="after")
    def _it_makes_sense(self) -> Self:
        for problem in self._problems():
            raise ValueError(problem)
        return self

    @property
    def awaited(self) -> AwaitedFile | None:
        """See ``IngestOptions.awaited``."""
        if self.wait is None:
            return None
        return AwaitedFile(self.files.bucket, self.wait.file, self.wait.at_most.span)

    @property
    def format_of_files(self) -> Format:
        """The format, declared or by the pattern's ending."""
        return self.format or _FORMATS[_ending(self.files.pattern)]

    @property
    def delimiter(self) -> str:
        """What is between the values of a CSV file."""
        return self.csv.delimiter or ("\t" if _ending(self.files.pattern) == "tsv" else ",")

    def _problems(self) -> Iterator[str]:
        if self.format is None and _ending(self.files.pattern) not in _FORMATS:
            yield "lacks the key 'format', which the ending of `files` does not tell"
        if self.cursor != Cursor(column=DELIVERED):
            yield "`cursor` is not for files: each is taken once, whenever it is delivered"
        if self.deletes == "keys":
            yield "`deletes: keys` is not for files, which say nothing of rows that are gone"
        if self.as_of_one_moment:
            yield "`as_of_one_moment` is not for files, which were not written at one moment"
        for name in self.columns:
            if name in OWN:
                yield f"'{name}' is a column that every table of files has: leave it out"
        for name in self.primary_key:
            if name not in (*self.columns, *OWN):
                yield f"primary_key names '{name}', which is no declared column"
        if self.csv != Csv() and self.format_of_files != "csv":
            yield f"`csv` is not for files of the format {self.format_of_files}"


def _ending(pattern: str) -> str:
    return pattern.lower().removesuffix(".gz").rpartition(".")[2]
