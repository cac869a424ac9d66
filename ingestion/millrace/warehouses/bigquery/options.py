"""The options of a raw table in BigQuery."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from millrace.bad_values import Limits
from millrace.warehouses.base import LOADED_COLUMN

# A row of a Parquet file has at most 50 MB.
# https://cloud.google.com/bigquery/docs/loading-data-cloud-storage-parquet#input_file_requirements
LIMITS = Limits(text_bytes=50_000_000, binary_bytes=50_000_000, has_year_0=False)
"""Of STRING, BYTES and DATE, whose first day is 0001-01-01."""

# https://cloud.google.com/bigquery/docs/labels-intro#requirements
_LABEL = re.compile(r"[\w-]{0,63}")
_MOST_LABELS = 60


def _labels(labels: dict[str, str]) -> dict[str, str]:
    for name, value in labels.items():
        is_name = name[:1].isalpha() and _LABEL.fullmatch(name)
        is_small = f"{name}{value}" == f"{name}{value}".lower()
        if not (is_name and is_small and _LABEL.fullmatch(value)):
            raise ValueError(
                f"the label {name}: {value} has more than small letters, digits, - and _ "
                "(63 at most), or its name does not begin with a letter"
            )
    if len(labels) > _MOST_LABELS:
        raise ValueError(f"there are more than {_MOST_LABELS} labels")
    return labels


class BigQueryOptions(BaseModel):
    """How BigQuery keeps a raw table.

    Attributes:
        partition_by: The column whose day partitions the rows: a date or a time. Default:
            ``_loaded_at``.
        cluster_by: Up to four columns that cluster the rows; default: the primary key.
        require_partition_filter: Whether a query has to say which partitions it reads.
        labels: Labels of the table and of every job for it.
        kms_key: The key of Cloud KMS that encrypts the table, by its resource name; default: a key
            of Google's.
        json_columns: Columns with JSON in them (``json`` in the declaration), kept as JSON instead
            of as text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    partition_by: str = LOADED_COLUMN
    # https://cloud.google.com/bigquery/docs/clustered-tables#limitations
    cluster_by: tuple[str, ...] | None = Field(default=None, max_length=4)
    require_partition_filter: bool = False
    labels: Annotated[dict[str, str], AfterValidator(_labels)] = {}
    kms_key: str | None = None
    json_columns: tuple[str, ...] = Field(default=(), alias="json")
