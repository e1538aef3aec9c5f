import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subterra.compile.rates import Rate, mcnemar_exact, paired_difference, wilson


def test_wilson_gives_the_textbook_interval() -> None:
    low, high = wilson(197, 200)
    assert (round(low, 4), round(high, 4)) == (0.9568, 0.9949)


def test_a_rate_is_written_with_its_interval() -> None:
    expected = {"value": 0.985, "n": 200, "low": 0.957, "high": 0.995}
    assert Rate(197, 200).to_json() == expected


def test_an_empty_rate_has_no_value_and_the_widest_interval() -> None:
    assert math.isnan(Rate(0, 0).value)
    assert Rate(0, 0).to_json() == {"value": None, "n": 0, "low": 0.0, "high": 1.0}
    assert str(Rate(0, 0)) == "none tried"


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 successes of 2"):
        Rate(3, 2)


@given(st.integers(1, 500), st.data())
def test_the_interval_holds_its_value_and_stays_within_zero_and_one(
    n: int, data: st.DataObject
) -> None:
    rate = Rate(data.draw(st.integers(0, n)), n)
    assert 0.0 <= rate.low <= rate.value <= rate.high <= 1.0


def test_mcnemar_matches_the_binomial_by_hand() -> None:
    # 1 against 7 discordant pairs: 2 * (C(8,0) + C(8,1)) / 2^8
    assert mcnemar_exact(1, 7) == pytest.approx(2 * 9 / 256)
    assert mcnemar_exact(7, 1) == mcnemar_exact(1, 7)


def test_mcnemar_without_discordant_pairs_is_one() -> None:
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(3, 3) == 1.0


def test_mcnemar_stands_large_counts() -> None:
    assert mcnemar_exact(2000, 2000) == 1.0
    assert mcnemar_exact(0, 4000) == 0.0


def test_the_paired_difference_lies_in_its_interval_and_narrows_with_pairs() -> None:
    few, many = paired_difference(2, 8, 50), paired_difference(20, 80, 500)
    assert few[0] == many[0] == pytest.approx(0.12)
    assert few[1] < 0.12 < few[2]
    assert many[2] - many[1] < few[2] - few[1]


def test_without_flips_the_difference_is_zero_but_not_certain() -> None:
    difference, low, high = paired_difference(0, 0, 200)
    assert difference == 0
    assert -0.02 < low < 0 < high < 0.02
    assert paired_difference(0, 0, 0) == (0.0, -1.0, 1.0)
