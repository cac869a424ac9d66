import hashlib
import json
import os
import re
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.store import GCSStore, S3Store

from millrace.batch import Batch, Interval
from millrace.checksums.columns import Checksum
from millrace.connections import Connection
from millrace.errors import (
    ConnectionNotFound,
    LandingError,
    LandingRefused,
    LandingUnavailable,
    ManifestCorrupt,
    ManifestNotFound,
    PartCorrupt,
    SchemaConflict,
    SettingError,
)
from millrace.landing.landing import Landing
from millrace.manifest import Manifest
from millrace.object_store.roles import open_provider
from millrace.testing import aside, batches_of
from redshift_standin.ports import LOOPBACK, free_port
from sheets_standin.accounts import new_key
from tests.buckets import S3Bucket
from tests.proxy import FaultProxy

BATCH = Batch("mysql.nps", Interval(None, datetime(2026, 10, 2, tzinfo=UTC)))
ROWS = pa.table({"id": pa.array(range(10_000)), "text": [f"{n:08x}" * 4 for n in range(10_000)]})


@pytest.fixture
def landing(tmp_path):
    return Landing(f"file://{tmp_path}/landing")


def files(tmp_path: Path) -> list[str]:
    root = tmp_path / "landing"
    return sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())


def local_path(url: str) -> Path:
    return Path(url.removeprefix("file://"))


def test_a_batch_lands_as_parts_and_a_manifest(landing, tmp_path):
    manifest = landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    (part,) = manifest.parts
    data = local_path(part.url).read_bytes()
    assert pq.read_table(local_path(part.url)) == ROWS
    assert (part.rows, part.size) == (10_000, len(data))
    assert part.sha256 == hashlib.sha256(data).hexdigest()
    assert landing.read_manifest(manifest.url) == manifest
    folder = "mysql/nps/beginning_20261002T000000Z"
    assert [file.rsplit("/", 2)[0] for file in files(tmp_path)] == [folder, folder]


def test_the_manifest_is_one_that_redshift_copy_reads(landing):
    manifest = landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    value = json.loads(local_path(manifest.url).read_text())
    (entry,) = value["entries"]
    assert entry["url"] == manifest.parts[0].url
    assert entry["mandatory"] is True
    assert entry["meta"]["content_length"] == manifest.parts[0].size
    assert value["schema"]["elements"][0] == {
        "name": "id",
        "type": {"base": "bigint", "arrow": "int64"},
    }
    assert value["meta"]["record_count"] == 10_000


def test_parts_are_bounded_and_together_hold_every_row_in_order(landing):
    manifest = landing.write(BATCH, ROWS.schema, batches_of(ROWS), part_bytes=5_000)
    assert len(manifest.parts) > 3
    read = pa.concat_tables(pq.read_table(local_path(part.url)) for part in manifest.parts)
    assert read.combine_chunks() == ROWS.combine_chunks()


def test_a_batch_without_rows_is_a_manifest_alone(landing, tmp_path):
    manifest = landing.write(BATCH, ROWS.schema, [])
    assert manifest.parts == ()
    assert landing.read_manifest(manifest.url) == manifest
    assert len(files(tmp_path)) == 1


def test_every_attempt_has_a_prefix_of_its_own(landing):
    first = landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    second = landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    assert first.url != second.url
    assert landing.read_manifest(first.url) == first


@pytest.fixture
def far_east(monkeypatch):
    """A machine whose clock shows the time of Tokyo."""
    with monkeypatch.context() as there:
        there.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_east")
