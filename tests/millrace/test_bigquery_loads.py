"""What BigQuery's emulator shows of a check, and of loads that something gets in the way of."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.exceptions import Forbidden

from millrace.errors import WarehouseRefused
from millrace.testing import Place
from millrace.warehouses.bigquery.session import BigQuerySession

pytestmark = [pytest.mark.service, pytest.mark.bigquery]

STEPS = ["account", "project", "location", *["dataset"] * 7]


@pytest.fixture
def place(bigquery_place: Place) -> Place:
    return bigquery_place


def test_a_check_tells_each_step_and_leaves_nothing(place: Place) -> None:
    told: list[str] = []
    assert "all that a load needs works" in place.warehouse.check(told.append)
    assert [step.split()[0] for step in told] == STEPS
    dataset = place.warehouse._credentials.schema  # type: ignore[attr-defined]
    with place.warehouse._session() as session:
        assert isinstance(session, BigQuerySession)
        assert list(session.client.list_tables(dataset)) == []


# The emulator refuses nobody a right.
@pytest.mark.parametrize(
    ("refused", "name", "step"),
    [
        ("estimate", "", "project"),
        ("run", "SELECT 1", "location"),
        ("make_dataset", "", "it is there, or can be made"),
        ("run", "CREATE TABLE", "a table is made"),
        ("upload", "", "a part is loaded"),
        ("transaction", "", "a transaction changes rows"),
        ("run", "SELECT id", "rows are read"),
        ("run", "ALTER TABLE", "a column is added"),
        ("drop", "", "a table is dropped"),
    ],
)
def test_a_check_ends_at_the_first_right_that_is_missing(
    place: Place, monkeypatch: pytest.MonkeyPatch, refused: str, name: str, step: str
) -> None:
    genuine = getattr(BigQuerySession, refused)

    def refuse(session: BigQuerySession, first: Any, *rest: Any) -> Any:
        if str(first).startswith(name):
            raise Forbidden("Access Denied", errors=[{"reason": "accessDenied"}])
        return genuine(session, first, *rest)

    monkeypatch.setattr(BigQuerySession, refused, refuse)
    told: list[str] = []
    with pytest.raises(WarehouseRefused, match=f"{step}.*: no. BigQuery") as caught:
        place.warehouse.check(told.append)
    assert "deploy/bigquery/grant" in caught.value.fix
    assert not any(step in passed for passed in told)
