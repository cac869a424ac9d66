"""The server's process: ``python -m sheets_standin <folder>``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn

from sheets_standin.app import create_app
from sheets_standin.faults import CuttableProtocol


def main(folder: Path) -> None:
    """Serve what `GoogleSheetsServer` prepared in a folder, until the process is ended."""
    endpoint = json.loads((folder / "endpoint.json").read_text(encoding="utf-8"))
    key = json.loads((folder / "service_account.json").read_text(encoding="utf-8"))
    url = urlsplit(endpoint["url"])
    app = create_app(folder / "spreadsheets", key, endpoint["admin_token"], endpoint["url"])
    uvicorn.run(
        app,
        host=url.hostname or "",
        port=url.port or 0,
        http=CuttableProtocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
