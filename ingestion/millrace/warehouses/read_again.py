"""The checksums of what was landed, for warehouses without CRC-32."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow.parquet as pq

from millrace.checksums.columns import Checksums, Tally, differing
from millrace.checksums.totals import md5_total
from millrace.errors import PartCorrupt
from millrace.manifest import Manifest
from millrace.warehouses.base import Landed


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
