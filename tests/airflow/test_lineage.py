"""Which node waits for which test, as in ``dbt build``."""

import pytest

from millrace.airflow.lineage import Lineage

A, B, C, D = "model.p.a", "model.p.b", "model.p.c", "model.p.d"
X = "source.p.s.x"
LINES = {X: [], A: [X], B: [], C: [A, B], D: [C], "test.p.on_c": [C]}


def test_nodes_that_read_a_source_wait_for_its_tests():
    assert list(Lineage(LINES).first_after([X])) == [A]


def test_what_reads_both_models_waits_for_a_test_of_both():
    assert list(Lineage(LINES).first_after([A, B])) == [C]


def test_nothing_waits_for_a_test_of_what_nothing_reads_together():
    assert list(Lineage({**LINES, "model.p.e": []}).first_after([A, "model.p.e"])) == []


def test_everything_waits_for_a_test_that_reads_nothing():
    assert list(Lineage(LINES).first_after([])) == [A, B]


def test_a_node_waits_for_the_tests_of_all_that_is_upstream():
    assert list(Lineage(LINES).tests_before(D)) == ["test.p.on_c"]
    assert list(Lineage(LINES).tests_before(C)) == []


def test_a_long_line_of_models_is_not_walked_again_for_each():
    long = {f"model.p.m{n}": [f"model.p.m{n - 1}"] if n else [] for n in range(500)}
    assert len(Lineage(long).ancestors("model.p.m499")) == 499


@pytest.mark.parametrize("key", ["s.x"])
def test_a_source_is_found_by_its_key(key):
    assert Lineage(LINES).source(key) == X
    assert Lineage(LINES).descendants(X) == {A, C, D, "test.p.on_c"}