def test_an_attempt_is_named_and_dated_in_utc(landing):
    before = datetime.now(UTC).replace(microsecond=0)
    manifest = landing.write(BATCH, ROWS.schema, [])
    token = manifest.url.split("/")[-2]
    named = datetime.strptime(token.partition("-")[0], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert before <= named <= datetime.now(UTC)
    assert before <= manifest.extracted_at <= datetime.now(UTC)


def test_a_source_that_breaks_off_leaves_no_part_and_no_manifest(landing, tmp_path):
    def breaking():
        yield from batches_of(ROWS)
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        landing.write(BATCH, ROWS.schema, breaking())
    assert files(tmp_path) == []


def test_too_few_rows_leave_the_attempt_uncommitted(landing, tmp_path):
    def refuse(rows):
        raise ValueError(f"{rows} are too few")

    with pytest.raises(ValueError, match="10000 are too few"):
        landing.write(BATCH, ROWS.schema, batches_of(ROWS), before_commit=refuse)
    assert [file for file in files(tmp_path) if file.endswith("manifest.json")] == []


def test_streams_are_read_at_the_same_time_and_make_parts_of_their_own(landing):
    batches = batches_of(ROWS)
    both_began = threading.Barrier(2, timeout=10)

    def stream(own):
        both_began.wait()
        yield from own

    manifest = landing.write(BATCH, ROWS.schema, stream(batches[:4]), stream(batches[4:]))
    assert [part.rows for part in manifest.parts] == [4_000, 6_000]
    read = pa.concat_tables(pq.read_table(local_path(part.url)) for part in manifest.parts)
    assert read.combine_chunks() == ROWS.combine_chunks()


def test_a_stream_that_fails_stops_the_others_and_leaves_no_file(landing, tmp_path):
    began = threading.Event()

    def endless():
        while True:
            began.set()
            yield batches_of(ROWS)[0]

    def failing():
        assert began.wait(10)
        yield batches_of(ROWS)[0]
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        landing.write(BATCH, ROWS.schema, endless(), failing(), part_bytes=2**40)
    assert files(tmp_path) == []


def test_what_workers_land_is_one_attempt_once_it_is_merged(landing, tmp_path):
    batches = batches_of(ROWS)
    attempt = landing.new_attempt(BATCH)
    shares = [
        landing.write(BATCH, ROWS.schema, own, attempt=attempt)
        for own in (batches[:4], [], batches[4:])
    ]
    assert f"{attempt}/manifest.json" not in files(tmp_path)
    merged = landing.merge(attempt, shares)
    assert merged.url.endswith(f"{attempt}/manifest.json")
    assert landing.read_manifest(merged.url) == merged
    assert merged.rows == 10_000
    assert merged.parts == shares[0].parts + shares[2].parts
    assert merged.extracted_at == shares[0].extracted_at


def test_a_merge_is_as_old_and_as_little_verified_as_the_least_of_its_shares(landing):
    batches = batches_of(ROWS)

    def share(rows, crc32=None, counted=True):
        return landing.write(
            BATCH,
            ROWS.schema,
            rows,
            attempt=attempt,
            is_counted=counted,
            checksums=lambda: None if crc32 is None else {"id": Checksum(5_000, crc32)},
        )

    attempt = landing.new_attempt(BATCH)
    shares = [share(batches[:5], 7), share(batches[5:], 8)]
    merged = landing.merge(attempt, list(reversed(shares)))
    assert merged.extracted_at == shares[0].extracted_at
    assert merged.is_counted is True
    assert merged.checksums == {"id": Checksum(10_000, 15)}
    assert landing.read_manifest(merged.url) == merged

    attempt = landing.new_attempt(BATCH)
    merged = landing.merge(attempt, [share(batches[:5], 7), share(batches[5:])])
    assert (merged.is_counted, merged.checksums) == (True, None)

    attempt = landing.new_attempt(BATCH)
    merged = landing.merge(attempt, [share(batches[:5]), share(batches[5:], counted=False)])
    assert (merged.is_counted, merged.checksums) == (False, None)


def test_workers_that_saw_different_columns_are_not_merged(landing, tmp_path):
    attempt = landing.new_attempt(BATCH)
    wider = ROWS.append_column("more", pa.array(range(10_000)))
    shares = [
        landing.write(BATCH, rows.schema, batches_of(rows), attempt=attempt)
        for rows in (ROWS, wider)
    ]
    with pytest.raises(SchemaConflict, match="changed while its partitions were read"):
        landing.merge(attempt, shares)
    assert f"{attempt}/manifest.json" not in files(tmp_path)


def test_a_merge_of_too_few_rows_leaves_the_attempt_uncommitted(landing, tmp_path):
    def refuse(rows):
        raise ValueError(f"{rows} are too few")

    attempt = landing.new_attempt(BATCH)
    shares = [
        landing.write(BATCH, ROWS.schema, batches_of(ROWS), attempt=attempt) for _ in range(2)
    ]
    with pytest.raises(ValueError, match="20000 are too few"):
        landing.merge(attempt, shares, refuse)
    assert f"{attempt}/manifest.json" not in files(tmp_path)


def test_only_columns_that_repeat_get_a_dictionary(landing):
    rows = pa.table({"few": [n % 7 for n in range(10_000)], "many": list(range(10_000))})
    (part,) = landing.write(BATCH, rows.schema, batches_of(rows)).parts
    group = pq.ParquetFile(local_path(part.url)).metadata.row_group(0)
    encodings = {group.column(at).path_in_schema: group.column(at).encodings for at in range(2)}
    assert any("DICTIONARY" in name for name in encodings["few"])
    assert not any("DICTIONARY" in name for name in encodings["many"])


def test_progress_is_told_over_all_parts(landing):
    told = []
    landing.write(
        BATCH,
        ROWS.schema,
        batches_of(ROWS),
        part_bytes=5_000,
        expected_rows=10_000,
        progress=lambda *so_far: told.append(so_far),
    )
    assert {expected for *_, expected in told} == {10_000}
    assert sorted({rows for rows, *_ in told}) == list(range(1000, 10_001, 1000))
    assert told == sorted(told)
    sizes = [size for _, size, _ in told]
    assert sizes == sorted(sizes)


def test_an_attempt_without_a_manifest_was_never_committed(landing, tmp_path):
    with pytest.raises(ManifestNotFound, match="never committed"):
        landing.read_manifest(f"file://{tmp_path}/landing/mysql/nps/x/y/manifest.json")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"entries": [{"url": "x"}]}'])
