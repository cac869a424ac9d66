"""What a dbt project declares to Millrace."""

from millrace.catalog.dbt_manifest import load_catalog
from millrace.catalog.declarations import Catalog, IngestTable, Model, Publication
from millrace.catalog.due_time import DueTime
from millrace.catalog.options import (
    AwaitedFile,
    Cursor,
    IngestOptions,
    OnBadValue,
    Period,
    Pii,
    PublishOptions,
    SchemaPolicy,
    SoftDeletes,
    TimeZone,
)

__all__ = [
    "AwaitedFile",
    "Catalog",
    "Cursor",
    "DueTime",
    "IngestOptions",
    "IngestTable",
    "Model",
    "OnBadValue",
    "Period",
    "Pii",
    "Publication",
    "PublishOptions",
    "SchemaPolicy",
    "SoftDeletes",
    "TimeZone",
    "load_catalog",
]
