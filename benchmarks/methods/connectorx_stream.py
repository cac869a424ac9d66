"""connectorx in bounded memory: a stream of record batches, written to S3 by pyarrow."""

from __future__ import annotations

import connectorx as cx
import job
import pyarrow.parquet as pq
from pyarrow import fs

BATCH_ROWS = 65_536

began = job.ready()
reader = cx.read_sql(job.mysql_uri(), job.QUERY, return_type="arrow_stream", batch_size=BATCH_ROWS)
store = fs.S3FileSystem(
    access_key=job.ACCESS_KEY_ID,
    secret_key=job.SECRET_ACCESS_KEY,
    endpoint_override=job.ENDPOINT_URL,
    region=job.REGION,
)
path = f"{job.BUCKET}/{job.PREFIX}/part.parquet"
with pq.ParquetWriter(path, reader.schema, filesystem=store, compression="zstd") as writer:
    for batch in reader:
        writer.write_batch(batch)
job.done(began)
