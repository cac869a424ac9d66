"""Files that a partner delivers, from their declaration to the warehouse, by the command line."""

from __future__ import annotations

import gzip
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from millrace.connections import variable_of
from millrace.errors import WarehouseError
from millrace.sources.s3_files.options import S3FilesOptions
from redshift_standin.s3 import S3Server
from tests.millrace.deliveries import Partner

if TYPE_CHECKING:
    from tests.millrace.conftest import Workspace

pytestmark = pytest.mark.service

PAGE = (Path(__file__).parents[2] / "docs" / "s3-files.md").read_text()
COLUMNS = ["id", "amount", "note"]
CURRENT = (
    "SELECT id, note FROM raw_mysql.nps QUALIFY row_number() OVER "
    "(PARTITION BY id ORDER BY _delivered_at DESC, _loaded_at DESC) = 1 ORDER BY id"
)
NEWEST_OF_FILES = (
    "SELECT id, note FROM raw_mysql.nps QUALIFY "
    "rank() OVER (PARTITION BY _file ORDER BY _delivered_at DESC, _loaded_at DESC) = 1 ORDER BY id"
)


@pytest.fixture
def partner(workspace: Workspace, s3_server: S3Server, bucket: str) -> Partner:
    """A partner behind the table `mysql.nps` of the workspace."""
    connection = json.dumps({"conn_type": "aws", **s3_server.endpoint.airflow_connection()})
    workspace.environment.setenv("AIRFLOW_CONN_PARTNER_S3", connection)
    return Partner(s3_server, bucket)


def declare(workspace: Workspace, partner: Partner, **options: Any) -> None:
    block = {
        "kind": "s3_files",
        "connection": "partner_s3",
        "files": f"s3://{partner.bucket}/orders/*.csv",
        "columns": {"id": "integer", "amount": "decimal(12,2)", "note": "string"},
    }
    workspace.change_manifest({"meta": {"ingest": block | options}})


def deliver(partner: Partner, name: str, *rows: tuple[object, ...]) -> None:
    partner.deliver_rows(f"orders/{name}", COLUMNS, rows)


def test_each_file_is_taken_once(workspace: Workspace, partner: Partner) -> None:
    declare(workspace, partner)
    deliver(partner, "a.csv", (1, "19.99", "one"), (2, "5", "two"))
    assert "2 rows" in workspace.succeeds("ingest", "mysql.nps")
    deliver(partner, "b.csv", (3, "0.10", "three"))
    # Named as if it had come before.
    deliver(partner, "0.csv", (4, "0.10", "four"))
    assert "2 rows" in workspace.succeeds("ingest", "mysql.nps")
    before = workspace.warehouse()
    workspace.succeeds("ingest", "mysql.nps")
    assert workspace.warehouse() == before
    loaded = workspace.raw("SELECT id, _file, _line, amount FROM raw_mysql.nps ORDER BY id")
    assert [row[:3] for row in loaded] == [
        (1, "orders/a.csv", 2),
        (2, "orders/a.csv", 3),
        (3, "orders/b.csv", 2),
        (4, "orders/0.csv", 2),
    ]
    assert str(loaded[0][3]) == "19.99"


def test_a_load_that_failed_leaves_its_files_for_the_next(
    workspace: Workspace, partner: Partner
) -> None:
    declare(workspace, partner)
    deliver(partner, "a.csv", (1, "1", "one"))
    deliver(partner, "b.csv", (2, "two", "two"))
    workspace.refuses("ingest", "mysql.nps", says=["orders/b.csv, line 2, amount", "not a number"])
    assert workspace.warehouse() == {}
    deliver(partner, "b.csv", (2, "2", "two"))
    assert "2 rows" in workspace.succeeds("ingest", "mysql.nps")


def test_a_batch_that_was_landed_twice_is_loaded_once(
    workspace: Workspace, partner: Partner
) -> None:
    declare(workspace, partner)
    deliver(partner, "a.csv", (1, "1", "one"))
    pipeline = workspace.pipeline
    table = pipeline.catalog.table("mysql.nps")
    batches = [pipeline.plan(table), pipeline.plan(table)]
    first, second = (pipeline.extract(table, batch) for batch in batches if batch)
    pipeline.load(table, second)
    pipeline.load(table, second)
    before = workspace.raw("SELECT id, note, _batch_id FROM raw_mysql.nps")
    assert len(before) == 1
    with pytest.raises(WarehouseError, match=r"loaded meanwhile by another one: orders/a\.csv"):
        pipeline.load(table, first)
    assert workspace.raw("SELECT id, note, _batch_id FROM raw_mysql.nps") == before