def test_a_foreign_manifest_is_refused(text):
    with pytest.raises(ManifestCorrupt, match="not a manifest that Millrace wrote"):
        Manifest.from_json(text, "file:///x/manifest.json")


def twice(value):
    value["entries"] *= 2
    for key in ("content_length", "record_count"):
        value["meta"][key] *= 2


def with_part(url):
    def change(value):
        value["entries"][0]["url"] = url.format(value["entries"][0]["url"])

    return change


def with_sum(key):
    def change(value):
        value["meta"][key] += 1

    return change


def of_quarantine(change):
    return lambda value: change(value["quarantine"])


FORGERIES = {
    "more rows set aside": (of_quarantine(lambda of: of.update(row_count=2)), "promises 2 rows"),
    "no row set aside": (of_quarantine(lambda of: of.update(row_count=0)), "promises 0 rows"),
    "no records": (of_quarantine(lambda of: of["entries"].clear()), "has 0 records"),
    "records of elsewhere": (
        of_quarantine(lambda of: of["entries"][0].update(url="s3://elsewhere/x")),
        "not below",
    ),
    "a part listed twice": (twice, "more than once"),
    "no parts": (lambda value: value["entries"].clear(), "promises 10,000 rows"),
    "more rows promised": (with_sum("record_count"), "promises 10,001 rows"),
    "more bytes promised": (with_sum("content_length"), "promises 10,000 rows in"),
    "another bucket": (with_part("s3://elsewhere/part-00000.parquet"), "not below"),
    "another table's part": (with_part("file:///landing/mysql/users/full/x/part"), "not below"),
    "a way out of the folder": (with_part("{0}/../../../part"), "not below"),
    "an encoded way out": (with_part("{0}/%2e%2e/%2e%2e/part"), "not below"),
    "a way out by backslashes": (with_part("{0}/..\\..\\part"), "not below"),
    "an absolute path": (with_part("/etc/passwd"), "not below"),
    "a query": (with_part("{0}?versionId=1"), "not below"),
    "a zero byte": (with_part("{0}\0.parquet"), "not below"),
    "a line break": (with_part("{0}\n"), "not below"),
    "the folder itself": (with_part("{0}/"), "not below"),
}


@pytest.mark.parametrize(("change", "what"), FORGERIES.values(), ids=FORGERIES)
def test_a_manifest_that_was_changed_is_refused(landing, change, what):
    manifest = landing.write(BATCH, ROWS.schema, batches_of(ROWS), set_aside=lambda: aside("7"))
    value = json.loads(manifest.to_json())
    change(value)
    local_path(manifest.url).write_text(json.dumps(value))
    with pytest.raises(ManifestCorrupt, match=what) as refused:
        landing.read_manifest(manifest.url)
    assert manifest.url in refused.value.message


@pytest.mark.parametrize("what", ["manifest", "part", "attempt"])
def test_a_link_in_a_folder_is_not_followed(landing, tmp_path, what):
    manifest = landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    (part,) = manifest.parts
    paths = {"manifest": manifest.url, "part": part.url, "attempt": manifest.url.rpartition("/")[0]}
    path = local_path(paths[what])
    path.symlink_to(path.rename(tmp_path / "elsewhere"))
    with pytest.raises(LandingError, match="is reached by a link") as refused:
        landing.verify(manifest)
    assert "Remove the link" in refused.value.fix
    if what != "manifest":
        with pytest.raises(LandingError, match="link"), landing.local_copy(part):
            pytest.fail("a part behind a link was handed out")


