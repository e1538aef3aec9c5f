"""Training batches: endless dialogues, encoded, sorted by length, padded little.

Goes in: an iterator of dialogues and an encoder. Comes out: batches of about equal length. Does not
know models.

    >>> batch = next(batches(dialogues, encode, size=2, reply_share=0.3, seed=0))
    >>> batch.ids.shape
    torch.Size([2, 640])
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from subterra.compile.dialogue import Dialogue
from subterra.compile.recipe import Encoded

WINDOW = 64
"""Dialogues that are sorted by length together; larger wastes less padding, mixes less."""
ROUND = 16
"""Lengths are rounded up to a multiple, for the kernels' sake."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded dialogues."""

    ids: Tensor
    """(B, T) token ids, padded on the right with 0."""
    weights: Tensor
    """(B, T) what predicting this token counts; 0 where nothing is learnt."""
    tokens: int
    """Tokens read, without padding."""


def batches(
    dialogues: Iterator[Dialogue],
    encode: Callable[[Dialogue], Encoded],
    *,
    size: int,
    reply_share: float,
    reply_weight: float,
    seed: int,
) -> Iterator[Batch]:
    """Yield batches of `size` dialogues without end.

    Args:
        dialogues: the source; each dialogue is used once.
        encode: tokenizer and recipe.
        size: dialogues a batch.
        reply_share: share of the reply's tokens whose loss is taken; templated text is learnt long
            before the state line is, and its logits cost most of the output layer's time.
        reply_weight: the weight that marks a reply token.
        seed: for the choice of reply tokens and the order of the batches.
    """
    rng = random.Random(seed)
    while window := [encode(d) for d in itertools.islice(dialogues, WINDOW * size // 2)]:
        window.sort(key=lambda encoded: len(encoded.ids))
        groups = [window[i : i + size] for i in range(0, len(window), size)]
        rng.shuffle(groups)
        for group in groups:
            yield collate([_thin(e, reply_share, reply_weight, rng) for e in group])


def collate(group: list[Encoded]) -> Batch:
    """Pad a group on the right."""
    longest = max(len(e.ids) for e in group)
    length = -(-longest // ROUND) * ROUND
    ids = torch.zeros(len(group), length, dtype=torch.long)
    weights = torch.zeros(len(group), length)
    for row, encoded in enumerate(group):
        ids[row, : len(encoded.ids)] = torch.tensor(encoded.ids)
        weights[row, : len(encoded.ids)] = torch.tensor(encoded.weights)
    return Batch(ids, weights, sum(len(e.ids) for e in group))


def _thin(encoded: Encoded, share: float, reply_weight: float, rng: random.Random) -> Encoded:
    if share >= 1:
        return encoded
    weights = tuple(
        0.0 if w == reply_weight and rng.random() >= share else w for w in encoded.weights
    )
    return Encoded(encoded.ids, weights)
