"""Tables of HTTP APIs: pages, faults, what is not as declared, and keys that stay secret."""

from __future__ import annotations

import gzip
import json
import logging
import secrets
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from tempfile import NamedTemporaryFile
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from millrace.batch import Interval
from millrace.catalog import IngestTable, Pii
from millrace.connections import Connection, in_words
from millrace.errors import (
    ConnectionNotFound,
    MillraceError,
    RowsMissing,
    SourceError,
    SourceMismatch,
    SourceRefused,
    SourceUnavailable,
    ValueDoesNotFit,
)
from millrace.sources.http.address import Address
from millrace.sources.http.answers import (
    Answer,
    BrokenAnswer,
    Cell,
    Layout,
    Whereabouts,
    read_answer,
)
from millrace.sources.http.source import HttpSource
from millrace.sources.templates import Values
from millrace_sandbox.http_server import Asked, Fault, Reply, ScriptedServer
from tests.millrace.http_api import PAGINGS, Api, declared, numbered, paged

NOW = datetime.now(UTC)
MINUTE = {"count": 1, "period": "minute"}


@pytest.fixture(scope="module")
def served_api() -> Iterator[Api]:
    with Api() as api:
        yield api


@pytest.fixture
def api(served_api: Api) -> Api:
    """An API without rows, faults and memory."""
    fresh(served_api)
    return served_api


def fresh(api: Api) -> None:
    api.rows = []
    api.replies = {"/rows": api.page, "/": lambda _: Reply({})}
    for noted in (api.waits, api.asked, api.server.faults):
        noted.clear()


def ids(table: pa.Table) -> list[int]:
    found: list[int] = table["id"].to_pylist()
    return found


# Pages


@pytest.mark.parametrize("paging", PAGINGS)
@pytest.mark.parametrize("rows", [0, 1, 4, 5, 6])
def test_every_way_of_paging_reads_every_row_once(api: Api, paging: str, rows: int) -> None:
    api.rows = list(numbered(rows))
    assert ids(api.read(pages=paged(paging, 2))) == list(range(1, rows + 1))


def test_the_next_page_is_found_below_the_connection_s_path(api: Api) -> None:
    api.rows = list(numbered(3))
    api.replies["/v2/rows"] = api.page
    api.replies.pop("/rows")
    source = api.source(host=f"{api.server.url}/v2", port=None)
    table = declared(pages=paged("relative url", 1))
    with source.extract(table, Interval()) as extraction:
        assert sum(batch.num_rows for batch in extraction.batches) == 3


def test_a_proxy_of_the_environment_is_used(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(lambda _: Reply({"data": [{"id": 7}]})) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        source = api.source(password="secret")
        assert _read_all(source, declared()) == 1
    assert not api.asked
    assert len(proxy.asked) == 1


SHORT = [
    Fault("status", 429, retry_after="0"),
    Fault("status", 500),
    Fault("status", 503, retry_after="2"),
    Fault("cut"),
    Fault("truncate"),
    Fault("drop"),
]


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(sorted(PAGINGS)),
    st.integers(0, 12),
    st.integers(1, 13),
    st.lists(st.sampled_from(SHORT), max_size=5),
)
@example("page", 5, 2, SHORT[:5])
def test_any_page_size_and_any_faults_give_the_same_table(
    api: Api, paging: str, rows: int, size: int, faults: list[Fault]
) -> None:
    fresh(api)
    api.rows = list(numbered(rows))
    api.fail(*faults)
    assert ids(api.read(pages=paged(paging, size), primary_key=["id"])) == [*range(1, rows + 1)]


def test_an_api_that_gives_fewer_rows_than_asked_for_loses_none(api: Api) -> None:
    api.rows = list(numbered(7))

    def at_most_two(asked: Asked) -> Reply:
        return api.page(Asked(asked.path, {**asked.params, "size": "2"}, asked.headers))

    api.replies["/rows"] = at_most_two
    for paging in ("page", "offset"):
        assert ids(api.read(pages=paged(paging, 1000))) == list(range(1, 8))


def page_of(*numbers: int, **meta: Any) -> Reply:
    return Reply({"data": [{"id": number} for number in numbers], "meta": meta})


