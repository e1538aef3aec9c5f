"""Drawing tokens."""

from collections import Counter

import numpy as np

from subterra.compile.sampling import TOP_TOKENS, sampler

LOGITS = np.log(np.array([0.6, 0.3, 0.0999, 0.0001], np.float32))


def test_without_temperature_the_likeliest_is_taken() -> None:
    choose = sampler(0, seed=1)
    assert {choose(LOGITS) for _ in range(5)} == {0}


def test_tokens_are_drawn_by_their_probability_and_the_tail_never() -> None:
    choose = sampler(1.0, seed=1)
    drawn = Counter(choose(LOGITS) for _ in range(2000))
    assert set(drawn) == {0, 1, 2}
    assert 1100 < drawn[0] < 1300
    assert 500 < drawn[1] < 700


def test_the_same_seed_draws_the_same_tokens() -> None:
    first, second = sampler(1.5, seed=3), sampler(1.5, seed=3)
    assert [first(LOGITS) for _ in range(20)] == [second(LOGITS) for _ in range(20)]


def test_a_large_vocabulary_and_great_logits_are_no_trouble() -> None:
    logits = np.full(10 * TOP_TOKENS, -1e4, np.float32)
    logits[77] = 1e4
    assert sampler(0.7, seed=0)(logits) == 77
