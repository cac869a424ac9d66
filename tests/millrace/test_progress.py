import pytest

from millrace.progress import describe, in_bytes, in_time


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            (1_200_000, 24_100_000, 4_400_000, 1.5),
            "1,200,000 rows, 800,000 rows/s, 24.1 MB, about 4 s left",
        ),
        ((1_000, 999, None, 2), "1,000 rows, 500 rows/s, 999 bytes"),
        # The estimate was too low, so it is not shown any more.
        ((1_000, 1_000, 900, 2), "1,000 rows, 500 rows/s, 1.0 kB"),
        ((0, 0, 900, 0), "0 rows, 0 rows/s, 0 bytes"),
    ],
)
def test_progress_says_how_much_how_fast_and_how_long_still(told, said):
    assert describe(*told) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s"), (7_260, "2 h 1 min")],
)
def test_a_duration_is_said_in_two_units_at_most(seconds, said):
    assert in_time(seconds) == said


def test_a_size_is_said_in_decimal_units():
    assert [in_bytes(size) for size in (0, 1_500, 2_500_000, 3e9)] == [
        *("0 bytes", "1.5 kB", "2.5 MB", "3.0 GB")
    ]