def test_an_old_interval_is_read_again_as_long_as_its_files_are_there(
    workspace: Workspace, partner: Partner
) -> None:
    declare(workspace, partner)
    deliver(partner, "a.csv", (1, "1", "one"))
    workspace.succeeds("ingest", "mysql.nps")
    deliver(partner, "b.csv", (2, "2", "two"))
    workspace.succeeds("ingest", "mysql.nps")
    rows = "SELECT id, note FROM raw_mysql.nps ORDER BY id"
    both = workspace.raw(rows)
    workspace.succeeds("ingest", "mysql.nps", "--all")
    assert workspace.raw(rows) == both == [(1, "one"), (2, "two")]
    deliver(partner, "a.csv", (1, "1", "uno"))
    workspace.succeeds("reload", "mysql.nps")
    assert workspace.raw(rows) == [(1, "uno"), (2, "two")]
    partner.remove("orders/a.csv")
    for command in (["ingest", "mysql.nps", "--all"], ["reload", "mysql.nps"]):
        workspace.refuses(*command, says=["1 file that is loaded from", "gone from the source"])
    deliver(partner, "c.csv", (3, "3", "three"))
    assert "1 rows" in workspace.succeeds("ingest", "mysql.nps")


def test_files_in_any_order_give_the_same_table(workspace: Workspace, partner: Partner) -> None:
    declare(workspace, partner)
    for delivered in ([3, 0], [2, 1], [1, 3], [0, 2]):
        for number in delivered:
            deliver(partner, f"{number}.csv", (number, "1", f"from {number}.csv"))
        workspace.succeeds("ingest", "mysql.nps")
    expected = [(number, f"from {number}.csv") for number in range(4)]
    assert workspace.raw(NEWEST_OF_FILES) == workspace.raw(CURRENT) == expected


def test_more_files_than_a_ledger_can_name_come_in_several_batches(
    workspace: Workspace, partner: Partner, caplog: pytest.LogCaptureFixture
) -> None:
    declare(workspace, partner)
    workspace.environment.setattr("millrace.pipeline.MOST_FILES", 2)
    for number in range(3):
        deliver(partner, f"{number}.csv", (number, "1", ""))
    workspace.succeeds("ingest", "mysql.nps")
    assert "3 files are new; the 2 that came first are taken now" in caplog.text
    workspace.succeeds("ingest", "mysql.nps")
    assert workspace.raw("SELECT id FROM raw_mysql.nps ORDER BY id") == [(0,), (1,), (2,)]


def test_bad_rows_are_set_aside_with_their_file_and_line(
    workspace: Workspace, partner: Partner
) -> None:
    declare(workspace, partner, on_bad_value="quarantine", primary_key=["id"])
    partner.deliver("orders/a.csv", "id,amount,note\n1,1,one\n2,2\n3,three,three\n")
    workspace.succeeds("ingest", "mysql.nps")
    assert workspace.raw("SELECT id FROM raw_mysql.nps") == [(1,)]
    found = workspace.raw(
        "SELECT row_key, column_name, reason, value_text FROM raw_mysql.nps__quarantine "
        "ORDER BY reason"
    )
    assert found == [
        (
            '{"id": null}',
            "_line",
            "orders/a.csv, line 3: has 2 values, and 3 are expected",
            "2,2",
        ),
        ('{"id": 3}', "amount", 'orders/a.csv, line 4, amount: "three" is not a number', "three"),
    ]


