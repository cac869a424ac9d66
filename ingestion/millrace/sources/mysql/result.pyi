# What mypy knows of mysql_result.pyx, which documents it.
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

class Result:
    def __init__(self, client: Any, types: Sequence[pa.DataType], rows: int) -> None: ...
    def read(self, size: int) -> list[pa.Array]: ...

def socket_of(client: Any) -> int: ...