def test_the_landing_itself_may_be_reached_by_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "landing").symlink_to(tmp_path / "disk")
    landing = Landing((tmp_path / "landing").as_uri())
    manifest = landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    landing.verify(manifest)
    with landing.local_copy(manifest.parts[0]) as path:
        assert pq.read_table(path) == ROWS


@pytest.mark.parametrize(
    "below", ["../manifest.json", "mysql/../../manifest.json", "%2e%2e/manifest.json", "", "a//b"]
)
def test_a_manifest_outside_the_landing_is_refused(landing, below):
    with pytest.raises(LandingError, match="is not under the landing"):
        landing.read_manifest(f"{landing.url}/{below}")


def test_a_worker_is_merged_once_and_into_its_own_attempt_alone(landing, tmp_path):
    attempt = landing.new_attempt(BATCH)
    share = landing.write(BATCH, ROWS.schema, batches_of(ROWS), attempt=attempt)
    elsewhere = landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    another_day = replace(share, batch=Batch("mysql.nps", Interval(None, datetime.now(UTC))))
    another_table = replace(share, batch=Batch("mysql.users", BATCH.interval))
    for other, what in (
        (share, "more than once"),
        (elsewhere, "not below"),
        (another_day, "is to be loaded"),
        (another_table, "is to be loaded"),
    ):
        with pytest.raises(ManifestCorrupt, match=what):
            landing.merge(attempt, [share, other])
    assert f"{attempt}/manifest.json" not in files(tmp_path)


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "its manifest says"),
        (lambda path: path.write_bytes(b"X" + path.read_bytes()[1:]), "its checksum differs"),
        (lambda path: path.unlink(), "is gone"),
    ],
    ids=["truncated", "altered", "deleted"],
)
def test_a_damaged_part_is_refused(landing, damage, what):
    manifest = landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    damage(local_path(manifest.parts[0].url))
    with pytest.raises(PartCorrupt, match=what), landing.local_copy(manifest.parts[0]):
        pytest.fail("a damaged part was handed out")


def test_a_manifest_of_another_landing_is_refused(landing):
    with pytest.raises(LandingError, match="is not under the landing"):
        landing.read_manifest("s3://elsewhere/mysql/nps/manifest.json")


@pytest.mark.parametrize("url", ["ftp://x/y", "s3://", "file:", "landing"])
def test_an_unknown_kind_of_landing_is_refused(url):
    with pytest.raises(SettingError, match="neither s3"):
        Landing(url)


# A bucket: the real S3 server, and the server that speaks Google's API.


@pytest.fixture
def far_landing(any_bucket):
    return Landing(f"{any_bucket.url}/some/prefix", any_bucket.connection())


@pytest.mark.service
def test_a_bucket_holds_what_was_written(far_landing, any_bucket):
    manifest = far_landing.write(BATCH, ROWS.schema, batches_of(ROWS), part_bytes=50_000)
    assert far_landing.read_manifest(manifest.url) == manifest
    assert all(key.startswith("some/prefix/mysql/nps/") for key in any_bucket.names())
    tables = []
    for part in manifest.parts:
        with far_landing.local_copy(part) as path:
            tables.append(pq.read_table(path))
        assert not path.exists()
    assert pa.concat_tables(tables).combine_chunks() == ROWS.combine_chunks()


