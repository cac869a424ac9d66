"""pandas as most people write it: read_sql, then to_parquet on S3."""

from __future__ import annotations

import job
import pandas as pd
import s3fs  # noqa: F401 imported by to_parquet: part of the start-up
import sqlalchemy

began = job.ready()
engine = sqlalchemy.create_engine(job.mysql_uri("mysql+pymysql"))
frame = pd.read_sql(job.QUERY, engine)
frame.to_parquet(
    f"s3://{job.BUCKET}/{job.PREFIX}/part.parquet",
    compression="zstd",
    storage_options={
        "key": job.ACCESS_KEY_ID,
        "secret": job.SECRET_ACCESS_KEY,
        "endpoint_url": job.ENDPOINT_URL,
    },
)
job.done(began)
