"""dlt's sql_database source with one of its backends, to Parquet on S3."""

from __future__ import annotations

import sys
from pathlib import Path

import dlt
import job
from dlt.destinations import filesystem
from dlt.sources.sql_database import sql_table

BACKEND = sys.argv[1]
CHUNK_ROWS = 50_000

began = job.ready()
destination = filesystem(
    bucket_url=f"s3://{job.BUCKET}/{job.PREFIX}",
    credentials={
        "aws_access_key_id": job.ACCESS_KEY_ID,
        "aws_secret_access_key": job.SECRET_ACCESS_KEY,
        "endpoint_url": job.ENDPOINT_URL,
        "region_name": job.REGION,
    },
)
pipeline = dlt.pipeline(
    pipeline_name="bench",
    pipelines_dir=Path.cwd(),
    destination=destination,
    dataset_name="bench",
)
table = sql_table(
    job.mysql_uri("mysql+pymysql"),
    table=job.TABLE,
    backend=BACKEND,
    chunk_size=CHUNK_ROWS,
    # So that decimals keep their scale.
    reflection_level="full_with_precision",
    # connectorx names the protocol itself.
    backend_kwargs={"conn": job.mysql_uri()} if BACKEND == "connectorx" else None,
)
load = pipeline.run(table, loader_file_format="parquet", write_disposition="replace")
load.raise_on_failed_jobs()
job.done(began)
