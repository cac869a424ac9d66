"""A sweep of the landing takes what nobody needs, and nothing that the ledger names."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.batch import Batch, Interval
from millrace.errors import LandingRefused, LandingUnavailable, TooFewRows
from millrace.landing.landing import Landing
from millrace.landing.sweep import (
    Loaded,
    Rules,
    Sweep,
    Verdict,
    attempts_of,
    carry_out,
    plan,
)
from millrace.testing import batches_of, declared, ledger
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse
from redshift_standin.s3 import S3Server
from tests.buckets import Bucket, GoogleBucket, S3Bucket
from tests.millrace.conftest import Workspace

TABLE = declared()
OURS, ANOTHERS = "duckdb raw_mysql.nps", "duckdb dev_raw_mysql.nps"
DAY = datetime(2026, 10, 1, tzinfo=UTC)
ROWS = pa.table({"id": pa.array(range(10), pa.int32())})

Fate = Literal["killed", "landed", "loaded"]


@dataclass(frozen=True)
class Tried:
    """An attempt that is made: at which batch, how it ended, and how many days ago."""

    first_day: int
    days: int
    shares: int
    fate: Fate
    age: int
    raw_table: str | None

    @property
    def batch(self) -> Batch:
        start = DAY + timedelta(days=self.first_day)
        return Batch(TABLE.key, Interval(start, start + timedelta(days=self.days)))


tried = st.builds(
    Tried,
    first_day=st.integers(0, 3),
    days=st.integers(1, 2),
    shares=st.integers(1, 2),
    fate=st.sampled_from(["killed", "landed", "loaded"]),
    age=st.sampled_from([0, 1, 3, 29, 31, 400]),
    raw_table=st.sampled_from([OURS, ANOTHERS, None]),
)


class World:
    """A landing folder and a warehouse beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "landing"
        self.landing = Landing(self.folder.as_uri())
        self.warehouse = DuckDBWarehouse(folder / "warehouse.duckdb")

    def do(self, one: Tried) -> str:
        """Make an attempt, load it if it is to be loaded; returns its path."""
        path = self.landing.new_attempt(one.batch)
        raw_table = OURS if one.fate == "loaded" else one.raw_table
        shares = [
            self.landing.write(
                one.batch, ROWS.schema, batches_of(ROWS), attempt=path, raw_table=raw_table
            )
            for _ in range(one.shares)
        ]
        if one.fate == "killed":
            # As a writer leaves it that is killed in the middle of a part.
            (self.folder / path / "part-00000.parquet#1").write_bytes(b"half")
        else:
            manifest = self.landing.merge(path, shares)
            if one.fate == "loaded":
                self.warehouse.load(TABLE, manifest, self.landing)
        self.make_old(path, one.age)
        return path

    def make_old(self, path: str, days: int) -> None:
        then = (datetime.now(UTC) - timedelta(days=days, minutes=1)).timestamp()
        for file in (self.folder / path).rglob("*"):
            os.utime(file, (then, then))

    def loaded(self) -> dict[str, Loaded]:
        rows = ledger(self.warehouse, TABLE)
        return {TABLE.key: Loaded.of(OURS, [row.manifest_url for row in rows])}

    def plan(self, **rules: Any) -> Sweep:
        return plan(self.landing, [TABLE.key], self.loaded, Rules(datetime.now(UTC), **rules))

    def sweep(self, **rules: Any) -> Sweep:
        found = self.plan(**rules)
        carry_out(self.landing, found)
        return found


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@settings(max_examples=25, deadline=None)
@given(st.lists(tried, min_size=1, max_size=6))
def test_after_a_sweep_every_batch_of_the_ledger_still_loads_and_no_leavings_are_left(
    attempts: list[Tried],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        made = {world.do(one): one for one in attempts}
        before = ledger(world.warehouse, TABLE)
        named = {row.manifest_url.split("/landing/")[1].rpartition("/")[0] for row in before}

        world.sweep()

        for row in before:
            manifest = world.landing.read_manifest(row.manifest_url)
            assert world.warehouse.load(TABLE, manifest, world.landing).rows == row.rows
        left = {path for path in made if (world.folder / path).exists()}
        assert named <= left
        assert left - named == {
            path for path in made.keys() - named if is_kept(made[path], has_ledger=bool(before))
        }
        assert world.sweep().swept == []


def is_kept(one: Tried, *, has_ledger: bool) -> bool:
    """Whether an attempt stays that the ledger does not name."""
    if one.fate == "killed":
        return one.age < 2
    is_ours = one.fate == "loaded" or one.raw_table == OURS
    return one.age < 30 or not is_ours or not has_ledger


LOADED = Tried(0, 1, 1, "loaded", 400, OURS)


def test_what_the_ledger_names_is_swept_only_when_told_so(world: World) -> None:
    path = world.do(LOADED)
    assert world.sweep().swept == []
    (swept,) = world.sweep(loaded=True).swept
    assert swept.path == path
    assert not any(world.folder.rglob("*.*"))


def test_a_young_attempt_that_the_ledger_names_stays_though_told_so(world: World) -> None:
    world.do(replace(LOADED, age=29))
    assert world.sweep(loaded=True).swept == []


def test_the_ledger_is_found_again_though_the_landing_has_moved(world: World) -> None:
    world.do(LOADED)
    moved = world.folder.rename(world.folder.with_name("elsewhere"))
    rules = Rules(datetime.now(UTC))
    assert plan(Landing(moved.as_uri()), [TABLE.key], world.loaded, rules).swept == []


def test_an_attempt_is_as_young_as_its_last_object(world: World) -> None:
    path = world.do(replace(LOADED, fate="killed", shares=2))
    parts = sorted((world.folder / path).rglob("*.parquet"))
    os.utime(parts[-1])
    assert world.sweep().swept == []


def test_what_was_interrupted_in_its_removal_is_removed_by_the_next_sweep(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.do(LOADED)
    path = world.do(replace(LOADED, fate="landed", shares=2))
    found, folder = world.plan(), type(world.landing.objects)
    delete, calls = folder.delete, []

    def dies_at_the_second(objects: Any, paths: Sequence[str]) -> None:
        calls.append(paths)
        if len(calls) == 2:
            raise LandingUnavailable("gone", fix="")
        delete(objects, paths)

    with monkeypatch.context() as dying:
        dying.setattr(folder, "delete", dies_at_the_second)
        with pytest.raises(LandingUnavailable):
            carry_out(world.landing, found)
    # Its manifests went first: nobody takes the rest for a batch.
    assert not any((world.folder / path).rglob("manifest.json"))
    world.make_old(path, 400)
    assert [swept.path for swept in world.sweep().swept] == [path]
    assert not (world.folder / path).exists()


def test_what_is_no_attempt_of_a_declared_table_is_left_alone(world: World) -> None:
    others = [
        "_backups/airflow/20260101T000000Z.dump",
        "mysql/nps/notes.txt",
        "mysql/nps/full/by-hand/part-00000.parquet",
        "mysql/users/full/20260101T000000-0123abcd/part-00000.parquet",
        "mysql/nps_old/full/20260101T000000-0123abcd/part-00000.parquet",
    ]
    for name in others:
        file = world.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"x")
        os.utime(file, (0, 0))
    assert world.sweep().judged == ()
    assert all((world.folder / name).exists() for name in others)


def test_a_manifest_that_cannot_be_read_is_nobodys_and_stays(world: World) -> None:
    world.do(LOADED)
    path = world.do(replace(LOADED, fate="landed"))
    (world.folder / path / "manifest.json").write_text("{")
    world.make_old(path, 400)
    assert {one.verdict for one in world.sweep().judged} == {Verdict.NAMED, Verdict.FOREIGN}


@pytest.fixture
def far_landing(any_bucket: Bucket) -> Landing:
    return Landing(f"{any_bucket.url}/some/prefix", any_bucket.connection())


def too_few(_: int) -> None:
    raise TooFewRows("too few", fix="")


@pytest.mark.service
def test_a_bucket_is_swept_of_attempts_and_of_unfinished_uploads(
    far_landing: Landing, any_bucket: Bucket
) -> None:
    batch = Batch(TABLE.key)
    committed = far_landing.write(batch, ROWS.schema, batches_of(ROWS), raw_table=OURS)
    with pytest.raises(TooFewRows):
        far_landing.write(batch, ROWS.schema, batches_of(ROWS), before_commit=too_few)
    upload = f"some/prefix/{far_landing.new_attempt(batch)}/part-00000.parquet"
    for key in (upload, "mysql/nps/of-somebody-else"):
        any_bucket.begin_upload(key)
    loaded = {TABLE.key: Loaded.of(OURS, [committed.url])}

    def sweep(days: int) -> Sweep:
        rules = Rules(datetime.now(UTC) + timedelta(days=days))
        found = plan(far_landing, [TABLE.key], lambda: loaded, rules)
        carry_out(far_landing, found)
        return found

    assert (sweep(1).swept, sweep(1).uploads) == ([], ())
    found = sweep(3)
    assert len(found.swept) == 1
    assert [f"some/prefix/{one.path}" for one in found.uploads] == [upload]
    assert (sweep(3).swept, sweep(3).uploads) == ([], ())
    (left,) = attempts_of(far_landing, TABLE.key)
    assert left.is_committed
    assert far_landing.read_manifest(committed.url) == committed
    assert any_bucket.uploads() == ["mysql/nps/of-somebody-else"]
    # Somebody else may have aborted or completed them, and deleted objects.
    carry_out(far_landing, found)


@pytest.mark.service
def test_an_object_is_put_whole_or_not_at_all(
    far_landing: Landing, any_bucket: Bucket, world: World
) -> None:
    def breaking() -> Iterator[bytes]:
        yield bytes(20_000_000)
        raise LandingUnavailable("gone", fix="")

    for landing in (far_landing, world.landing):
        with pytest.raises(LandingUnavailable, match="gone"):
            landing.objects.put("_backups/x", breaking())  # type: ignore[arg-type]
        assert list(landing.objects.below("_backups")) == []
        assert landing.objects.put("_backups/y", (b for b in (b"ab", b"c"))) == 3
        (found,) = landing.objects.below("_backups")
        assert (found.path, found.size) == ("_backups/y", 3)
    assert any_bucket.uploads() == []


@pytest.mark.service
def test_an_account_that_may_not_list_uploads_is_told_what_it_needs(
    s3_server: S3Server, bucket: str
) -> None:
    wrong = S3Bucket(s3_server, bucket).refused_connection()
    with pytest.raises(LandingRefused, match="uploads") as refused:
        Landing(f"s3://{bucket}", wrong).objects.uploads("mysql/nps")
    assert "s3:ListBucketMultipartUploads" in refused.value.fix


@pytest.mark.service
def test_an_account_that_google_does_not_know_cannot_list_uploads(
    google_bucket: GoogleBucket,
) -> None:
    landing = Landing(google_bucket.url, google_bucket.refused_connection())
    with pytest.raises(LandingRefused, match="does not take the credentials"):
        landing.objects.uploads("mysql/nps")
    landing = Landing("gs://no-such-bucket", google_bucket.connection())
    with pytest.raises(LandingRefused, match="404 NoSuchBucket") as refused:
        landing.objects.uploads("mysql/nps")
    assert "storage.multipartUploads.list" in refused.value.fix


def test_the_command_shows_first_and_removes_then(workspace: Workspace) -> None:
    workspace.succeeds("ingest")
    (kept,) = workspace.landing_folder.glob("mysql/nps/*/*")
    left = kept.with_name("20260101T000000-0123abcd")
    left.mkdir()
    (left / "part-00000.parquet").write_bytes(bytes(1000))
    os.utime(left / "part-00000.parquet", (0, 0))

    said = workspace.succeeds("sweep", "--dry-run")
    assert "never committed" in said
    assert "To be removed: attempts: 1 (1.0 kB); unfinished uploads: 0." in said
    assert left.exists()
    assert "removed: attempts: 1 (1.0 kB)" in workspace.succeeds("sweep")
    assert kept.exists()
    assert not left.exists()
    assert "attempts: 0" in workspace.succeeds("sweep", "--older-than", "72h")

    workspace.refuses("sweep", "--older-than", "1d", says=["younger than 2 days", "2 days or more"])
    assert "is not an age" in workspace.run("sweep", "--older-than", "soon").err
