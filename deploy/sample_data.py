"""Fills the MySQL of docker-compose.yaml with the sandbox's year of sample data, and its sheets."""

import os
from pathlib import Path

from deploy.google_sheets import FOLDER
from millrace_sandbox import sample_data, sample_sheets
from millrace_sandbox.mysql import MySQLServer
from sheets_standin import SheetsEndpoint
from sheets_standin.endpoint import ENDPOINT_FILE


def main(sheets: Path = FOLDER) -> None:
    """Replace the rows of ``prod.nps`` and ``prod.users`` by sample data.

    Where the Google Sheets stand-in runs, make its two spreadsheets anew too.
    """
    server = MySQLServer(
        host=os.environ["MYSQL_HOST"],
        port=int(os.environ.get("MYSQL_PORT", "3306")),
        admin_user="root",
        admin_password=os.environ["MYSQL_ROOT_PASSWORD"],
        reader_user="millrace_reader",
        reader_password="",
    )
    sample_data.create_schema(server)
    sample_data.fill_history(server)
    if (sheets / ENDPOINT_FILE).exists():
        sample_sheets.create_sheets(SheetsEndpoint.read(sheets))


if __name__ == "__main__":
    main()