def test_a_new_column_is_told_and_one_more_declared_is_added(
    workspace: Workspace, partner: Partner
) -> None:
    declare(workspace, partner)
    deliver(partner, "a.csv", (1, "1", "one"))
    workspace.succeeds("ingest", "mysql.nps")
    partner.deliver("orders/b.csv", "id,amount,note,city\n2,2,two,Köln\n")
    assert "city" in workspace.succeeds("diff", "mysql.nps")
    columns = {"id": "integer", "amount": "decimal(12,2)", "note": "string"}
    city = {"city": {"type": "string", "optional": True}}
    declare(workspace, partner, columns=columns | city)
    workspace.succeeds("ingest", "mysql.nps")
    assert workspace.raw("SELECT id, city FROM raw_mysql.nps ORDER BY id") == [
        (1, None),
        (2, "Köln"),
    ]


def test_the_other_commands_know_it(workspace: Workspace, partner: Partner) -> None:
    declare(workspace, partner)
    workspace.refuses("preview", "mysql.nps", says=["no file is like s3://", "orders/*.csv"])
    workspace.refuses("ingest", "mysql.nps", says=["no file is there", "the first delivery"])
    deliver(partner, "a.csv", (1, "1", "one"))
    assert "orders/a.csv" in workspace.succeeds("preview", "mysql.nps")
    workspace.succeeds("plan", "mysql.nps")
    workspace.succeeds("ingest", "mysql.nps")
    workspace.succeeds("check")
    workspace.succeeds("status")
    workspace.refuses("audit", "mysql.nps", says=["cannot be audited", "the kind s3_files"])
    connection = workspace.pipeline.connection("partner_s3")
    _, uri = variable_of(connection)
    assert "S3, as " in workspace.succeeds("connect", "partner_s3", uri)
    _, wrong = variable_of(replace(connection, password="wrong"))
    workspace.refuses("connect", "partner_s3", wrong, says=["AWS refuses the account"])


def test_the_example_of_the_page_works_as_it_stands(workspace: Workspace, partner: Partner) -> None:
    """Its YAML, its file, and its commands one after another; only the bucket is another one."""
    example = PAGE.partition("## An example")[2].partition("## The connection")[0]
    declaration, content = re.findall(r"```(?:yaml|csv)\n(.*?)```", example, re.DOTALL)
    _, *commands = re.findall(r"^    (\w+ .*)$", example, re.MULTILINE)
    workspace.sources_file.write_text(declaration.replace("partner-deliveries", partner.bucket))
    partner.deliver("orders/2026-11-27.csv.gz", gzip.compress(content.encode()))
    said = [workspace.succeeds(*shlex.split(command)[1:]) for command in commands]
    assert commands[1:] == [
        "millrace preview partner.orders",
        *["millrace ingest partner.orders"] * 2,
    ]
    printed = [line.strip() for line in example.splitlines()]
    for line in "\n".join(said[1:]).splitlines():
        if words := _told(line):
            assert words in map(_told, printed)


def _told(line: str) -> list[str]:
    """What a line says, without times."""
    line = re.sub(r"\d{4}-\d\d-\d\d [\d:]+(?=,|\+00:00| )|[\d.]+ (s|kB)\b", "…", line)
    return [] if set(line) <= set(" ─") else line.split()


def test_the_other_blocks_of_the_page_are_valid() -> None:
    for block in re.findall(r"```yaml\n(ingest:.*?)```", PAGE, re.DOTALL):
        declared = {"kind": "s3_files", "connection": "partner_s3"}
        options = S3FilesOptions.model_validate(declared | yaml.safe_load(block)["ingest"])
        assert options.wait


def test_the_queries_of_the_page_keep_what_they_say(workspace: Workspace, partner: Partner) -> None:
    by_key, by_file = re.findall(r"```sql\n(.*?)\n```", PAGE, re.DOTALL)
    declare(workspace, partner)
    deliver(partner, "a.csv", (1, "1", "one"), (2, "2", "two"))
    workspace.succeeds("ingest", "mysql.nps")
    deliver(partner, "a.csv", (1, "1", "uno"))
    workspace.succeeds("ingest", "mysql.nps")
    assert workspace.raw("SELECT count(*) FROM raw_mysql.nps") == [(3,)]
    kept = "SELECT note FROM raw_mysql.nps QUALIFY {} ORDER BY id"
    assert workspace.raw(kept.format(by_key.replace("order_id", "id"))) == [("uno",), ("two",)]
    assert workspace.raw(kept.format(by_file)) == [("uno",)]
