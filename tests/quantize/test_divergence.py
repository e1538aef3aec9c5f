import math
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from subterra.quantize.divergence import (
    LogitsAt,
    ScoredText,
    at_positions,
    clustered_error,
    compare,
)
from subterra.runtime.errors import EngineError

VOCABULARY = 97


def model(seed: int, noise: float = 0.0, shift: float = 0.0) -> LogitsAt:
    """Give fixed logits for each text: proves the arithmetic, not an engine."""

    def logits(tokens: Sequence[int]) -> NDArray[np.float32]:
        random = np.random.default_rng((seed, *tokens))
        base = random.normal(0, 3, (len(tokens), VOCABULARY))
        extra = random.normal(0, 1, (len(tokens), VOCABULARY))
        return (base + noise * extra + shift).astype(np.float32)

    return at_positions(logits)


def texts(count: int = 6, length: int = 150) -> list[ScoredText]:
    random = np.random.default_rng(4)
    return [
        ScoredText(
            random.integers(0, VOCABULARY, length).tolist(),
            (random.random(length) < 0.5).tolist(),
        )
        for _ in range(count)
    ]


def by_hand(reference: LogitsAt, variant: LogitsAt) -> tuple[NDArray[np.float64], ...]:
    kld, change, difference, top = [], [], [], []
    for text in texts():
        rows = text.rows()
        expected = reference(text.tokens, rows).astype(np.float64)
        actual = variant(text.tokens, rows).astype(np.float64)
        for row, a, b in zip(rows, expected, actual, strict=True):
            p, q = np.exp(a) / np.exp(a).sum(), np.exp(b) / np.exp(b).sum()
            target = text.tokens[row + 1]
            kld.append(float((p * np.log(p / q)).sum()))
            change.append(q[target] - p[target])
            difference.append(math.log(p[target] / q[target]))
            top.append(p.argmax() == q.argmax())
    return np.array(kld), np.array(change), np.array(difference), np.array(top)


def test_all_measures_match_the_formulas_written_out() -> None:
    reference, variant = model(1), model(1, noise=0.3)
    result = compare(reference, {"x": variant}, texts())["x"]
    kld, change, difference, top = by_hand(reference, variant)
    assert result.tokens == len(kld)
    assert result.kld["mean"] == pytest.approx(kld.mean(), rel=1e-5)
    assert result.kld["median"] == pytest.approx(np.median(kld), rel=1e-5)
    assert result.kld["p99"] == pytest.approx(np.percentile(kld, 99), rel=1e-5)
    assert result.kld["max"] == pytest.approx(kld.max(), rel=1e-5)
    assert result.ppl_ratio == pytest.approx(math.exp(difference.mean()), rel=1e-6)
    assert result.same_top.successes == top.sum()
    assert result.probability_change_mean == pytest.approx(change.mean(), rel=1e-4)
    assert result.probability_change_rms == pytest.approx(math.sqrt((change**2).mean()), rel=1e-5)
    assert result.ppl / result.reference_ppl == pytest.approx(result.ppl_ratio)


def test_a_model_against_itself_gives_exactly_zero() -> None:
    result = compare(model(2), {"self": model(2)}, texts())["self"]
    assert set(result.kld.values()) == {0.0}
    assert (result.ppl_ratio, result.ppl_ratio_error) == (1.0, 0.0)
    assert result.same_top.value == 1.0
    assert result.probability_change_rms == 0.0


def test_a_shift_common_to_all_logits_is_no_divergence() -> None:
    result = compare(model(2), {"shifted": model(2, shift=50.0)}, texts())["shifted"]
    assert result.kld["max"] < 1e-5
    assert result.ppl_ratio == pytest.approx(1.0, abs=1e-6)


def test_more_noise_is_more_divergence() -> None:
    found = compare(model(3), {str(s): model(3, noise=s) for s in (0.01, 0.1, 1.0)}, texts())
    means = [d.kld["mean"] for d in found.values()]
    assert means == sorted(means)
    assert means[0] == pytest.approx(means[1] / 100, rel=0.05)  # KLD grows with noise squared


def test_only_counted_tokens_are_measured_and_never_the_first() -> None:
    text = ScoredText([5, 6, 7, 8], [True, False, True, True])
    assert text.rows().tolist() == [1, 2]
    assert compare(model(1), {"x": model(1)}, [text])["x"].tokens == 2


def test_texts_without_counted_tokens_are_passed_over() -> None:
    silent = ScoredText([1, 2, 3], [False] * 3)
    done: list[int] = []
    result = compare(model(1), {"x": model(1)}, [silent, *texts(1)], done.append)["x"]
    assert result.texts == 1
    assert done == [1, 2]
    with pytest.raises(ValueError, match="no token"):
        compare(model(1), {"x": model(1)}, [silent])


def test_logits_that_are_not_finite_are_refused() -> None:
    broken: LogitsAt = lambda tokens, rows: np.full((len(rows), VOCABULARY), np.nan, np.float32)  # noqa: E731
    with pytest.raises(EngineError, match="Q2 gives logits that are not finite"):
        compare(model(1), {"Q2": broken}, texts(1))


def test_another_vocabulary_is_refused() -> None:
    other: LogitsAt = lambda tokens, rows: np.zeros((len(rows), 5), np.float32)  # noqa: E731
    with pytest.raises(EngineError, match="5 logits a token, the merged model 97"):
        compare(model(1), {"other": other}, texts(1))


def test_the_error_of_the_mean_counts_dialogues_not_tokens() -> None:
    random = np.random.default_rng(0)
    alike = [np.full(100, value) for value in random.normal(0, 1, 30)]
    plain = np.concatenate(alike).std(ddof=1) / math.sqrt(3000)
    assert clustered_error(alike) == pytest.approx(10 * plain, rel=0.05)
    apart = [random.normal(0, 1, 100) for _ in range(300)]
    assert clustered_error(apart) == pytest.approx(1 / math.sqrt(30_000), rel=0.15)
