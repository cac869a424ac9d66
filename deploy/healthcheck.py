"""Asks Airflow's API server whether a component is healthy: ``healthcheck.py scheduler``.

The HTTP status is 200 in any case; the health is in the answer's body.
"""

import json
import os
import sys
from urllib.request import urlopen

COMPONENTS = ("metadatabase", "scheduler", "dag_processor", "triggerer")


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


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMPONENTS:
        sys.exit(f"usage: healthcheck.py {{{'|'.join(COMPONENTS)}}}")
    sys.exit(main(sys.argv[1]))
