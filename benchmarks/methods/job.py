"""The settings of a method, from the environment that ``Services.job`` filled.

Uses only the standard library, as it runs in every peer's environment.
"""

from __future__ import annotations

import json
import os
import time
from urllib.parse import quote

HOST = os.environ["BENCH_HOST"]
PORT = int(os.environ["BENCH_PORT"])
USER = os.environ["BENCH_USER"]
PASSWORD = os.environ["BENCH_PASSWORD"]
DATABASE = os.environ["BENCH_DATABASE"]
TABLE = os.environ["BENCH_TABLE"]
ENDPOINT_URL = os.environ["BENCH_ENDPOINT_URL"]
ACCESS_KEY_ID = os.environ["BENCH_ACCESS_KEY_ID"]
SECRET_ACCESS_KEY = os.environ["BENCH_SECRET_ACCESS_KEY"]
REGION = os.environ["BENCH_REGION"]
BUCKET = os.environ["BENCH_BUCKET"]
PREFIX = os.environ["BENCH_PREFIX"]

QUERY = f"SELECT * FROM {TABLE}"


def mysql_uri(driver: str = "mysql") -> str:
    """The database as a URI for SQLAlchemy or connectorx."""
    account = f"{quote(USER, safe='')}:{quote(PASSWORD, safe='')}"
    return f"{driver}://{account}@{HOST}:{PORT}/{DATABASE}"


def ready() -> float:
    """The time when a method has imported what it needs and begins to read."""
    return time.time()


def done(began: float) -> None:
    """Print when the run began after its start-up, and how many seconds it then took."""
    print(json.dumps({"began": began, "working": time.time() - began}))
