"""What a dbt project declares to Millrace."""

from millrace.catalog.dbt_manifest import load_catalog
from millrace.catalog.declarations import Catalog, IngestTable, Model, Publication
from millrace.catalog.options import (
    Cursor,
    IngestOptions,
    Period,
    Pii,
    PublishOptions,
    SchemaPolicy,
    SoftDeletes,
)

__all__ = [
    "Catalog",
    "Cursor",
    "IngestOptions",
    "IngestTable",
    "Model",
    "Period",
    "Pii",
    "Publication",
    "PublishOptions",
    "SchemaPolicy",
    "SoftDeletes",
    "load_catalog",
]
