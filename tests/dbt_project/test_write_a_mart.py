"""docs/write-a-mart.md, followed word for word by somebody who copies its blocks into files."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.dbt_project.conftest import RAW_TABLES, ROOT, Warehouse

PAGE = (ROOT / "docs" / "write-a-mart.md").read_text()
FILES = re.findall(
    r"`dbt_project/([\w/]+\.(?:sql|yml))`[^\n]*\n\n```\w+\n(.*?)```", PAGE, re.DOTALL
)
MODELS = "models/marts/support/_support__models.yml"
SELECTION = ("--select", "source:mysql.tickets+")

# The table as `millrace ingest mysql.tickets` leaves it; the column subject never leaves MySQL.
RAW_TICKETS = """
create table analytics_raw_mysql.tickets (
    id decimal(20, 0), opened_at timestamp, closed_at timestamp, _batch_id varchar,
    _loaded_at timestamp
);
insert into analytics_raw_mysql.tickets values
    (1, '2026-11-01 10:00', null, 't', '2026-11-03'),
    (2, '2026-11-01 11:00', '2026-11-02 09:30', 't', '2026-11-03'),
    (3, '2026-11-02 08:15', null, 't', '2026-11-03')
"""


@pytest.fixture
def follower(tmp_path: Path) -> Warehouse:
    """A copy of the project with the page's files in it."""
    project = tmp_path / "dbt_project"
    shutil.copytree(ROOT / "dbt_project", project, ignore=shutil.ignore_patterns("target", "logs"))
    for name, text in FILES:
        file = project / name
        file.parent.mkdir(exist_ok=True)
        file.write_text((file.read_text() if file.exists() else "") + text)
    warehouse = Warehouse(tmp_path / "millrace.duckdb", tmp_path / "target", project)
    warehouse.execute(RAW_TABLES)
    warehouse.execute(RAW_TICKETS)
    return warehouse


def quoted(block: str) -> str:
    """A text of the page without its indentation, to be compared with what dbt says."""
    return "\n".join(line.strip() for line in block.strip().splitlines() if line.strip())


def said_by_page(first: str) -> str:
    """The indented block of the page that begins with these words."""
    [block] = re.findall(
        rf"^((?:    .*\n|\n)*    {re.escape(first)}.*\n(?:    .*\n|\n(?=    ))*)", PAGE, re.M
    )
    return quoted(block)


def test_the_mart_is_built_and_tested_in_one_go(follower: Warehouse) -> None:
    follower.dbt("build", *SELECTION)
    results = follower.artifact("run_results.json")["results"]
    passed = [result for result in results if result["status"] in ("success", "pass")]
    assert f"Done. PASS={len(passed)} WARN=0 ERROR=0 SKIP=0 NO-OP=1 TOTAL={len(results)}" in PAGE
    assert follower.query(
        "select opened_date::text, tickets, closed_tickets "
        "from analytics.fct_tickets_daily order by all"
    ) == [("2026-11-01", 2, 1), ("2026-11-02", 1, 0)]


def test_a_mart_without_columns_is_refused_as_the_page_says(follower: Warehouse) -> None:
    models = follower.project / MODELS
    models.write_text(models.read_text().partition("    columns:")[0])
    with pytest.raises(pytest.fail.Exception) as refused:
        follower.dbt("build", *SELECTION)
    said = said_by_page("Parsing Error").removeprefix("Parsing Error\n")
    assert said in quoted(str(refused.value))


def test_a_type_that_does_not_fit_is_refused_as_the_page_says(follower: Warehouse) -> None:
    models = follower.project / MODELS
    models.write_text(models.read_text().replace("data_type: bigint", "data_type: integer", 1))
    with pytest.raises(pytest.fail.Exception) as refused:
        follower.dbt("build", *SELECTION)
    assert said_by_page("This model has an enforced contract") in quoted(str(refused.value))


def test_a_mart_of_another_group_may_not_read_staging(follower: Warehouse) -> None:
    models = follower.project / MODELS
    others = "groups: [{name: others, owner: {name: Others}}]\n"
    models.write_text(
        others
        + models.read_text().replace("    columns:", "    config: {group: others}\n    columns:")
    )
    with pytest.raises(pytest.fail.Exception) as refused:
        follower.dbt("build", *SELECTION)
    said = said_by_page("Node model.…").removeprefix("Node model.…")
    assert said in quoted(str(refused.value))