ENDLESS: dict[str, tuple[dict[str, Any], list[Reply], type[MillraceError], str]] = {
    "the page is ignored": (
        {"by": "page"},
        [page_of(1, 2)],
        SourceMismatch,
        "page 2 has the same rows as the page before",
    ),
    "the cursor comes back": (
        {"by": "cursor", "param": "after", "next": "meta.next"},
        [page_of(1, next="a"), page_of(2, next="b"), page_of(3, next="a")],
        SourceMismatch,
        "leads back to a page",
    ),
    "more pages than any": (
        {"by": "page", "max_pages": 3},
        [page_of(number) for number in range(9)],
        SourceMismatch,
        "more than 3 pages",
    ),
    "the total changes": (
        {"by": "page", "total": "meta.total"},
        [page_of(1, total=3), page_of(2, total=2)],
        RowsMissing,
        "the total was 3 at first, and then 2",
    ),
    "fewer rows than the total": (
        {"by": "page", "total": "meta.total"},
        [page_of(1, total=3), page_of(2, total=3), page_of(total=3)],
        RowsMissing,
        "3 rows are told, and 2 were read",
    ),
    "a total that is none": (
        {"by": "page", "total": "meta.total"},
        [page_of(1, total="many")],
        SourceMismatch,
        "`total` is no number",
    ),
    "more that is none": (
        {"by": "page", "more": "meta.more"},
        [page_of(1, more="yes")],
        SourceMismatch,
        "`more` is neither true nor false",
    ),
    "a cursor that is none": (
        {"by": "cursor", "param": "after", "next": "meta"},
        [page_of(1, next="a")],
        SourceMismatch,
        "`next` is no text",
    ),
    "a page elsewhere": (
        {"by": "url", "next": "meta.next"},
        [page_of(1, next="https://elsewhere.example.com/rows?page=2")],
        SourceMismatch,
        "which is elsewhere",
    ),
    "a row on two pages": (
        {"by": "page"},
        [page_of(1, 2), page_of(2, 3)],
        RowsMissing,
        "id 2 is on two pages",
    ),
    "a row twice on a page": (
        {"by": "page"},
        [page_of(1, 1)],
        SourceMismatch,
        "id 1 is there twice",
    ),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_pages_that_do_not_end_or_move_are_found_out(api: Api, case: str) -> None:
    pages, replies, error, says = ENDLESS[case]
    numbers = iter(range(1000))
    api.replies["/rows"] = lambda _: replies[min(next(numbers), len(replies) - 1)]
    with pytest.raises(error, match=says):
        api.read(pages=pages, primary_key=["id"])
    assert len(api.asked) <= 4


# Faults


def test_what_a_server_asks_to_wait_is_waited(api: Api) -> None:
    api.rows = list(numbered(1))
    date_ = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    api.fail(Fault("status", 429, retry_after="7"), Fault("status", 503, retry_after=date_))
    assert ids(api.read()) == [1]
    first, second = api.waits
    assert first == 7
    assert 50 < second <= 60


def test_a_longer_wait_than_a_task_should_take_is_left_to_the_next_try(api: Api) -> None:
    api.fail(Fault("status", 429, retry_after="3600"))
    with pytest.raises(SourceUnavailable, match="asks to wait 3600 s") as refused:
        api.read()
    assert refused.value.may_pass
    assert not api.waits


@pytest.mark.parametrize("kind", ["cut", "truncate", "drop"])
def test_an_answer_that_breaks_off_each_time_is_one_clear_error(api: Api, kind: Any) -> None:
    api.rows = list(numbered(9))
    api.fail(*[Fault(kind)] * 6)
    with pytest.raises(SourceUnavailable) as refused:
        api.read()
    assert refused.value.may_pass
    assert len(api.asked) == 6


def test_an_answer_that_stalls_is_given_up_and_asked_for_again(api: Api) -> None:
    api.rows = list(numbered(9))
    api.fail(Fault("stall"))
    assert len(ids(api.read(timeout_s=0.2))) == 9


def test_a_server_that_is_not_there_is_named() -> None:
    with ScriptedServer(lambda _: Reply({})) as gone:
        url = gone.url
    source = HttpSource(Connection("api", "http", url), lambda _: None)
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        source.check([declared()])
    with pytest.raises(SourceUnavailable):
        source.check()


def test_requests_are_spread_over_the_time_that_is_declared(api: Api) -> None:
    api.rows = list(numbered(4))
    api.read(pages=paged("page with more", 1), rate={"requests": 1, "per": "minute"})
    assert len(api.waits) == 3
    assert all(earlier < later for earlier, later in zip(api.waits, api.waits[1:], strict=False))
    assert 50 < api.waits[0] <= 60


REFUSED: dict[str, tuple[Reply, type[MillraceError], str]] = {
    "a page for people": (
        Reply(b"<html>Log in</html>", headers={"Content-Type": "text/html"}),
        SourceMismatch,
        "answers with text/html, not JSON",
    ),
    "XML that is said to be JSON": (Reply(b"<?xml version='1.0'?>"), SourceMismatch, "not JSON"),
    "wrong parameters": (
        Reply({"error": True, "reason": "unknown variable"}, 400),
        SourceMismatch,
        "answers 400.*unknown variable",
    ),
    "no such path": (Reply({}, 404), SourceMismatch, "answers 404"),
    "nothing at all": (Reply(b"", 204), SourceMismatch, "answers 204"),
    "a wrong key": (Reply({}, 401), SourceRefused, "refuses the key"),
    "no rows": (Reply({"items": []}), SourceMismatch, "has no 'data'.*it has: items"),
    "a list on top": (Reply([1]), SourceMismatch, "has no 'data'.*a list"),
    "one object": (Reply({"data": {"id": 1}}), SourceMismatch, "'data' is an object, not a list"),
    "a row that is none": (Reply({"data": [7]}), SourceMismatch, "row 1 .* is a number"),
    "a column that is missing": (
        Reply({"data": [{"id": 1}, {"name": "x"}]}),
        SourceMismatch,
        "row 2 .* has no 'id'.*it has: name",
    ),
    "no UTF-8": (Reply(b'{"data": ["\xe4"]}'), SourceUnavailable, "JSON that is broken"),
    "what is no JSON": (Reply(b'{"data": [{"id": NaN}]}'), SourceUnavailable, "NaN is no JSON"),
    "nested without end": (Reply(b"[" * 100_000), SourceUnavailable, "JSON that is broken"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_answer_that_is_not_as_declared_is_one_clear_error(api: Api, case: str) -> None:
    reply, error, says = REFUSED[case]
    api.replies["/rows"] = lambda _: reply
    with pytest.raises(error, match=f"(?s){says}") as refused:
        api.read()
    assert refused.value.fix
    # A check reads the first row alone.
    if case != "a column that is missing":
        with pytest.raises(error):
            api.source().check([declared()])


# Where the rows are


def test_null_is_an_empty_list(api: Api) -> None:
    api.serve({"data": None})
    assert ids(api.read()) == []


def test_rows_of_values_have_numbers_for_names(api: Api) -> None:
    api.serve([[1, "a"], [2, "b"]])
    columns = {
        "id": {"type": "integer", "path": "0"},
        "name": {"type": "string", "path": ["1"]},
    }
    found = api.read(rows=None, columns=columns)
    assert found.to_pylist() == [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}]


def test_a_single_object_is_a_row(api: Api) -> None:
    api.serve({"rates": {"usd": 1.1}, "date": "2026-11-27"})
    columns = {"usd": {"type": "decimal(10,4)", "path": "rates.usd"}, "date": "date"}
    (row,) = api.read(rows=None, shape="object", columns=columns).to_pylist()
    assert (str(row["usd"]), row["date"]) == ("1.1000", date(2026, 11, 27))


def test_json_that_is_said_to_be_text_is_read(api: Api) -> None:
    api.serve({"data": [{"id": 1}]}, headers={"Content-Type": "text/html"})
    assert ids(api.read()) == [1]


def test_a_personal_key_is_not_shown(api: Api) -> None:
    api.rows = [{"id": 4711}, {"id": 4711}]
    table = replace(declared(primary_key=["id"]), pii={"id": Pii.HASH})
    with pytest.raises(SourceMismatch, match="a row is there twice") as refused:
        api.read(table)
    assert "4711" not in str(refused.value)


def test_a_column_may_be_missing_if_it_is_declared_so(api: Api) -> None:
    api.serve({"data": [{"id": 1}, {"id": 2, "a": {"b.c": 3}}, {"id": 3, "a": None}]})
    columns = {"id": "integer", "n": {"type": "integer", "path": ["a", "b.c"], "optional": True}}
    assert api.read(columns=columns)["n"].to_pylist() == [None, 3, None]


DAILY = {
    "daily_units": {"time": "iso8601"},
    "daily": {"time": ["2026-11-27", "2026-11-28"], "high": [7.5, None], "low": [1, 2]},
}
DAILY_COLUMNS = {
    "city": {"type": "string", "value": "{city}"},
    "date": {"type": "date", "path": "time"},
    "high": "double",
    "low": "integer",
}
CITIES = [{"city": "Berlin", "lat": 52.52}, {"city": "Seoul", "lat": 37.57}]


def test_arrays_side_by_side_are_rows_for_each_city(api: Api) -> None:
    api.serve(DAILY)
    found = api.read(
        rows="daily",
        shape="arrays",
        each=CITIES,
        params={"latitude": "{lat}", "daily": ["high", "low"]},
        columns=DAILY_COLUMNS,
        primary_key=["city", "date"],
    )
    first, second = date(2026, 11, 27), date(2026, 11, 28)
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        ("Berlin", first, 7.5, 1),
        ("Berlin", second, None, 2),
        ("Seoul", first, 7.5, 1),
        ("Seoul", second, None, 2),
    ]
    assert [asked.params["latitude"] for asked in api.asked] == ["52.52", "37.57"]


ARRAYS = {
    "of different lengths": (
        {"time": ["2026-11-27"], "high": [7.5, 8], "low": [1]},
        "not equally long: date 1, high 2, low 1",
    ),
    "one that is missing": ({"time": [], "low": []}, "'daily.high'.* is not there"),
    "one that is none": ({"time": [], "high": 7, "low": []}, "'daily.high'.* is no array"),
    "all in one": ([], "'daily' is a list, not an object with an array"),
}


@pytest.mark.parametrize("case", ARRAYS)
@pytest.mark.parametrize("in_memory_bytes", [10**6, 0])
def test_arrays_that_are_no_rows_are_refused(case: str, in_memory_bytes: int) -> None:
    daily, says = ARRAYS[case]
    with pytest.raises(SourceMismatch, match=says):
        list(read({"daily": daily}, daily_layout(), in_memory_bytes).rows)


def daily_layout() -> Layout:
    cells = [Cell("date", ("time",)), Cell("high", ("high",)), Cell("low", ("low",))]
    return Layout("here", cells, ("daily",), "arrays")


def read(body: Any, layout: Layout, in_memory_bytes: int) -> Answer:
    file = NamedTemporaryFile()  # noqa: SIM115
    file.write(body if isinstance(body, bytes) else json.dumps(body).encode())
    file.seek(0)
    return read_answer(file, Whereabouts("here"), layout, in_memory_bytes=in_memory_bytes)


# Large answers

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(-1e9, 1e9) | st.text()
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.fixed_dictionaries({"a": JSON}, optional={"b": JSON}), max_size=4),
    st.none() | st.integers(),
)
def test_a_large_answer_is_read_as_a_small_one(rows: list[Any], total: int | None) -> None:
    cells = [Cell("a", ("a",)), Cell("b", ("b",), optional=True)]
    told = {"total": ("meta", "total"), "next": ("meta", "next")}
    layout = Layout("here", cells, ("data", "rows"), told=told)
    body = {"meta": {"total": total}, "data": {"rows": rows}}
    small, large = (read(body, layout, limit) for limit in (10**9, 0))
    assert list(small.rows) == list(large.rows)
    assert small.told == large.told


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(JSON, JSON), max_size=4))
def test_large_arrays_are_read_as_small_ones(rows: list[Any]) -> None:
    layout = Layout("here", [Cell("a", ("a",)), Cell("b", ("b",))], (), "arrays")
    body = {"a": [a for a, _ in rows], "b": [b for _, b in rows]}
    small, large = (list(read(body, layout, limit).rows) for limit in (10**9, 0))
    assert small == large


