"""Asks Airflow's API server whether a component is healthy: ``healthcheck.py scheduler``.

The HTTP status is 200 in any case; the health is in the answer's body. ``healthcheck.py watch``
tells whether the watcher still looks.
"""

import json
import os
import sys
import time
from pathlib import Path
from urllib.request import urlopen

COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")
WATCH = "watch"
LOOKED = Path("/tmp/looked")  # noqa: S108 in a container of its own
_PATIENCE_SECONDS = 300


def main(component: str) -> int:
    """Return 0 if the component is healthy, else 1.

    Raises:
        OSError: the API server does not answer.
    """
    url = os.environ["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    health = url.removesuffix("/execution/") + "/api/v2/monitor/health"
    with urlopen(health, timeout=10) as answer:  # noqa: S310 the address is ours
        status = json.load(answer)[component]["status"]
    sys.stdout.write(f"{component}: {status}\n")
    return 0 if status == "healthy" else 1


def main_of_watch(looked: Path = LOOKED) -> int:
    """Return 0 if the watcher has looked within the last minutes, else 1."""
    seconds = time.time() - looked.stat().st_mtime if looked.exists() else None
    sys.stdout.write("never looked\n" if seconds is None else f"looked {seconds:.0f} s ago\n")
    return 0 if seconds is not None and seconds < _PATIENCE_SECONDS else 1


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in (*COMPONENTS, WATCH):
        sys.exit(f"usage: healthcheck.py {{{'|'.join((*COMPONENTS, WATCH))}}}")
    sys.exit(main_of_watch() if sys.argv[1] == WATCH else main(sys.argv[1]))
