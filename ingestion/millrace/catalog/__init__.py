"""What a dbt project declares to Millrace."""

from millrace.catalog.dbt_manifest import load_catalog
from millrace.catalog.declarations import Catalog, IngestTable, Publication
from millrace.catalog.options import Cursor, IngestOptions, Period, Pii, PublishOptions

__all__ = [
    "Catalog",
    "Cursor",
    "IngestOptions",
    "IngestTable",
    "Period",
    "Pii",
    "Publication",
    "PublishOptions",
    "load_catalog",
]
