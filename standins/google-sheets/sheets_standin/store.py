"""The spreadsheets on disk, one file each, replaced whole."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

from sheets_standin.errors import ApiError, invalid
from sheets_standin.files import write_private
from sheets_standin.workbook import Spreadsheet

_ID = re.compile(r"[A-Za-z0-9_-]{10,100}")


class Store:
    """Keeps the spreadsheets in memory and in files.

    A saved spreadsheet is there again, whole, even if the process is killed at any moment.

    Args:
        folder: Where the files are; made if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._books: dict[str, Spreadsheet] = {}
        for draft in folder.glob("*.tmp"):
            draft.unlink()
        for file in sorted(folder.glob("*.json")):
            book = Spreadsheet.from_json(json.loads(file.read_text(encoding="utf-8")))
            self._books[book.spreadsheet_id] = book

    def all(self) -> list[Spreadsheet]:
        """Every spreadsheet, by title."""
        return sorted(self._books.values(), key=lambda book: (book.title, book.spreadsheet_id))

    def get(self, spreadsheet_id: str) -> Spreadsheet:
        """The spreadsheet as last saved; change a copy of it.

        Raises:
            ApiError: 404, there is none.
        """
        try:
            return self._books[spreadsheet_id]
        except KeyError:
            raise ApiError(404, "Requested entity was not found.") from None

    def save(self, book: Spreadsheet) -> None:
        """Keep the spreadsheet as it is now, first in its file and then in memory."""
        text = json.dumps(book.to_json(), ensure_ascii=False, separators=(",", ":"))
        write_private(self._file(book.spreadsheet_id), text)
        self._books[book.spreadsheet_id] = book

    def delete(self, spreadsheet_id: str) -> None:
        """Delete the spreadsheet."""
        self.get(spreadsheet_id)
        self._file(spreadsheet_id).unlink()
        del self._books[spreadsheet_id]

    def new_id(self, wished: str | None = None) -> str:
        """The `wished` id, or a random one as long as Google's.

        Raises:
            ApiError: 400, it is malformed or taken.
        """
        if wished is None:
            return secrets.token_urlsafe(33)
        if not _ID.fullmatch(wished) or wished in self._books:
            raise invalid(f"{wished!r} cannot be a new spreadsheet's id.")
        return wished

    def _file(self, spreadsheet_id: str) -> Path:
        return self._folder / f"{spreadsheet_id}.json"
