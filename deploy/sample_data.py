"""Fills the MySQL of docker-compose.yaml with the sandbox's year of sample data."""

import os

from millrace_sandbox import sample_data
from millrace_sandbox.mysql import MySQLServer


def main() -> None:
    """Replace the rows of ``prod.nps`` and ``prod.users`` by sample data."""
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


if __name__ == "__main__":
    main()
