"""Which request comes next: pure, told by the answers so far.

An API that ignores what it is asked for, or whose rows move while they are read, must not lead to a
table with rows twice or without some: it is found out, and named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urljoin

from millrace.errors import RowsMissing, SourceMismatch
from millrace.sources.http.answers import Whereabouts
from millrace.sources.http.client import Request
from millrace.sources.http.options import (
    CursorPages,
    LinkPages,
    NumberedPages,
    OffsetPages,
    Pages,
    UrlPages,
)

_KEPT = "The raw table keeps what it has."


def told_paths(pages: Pages | None) -> dict[str, tuple[str, ...]]:
    """Where an answer tells of pages: ``total``, ``more`` and ``next``, as far as declared."""
    found = {name: getattr(pages, name, None) for name in ("total", "more", "next")}
    return {name: path for name, path in found.items() if path}


class Paging:
    """The requests for all pages of one endpoint.

    Args:
        pages: How they are asked for; None: there is one.
        request: The request for all of it.
        where: What answers, for messages.
    """

    def __init__(self, pages: Pages | None, request: Request, where: str) -> None:
        self._pages = pages
        self._where = where
        self._rows = 0
        self._number = 1
        self._total: int | None = None
        self._seen: set[str] = set()
        self._page: bytes | None = None
        size = {pages.size_param: pages.size} if pages and pages.size_param else {}
        self._request = Request(request.url, {**request.params, **size})
        self.first = self._request
        if isinstance(pages, NumberedPages):
            self.first = self._with(pages.param, pages.first)
        if isinstance(pages, OffsetPages):
            self.first = self._with(pages.param, 0)

    def after(
        self, told: Mapping[str, Any], here: Whereabouts, rows: int, digest: bytes
    ) -> Request | None:
        """The request for the next page; None: that was the last.

        Args:
            told: What the answer tells, by the names of ``told_paths``.
            here: Where it was found.
            rows: How many rows it has.
            digest: Of these rows.

        Raises:
            SourceMismatch: the pages do not end, or the API ignores which one is asked for.
            RowsMissing: rows came or went meanwhile.
        """
        pages = self._pages
        if pages is None:
            return None
        self._rows += rows
        if pages.total:
            self._check_total(told.get("total"))
        following = self._following(pages, told, here, rows)
        if following is None:
            if self._total is not None and self._rows != self._total:
                raise self._moved(f"{self._total:,} rows are told, and {self._rows:,} were read")
            return None
        if self._number >= pages.max_pages:
            raise SourceMismatch(
                f"{self._where} has more than {pages.max_pages:,} pages.",
                fix="If so many are right, declare a larger `max_pages`, or a larger `size`. "
                + _KEPT,
            )
        if rows and digest == self._page:
            raise SourceMismatch(
                f"{self._where}: page {self._number} has the same rows as the page before.",
                fix="The API seems to ignore which page is asked for: correct `pages`. " + _KEPT,
            )
        self._page = digest
        self._number += 1
        return following

    def _following(
        self, pages: Pages, told: Mapping[str, Any], here: Whereabouts, rows: int
    ) -> Request | None:
        if pages.more and not self._has_more(told.get("more")):
            return None
        if isinstance(pages, NumberedPages | OffsetPages):
            is_last = not rows or (self._total is not None and self._rows >= self._total)
            # An answer that promises more is believed: its rows may have been filtered.
            if is_last and not (pages.more and not rows):
                return None
            if isinstance(pages, NumberedPages):
                return self._with(pages.param, pages.first + self._number)
            return self._with(pages.param, self._rows)
        token = here.link if isinstance(pages, LinkPages) else told.get("next")
        # Empty texts, 0 and false are how some say that there is no other page.
        if not token:
            return None
        if not isinstance(token, str | int):
            raise SourceMismatch(
                f"{self._where}: what is declared as `next` is no text.",
                fix=f"Correct `next` in `pages`. {_KEPT}",
            )
        if str(token) in self._seen:
            raise SourceMismatch(
                f"{self._where}: page {self._number} leads back to a page that was read already.",
                fix="Its pages would be read for ever: correct `pages`, or tell those who run the "
                f"API. {_KEPT}",
            )
        self._seen.add(str(token))
        if isinstance(pages, CursorPages):
            return self._with(pages.param, token)
        assert isinstance(pages, UrlPages | LinkPages)  # noqa: S101  for the type checker
        return Request(urljoin(here.url, str(token)), {})

    def _has_more(self, value: Any) -> bool:
        if value is None or isinstance(value, bool):
            return bool(value)
        raise SourceMismatch(
            f"{self._where}: what is declared as `more` is neither true nor false.",
            fix=f"Correct `more` in `pages`. {_KEPT}",
        )

    def _check_total(self, value: Any) -> None:
        try:
            total = int(value)
        except (TypeError, ValueError):
            raise SourceMismatch(
                f"{self._where}: what is declared as `total` is no number of rows.",
                fix=f"Correct `total` in `pages`. {_KEPT}",
            ) from None
        if self._total is not None and total != self._total:
            raise self._moved(f"the total was {self._total:,} at first, and then {total:,}")
        self._total = total

    def _moved(self, what: str) -> RowsMissing:
        return moved(self._where, what)

    def _with(self, param: str, value: str | int) -> Request:
        return Request(self._request.url, {**self._request.params, param: value})


def moved(where: str, what: str) -> RowsMissing:
    """The error of rows that came or went while pages were read."""
    return RowsMissing(
        f"{where}: rows came or went while its pages were read: {what}.",
        fix="Ingest the batch again. If it stays so, ask for rows in an order that does not "
        f"change (a parameter such as `sort`), or in larger pages. {_KEPT}",
    )
