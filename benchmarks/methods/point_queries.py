"""An application beside a read: looks up one row after another by its key.

Keeps to a pace, because one that asks as fast as it can would be a load of its own. Writes when
each query began and how long it took, both in seconds.
"""

from __future__ import annotations

import json
import os
import random
import time
from pathlib import Path

import job
import MySQLdb

_PAUSE_SECONDS = 0.002

rows, out, stop = int(os.environ["BENCH_ROWS"]), *map(Path, os.environ["BENCH_FILES"].split(":"))
connection = MySQLdb.connect(
    host=job.HOST,
    port=job.PORT,
    user=job.USER,
    passwd=job.PASSWORD,
    db=job.DATABASE,
    autocommit=True,
)
cursor = connection.cursor()
# These queries are not among those that are looked for in the server's log.
cursor.execute("SET SESSION long_query_time = 3600")
chosen = random.Random(1)  # noqa: S311 no secret
taken = []
while not stop.exists():
    time.sleep(_PAUSE_SECONDS)
    key = chosen.randint(1, rows)
    began, ticks = time.time(), time.perf_counter()
    cursor.execute(f"SELECT * FROM {job.TABLE} WHERE id = {key}")
    cursor.fetchall()
    taken.append((began, time.perf_counter() - ticks))
out.write_text(json.dumps(taken))