@pytest.mark.parametrize("body", [b'{"data": [{"id": 1}', b"", b"nonsense", b'{"data": [1]} 2'])
def test_a_large_answer_that_breaks_off_is_found_out_before_any_row(body: bytes) -> None:
    for limit in (10**9, -1):
        with pytest.raises(BrokenAnswer):
            read(body, Layout("here", [Cell("id", ("id",))], ("data",)), limit)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"rows": []}, "has no 'data'.*it has: rows"),
        ({"data": 7}, "'data' is a number, not a list"),
    ],
)
def test_a_large_answer_without_rows_is_refused_as_a_small_one(body: Any, says: str) -> None:
    for limit in (10**9, 0):
        with pytest.raises(SourceMismatch, match=says):
            read(body, Layout("here", [Cell("id", ("id",))], ("data",)), limit)


def test_a_large_answer_is_never_in_memory(api: Api) -> None:
    rows = [{"id": number, "note": secrets.token_hex(200)} for number in range(25_000)]
    body = json.dumps({"data": rows}).encode()
    api.serve(gzip.compress(body, 1), headers={"Content-Encoding": "gzip"})
    source = api.source()
    table = declared(columns={"id": "integer", "note": "string"}, verify="off")
    tracemalloc.start()
    try:
        assert _read_all(source, table) == 25_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(body) / 2


