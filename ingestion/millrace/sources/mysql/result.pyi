# The types of result.pyx, for mypy; the docstrings are there.
from collections.abc import Collection, Sequence
from typing import NamedTuple

import pyarrow as pa

from millrace.sources.mysql.client import Client

class Misfit(NamedTuple):
    row: int
    column: int
    value: str

class Result:
    def __init__(
        self,
        client: Client,
        query: str,
        types: Sequence[pa.DataType],
        rows: int,
        strict: Collection[int] = (),
    ) -> None: ...
    @property
    def without_date(self) -> list[int]: ...
    @property
    def misfits(self) -> list[Misfit]: ...
    def read(self, size: int) -> list[pa.Array]: ...
