"""How far a variant's predictions lie from the merged model's, over the full vocabulary.

Goes in: logits of a reference and of variants on the same tokens. Comes out: perplexities, KL
divergence, same-top share, change of the right token's probability. Does not know engines or files.

Texts are streamed one at a time and only a few numbers a token are kept, so memory does not grow
with the text. No log-probability is rounded or clamped: a model against itself gives exactly 0
(llama-perplexity stores them in 16 bits and has a floor near 5e-4).

With p the reference, q the variant and t the token that follows, for each counted position:

    KLD = sum_v p(v) (ln p(v) - ln q(v))        nats, >= 0
    ln PPL ratio = mean(ln p(t) - ln q(t))      standard error over dialogues, paired

    >>> compare(reference, {"Q8_0": variant}, texts)["Q8_0"].kld["p99"]
    0.0042
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from subterra.compile.rates import Rate
from subterra.runtime.errors import EngineError

Floats = NDArray[np.float64]

LogitsAt = Callable[[Sequence[int], NDArray[np.intp]], NDArray[np.float32]]
"""Tokens (T,) and positions (R,) -> logits (R, V) after those positions."""

PERCENTILES = {"median": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99.9": 99.9}

ROWS = 64
"""Positions worked on at a time: 64 rows of 49,152 logits are 12 MiB in fp32."""


@dataclass(frozen=True, slots=True)
class ScoredText:
    """One dialogue as tokens; `counted[i]` says that token i is the agent's own."""

    tokens: Sequence[int]
    counted: Sequence[bool]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.counted):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.counted)} marks")

    def rows(self) -> NDArray[np.intp]:
        """Positions whose logits predict a counted token; token 0 is never predicted."""
        return np.flatnonzero(np.asarray(self.counted[1:], dtype=bool))

    def clipped(self, limit: int) -> "ScoredText":
        """Keep the first `limit` tokens."""
        return ScoredText(self.tokens[:limit], self.counted[:limit])


@dataclass(frozen=True, slots=True)
class Divergence:
    """Predictions of a variant against the reference, over the counted tokens."""

    tokens: int
    texts: int
    ppl: float
    reference_ppl: float
    ppl_ratio: float
    """Perplexity of the variant over that of the reference; below 1: more certain of the text."""
    ppl_ratio_error: float
    """One standard error, paired by token and clustered by dialogue."""
    kld: Mapping[str, float]
    """Nats: mean, mean_error, median, p90, p95, p99, p99.9, max."""
    same_top: Rate
    """Positions at which both models find the same token the most likely."""
    probability_change_mean: float
    """Mean of q(t) - p(t); negative: the variant is less sure of the right token."""
    probability_change_rms: float

    def to_json(self) -> dict[str, object]:
        """Keys as in the report."""
        return {
            "tokens": self.tokens,
            "ppl": _significant(self.ppl),
            "ppl_ratio": _significant(self.ppl_ratio, 6),
            "ppl_ratio_error": _significant(self.ppl_ratio_error, 3),
            "kld": {name: _significant(value) for name, value in self.kld.items()},
            "same_top": self.same_top.to_json(),
            "probability_change": {
                "mean": _significant(self.probability_change_mean),
                "rms": _significant(self.probability_change_rms),
            },
        }


@dataclass(slots=True)
class _Tally:
    """Numbers kept for each token; a text adds one array to each list."""

    kld: list[Floats] = field(default_factory=list)
    reference_nll: list[Floats] = field(default_factory=list)
    nll: list[Floats] = field(default_factory=list)
    same_top: int = 0


def compare(
    reference: LogitsAt,
    variants: Mapping[str, LogitsAt],
    texts: Iterable[ScoredText],
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, Divergence]:
    """Measure every variant in one pass of the reference over `texts`.

    Args:
        reference: the merged model.
        variants: name -> its logits; all are held open for the whole pass.
        texts: read once, in order.
        progress: called with the number of texts done.

    Raises:
        EngineError: a model gives logits of another shape, or not finite ones.
        ValueError: no token is counted.
    """
    tallies = {name: _Tally() for name in variants}
    for done, text in enumerate(texts, start=1):
        if len(text.rows()):
            _add_text(reference, variants, text, tallies)
        progress(done)
    return {name: _summarise(tally) for name, tally in tallies.items()}


def at_positions(
    logits: Callable[[Sequence[int]], NDArray[np.float32]],
) -> LogitsAt:
    """Adapt an engine's `logits(tokens) -> (T, V)`."""
    return lambda tokens, rows: logits(tokens)[rows]