# Times


def test_an_interval_is_asked_for_in_the_api_s_own_words(api: Api) -> None:
    start, end = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
    table = declared(
        endpoint="/rows",
        primary_key=["id"],
        columns={"id": "integer", "day": "date"},
        cursor={"column": "day", "lookback": MINUTE},
        since="2020-01-01",
        params={
            "from": "{start:%Y-%m-%d}",
            "through": "{last:%d.%m.%Y}",
            "until": "{end}",
            "unix": "{end:unix}",
            "ms": "{start:unix_ms}",
            "week_later": "{end+7d:%Y-%m-%d}",
            "json": '{"a": 1}',
        },
    )
    days = ["2026-10-31", "2026-11-01", "2026-11-02", "2026-11-03"]
    api.rows = [{"id": at, "day": day} for at, day in enumerate(days)]
    assert ids(api.read(table, Interval(start, end))) == [1, 2]
    assert ids(api.read(table, Interval(None, end))) == [0, 1, 2]
    asked, from_the_beginning = (asked.params for asked in api.asked)
    assert asked == {
        "from": "2026-11-01",
        "through": "02.11.2026",
        "until": "2026-11-03T00:00:00Z",
        "unix": "1793664000",
        "ms": "1793491200000",
        "week_later": "2026-11-10",
        "json": '{"a": 1}',
    }
    assert from_the_beginning["from"] == "2020-01-01"


