# The types of result.pyx, for mypy; the docstrings are there.
from collections.abc import Sequence

import pyarrow as pa

from millrace.sources.mysql.client import Client

class Misfit(Exception):
    column: int
    value: str

class Result:
    def __init__(
        self, client: Client, query: str, types: Sequence[pa.DataType], rows: int
    ) -> None: ...
    @property
    def without_date(self) -> list[int]: ...
    def read(self, size: int) -> list[pa.Array]: ...