def _add_text(
    reference: LogitsAt,
    variants: Mapping[str, LogitsAt],
    text: ScoredText,
    tallies: dict[str, _Tally],
) -> None:
    rows = text.rows()
    targets = np.asarray(text.tokens)[rows + 1]
    expected = _checked("the merged model", reference(text.tokens, rows), rows)
    for name, logits_at in variants.items():
        actual = _checked(name, logits_at(text.tokens, rows), rows)
        if actual.shape != expected.shape:
            raise EngineError(
                f"{name} has {actual.shape[1]} logits a token, the merged model "
                f"{expected.shape[1]}",
                hint="make the variant again: subterra quantize",
            )
        parts = [
            _rows(expected[i : i + ROWS], actual[i : i + ROWS], targets[i : i + ROWS])
            for i in range(0, len(rows), ROWS)
        ]
        kld, reference_nll, nll, same = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        tally = tallies[name]
        tally.kld.append(kld)
        tally.reference_nll.append(reference_nll)
        tally.nll.append(nll)
        tally.same_top += int(same.sum())


def _rows(
    expected: NDArray[np.float32], actual: NDArray[np.float32], targets: NDArray[np.int_]
) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """KLD, both negative log-likelihoods and same-top for each row; logits (R, V), targets (R,).

    Exponentials and differences are taken in fp32 and summed in float64. Weights are normalised by
    their own sum, so that a shift common to all logits cancels.
    """
    row = np.arange(len(targets))
    weight, log_sum = _exponentials(expected)
    _, log_sum_actual = _exponentials(actual)
    shift = (weight * (expected - actual)).sum(-1, dtype=np.float64)
    shift /= weight.sum(-1, dtype=np.float64)
    kld = np.maximum(shift - (log_sum - log_sum_actual), 0.0)
    reference_nll = log_sum - expected[row, targets]
    nll = log_sum_actual - actual[row, targets]
    return kld, reference_nll, nll, expected.argmax(-1) == actual.argmax(-1)


def _exponentials(logits: NDArray[np.float32]) -> tuple[NDArray[np.float32], Floats]:
    """exp(logits - max) (R, V) and ln sum exp(logits) (R,)."""
    top = logits.max(-1)
    weight = np.exp(logits - top[:, None])
    return weight, top + np.log(weight.sum(-1, dtype=np.float64))


def _checked(name: str, logits: NDArray[np.float32], rows: NDArray[np.intp]) -> NDArray[np.float32]:
    if logits.ndim != 2 or len(logits) != len(rows):
        raise EngineError(
            f"{name} gives logits of shape {logits.shape} for {len(rows)} positions",
            hint="make the variant again: subterra quantize",
        )
    if not np.isfinite(logits).all():
        raise EngineError(
            f"{name} gives logits that are not finite",
            hint="the file is damaged or overflows; make it again: subterra quantize",
        )
    return logits


def _summarise(tally: _Tally) -> Divergence:
    if not tally.kld:
        raise ValueError("no token is counted")
    kld = np.concatenate(tally.kld)
    reference_nll, nll = np.concatenate(tally.reference_nll), np.concatenate(tally.nll)
    change = np.exp(-nll) - np.exp(-reference_nll)
    ratio = math.exp(float((nll - reference_nll).mean()))
    differences = [a - b for a, b in zip(tally.nll, tally.reference_nll, strict=True)]
    percentiles = np.percentile(kld, list(PERCENTILES.values()))
    return Divergence(
        tokens=len(kld),
        texts=len(tally.kld),
        ppl=math.exp(float(nll.mean())),
        reference_ppl=math.exp(float(reference_nll.mean())),
        ppl_ratio=ratio,
        ppl_ratio_error=ratio * clustered_error(differences),
        kld={
            "mean": float(kld.mean()),
            "mean_error": clustered_error(tally.kld),
            **{n: float(v) for n, v in zip(PERCENTILES, percentiles, strict=True)},
            "max": float(kld.max()),
        },
        same_top=Rate(tally.same_top, len(kld)),
        probability_change_mean=float(change.mean()),
        probability_change_rms=float(np.sqrt((change**2).mean())),
    )


def clustered_error(groups: Sequence[Floats]) -> float:
    """Standard error of the mean over all values, when those of one group are not independent.

    With residuals r and G groups: sqrt(G / (G - 1) * sum_g (sum r)^2) / n (Liang and Zeger 1986).
    One group alone: the plain error of its values.
    """
    values = np.concatenate(groups)
    if len(groups) == 1:
        return float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    mean = values.mean()
    sums = np.array([(group - mean).sum() for group in groups])
    count = len(groups)
    return float(math.sqrt(count / (count - 1) * float((sums**2).sum())) / len(values))


def _significant(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")
