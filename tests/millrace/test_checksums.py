"""What was read and loaded is what the source has: it is compared by value."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.checksums.columns import Checksum, Tally, differing, together
from millrace.checksums.totals import crc32_total, md5_total
from millrace.errors import CountMismatch, SourceMismatch
from millrace.landing.landing import Landing
from millrace.sources.mysql.types import to_array
from millrace.testing import Place, ids
from millrace.warehouses.duckdb.warehouse import DuckDBWarehouse
from millrace.warehouses.expressions import raw
from tests.millrace.conftest import Database, Workspace

TEXTS = st.lists(st.none() | st.text(max_size=20))
CHECKS: list[tuple[Callable[[pa.Array], int], Callable[[bytes], int]]] = [
    (crc32_total, zlib.crc32),
    (md5_total, lambda value: int(hashlib.md5(value).hexdigest()[:8], 16)),  # noqa: S324
]


@pytest.mark.parametrize(("total", "checksum"), CHECKS, ids=["CRC-32", "MD5"])
@given(texts=TEXTS, before=st.integers(0, 9))
def test_a_total_is_the_sum_of_what_the_library_computes(
    texts: list[str | None],
    before: int,
    total: Callable[[pa.Array], int],
    checksum: Callable[[bytes], int],
) -> None:
    array = pa.array(["skipped"] * before + texts, pa.string())[before:]
    assert total(array) == sum(checksum(text.encode()) for text in texts if text is not None)


@given(units=st.lists(st.integers(-(10**38) + 1, 10**38 - 1)), scale=st.integers(0, 38))
def test_a_decimal_has_its_point(units: list[int], scale: int) -> None:
    values = [
        Decimal((int(unit < 0), Decimal(abs(unit)).as_tuple().digits, -scale)) for unit in units
    ]
    tally = Tally(pa.schema([("v", pa.decimal128(38, scale))]))
    tally.add(pa.record_batch({"v": pa.array(values, pa.decimal128(38, scale))}))
    texts = [f"{value:.{scale}f}" for value in values]
    # Python keeps the sign of zero, which no data base has.
    expected = sum(
        zlib.crc32((text if value else text.lstrip("-")).encode())
        for text, value in zip(texts, values, strict=True)
    )
    assert tally.checksums["v"] == Checksum(len(units), expected)


TYPES: list[tuple[pa.DataType, Any, str | None]] = [
    (pa.int64(), -(2**63), "-9223372036854775808"),
    (pa.bool_(), True, "1"),
    (pa.decimal128(20, 12), Decimal("0.000000000001"), "0.000000000001"),
    (pa.decimal128(20, 0), Decimal(2**64 - 1), "18446744073709551615"),
    (pa.date32(), date(1, 1, 1), "0001-01-01"),
    (pa.timestamp("us"), datetime(2026, 11, 26, 9, 30), "2026-11-26 09:30:00.000000"),
    (pa.timestamp("us", "UTC"), datetime(999, 1, 1, tzinfo=UTC), "0999-01-01 00:00:00.000000"),
    (pa.string(), "näïve 🙂", "näïve 🙂"),
    (pa.float64(), 0.1, None),
]


@pytest.mark.parametrize(("type_", "value", "text"), TYPES, ids=[str(one) for one, *_ in TYPES])
def test_each_type_has_one_text(type_: pa.DataType, value: Any, text: str | None) -> None:
    tally = Tally(pa.schema([("v", type_)]))
    tally.add(pa.record_batch({"v": pa.array([value, None], type_)}))
    expected = None if text is None else zlib.crc32(text.encode())
    assert tally.checksums == {"v": Checksum(1, expected)}


@given(st.lists(st.lists(st.integers(0, 3), max_size=5), min_size=1, max_size=4), st.randoms())
def test_neither_order_nor_division_matters(batches: list[list[int]], random: Any) -> None:
    schema = pa.schema([("v", pa.int32())])
    whole = Tally(schema)
    everything = [value for batch in batches for value in batch]
    random.shuffle(everything)
    whole.add(pa.record_batch({"v": pa.array(everything, pa.int32())}))
    parts = []
    for batch in batches:
        parts.append(Tally(schema))
        parts[-1].add(pa.record_batch({"v": pa.array(batch, pa.int32())}))
    assert together([part.checksums for part in parts]) == whole.checksums


@given(st.lists(st.integers(0, 3), max_size=6), st.lists(st.integers(0, 3), max_size=6))
def test_other_values_have_another_checksum(one: list[int], other: list[int]) -> None:
    def checksums(values: list[int]) -> dict[str, Checksum]:
        tally = Tally(pa.schema([("v", pa.int32())]))
        tally.add(pa.record_batch({"v": pa.array(values, pa.int32())}))
        return tally.checksums

    assert bool(differing(checksums(one), checksums(other))) == (sorted(one) != sorted(other))


@pytest.fixture
def spoiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something between the server and here changes the score of one row."""

    def spoil(values: pa.Array, column: Any, where: str) -> Any:
        array, misfits = to_array(values, column, where)
        if column.name != "score" or not len(array):
            return array, misfits
        return pa.array([array[0].as_py() + 1, *array[1:].to_pylist()], array.type), misfits

    monkeypatch.setattr("millrace.sources.mysql.rows.to_array", spoil)