def test_a_local_time_is_asked_for_and_read_in_its_zone(api: Api) -> None:
    table = declared(
        primary_key=["id"],
        columns={"id": "integer", "at": "datetime"},
        cursor={"column": "at", "lookback": MINUTE, "time_zone": "Asia/Seoul"},
        since="2020-01-01",
        params={"from": "{start:%Y-%m-%dT%H}"},
    )
    api.rows = [
        {"id": 1, "at": "2026-11-01T08:59:59"},
        {"id": 2, "at": "2026-11-01T09:00"},
        {"id": 3, "at": "2026-11-02T08:59:59.999999"},
        {"id": 4, "at": "2026-11-02T09:00:00"},
    ]
    day = Interval(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
    assert ids(api.read(table, day)) == [2, 3]
    assert api.asked[0].params == {"from": "2026-11-01T09"}


def test_times_with_offsets_are_compared_as_moments(api: Api) -> None:
    table = declared(
        primary_key=["id"],
        columns={"id": "integer", "at": "unix_seconds"},
        cursor={"column": "at", "lookback": MINUTE},
    )
    start = datetime(2026, 11, 1, tzinfo=UTC)
    api.rows = [{"id": at, "at": start.timestamp() + at} for at in (-1, 0, 59, 60)]
    assert ids(api.read(table, Interval(start, start + timedelta(minutes=1)))) == [0, 59]


def test_a_row_without_a_time_is_not_lost(api: Api) -> None:
    table = declared(
        primary_key=["id"],
        columns={"id": "integer", "at": "timestamp"},
        cursor={"column": "at", "lookback": MINUTE},
    )
    api.rows = [{"id": 1, "at": None}]
    with pytest.raises(ValueDoesNotFit, match="is null, which no key or cursor may be"):
        api.read(table, Interval(NOW - timedelta(days=1), NOW))


def test_what_is_not_final_yet_is_not_read(api: Api) -> None:
    def closing(**cursor: Any) -> Any:
        table = declared(
            primary_key=["id"],
            columns={"id": "integer", "at": "timestamp"},
            cursor={"column": "at"} | cursor,
        )
        return api.source().closed(table, Interval(NOW - timedelta(days=1), None))

    settled = closing(settle={"count": 10, "period": "minute"})
    assert settled.now - settled.end == timedelta(minutes=10)
    assert "600 s" in settled.held_by
    assert closing(lookback=MINUTE).held_by is None


FORECAST = {
    "primary_key": ["city", "day", "date"],
    "columns": {**DAILY_COLUMNS, "day": {"type": "date", "value": "{last:%Y-%m-%d}"}},
    "cursor": "day",
    "rows": "daily",
    "shape": "arrays",
    "each": CITIES,
    "readable_for": {"count": 1, "period": "day"},
}


def test_what_an_api_tells_of_now_is_marked_with_its_day(api: Api) -> None:
    api.serve(DAILY)
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    yesterday = Interval(midnight - timedelta(days=1), midnight)
    found = api.read(declared(**FORECAST), yesterday)
    assert set(found["day"].to_pylist()) == {midnight.date() - timedelta(days=1)}


def test_an_old_day_is_refused_by_an_api_that_tells_of_now(api: Api) -> None:
    old = Interval(NOW - timedelta(days=9), NOW - timedelta(days=8))
    for attempt in (
        lambda: api.source().closed(declared(**FORECAST), old),
        lambda: api.read(declared(**FORECAST), old),
    ):
        with pytest.raises(SourceError, match="can no longer be read"):
            attempt()
    assert not api.asked


def test_nothing_is_asked_for_before_the_beginning(api: Api) -> None:
    table = declared(
        primary_key=["id"],
        columns={"id": "integer", "at": "timestamp"},
        cursor={"column": "at", "lookback": MINUTE},
        since="2026-01-01",
        params={"from": "{start}"},
    )
    assert ids(api.read(table, Interval(None, datetime(2025, 1, 1, tzinfo=UTC)))) == []
    assert not api.asked


def test_a_value_in_a_path_cannot_leave_it(api: Api) -> None:
    api.replies["/cities/a%2F..%2F..%2Fadmin%3Fx/rows"] = lambda _: Reply({"data": [{"id": 1}]})
    found = api.read(endpoint="/cities/{city}/rows", each=[{"city": "a/../../admin?x"}])
    assert ids(found) == [1]


def test_an_unknown_place_stands_for_nothing() -> None:
    with pytest.raises(MillraceError, match=r"{start} stands for nothing here"):
        Values(NOW).render("{start}")
    with pytest.raises(MillraceError, match="beyond the years"):
        Values(datetime(1, 1, 2, tzinfo=UTC)).render("{now-9d}")


# Values that do not fit

LATE = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
FITTING: list[tuple[str, str, Any]] = [
    ("string", '"é"', "é"),
    ("string", "1.50", "1.50"),
    ("string", "true", "true"),
    ("integer", "9223372036854775807", 2**63 - 1),
    ("integer", '"-7"', -7),
    ("integer", "5.0", 5),
    ("double", "1e-3", 0.001),
    ("double", "7", 7.0),
    ("decimal(38,9)", "12345678901234567890123456789.123456789", None),
    ("decimal(4,1)", '"999.9"', None),
    ("boolean", "false", False),
    ("boolean", '"True"', True),
    ("date", '"0001-01-01"', date(1, 1, 1)),
    ("datetime", '"2026-11-27T08:30"', datetime(2026, 11, 27, 8, 30)),
    ("datetime", '"2026-11-27 08:30:00.1234560"', datetime(2026, 11, 27, 8, 30, 0, 123456)),
    ("timestamp", '"2026-11-27T08:30:00+09:00"', datetime(2026, 11, 26, 23, 30, tzinfo=UTC)),
    ("timestamp", '"9999-12-31T23:59:59Z"', LATE),
    ("unix_seconds", "1.5", datetime(1970, 1, 1, 0, 0, 1, 500_000, UTC)),
    ("unix_milliseconds", "-1", datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)),
    ("json", '{"a": [1.10, null, "x"]}', '{"a":[1.10,null,"x"]}'),
]


