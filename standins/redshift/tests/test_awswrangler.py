"""The AWS SDK for pandas, unmodified.

It is not in uv.lock, because it would hold pyarrow back; all that it needs is there. To run these
tests:

    uv pip install --no-deps --target /tmp/awswrangler 'awswrangler>=3.17'
    export PYTHONPATH=/tmp/awswrangler
    .venv/bin/python -m pytest standins/redshift/tests/test_awswrangler.py
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

import pandas as pd
import pytest

from redshift_standin import RedshiftServer
from redshift_standin.s3 import S3Server
from standins.redshift.tests.conftest import run

wr = pytest.importorskip("awswrangler")

pytestmark = [pytest.mark.service, pytest.mark.redshift]

FRAME = pd.DataFrame(
    {
        "id": [1, 2, 3],
        "score": [9.5, None, 0.25],
        "comment": ["great", None, "좋아요, 'yes'\n\\"],
        "is_new": [True, False, None],
        "day": [date(2026, 1, 2), None, date(1970, 1, 1)],
        "at": pd.to_datetime(["2026-01-02 03:04:05.678", None, "1970-01-01"], format="ISO8601"),
    }
).astype({"is_new": "boolean"})


class Wrangler:
    """A session of awswrangler with the stand-in and its S3 server."""

    def __init__(self, redshift: RedshiftServer, s3: S3Server, bucket: str, schema: str) -> None:
        import boto3

        wr.config.s3_endpoint_url = s3.endpoint.endpoint_url
        self.session = boto3.Session(
            aws_access_key_id=s3.endpoint.access_key_id,
            aws_secret_access_key=s3.endpoint.secret_access_key,
            region_name=s3.endpoint.region,
        )
        self.con = redshift.endpoint.connect()
        self.schema = schema
        self.role = redshift.endpoint.iam_role
        self.url = f"s3://{bucket}"

    def copy(self, frame: pd.DataFrame, **options: Any) -> None:
        wr.redshift.copy(
            frame,
            f"{self.url}/stage/",
            self.con,
            table="t",
            schema=self.schema,
            iam_role=self.role,
            boto3_session=self.session,
            **options,
        )

    def to_sql(self, frame: pd.DataFrame, **options: Any) -> None:
        wr.redshift.to_sql(frame, self.con, "t", self.schema, **options)

    def read(self, sql: str = "select * from {schema}.t order by id") -> pd.DataFrame:
        return wr.redshift.read_sql_query(sql.format(schema=self.schema), self.con)

    def unload(self, sql: str = "select * from {schema}.t", **options: Any) -> pd.DataFrame:
        return wr.redshift.unload(
            sql.format(schema=self.schema),
            f"{self.url}/unload/",
            self.con,
            iam_role=self.role,
            boto3_session=self.session,
            **options,
        )


@pytest.fixture
def wrangler(
    redshift: RedshiftServer, s3_server: S3Server, bucket: str, schema: str
) -> Iterator[Wrangler]:
    made = Wrangler(redshift, s3_server, bucket, schema)
    yield made
    made.con.close()


def values(frame: pd.DataFrame) -> list[tuple[Any, ...]]:
    """Rows of plain values, with None for every kind of missing value."""
    return [
        tuple(
            None
            if pd.isna(value)
            else value.to_pydatetime()
            if isinstance(value, pd.Timestamp)
            else value
            for value in row
        )
        for row in frame.sort_values("id").itertuples(index=False)
    ]


EXPECTED = [
    (1, 9.5, "great", True, date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5, 678000)),
    (2, None, None, False, None, None),
    (3, 0.25, "좋아요, 'yes'\n\\", None, date(1970, 1, 1), datetime(1970, 1, 1)),
]


def test_copy_makes_the_table_and_reads_it_back(wrangler: Wrangler) -> None:
    wrangler.copy(
        FRAME,
        mode="overwrite",
        diststyle="KEY",
        distkey="id",
        sortkey=["at"],
        primary_keys=["id"],
        varchar_lengths={"comment": 100},
    )
    assert values(wrangler.read()) == EXPECTED
    assert run(
        wrangler.con,
        f"select diststyle, sortkey1 from svv_table_info where \"schema\" = '{wrangler.schema}'",
    ) == [("KEY(id)", "at")]


@pytest.mark.parametrize(
    ("mode", "overwrite_method"),
    [("append", "drop"), ("overwrite", "drop"), ("overwrite", "delete"), ("upsert", "drop")],
)
def test_copy_again(wrangler: Wrangler, mode: str, overwrite_method: str) -> None:
    wrangler.copy(FRAME, mode="overwrite", primary_keys=["id"])
    newer = FRAME[FRAME["id"] > 1].assign(id=[3, 4])
    wrangler.copy(newer, mode=mode, primary_keys=["id"], overwrite_method=overwrite_method)
    ids = {"append": [1, 2, 3, 3, 4], "overwrite": [3, 4], "upsert": [1, 2, 3, 4]}
    assert wrangler.read()["id"].tolist() == ids[mode]


def test_to_sql_inserts(wrangler: Wrangler) -> None:
    wrangler.to_sql(FRAME, mode="overwrite", use_column_names=True)
    wrangler.to_sql(FRAME.assign(id=[4, 5, 6]), mode="append", chunksize=2)
    assert values(wrangler.read("select * from {schema}.t where id < 4")) == EXPECTED
    assert wrangler.read()["id"].tolist() == [1, 2, 3, 4, 5, 6]


def test_unload_gives_the_rows_and_the_files(wrangler: Wrangler) -> None:
    wrangler.copy(FRAME, mode="overwrite")
    assert values(wrangler.unload(keep_files=False)) == EXPECTED
    wr.redshift.unload_to_files(
        f"select id, comment from {wrangler.schema}.t where score > 1",
        f"{wrangler.url}/files/",
        wrangler.con,
        iam_role=wrangler.role,
        boto3_session=wrangler.session,
        manifest=True,
    )
    files = wr.s3.list_objects(f"{wrangler.url}/files/*.parquet", boto3_session=wrangler.session)
    assert wr.s3.read_parquet(files, boto3_session=wrangler.session).values.tolist() == [
        [1, "great"]
    ]


def test_parameters_and_chunks(wrangler: Wrangler) -> None:
    wrangler.copy(FRAME, mode="overwrite")
    found = wr.redshift.read_sql_query(
        f"select id from {wrangler.schema}.t where id > %s order by id",
        wrangler.con,
        params=[1],
        chunksize=1,
    )
    assert [frame["id"].tolist() for frame in found] == [[2], [3]]
    whole = wr.redshift.read_sql_table("t", wrangler.con, schema=wrangler.schema)
    assert len(whole) == 3
