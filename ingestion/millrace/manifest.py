"""The manifest of a landed batch: written last, so its presence is the commit.

Its shape is the one that Redshift's ``UNLOAD … MANIFEST VERBOSE`` writes and its
``COPY … MANIFEST`` reads. What Millrace adds (a part's checksum, a column's Arrow type, the batch)
has keys of its own.
https://docs.aws.amazon.com/redshift/latest/dg/loading-data-files-using-manifest.html
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any

import pyarrow as pa

from millrace import arrow_types
from millrace.batch import Batch
from millrace.checksums.columns import Checksum, Checksums
from millrace.errors import ManifestCorrupt

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
# What the names of sources, tables, intervals, attempts and parts are made of.
_PLAIN_NAME = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Part:
    """One Parquet file.

    Attributes:
        url: Its full address, ``s3://…`` or ``file:///…``.
        size: In bytes.
        rows: How many it holds.
        sha256: Hexadecimal digest of the file.
        etag: S3's ETag of this very object; None in a folder.
    """

    url: str
    size: int
    rows: int
    sha256: str
    etag: str | None = None


@dataclass(frozen=True)
class Manifest:
    """What one attempt at a batch has landed.

    Attributes:
        batch: The table and interval.
        schema: The columns, in the order of the parts.
        parts: The files; none for a batch without rows.
        extracted_at: When the source was read, in UTC.
        url: The manifest's own address.
        is_counted: Whether there are as many rows as the source itself counts.
        checksums: Of the columns as they were landed, by CRC-32, after what was read was compared
            with the source by value; None: it was not compared.
        quarantined: How many rows were set aside, for values that do not fit.
        quarantine: The files with what is known of these rows (``bad_values.RECORDS``).
        raw_table: The raw table that the batch was landed for (``IngestTable.raw_table``), because
            several environments may share a landing; None: not known.
        salt_id: Tells the salt that columns were hashed with from others (``pii.salt_id``).
    """

    batch: Batch
    schema: pa.Schema
    parts: tuple[Part, ...]
    extracted_at: datetime
    url: str
    is_counted: bool = False
    checksums: Checksums | None = None
    quarantined: int = 0
    quarantine: tuple[Part, ...] = ()
    raw_table: str | None = None
    salt_id: str | None = None

    @property
    def verified(self) -> str | None:
        """How it was compared with the source: ``values`` or ``counts``; None: not at all."""
        if self.checksums is not None:
            return "values"
        return "counts" if self.is_counted else None

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
                "entries": list(map(_entry, self.parts)),
                # Not among the entries, which Redshift copies.
                "quarantine": {
                    "row_count": self.quarantined,
                    "entries": list(map(_entry, self.quarantine)),
                },
                "schema": {"elements": [_element(field) for field in self.schema]},
                "meta": {
                    "content_length": self.size,
                    "record_count": self.rows,
                    "batch": self.batch.to_json(),
                    "extracted_at": self.extracted_at.isoformat(),
                    "is_counted": self.is_counted,
                    "raw_table": self.raw_table,
                    "salt_id": self.salt_id,
                    "checksums": self.checksums
                    and {
                        name: {"values": of.values, "crc32": of.total}
                        for name, of in self.checksums.items()
                    },
                },
                "author": {"name": "Millrace", "version": version("millrace")},
            },
            indent=2,
        )

    @classmethod
    def from_json(cls, text: str, url: str) -> Manifest:
        """Read what ``to_json`` wrote.

        Raises:
            ManifestCorrupt: it is cut short, not Millrace's, contradicts itself, or names parts of
                another attempt.
        """
        try:
            value = json.loads(text)
            manifest = cls(
                batch=Batch.from_json(value["meta"]["batch"]),
                schema=pa.schema([_field(element) for element in value["schema"]["elements"]]),
                parts=tuple(_part(entry) for entry in value["entries"]),
                extracted_at=datetime.fromisoformat(value["meta"]["extracted_at"]),
                url=url,
                is_counted=value["meta"].get("is_counted", False),
                checksums=_checksums(value["meta"].get("checksums")),
                raw_table=value["meta"].get("raw_table"),
                salt_id=value["meta"].get("salt_id"),
                **_quarantine(value.get("quarantine")),
            )
            sums = value["meta"]["content_length"], value["meta"]["record_count"]
        except (ValueError, KeyError, TypeError) as error:
            raise ManifestCorrupt(
                f"{url} is not a manifest that Millrace wrote ({error!r}).",
                fix="Ingest the batch again: a new attempt lands beside it.",
            ) from error
        manifest.refuse_foreign_parts()
        manifest._refuse_other_sums(*sums)
        return manifest

    def refuse_other_batch(self, batch: Batch) -> None:
        """Check that this is the manifest of the batch that is to be loaded.

        Raises:
            ManifestCorrupt: it is of another table or interval.
        """
        if self.batch != batch:
            raise ManifestCorrupt(
                f"{self.url} is of {self.batch}, and {batch} is to be loaded.",
                fix="Load the manifest that the extraction of this batch has written, or ingest "
                "the batch again.",
            )

    def refuse_foreign_parts(self) -> None:
        """Check that every part is in the manifest's folder or below, and is named once.

        Raises:
            ManifestCorrupt: a part is another attempt's, or is named twice.
        """
        folder = self.url.rpartition("/")[0]
        seen = set()
        for part in (*self.parts, *self.quarantine):
            if path_below(part.url, folder) is None:
                raise self._changed(f"names the part {part.url}, which is not below {folder}/")
            if part.url in seen:
                raise self._changed(f"names the part {part.url} more than once")
            seen.add(part.url)

    def _refuse_other_sums(self, size: int, rows: int) -> None:
        if (self.size, self.rows) != (size, rows):
            raise self._changed(
                f"promises {rows:,} rows in {size:,} bytes, but its parts have "
                f"{self.rows:,} in {self.size:,}"
            )
        records = sum(part.rows for part in self.quarantine)
        if not self.quarantined <= records or bool(records) != bool(self.quarantined):
            raise self._changed(
                f"promises {self.quarantined:,} rows that were set aside, and has {records:,} "
                "records of them"
            )

    def _changed(self, problem: str) -> ManifestCorrupt:
        return ManifestCorrupt(
            f"{self.url} {problem}: it was changed after it was written.",
            fix="Ingest the batch again: a new attempt lands beside it.",
        )


def path_below(url: str, folder: str) -> str | None:
    """The path of a file below a folder of a landing.

    Returns:
        None if it is not below it, or not by plain names: ``..``, a percent sign, a backslash or a
        control character could lead elsewhere for one of those who read it.
    """
    path = url.removeprefix(f"{folder}/")
    is_plain = all(_PLAIN_NAME.fullmatch(name) and name.strip(".") for name in path.split("/"))
    return path if path != url and is_plain else None


def _element(field: pa.Field) -> dict[str, Any]:
    type_: dict[str, Any] = {"base": _REDSHIFT_BASE_TYPES.get(field.type, "numeric")}
    if pa.types.is_decimal(field.type):
        type_ |= {"precision": field.type.precision, "scale": field.type.scale}
    return {"name": field.name, "type": type_ | {"arrow": str(field.type)}}


def _field(element: dict[str, Any]) -> pa.Field:
    return pa.field(element["name"], arrow_types.from_name(element["type"]["arrow"]))


def _checksums(value: dict[str, Any] | None) -> Checksums | None:
    return value and {name: Checksum(of["values"], of["crc32"]) for name, of in value.items()}


def _quarantine(value: dict[str, Any] | None) -> dict[str, Any]:
    if value is None:
        return {}
    return {
        "quarantined": value["row_count"],
        "quarantine": tuple(map(_part, value["entries"])),
    }


def _entry(part: Part) -> dict[str, Any]:
    return {
        "url": part.url,
        "mandatory": True,
        "meta": {
            "content_length": part.size,
            "record_count": part.rows,
            "sha256": part.sha256,
            "etag": part.etag,
        },
    }


def _part(entry: dict[str, Any]) -> Part:
    meta = entry["meta"]
    return Part(
        url=entry["url"],
        size=meta["content_length"],
        rows=meta["record_count"],
        sha256=meta["sha256"],
        etag=meta["etag"],
    )