@pytest.mark.parametrize(("type_", "text", "value"), FITTING)
def test_a_value_comes_over_exactly(api: Api, type_: str, text: str, value: Any) -> None:
    api.serve(f'[{{"id": {text}}}, {{"id": null}}]'.encode())
    found, nothing = api.read(rows=None, columns={"id": type_})["id"].to_pylist()
    assert nothing is None
    assert str(found) == text.strip('"') if type_.startswith("decimal") else found == value


BAD: list[tuple[str, str, str]] = [
    ("string", '{"a": 1}', "is an object, not a text"),
    ("string", r'"\ud800"', "half a surrogate pair"),
    ("json", r'["\ud800"]', "half a surrogate pair"),
    ("integer", "1.5", "is not an integer"),
    ("integer", "9223372036854775808", "larger than an integer of 64 bits"),
    ("integer", "true", "is not an integer"),
    ("integer", '"1_0"', "is not an integer"),
    ("integer", "1e999", "larger than an integer"),
    ("double", "1e999", "beyond what a double holds"),
    ("double", '"nan"', "is not a number"),
    ("decimal(4,1)", "1.25", "more than 1 decimals"),
    ("decimal(4,1)", "1000", "more digits than"),
    ("boolean", "1", "is not a boolean"),
    ("date", '"2026-02-30"', "is not a date of the calendar"),
    ("date", '"27.11.2026"', "is not a date such as"),
    ("date", '"2026-11-27T00:00"', "is not a date such as"),
    ("datetime", '"2026-11-27T08:30Z"', "has a time zone"),
    ("datetime", '"2026-W48-5T08:30"', "is not a datetime such as"),
    ("datetime", '"2026-11-27T25:00"', "is not a time of the calendar"),
    ("timestamp", '"2026-11-27T08:30"', "has no time zone"),
    ("timestamp", '"2026-11-27T08:30:00.1234567Z"', "more exact than a microsecond"),
    ("timestamp", '"0001-01-01T00:00:00+09:00"', "beyond the years"),
    ("unix_seconds", "99999999999999999999", "beyond the years"),
    ("unix_seconds", '"soon"', "is not a Unix time"),
]