@pytest.mark.service
def test_a_bucket_takes_a_part_of_many_uploads(far_landing):
    noise = pa.table(
        {"noise": [hashlib.sha512(bytes([n % 251, n // 251])).digest() * 300 for n in range(1500)]}
    )
    varied = pa.table(
        {
            "noise": [
                bytes(b ^ (n % 256) for b in value[:20_000])
                for n, value in enumerate(noise["noise"].to_pylist())
            ]
        }
    )
    manifest = far_landing.write(BATCH, varied.schema, batches_of(varied, 100))
    assert manifest.size > 0
    with far_landing.local_copy(manifest.parts[0]) as path:
        assert pq.read_table(path) == varied


@pytest.mark.service
def test_a_bucket_keeps_nothing_of_a_broken_attempt(far_landing, any_bucket):
    def breaking():
        yield from batches_of(ROWS)
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        far_landing.write(BATCH, ROWS.schema, breaking())
    assert any_bucket.names() == []
    assert any_bucket.uploads() == []


@pytest.mark.service
def test_damage_in_a_bucket_is_noticed(far_landing, any_bucket):
    manifest = far_landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    (part,) = manifest.parts
    key = part.url.removeprefix(f"{any_bucket.url}/")
    any_bucket.put(key, any_bucket.read(key)[:-7])
    with pytest.raises(PartCorrupt, match="its manifest says"), far_landing.local_copy(part):
        pytest.fail("a truncated part was handed out")
    any_bucket.delete(key)
    with pytest.raises(PartCorrupt, match="is gone"), far_landing.local_copy(part):
        pytest.fail("a deleted part was handed out")


@pytest.mark.service
def test_an_object_that_was_replaced_is_told_without_reading_it(far_landing, any_bucket):
    manifest = far_landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    far_landing.verify(manifest)
    (part,) = manifest.parts
    key = part.url.removeprefix(f"{any_bucket.url}/")
    data = any_bucket.read(key)
    any_bucket.put(key, data[:-1] + b"x")
    with pytest.raises(PartCorrupt, match="its ETag is"):
        far_landing.verify(manifest)
    any_bucket.put(key, data[:-1])
    with pytest.raises(PartCorrupt, match="its manifest says"):
        far_landing.verify(manifest)
    any_bucket.delete(key)
    with pytest.raises(PartCorrupt, match="is gone"):
        far_landing.verify(manifest)


@pytest.mark.service
def test_no_part_is_verified_whose_etag_nobody_knows(far_landing):
    manifest = far_landing.write(BATCH, ROWS.schema, batches_of(ROWS))
    with pytest.raises(PartCorrupt, match="its manifest says None"):
        far_landing.verify(without_etag(far_landing, manifest))


def without_etag(landing, manifest):
    """Write the manifest again without the ETags, which tell objects of one name apart."""
    stripped = replace(manifest, parts=tuple(replace(part, etag=None) for part in manifest.parts))
    path = manifest.url.removeprefix(f"{landing.url}/")
    obstore.put(landing._store, path, stripped.to_json().encode())
    return stripped


@pytest.mark.service
def test_a_check_of_a_bucket_works_and_leaves_nothing(far_landing, any_bucket):
    far_landing.check()
    assert any_bucket.names() == []


@pytest.mark.service
def test_a_landing_without_its_bucket_is_refused(any_bucket):
    with pytest.raises(LandingRefused, match=r"bucket 'no-such-bucket' .* not exist") as refused:
        Landing(f"{any_bucket.scheme}://no-such-bucket", any_bucket.connection()).check()
    assert f" {any_bucket.scheme}://no-such-bucket`" in refused.value.fix


@pytest.mark.service
def test_a_bucket_with_a_wrong_key_is_refused(any_bucket):
    connection = any_bucket.refused_connection()
    with pytest.raises(LandingRefused, match="refuses these credentials") as refused:
        Landing(any_bucket.url, connection).check()
    assert connection.conn_id in refused.value.fix


# A bucket that gives answers which the real servers do not give on demand.


class Answer(NamedTuple):
    """What is answered to every request but those for a token and for a new upload."""

    status: int
    code: str = ""


TOKEN = b'{"access_token": "of an hour", "expires_in": 3599, "token_type": "Bearer"}'
BEGUN = b"<InitiateMultipartUploadResult><UploadId>a403</UploadId></InitiateMultipartUploadResult>"


@contextmanager
def aws_that_answers(answer, asked=None):
    """Run a server in place of AWS's; gives its port.

    The headers and the body of each request are added to the list ``asked``.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            question = self.rfile.read(int(self.headers.get("content-length") or 0))
            if asked is not None:
                asked.append((self.headers, question.decode()))
            status, body = answer.status, f"<Error><Code>{answer.code}</Code></Error>".encode()
            if self.command == "POST" and "uploads" in self.path:
                status, body = 200, BEGUN
            if self.path == "/token":
                status, body = 200, TOKEN
            if self.command == "PUT" and "uploadId" in self.path:
                status, body = 200, b""
            self.send_response(status)
            self.send_header("etag", '"1"')
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


@contextmanager
def bucket_that_answers(scheme, answer):
    with aws_that_answers(answer) as port:
        yield Landing(f"{scheme}://b-403/2026-04-03/Forbidden", KEYS[scheme](port))


def keys_for_s3(port):
    extra = {"endpoint_url": f"http://{LOOPBACK}:{port}", "region_name": "us-east-1"}
    return Connection("aws_landing", "aws", login="NoSuchBucket", password="s3cret", extra=extra)


def keys_for_google(port):
    endpoint = f"http://{LOOPBACK}:{port}"
    key = google_key("NoSuchBucket@s3cret") | {"token_uri": f"{endpoint}/token"}
    extra = {"endpoint_url": endpoint, "keyfile_dict": key}
    return Connection("gcp_landing", "google_cloud_platform", extra=extra)


@cache
def google_key(email):
    return new_key(email, "")


KEYS = {"s3": keys_for_s3, "gs": keys_for_google}


def check(landing):
    landing.check()


def read(landing):
    landing.read_manifest(f"{landing.url}/manifest.json")


def write_small(landing):
    landing.write(BATCH, ROWS.schema, batches_of(ROWS))


def write_large(landing):
    noise = pa.table({"noise": [os.urandom(1_000_000) for _ in range(12)]})
    landing.write(BATCH, noise.schema, batches_of(noise, 1))


OUTAGES = [Answer(500, "InternalError"), Answer(503, "SlowDown"), Answer(429), Answer(409)]
both_kinds = pytest.mark.parametrize("scheme", KEYS)
# What tells the answers apart is the same for both.
each_act = pytest.mark.parametrize(
    ("scheme", "act"),
    [*(("s3", act) for act in (check, read, write_small, write_large)), ("gs", write_large)],
)
REFUSALS = [
    *(Answer(403, "AccessDenied"), Answer(403, "RequestTimeTooSkewed"), Answer(401)),
    *(Answer(400, "ExpiredToken"), Answer(404, "NoSuchBucket"), Answer(301)),
]


@each_act
@pytest.mark.parametrize("answer", OUTAGES, ids=str)
def test_a_bucket_has_an_outage_whatever_its_names_are(scheme, answer, act, monkeypatch):
    monkeypatch.setattr("millrace.object_store.store._RETRIES", 0)
    with (
        bucket_that_answers(scheme, answer) as landing,
        pytest.raises(LandingUnavailable, match=str(answer.status)) as caught,
    ):
        act(landing)
    assert caught.value.may_pass


@each_act
@pytest.mark.parametrize("answer", REFUSALS, ids=str)
def test_what_a_bucket_refuses_is_not_tried_again(scheme, answer, act):
    with bucket_that_answers(scheme, answer) as landing, pytest.raises(LandingRefused) as caught:
        act(landing)
    assert not caught.value.may_pass
    assert "s3cret" not in str(caught.value)


@both_kinds
@pytest.mark.parametrize("act", [check, write_small, write_large])
def test_an_upload_that_a_bucket_no_longer_knows_is_an_outage(scheme, act):
    with (
        bucket_that_answers(scheme, Answer(404, "NoSuchUpload")) as landing,
        pytest.raises(LandingUnavailable, match=r"404 Not Found: .*NoSuchUpload") as caught,
    ):
        act(landing)
    assert caught.value.may_pass


@both_kinds
def test_what_lies_nowhere_is_a_manifest_that_was_never_committed(scheme):
    with (
        bucket_that_answers(scheme, Answer(404, "NoSuchKey")) as landing,
        pytest.raises(ManifestNotFound, match="never committed"),
    ):
        read(landing)


def test_an_endpoint_with_secrets_is_refused():
    extra = {"endpoint_url": f"http://key:s3cret@{LOOPBACK}:9000"}
    connection = Connection("aws_landing", "aws", login="a", password="b", extra=extra)
    with pytest.raises(ConnectionNotFound, match="no plain address") as caught:
        Landing("s3://bucket", connection)
    assert "s3cret" not in str(caught.value)


def test_a_landing_with_secrets_in_its_url_is_refused():
    with pytest.raises(SettingError, match="neither") as caught:
        Landing("s3://key:s3cret@bucket/prefix")
    assert "s3cret" not in str(caught.value)


# Where the credentials come from.


def test_google_is_asked_as_its_library_finds_credentials(tmp_path, monkeypatch):
    """Application default credentials are what a landing takes that has no key of its own."""
    asked: list[tuple[Any, str]] = []
    with aws_that_answers(Answer(403, "AccessDenied"), asked) as port:
        key = google_key("adc@s3cret") | {"token_uri": f"http://{LOOPBACK}:{port}/token"}
        file = tmp_path / "key.json"
        file.write_text(json.dumps(key))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
        extra = {"endpoint_url": f"http://{LOOPBACK}:{port}"}
        for given in ({}, {"key_path": str(file)}):
            connection = Connection("gcp_landing", "google_cloud_platform", extra=extra | given)
            with pytest.raises(LandingRefused):
                Landing("gs://bucket", connection).check()
    (_, first), (headers, _), *_ = asked
    assert "assertion=" in first
    assert headers["authorization"] == "Bearer of an hour"
    assert len(asked) == 4


@pytest.mark.parametrize(
    ("extra", "what"),
    [
        ({}, "Google's library finds none"),
        ({"key_path": "/nowhere/key.json"}, "the key's file /nowhere/key.json cannot be read"),
        (
            {"keyfile_dict": {"client_email": "a", "private_key": "s3cret", "token_uri": "b"}},
            "the key in the connection gcp_landing is damaged",
        ),
    ],
)
def test_a_landing_on_google_without_credentials_is_refused(extra, what, monkeypatch):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/adc.json")
    connection = Connection("gcp_landing", "google_cloud_platform", extra=extra)
    with pytest.raises(LandingRefused, match=what) as refused:
        Landing("gs://bucket", connection)
    assert "gcloud auth application-default login" in refused.value.fix
    assert "s3cret" not in str(refused.value)


def test_a_token_server_that_is_down_is_an_outage(monkeypatch):
    monkeypatch.setattr("millrace.object_store.store._RETRIES", 0)
    connection = keys_for_google(free_port(0))
    with pytest.raises(LandingUnavailable):
        Landing("gs://bucket", connection).check()


def test_without_an_endpoint_it_is_googles_own():
    extra = {"keyfile_dict": google_key("a@b")}
    store = Landing("gs://bucket/prefix", Connection("gcp_landing", "gcp", extra=extra))._store
    assert isinstance(store, GCSStore)
    assert store.config["base_url"] == "https://storage.googleapis.com"


@pytest.mark.parametrize(
    ("url", "extra"),
    [("s3://bucket", {}), ("s3://bucket/prefix", {"region_name": "eu-west-1"})],
)
def test_without_an_endpoint_it_is_amazons_own(url, extra):
    connection = Connection("aws_landing", "aws", login="k", password="s", extra=extra)
    store = Landing(url, connection)._store
    assert isinstance(store, S3Store)
    assert "endpoint" not in store.config
    assert store.config["region"] == extra.get("region_name", "us-east-1")


@pytest.mark.parametrize("token", [None, "of an hour"])
def test_keys_sign_with_their_session_token(token):
    asked: list[tuple[Any, str]] = []
    with aws_that_answers(Answer(403, "AccessDenied"), asked) as port:
        extra = {"endpoint_url": f"http://{LOOPBACK}:{port}", "region_name": "eu-west-3"}
        extra |= {"aws_session_token": token} if token else {}
        landing = Landing(
            "s3://bucket", Connection("aws_landing", "aws", login="k", password="s", extra=extra)
        )
        with pytest.raises(LandingRefused):
            landing.check()
    [(headers, _), *_] = asked
    assert headers["x-amz-security-token"] == token
    assert re.search(r"Credential=k/\d+/eu-west-3/s3/", headers["authorization"])


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(403, "AccessDenied"), LandingRefused),
        (Answer(400, "MalformedPolicyDocument"), LandingRefused),
        (Answer(500, "InternalFailure"), LandingUnavailable),
        (None, LandingUnavailable),
    ],
    ids=str,
)
def test_a_role_that_is_refused_is_told_from_one_that_cannot_be_asked(monkeypatch, answer, kind):
    monkeypatch.setattr("millrace.object_store.store._RETRIES", 0)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    with aws_that_answers(answer or Answer(200)) as answering:
        port = answering if answer else free_port(0)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{LOOPBACK}:{port}")
        extra = {"role_arn": "arn:aws:iam::123456789012:role/landing"}
        connection = Connection("aws_landing", "aws", login="k", password="s3cret", extra=extra)
        with pytest.raises(kind) as caught:
            Landing("s3://bucket", connection).check()
    assert type(caught.value) is kind
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("declared", "of_machine", "region"),
    [
        ({}, None, "us-east-1"),
        ({}, "eu-south-1", "eu-south-1"),
        ({"region_name": "eu-west-3"}, "eu-south-1", "eu-west-3"),
        ({"external_id": "of our partner"}, None, "us-east-1"),
        ({"assume_role_kwargs": {"ExternalId": "of our partner"}}, None, "us-east-1"),
        ({"aws_session_token": "of an hour"}, None, "us-east-1"),
    ],
)
def test_a_role_is_asked_for_as_the_connection_says(monkeypatch, declared, of_machine, region):
    monkeypatch.setattr("millrace.object_store.store._RETRIES", 0)
    monkeypatch.delenv("AWS_DEFAULT_REGION", raising=False)
    if of_machine:
        monkeypatch.setenv("AWS_DEFAULT_REGION", of_machine)
    asked: list[tuple[Any, str]] = []
    extra = {"role_arn": "arn:aws:iam::123456789012:role/landing", **declared}
    connection = Connection("aws_landing", "aws", login="k", password="s3cret", extra=extra)
    with aws_that_answers(Answer(403, "AccessDenied"), asked) as port:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://{LOOPBACK}:{port}")
        landing = Landing("s3://bucket", connection)
        with pytest.raises(LandingRefused):
            landing.check()
    [(headers, body), *_] = asked
    question = parse_qs(body)
    assert question["RoleArn"] == [extra["role_arn"]]
    assert question["RoleSessionName"] == ["millrace"]
    names_us = "external_id" in declared or "assume_role_kwargs" in declared
    assert question.get("ExternalId") == (["of our partner"] if names_us else None)
    assert re.search(rf"Credential=k/\d+/{region}/sts/", headers["authorization"])
    assert headers["x-amz-security-token"] == declared.get("aws_session_token")
    assert isinstance(landing._store, S3Store)
    assert landing._store.config["region"] == region
    # AWS would compare the signature.
    provider, *_ = open_provider("k", "s3cret", extra, "us-east-1")
    used = provider.session.get_credentials().get_frozen_credentials()
    token = declared.get("aws_session_token")
    assert (used.access_key, used.secret_key, used.token) == ("k", "s3cret", token)


# A connection to S3 that is slow, or dead.


@pytest.fixture
def s3_bucket(s3_server, bucket):
    return S3Bucket(s3_server, bucket)


@pytest.fixture
def line(s3_bucket):
    address = urlsplit(s3_bucket.endpoint)
    with FaultProxy(address.hostname, address.port) as proxy:
        yield proxy


@pytest.fixture
def slow_landing(s3_bucket, line):
    """A landing that is reached through the proxy `line`."""
    return Landing(s3_bucket.url, s3_bucket.connection(f"http://{line.host}:{line.port}"))


def noise(size):
    return pa.table({"noise": [os.urandom(100_000) for _ in range(size // 100_000)]})


@pytest.mark.service
def test_a_slow_uplink_takes_its_time(slow_landing, line):
    """It needs longer than the half a minute per request that was once the limit."""
    rows = noise(5_000_000)
    line.throttle(150_000)
    manifest = slow_landing.write(BATCH, rows.schema, batches_of(rows))
    line.heal()
    with slow_landing.local_copy(manifest.parts[0]) as path:
        assert pq.read_table(path) == rows


@pytest.mark.service
def test_a_slow_downlink_takes_its_time(slow_landing, line, monkeypatch):
    monkeypatch.setattr("millrace.landing.landing.SILENCE_SECONDS", 1)
    rows = noise(3_000_000)
    manifest = slow_landing.write(BATCH, rows.schema, batches_of(rows))
    line.throttle(1_000_000, towards="client")
    with slow_landing.local_copy(manifest.parts[0]) as path:
        assert pq.read_table(path) == rows


@pytest.mark.service
@pytest.mark.parametrize("after", [0, 300_000], ids=["at once", "in the middle"])
@pytest.mark.parametrize("fault", ["stall", "half_open", "reset"])
@pytest.mark.parametrize("towards", ["server", "client"])
def test_a_dead_line_is_given_up(s3_bucket, line, monkeypatch, fault, after, towards):
    monkeypatch.setattr("millrace.landing.landing.SILENCE_SECONDS", 0.5)
    monkeypatch.setattr("millrace.landing.landing._SLOWEST_BYTES_A_SECOND", 10**9)
    monkeypatch.setattr("millrace.object_store.store._RETRIES", 1)
    landing = Landing(s3_bucket.url, s3_bucket.connection(f"http://{line.host}:{line.port}"))
    rows = noise(1_000_000)
    (part,) = landing.write(BATCH, rows.schema, batches_of(rows)).parts
    getattr(line, fault)(after, towards=towards)
    act = {
        "server": lambda: landing.write(BATCH, rows.schema, batches_of(rows)),
        "client": lambda: landing.local_copy(part).__enter__(),
    }[towards]
    began = time.monotonic()
    with pytest.raises(LandingUnavailable) as caught:
        act()
    assert caught.value.may_pass
    assert time.monotonic() - began < 30
