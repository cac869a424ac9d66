"""Every request to an API is here: sent slowly enough, again where that may help, and explained.

httpx sends the requests. The key is added below httpx's client, so that neither its log nor a
redirect to another host can have it. A busy server (429, 5xx), a broken connection and an answer
that breaks off are tried again, after as long as ``Retry-After`` says.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from tempfile import NamedTemporaryFile
from typing import IO, TYPE_CHECKING, Any, TypeVar
from urllib.request import getproxies, proxy_bypass

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from millrace.errors import (
    MillraceError,
    SourceFailed,
    SourceMismatch,
    SourceRefused,
    SourceUnavailable,
)
from millrace.sources.http.address import Address
from millrace.sources.http.answers import BrokenAnswer, Whereabouts

if TYPE_CHECKING:
    from millrace.connections import Connection

log = logging.getLogger(__name__)

T = TypeVar("T")

_ATTEMPTS = 6
_BACKOFF = wait_random_exponential(multiplier=1, max=60)
# Where a server asks for a longer wait, Airflow's retry is the better place for it.
_LONGEST_WAIT_SECONDS = 300
_CONNECT_SECONDS = 10
# An answer may take so many times as long as it may pause.
_PAUSES = 10
_MOST_REDIRECTS = 5
_MOST_BYTES = 4 * 1024**3
_QUOTED = 200
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True)
class Request:
    """A GET request.

    Attributes:
        url: A path below the connection's address, or a URL that an answer had.
        params: Its parameters.
    """

    url: str
    params: Mapping[str, Any]


class Api:
    """An API, as a connection leads to it.

    Args:
        connection: See ``Address.of``.
        sleep: Waits for so many seconds.

    Raises:
        ConnectionNotFound: it holds no address, or one without TLS that is not allowed.
    """

    def __init__(self, connection: Connection, sleep: Callable[[float], None] = time.sleep) -> None:
        self.address = Address.of(connection)
        self._conn_id = connection.conn_id
        self._sleep = sleep
        self._next_at = 0.0
        self._client = httpx.Client(
            transport=_Keyed(self.address),
            headers={"User-Agent": "millrace", "Accept": "application/json"},
            follow_redirects=True,
        )
        self._client.max_redirects = _MOST_REDIRECTS
        # So that nobody has to close it.
        weakref.finalize(self, self._client.close)

    def check(self) -> str:
        """Ask for the address itself.

        Returns:
            What was reached, for a person.

        Raises:
            SourceUnavailable: it does not answer.
            SourceRefused: it refuses the key.
        """
        url = f"{self.address.origin}{self.address.path}/"
        try:
            status = self._client.get(url, timeout=_CONNECT_SECONDS).status_code
        except httpx.HTTPError as error:
            raise self._unreachable(url, error).error from None
        if status in (401, 403):
            raise self._refused(url, status, "")
        return url

    def get(
        self,
        request: Request,
        read: Callable[[IO[bytes], Whereabouts], T],
        *,
        timeout_s: float,
        spacing_s: float = 0,
    ) -> T:
        """Send a request, and read its answer.

        Args:
            request: The request.
            read: Reads the answer, given a file that is deleted when it is closed, and where it
                was found.
            timeout_s: How long the answer may pause, in seconds.
            spacing_s: The least time since the request before, in seconds.

        Raises:
            SourceUnavailable: it does not answer, or is busy.
            SourceRefused: it refuses the key.
            SourceMismatch: it knows no such path or parameters, or its answer is no JSON.
        """
        attempts = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            retry=retry_if_exception(_is_worth_it),
            wait=_wait,
            sleep=self._sleep,
            before_sleep=_tell,
            reraise=True,
        )
        url = self._url(request)
        try:
            found: T = attempts(self._once, url, request.params, read, timeout_s, spacing_s)
        except _Passing as passing:
            raise passing.error from None
        return found

    def explained(self, text: str) -> str:
        """A text for people, without the key."""
        return self.address.masked(text)

    def _url(self, request: Request) -> httpx.URL:
        if request.url.startswith("/"):
            return httpx.URL(f"{self.address.origin}{self.address.path}{request.url}")
        try:
            url = httpx.URL(request.url)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if not self.address.is_at(url.scheme, url.host, url.port):
            raise SourceMismatch(
                f"{self.address.origin}: the next page is said to be at "
                f"{self.explained(request.url[:_QUOTED])!r}, which is elsewhere.",
                fix="The key is only for the connection's address. If the API has moved, correct "
                "the connection.",
            )
        return url

    def _once(
        self,
        url: httpx.URL,
        params: Mapping[str, Any],
        read: Callable[[IO[bytes], Whereabouts], T],
        timeout_s: float,
        spacing_s: float,
    ) -> T:
        self._wait_for_turn(spacing_s)
        where = self.explained(f"{url.copy_with(query=None)}")
        if params:
            url = url.copy_merge_params(params)
        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, _CONNECT_SECONDS))
        # Closed by whoever has read it.
        file = NamedTemporaryFile(prefix="millrace-http-")  # noqa: SIM115
        try:
            with self._sent(where, url, timeout) as response:
                here = Whereabouts(str(response.url), response.links.get("next", {}).get("url"))
                self._save(response, file, where, timeout_s * _PAUSES)
                self._refuse_other_than_json(response, file, where)
            file.seek(0)
            return read(file, here)
        except BrokenAnswer as error:
            file.close()
            raise _Passing(self._broken(where, str(error))) from None
        except BaseException:
            file.close()
            raise

    @contextmanager
    def _sent(self, where: str, url: httpx.URL, timeout: httpx.Timeout) -> Iterator[httpx.Response]:
        try:
            with self._client.stream("GET", url, timeout=timeout) as response:
                if response.status_code != 200:
                    self._explain_status(response, where)
                yield response
        except httpx.TooManyRedirects:
            raise SourceMismatch(
                f"{where} redirects more than {_MOST_REDIRECTS} times.",
                fix="Correct the connection's address or `endpoint`.",
            ) from None
        except httpx.HTTPError as error:
            raise self._unreachable(where, error) from None

    def _save(
        self, response: httpx.Response, file: IO[bytes], where: str, longest_s: float
    ) -> None:
        end = time.monotonic() + longest_s
        size = 0
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > _MOST_BYTES:
                raise SourceMismatch(
                    f"{where} answers with more than {_MOST_BYTES:,} bytes.",
                    fix="Ask for less at a time: declare `pages`, or a narrower interval.",
                )
            if time.monotonic() > end:
                raise httpx.ReadTimeout(f"the answer is not complete after {longest_s:g} s")
            try:
                file.write(chunk)
            except OSError as error:
                raise SourceFailed(
                    f"An answer of {where} cannot be kept in {file.name}: {error.strerror}.",
                    fix="Make room there, or set TMPDIR to a larger disk.",
                ) from None

    def _refuse_other_than_json(
        self, response: httpx.Response, file: IO[bytes], where: str
    ) -> None:
        file.seek(0)
        begin = file.read(_QUOTED).lstrip()
        kind = response.headers.get("content-type", "no content type").partition(";")[0]
        is_text = "html" in kind or "xml" in kind
        if begin[:1] == b"<" or (is_text and begin[:1] not in (b"{", b"[")):
            quoted = self.explained(begin.decode("utf-8", "replace"))
            raise SourceMismatch(
                f"{where} answers with {kind}, not JSON: {quoted!r}.",
                fix="Look at it in a browser: a login page means that the key is missing or old, "
                "another page that the connection's address or `endpoint` is wrong.",
            )

    def _explain_status(self, response: httpx.Response, where: str) -> None:
        status = response.status_code
        said = self._said(response)
        if status in _PASSING:
            after = _retry_after(response)
            asks = f" (and asks to wait {after:g} s)" if after else ""
            unavailable = SourceUnavailable(
                f"{where} answers {status}{asks}{said}.",
                fix="It may pass: try again later. 429 means that too many requests were sent: "
                "declare `rate`.",
            )
            raise _Passing(unavailable, after)
        if status in (401, 403, 407):
            raise self._refused(where, status, said)
        raise SourceMismatch(
            f"{where} answers {status}{said}.",
            fix="Correct `endpoint` and `params` in the declaration, or the address in the "
            f"connection '{self._conn_id}'.",
        )

    def _said(self, response: httpx.Response) -> str:
        """What a server says of an error, if it says anything short."""
        try:
            text = b"".join(response.iter_bytes())[:_QUOTED].decode("utf-8", "replace").strip()
        except httpx.HTTPError:
            return ""
        return f": {self.explained(' '.join(text.split()))}" if text else ""

    def _refused(self, where: str, status: int, said: str) -> SourceRefused:
        return SourceRefused(
            f"{where} refuses the key of the connection '{self._conn_id}' ({status}){said}.",
            fix="Put a valid one into the connection: its password (a bearer token, or Basic "
            "authentication with a login), or the `headers` or `params` of its extra.",
        )

    def _unreachable(self, where: str, error: httpx.HTTPError) -> _Passing:
        reason = self.explained(str(error) or type(error).__name__)
        return _Passing(
            SourceUnavailable(
                f"{where} cannot be read: {reason}.",
                fix="Check the network and the connection's address, then try again.",
            )
        )

    def _broken(self, where: str, reason: str) -> MillraceError:
        return SourceUnavailable(
            f"{where} answers with JSON that is broken: {self.explained(reason)}.",
            fix="It may pass: try again. If it stays, tell those who run the API.",
        )

    def _wait_for_turn(self, spacing_s: float) -> None:
        now = time.monotonic()
        if self._next_at > now:
            self._sleep(self._next_at - now)
        self._next_at = max(now, self._next_at) + spacing_s


class _Passing(Exception):
    """What may pass.

    Attributes:
        error: What a person sees if it does not.
        after: How long the server asks to wait, in seconds.
    """

    def __init__(self, error: MillraceError, after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.after = after


class _Keyed(httpx.BaseTransport):
    """Adds the key to requests to its own address, and sends none without TLS that must not be."""

    def __init__(self, address: Address) -> None:
        self._address = address
        proxy = None if proxy_bypass(address.host) else getproxies().get(address.scheme)
        self._transport = httpx.HTTPTransport(proxy=proxy)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url, headers = request.url, request.headers.copy()
        if not self._address.may_be_asked(url.scheme, url.host):
            raise SourceMismatch(
                f"{self._address.origin} redirects to {url.scheme}://{url.host}, without TLS.",
                fix="Correct the connection's address.",
            )
        if self._address.is_at(url.scheme, url.host, url.port):
            headers.update(self._address.headers)
            url = url.copy_merge_params(self._address.params) if self._address.params else url
        return self._transport.handle_request(
            httpx.Request(request.method, url, headers=headers, extensions=request.extensions)
        )

    def close(self) -> None:
        self._transport.close()


def _is_worth_it(error: BaseException) -> bool:
    return isinstance(error, _Passing) and (error.after or 0) <= _LONGEST_WAIT_SECONDS


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.after if isinstance(error, _Passing) else None
    return asked if asked is not None else _BACKOFF(state)


def _tell(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Passing):
        log.info("%s Trying again.", error.error.message)


def _retry_after(response: httpx.Response) -> float | None:
    """How long a server asks to wait, in seconds: a number of them, or a date."""
    text = response.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    seconds: float = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds)
