"""Merges into Redshift by keys of every kind, with this project's predicate on their range."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import yaml
from dbt.cli.main import dbtRunner

if TYPE_CHECKING:
    from redshift_standin import RedshiftServer

pytestmark = [pytest.mark.service, pytest.mark.redshift]

ROOT = Path(__file__).parents[2]

# The rows of the second day change one key, repeat one and bring one.
MODEL = """
{{{{ config(materialized='incremental', incremental_strategy='merge', unique_key={key}) }}}}
{{% if is_incremental() %}}
select {keys}, 'new' as v union all select {others}, 'new' as v
{{% else %}}
select {keys}, 'old' as v
{{% endif %}}
"""
KEYS = {
    "of_a_number": ("'id'", ["7 as id", "9 as id"]),
    "of_a_date": ("'id'", ["date '2026-10-01' as id", "date '2026-10-02' as id"]),
    "of_a_text": ("'id'", ["cast('O''Brien \\\\ 10' as varchar(20)) as id", "'9' as id"]),
    "of_two_texts": ("['id', 'kind']", ["'b' as id, 'x' as kind", "'A' as id, 'x' as kind"]),
}


def test_every_kind_of_key_merges(redshift: RedshiftServer, tmp_path: Path) -> None:
    endpoint = redshift.endpoint
    schema = f"merges_{uuid4().hex[:8]}"
    (tmp_path / "models").mkdir()
    (tmp_path / "dbt_project.yml").write_text(
        "{name: scratch, version: '1.0', profile: scratch, vars: {tested_days: 3}, "
        "flags: {send_anonymous_usage_stats: false}}"
    )
    profile = endpoint.dbt_output() | {"schema": schema, "threads": 1}
    profiles = {"scratch": {"target": "dev", "outputs": {"dev": profile}}}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump(profiles))
    shutil.copytree(ROOT / "dbt_project" / "macros", tmp_path / "macros")
    for name, (key, (keys, others)) in KEYS.items():
        text = MODEL.format(key=key, keys=keys, others=others)
        (tmp_path / "models" / f"{name}.sql").write_text(text)
    with closing(endpoint.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        try:
            for _ in range(2):
                outcome = dbtRunner().invoke(
                    ["--quiet", "run", "--project-dir", str(tmp_path)]
                    + ["--profiles-dir", str(tmp_path), "--log-path", str(tmp_path / "logs")]
                )
                messages = [f"{r.node.name}: {r.message}" for r in outcome.result or []]
                assert outcome.success, (outcome.exception, messages)
            for name in KEYS:
                cursor.execute(f"select v, count(*) from {schema}.{name} group by v")
                assert (name, [tuple(row) for row in cursor.fetchall()]) == (name, [("new", 2)])
        finally:
            cursor.execute(f"drop schema if exists {schema} cascade")
