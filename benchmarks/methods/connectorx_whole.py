"""connectorx: the whole result as one Arrow table, written to S3 by pyarrow."""

from __future__ import annotations

import connectorx as cx
import job
import pyarrow.parquet as pq
from pyarrow import fs

began = job.ready()
table = cx.read_sql(job.mysql_uri(), job.QUERY, return_type="arrow")
store = fs.S3FileSystem(
    access_key=job.ACCESS_KEY_ID,
    secret_key=job.SECRET_ACCESS_KEY,
    endpoint_override=job.ENDPOINT_URL,
    region=job.REGION,
)
pq.write_table(
    table, f"{job.BUCKET}/{job.PREFIX}/part.parquet", filesystem=store, compression="zstd"
)
job.done(began)