@pytest.mark.service
@pytest.mark.both_servers
@pytest.mark.usefixtures("spoiled")
def test_a_value_that_changes_on_its_way_is_not_landed(workspace: Workspace) -> None:
    workspace.refuses("ingest", "mysql.nps", says=["differs", "columns score", "verify: counts"])
    assert not list(workspace.landing_folder.rglob("manifest.json"))


@pytest.mark.service
@pytest.mark.usefixtures("spoiled")
@pytest.mark.parametrize("verify", ["counts", "off"])
def test_who_declares_so_has_only_counts_compared(workspace: Workspace, verify: str) -> None:
    workspace.declare(verify=verify)
    workspace.succeeds("ingest", "mysql.nps")


@pytest.mark.service
def test_hashed_columns_are_compared_before_and_after(workspace: Workspace) -> None:
    workspace.declare("users", verify="values")
    workspace.succeeds("ingest", "mysql.users")
    [url] = workspace.raw("SELECT manifest_url FROM raw_mysql._batches")[0]
    checksums = workspace.pipeline.landing.read_manifest(url).checksums
    hashes = [text for (text,) in workspace.raw("SELECT email FROM raw_mysql.users")]
    assert checksums is not None
    assert checksums["email"] == Checksum(2, sum(zlib.crc32(text.encode()) for text in hashes))


@pytest.mark.service
def test_a_table_without_a_snapshot_cannot_be_compared(mysql: Database) -> None:
    mysql.execute("CREATE TABLE t (id INT PRIMARY KEY) ENGINE = MyISAM")
    table = mysql.table("t")
    table = replace(table, options=table.options.model_copy(update={"verify": "values"}))
    with pytest.raises(SourceMismatch, match="snapshot"):
        mysql.extract(table)


DATA = pa.table(
    {
        "id": pa.array([1, 2, None], pa.int32()),
        "big": pa.array([2**63 - 1, None, -1], pa.int64()),
        "price": pa.array([Decimal("0.000001"), Decimal("-12.5"), None], pa.decimal128(20, 6)),
        "flag": [True, False, None],
        "name": ["näïve 🙂", "", None],
        "day": [date(2026, 11, 26), date(1000, 1, 1), None],
        "at": pa.array([datetime(2026, 11, 26, 9, 30, 0, 1), None, None], pa.timestamp("us")),
        "seen": pa.array([datetime(2026, 1, 1, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
        "rate": [0.1, None, 1e100],
    }
)


def land(place: Place, data: pa.Table = DATA) -> Any:
    """Land a batch with its checksums."""
    tally = Tally(data.schema)
    for batch in data.to_batches():
        tally.add(batch)
    return place.land(data, checksums=lambda: tally.checksums)


@pytest.fixture(params=["duckdb", pytest.param("redshift", marks=[pytest.mark.service])])
def place(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[Place]:
    if request.param == "redshift":
        yield request.getfixturevalue("redshift_place")
        return
    from millrace.testing import declared

    yield Place(
        DuckDBWarehouse(tmp_path / "warehouse.duckdb"), Landing(tmp_path.as_uri()), declared()
    )


def test_every_type_is_the_same_in_the_warehouse(place: Place) -> None:
    place.load_manifest(land(place))
    assert len(place.rows()) == DATA.num_rows


def test_a_value_that_a_load_changes_rolls_the_load_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.load_manifest(land(place, ids(7)))
    before = place.everything()
    kind: Any = type(place.warehouse)
    insert = kind._insert

    def spoil(self: Any, session: Any, table: Any, *arguments: Any) -> None:
        insert(self, session, table, *arguments)
        session.run(f"UPDATE {raw(table)} SET id = 8 WHERE id = 1")

    monkeypatch.setattr(kind, "_insert", spoil)
    with pytest.raises(CountMismatch, match=r"other values .* columns id"):
        place.load_manifest(land(place, ids(1, 2)))
    assert place.everything() == before
