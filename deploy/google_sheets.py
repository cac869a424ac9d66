"""Runs the Google Sheets stand-in of docker-compose.yaml, for the account of ``google_sheets``."""

import json
import os
import sys
from pathlib import Path

from sheets_standin.files import write_private

FOLDER = Path("/var/lib/google-sheets")
PORT = "18080"


def main(folder: Path = FOLDER) -> None:
    """Become the stand-in: it knows the key that Airflow's connection holds.

    Raises:
        SystemExit: the connection is not of the stand-in.
    """
    extra = json.loads(os.environ["AIRFLOW_CONN_GOOGLE_SHEETS"]).get("extra", {})
    url = extra.get("endpoint_url")
    if url is None:
        sys.exit(
            "Error: AIRFLOW_CONN_GOOGLE_SHEETS has no endpoint_url: it is of a real account.\n"
            "  → Take standin out of COMPOSE_PROFILES in .env."
        )
    write_private(folder / "service_account.json", json.dumps(extra["keyfile_dict"]))
    command = ("sheets-standin", "serve", "--folder", str(folder), "--port", PORT, "--url", url)
    os.execvp(command[0], command)  # noqa: S606 without a shell, as everywhere


if __name__ == "__main__":
    main()
