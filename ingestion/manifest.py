"""The manifest of a landed batch: written last, so its presence is the commit.

Its shape is the one that Redshift's ``UNLOAD … MANIFEST VERBOSE`` writes and its
``COPY … MANIFEST`` reads; what Millrace adds (a part's checksum, a column's Arrow type, the
batch) are keys of their own.
https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from ingestion import arrow_types
from ingestion.batch import Batch
from ingestion.errors import ManifestNotFound

_REDSHIFT_BASE_TYPES = {
    pa.bool_(): "boolean",
    pa.int16(): "smallint",
    pa.int32(): "integer",
    pa.int64(): "bigint",
    pa.float32(): "real",
    pa.float64(): "double precision",
    pa.string(): "character varying",
    pa.binary(): "binary varying",
    pa.date32(): "date",
    pa.timestamp("us"): "timestamp without time zone",
    pa.timestamp("us", "UTC"): "timestamp with time zone",
}


@dataclass(frozen=True)
class Part:
    """One Parquet file.

    Attributes:
        url: Its full address, ``s3://…`` or ``file:///…``.
        size: In bytes.
        rows: How many it holds.
        sha256: Hexadecimal digest of the file.
    """

    url: str
    size: int
    rows: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What one attempt at a batch has landed.

    Attributes:
        batch: The table and interval.
        schema: The columns, in the order of the parts.
        parts: The files; none for a batch without rows.
        extracted_at: When the source was read, in UTC.
        url: The manifest's own address.
    """

    batch: Batch
    schema: pa.Schema
    parts: tuple[Part, ...]
    extracted_at: datetime
    url: str

    @property
    def rows(self) -> int:
        """Rows over all parts."""
        return sum(part.rows for part in self.parts)

    @property
    def size(self) -> int:
        """Bytes over all parts."""
        return sum(part.size for part in self.parts)

    def to_json(self) -> str:
        """The file's content."""
        return json.dumps(
            {
                "entries": [
                    {
                        "url": part.url,
                        "mandatory": True,
                        "meta": {
                            "content_length": part.size,
                            "record_count": part.rows,
                            "sha256": part.sha256,
                        },
                    }
                    for part in self.parts
                ],
                "schema": {"elements": [_element(field) for field in self.schema]},
                "meta": {
                    "content_length": self.size,
                    "record_count": self.rows,
                    "batch": self.batch.to_json(),
                    "extracted_at": self.extracted_at.isoformat(),
                },
                "author": {"name": "Millrace", "version": version("millrace")},
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str, url: str) -> Manifest:
        """Read what ``to_json`` wrote.

        Raises:
            ManifestNotFound: the file is cut short, or is not Millrace's.
        """
        try:
            value = json.loads(text)
            return cls(
                batch=Batch.from_json(value["meta"]["batch"]),
                schema=pa.schema([_field(element) for element in value["schema"]["elements"]]),
                parts=tuple(_part(entry) for entry in value["entries"]),
                extracted_at=datetime.fromisoformat(value["meta"]["extracted_at"]),
                url=url,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestNotFound(
                f"{url} is not a manifest that Millrace wrote ({error!r}).",
                fix="Ingest the batch again: a new attempt lands beside it.",
            ) from error


def _element(field: pa.Field) -> dict[str, Any]:
    type_: dict[str, Any] = {"base": _REDSHIFT_BASE_TYPES.get(field.type, "numeric")}
    if pa.types.is_decimal(field.type):
        type_ |= {"precision": field.type.precision, "scale": field.type.scale}
    return {"name": field.name, "type": type_ | {"arrow": str(field.type)}}


def _field(element: dict[str, Any]) -> pa.Field:
    return pa.field(element["name"], arrow_types.from_name(element["type"]["arrow"]))


def _part(entry: dict[str, Any]) -> Part:
    meta = entry["meta"]
    return Part(
        url=entry["url"],
        size=meta["content_length"],
        rows=meta["record_count"],
        sha256=meta["sha256"],
    )
