"""The checksums of what was landed and of what was loaded, for warehouses without CRC-32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from millrace.checksums.columns import Checksum, Checksums, Tally, differing
from millrace.checksums.totals import md5_total
from millrace.errors import PartCorrupt
from millrace.manifest import Manifest
from millrace.warehouses.base import Landed
from millrace.warehouses.dialect import Dialect
from millrace.warehouses.raw_rows import Session


class Md5Dialect(Dialect, Protocol):
    """A ``Dialect`` with MD5."""

    def md5(self, text: str) -> str:
        """An expression of the MD5 of a text or of bytes, in small hexadecimal digits."""


def md5_of_parts(manifest: Manifest, landed: Landed, names: Sequence[str]) -> Checksums:
    """The MD5 of what was landed; that it is what was read, its CRC-32 shows.

    Raises:
        PartCorrupt: a part is missing, or holds other values.
    """
    read, hashed = Tally(manifest.schema), Tally(manifest.schema, names, md5_total)
    for part in manifest.parts:
        with landed.local_copy(part) as path, pq.ParquetFile(path) as file:
            for batch in file.iter_batches():
                read.add(batch)
                hashed.add(batch)
    if wrong := differing(manifest.checksums or {}, read.checksums):
        raise PartCorrupt(
            f"The parts of {manifest.url} hold other values than were read, in the columns "
            f"{', '.join(wrong)}.",
            fix="Ingest the batch again: a new attempt lands beside it.",
        )
    return hashed.checksums


def md5_of_rows(
    session: Session,
    dialect: Md5Dialect,
    rows: str,
    schema: pa.Schema,
    names: Sequence[str],
    parameters: Sequence[Any] = (),
) -> Checksums:
    """The same of rows in the warehouse; without a total where a type has no text.

    Args:
        session: A session of the warehouse.
        dialect: How it writes things.
        rows: What follows FROM.
        schema: The types of the columns.
        names: The columns.
        parameters: What is bound in ``rows``.
    """
    if not names:
        return {}
    texts = {name: dialect.text(schema.field(name)) for name in names}
    asked = ", ".join(
        f"COUNT({dialect.quote(name)}), "
        + (f"SUM({dialect.number(f'SUBSTR({dialect.md5(text)}, 1, 8)')})" if text else "NULL")
        for name, text in texts.items()
    )
    [sums] = session.run(f"SELECT {asked} FROM {rows}", parameters)
    return {
        name: Checksum(int(values), int(total or 0) if texts[name] else None)
        for name, values, total in zip(texts, sums[::2], sums[1::2], strict=True)
    }
