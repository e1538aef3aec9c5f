"""Drawing the next token: temperature and nucleus, seeded.

Goes in: logits. Comes out: a token id. Agents never draw, they decode greedily; teachers must, or
each request would bring the same wordings.

    >>> choose = sampler(temperature=0.9, seed=0)
"""

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.engine import Choose

TOP_TOKENS = 100
"""Likeliest tokens that are looked at: the nucleus of a sensible temperature is smaller."""
NUCLEUS = 0.95
"""Share of the probability from which a token is drawn (Holtzman et al., arXiv 1904.09751)."""


def sampler(temperature: float, seed: int) -> Choose:
    """Make a source of tokens; temperature 0 takes the likeliest."""
    rng = np.random.default_rng(seed)

    def choose(logits: NDArray[np.float32]) -> int:
        if temperature <= 0:
            return int(logits.argmax())
        count = min(TOP_TOKENS, len(logits))
        top = np.argpartition(logits, -count)[-count:]
        top = top[np.argsort(-logits[top], kind="stable")]
        weights = np.exp((logits[top] - logits[top[0]]).astype(np.float64) / temperature)
        share = np.cumsum(weights / weights.sum())
        inside = weights[: int(np.searchsorted(share, NUCLEUS)) + 1]
        return int(top[rng.choice(len(inside), p=inside / inside.sum())])

    return choose