@pytest.mark.parametrize(("type_", "text", "says"), BAD)
def test_a_value_that_does_not_fit_follows_the_policy(
    api: Api, type_: str, text: str, says: str
) -> None:
    api.serve(f'[{{"id": {text}}}]'.encode())
    with pytest.raises(ValueDoesNotFit, match=says):
        api.read(rows=None, columns={"id": type_})
    found = api.read(rows=None, columns={"id": type_}, on_bad_value="null")
    assert found["id"].to_pylist() == [None]
    table = declared(rows=None, columns={"id": type_}, on_bad_value="quarantine")
    with api.source().extract(table, Interval()) as extraction:
        assert not list(extraction.batches)
    assert extraction.sieve
    set_aside = extraction.sieve.set_aside(lambda keys: keys)
    assert set_aside
    assert set_aside.records["column_name"].to_pylist() == ["id"]


# Keys and other hosts

SECRET = "canary-5c1e"


def test_the_key_goes_to_its_own_address_alone(api: Api) -> None:
    api.rows = list(numbered(1))
    with ScriptedServer(api.page) as other:
        api.replies["/moved"] = lambda _: Reply(None, 302, {"Location": f"{other.url}/rows"})
        api.replies["/here"] = lambda _: Reply(None, 307, {"Location": "/rows"})
        extra = {"headers": {"X-Api-Key": SECRET}, "params": {"appid": SECRET}}
        source = api.source(password=SECRET, extra=extra)
        for endpoint in ("/here", "/moved"):
            source.check([declared(endpoint=endpoint)])
        for asked in api.asked:
            assert asked.headers["authorization"] == f"Bearer {SECRET}"
            assert asked.headers["x-api-key"] == asked.params["appid"] == SECRET
        (elsewhere,) = other.asked
        assert SECRET not in str(elsewhere)


def test_a_redirect_without_tls_is_refused(api: Api) -> None:
    api.replies["/rows"] = lambda _: Reply(None, 302, {"Location": "http://example.com/rows"})
    with pytest.raises(SourceMismatch, match="without TLS"):
        api.read()


def test_redirects_end(api: Api) -> None:
    api.replies["/rows"] = lambda _: Reply(None, 302, {"Location": "/rows"})
    with pytest.raises(SourceMismatch, match="redirects more than 5 times"):
        api.read()


