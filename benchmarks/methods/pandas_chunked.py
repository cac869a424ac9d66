"""pandas in bounded memory: a server-side cursor, and one Parquet part per chunk."""

from __future__ import annotations

import job
import pandas as pd
import s3fs  # noqa: F401 imported by to_parquet: part of the start-up
import sqlalchemy

CHUNK_ROWS = 100_000

began = job.ready()
engine = sqlalchemy.create_engine(job.mysql_uri("mysql+pymysql"))
with engine.connect().execution_options(stream_results=True) as connection:
    for number, frame in enumerate(pd.read_sql(job.QUERY, connection, chunksize=CHUNK_ROWS)):
        frame.to_parquet(
            f"s3://{job.BUCKET}/{job.PREFIX}/part-{number:05d}.parquet",
            compression="zstd",
            storage_options={
                "key": job.ACCESS_KEY_ID,
                "secret": job.SECRET_ACCESS_KEY,
                "endpoint_url": job.ENDPOINT_URL,
            },
        )
job.done(began)
