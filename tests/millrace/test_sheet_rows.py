from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.google_sheets.rows import RowChange, added_rows, changes


def applied(before: list[str], made: list[RowChange]) -> list[str]:
    """The rows after the changes, as Google documents them; an inserted row is blank."""
    rows = list(before)
    for change in made:
        part = slice(change.start, change.end)
        if change.kind == "insert":
            rows[change.start : change.start] = [""] * (change.end - change.start)
        elif change.kind == "delete":
            assert len(rows) > change.end - change.start
            del rows[part]
        else:
            moved = rows[part]
            assert not change.start < change.to < change.end
            del rows[part]
            to = change.to - (len(moved) if change.to > change.start else 0)
            rows[to:to] = moved
    return rows


@given(
    st.lists(st.sampled_from("abcdefgh"), max_size=9),
    st.lists(st.sampled_from("abcdefghijkl"), min_size=1, max_size=9, unique=True),
)
def test_a_row_stays_with_its_key_and_the_others_are_blank(before: list[str], after: list[str]):
    made = changes(before, after)
    rows = applied(before, made)
    assert rows == [key if key in before else "" for key in after]
    assert len(before) + added_rows(made) == len(after)


@pytest.mark.parametrize(
    ("before", "after", "made"),
    [
        ("abc", "abc", []),
        ("ad", "abcd", [RowChange("insert", 1, 3)]),
        ("abcd", "ad", [RowChange("delete", 1, 3)]),
        ("ab", "abcd", [RowChange("insert", 2, 4)]),
        ("abcd", "ab", [RowChange("delete", 2, 4)]),
        ("abc", "bc", [RowChange("delete", 0, 1)]),
        ("ab", "xy", [RowChange("insert", 0, 2), RowChange("delete", 2, 4)]),
        ("abc", "cab", [RowChange("move", 2, 3, 0)]),
    ],
)
def test_neighbours_change_together(before: str, after: str, made: list[RowChange]):
    assert changes(before, after) == made