def test_no_log_and_no_error_has_the_key(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    extra = {"headers": {"X-Api-Key": f"Token {SECRET}"}, "params": {"appid": f"{SECRET}&/2"}}
    source = api.source(extra=extra)
    replies = [
        Reply({"error": f"no key {SECRET}"}, 403),
        Reply({"error": f"bad {SECRET}&/2"}, 400),
        Reply(f"<html>{SECRET}".encode()),
        Reply({"data": [], "next": f"https://a.example.com/?appid={SECRET}%26%2F2"}),
    ]
    told = []
    with caplog.at_level(logging.DEBUG):
        for reply in replies:
            api.serve(reply.body, status=reply.status)
            with pytest.raises(MillraceError) as refused:
                _read_all(source, declared(pages={"by": "url", "next": "next"}))
            told.append(str(refused.value))
    assert SECRET in str(api.asked)
    assert SECRET not in caplog.text
    assert all(SECRET not in text for text in told), told


def _read_all(source: HttpSource, table: IngestTable) -> int:
    with source.extract(table, Interval()) as extraction:
        return sum(batch.num_rows for batch in extraction.batches)


def test_basic_authentication_takes_a_login(api: Api) -> None:
    api.source(login="ann", password="pass").check()
    assert api.asked[0].headers["authorization"] == "Basic YW5uOnBhc3M="


ADDRESSES = {
    "https://api.example.com": "https://api.example.com",
    "http://api.example.com/https": "https://api.example.com",
    "http://api.example.com": "https://api.example.com",
    "http://127.0.0.1:8000": "http://127.0.0.1:8000",
    "http://[::1]:8000": "http://[::1]:8000",
    '{"conn_type": "http", "host": "https://a.example.com/v2/"}': "https://a.example.com/v2",
    '{"conn_type": "http", "host": "http://a.example.com", "extra": {"allow_http": true}}': (
        "http://a.example.com"
    ),
}


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_is_read_as_airflow_writes_it(text: str) -> None:
    address = Address.of(in_words("api", text))
    assert f"{address.origin}{address.path}" == ADDRESSES[text]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"host": "http://api.example.com"}, "without TLS"),
        ({"host": "api.example.com", "schema": "http"}, "without TLS"),
        ({"host": "ftp://api.example.com"}, "no address of an HTTP API"),
        ({"host": "https://ann:pw@api.example.com"}, "no plain address"),
        ({"host": "https://api.example.com?key=pw"}, "no plain address"),
        ({"host": None}, "no plain address"),
        ({"host": "https://a.example.com:99999"}, "no address"),
        ({"host": "https://a.example.com", "extra": {"headers": "X-Key: pw"}}, "`headers`"),
        ({"host": "https://a.example.com", "extra": {"headers": {"X": "a\nb"}}}, "`headers`"),
        ({"host": "https://a.example.com", "extra": {"params": {"a": 1}}}, "`params`"),
    ],
)
def test_an_address_that_is_none_is_refused(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(ConnectionNotFound, match=says) as refused:
        Address.of(Connection("api", "http", **fields))
    assert "pw" not in str(refused.value)


# Declarations

CURSOR = {
    "primary_key": ["id"],
    "columns": {"id": "integer", "at": "timestamp"},
    "cursor": {"column": "at", "lookback": MINUTE},
}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"endpoint": "https://elsewhere.example.com/rows"}, "endpoint"),
    ({"endpoint": "/rows?key=1"}, "endpoint"),
    ({"columns": {}}, "columns"),
    ({"columns": {"id": "varchar"}}, "'varchar' is not a type"),
    ({"columns": {"id": "decimal(3,4)"}}, "is not a type"),
    ({"columns": {"id": {"type": "integer", "value": "1", "path": "a"}}}, "has no `path`"),
    ({"params": {"api_key": "x"}}, "'api_key' looks like a key"),
    ({"params": {"access-token": "x"}}, "looks like a key"),
    ({"params": {"city": "{town}"}}, "{town} stands for nothing"),
    ({"params": {"a": "{city:%Y}"}, "each": [{"city": "x"}]}, "only times have a format"),
    ({"params": {"from": "{start}"}}, "{start} needs a cursor"),
    ({"since": "2026-01-01"}, "for a table with a cursor"),
    ({"primary_key": ["name"]}, "'name', which is no declared column"),
    ({"each": [{"a": 1}, {"b": 2}]}, "every set must have the same names"),
    ({"each": [{"a": 1}, {"a": 1}]}, "two sets are the same"),
    ({"each": [{"start": 1}]}, "'start' cannot be a name"),
    ({"pages": {"by": "page", "size": 5}}, "belong together"),
    ({"pages": {"by": "row"}}, "by"),
    ({"pages": {"by": "page"}, "shape": "object"}, "is a single row"),
    ({"pages": {"by": "page"}, "as_of_one_moment": True}, "not of one moment"),
    ({**CURSOR, "primary_key": []}, "lacks the key 'primary_key'"),
    ({**CURSOR, "cursor": "at"}, "needs `settle` or `lookback`"),
    ({**CURSOR, "cursor": {"column": "on", "lookback": MINUTE}}, "'on', which is no declared"),
    ({**CURSOR, "cursor": {"column": "id", "lookback": MINUTE}}, "not a time"),
    ({**CURSOR, "params": {"from": "{start}"}}, "{start} needs `since`"),
    ({**CURSOR, "deletes": "keys"}, "`deletes: keys` is not for an HTTP API"),
    (
        {**CURSOR, "cursor": {"column": "at", "settle": {"count": 1, "period": "hour"}}},
        "half an hour at most",
    ),
]


@pytest.mark.parametrize(("options", "says"), WRONG)
def test_a_declaration_that_makes_no_sense_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        declared(**options)


def test_the_undeclared_columns_are_told_and_not_read(api: Api) -> None:
    api.rows = [{"id": 1, "name": "x", "tags": [], "more": {}, "n": 1, "b": True, "z": None}]
    told = {column.name: column.declared_type for column in api.source().columns(declared())}
    assert told == {
        "id": "integer",
        "name": "string",
        "tags": "array",
        "more": "object",
        "n": "number",
        "b": "boolean",
        "z": "null",
    }
    assert api.read().column_names == ["id"]
    api.serve(DAILY)
    table = declared(rows="daily", shape="arrays", columns={"time": "date"})
    assert [column.name for column in api.source().columns(table)] == ["time", "high", "low"]
