"""Training batches: endless dialogues, encoded, grouped by length, padded little.

Goes in: an iterator of dialogues and an encoder. Comes out: groups of about equal length, and their
tensors. Does not know models.

    >>> group = next(groups(dialogues, encode, size=2, reply_share=0.3, seed=0))
    >>> collate(group).ids.shape
    torch.Size([2, 640])
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from subterra.compile.dialogue import Dialogue
from subterra.compile.recipe import Encoded, Kind

WINDOW = 32
"""Groups whose dialogues are sorted by length together; more waste less padding and mix less."""
ROUND = 16
"""Lengths are rounded up to a multiple, for the kernels' sake."""

Group = Sequence[Encoded]


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded dialogues."""

    ids: Tensor
    """(B, T) token ids, padded on the right with 0."""
    kinds: Tensor
    """(B, T) `Kind` of each token; READ where it is padding."""


def groups(
    dialogues: Iterator[Dialogue],
    encode: Callable[[Dialogue], Encoded],
    *,
    size: int,
    reply_share: float,
    seed: int,
) -> Iterator[Group]:
    """Yield groups of `size` dialogues, longest first, until the dialogues end.

    Args:
        dialogues: the source; each dialogue is used once.
        encode: tokenizer and recipe.
        size: dialogues a group.
        reply_share: share of the reply's tokens whose loss is taken; templated text is learnt long
            before the state line is, and its logits cost most of the output layer's time.
        seed: for the choice of reply tokens and the order of the groups.
    """
    rng = random.Random(seed)
    while window := [encode(d) for d in itertools.islice(dialogues, WINDOW * size)]:
        window.sort(key=lambda encoded: len(encoded.ids), reverse=True)
        found = [window[i : i + size] for i in range(0, len(window), size)]
        rng.shuffle(found)
        for group in found:
            yield [_thin(encoded, reply_share, rng) for encoded in group]


def collate(group: Group) -> Batch:
    """Pad a group on the right."""
    longest = max(len(e.ids) for e in group)
    length = -(-longest // ROUND) * ROUND
    ids = torch.zeros(len(group), length, dtype=torch.long)
    kinds = torch.zeros(len(group), length, dtype=torch.long)
    for row, encoded in enumerate(group):
        ids[row, : len(encoded.ids)] = torch.tensor(encoded.ids)
        kinds[row, : len(encoded.ids)] = torch.tensor(encoded.kinds)
    return Batch(ids, kinds)


def token_count(group: Group) -> int:
    """Count the tokens of a group, without padding."""
    return sum(len(encoded.ids) for encoded in group)


def _thin(encoded: Encoded, share: float, rng: random.Random) -> Encoded:
    if share >= 1:
        return encoded
    kinds = tuple(
        Kind.READ if kind == Kind.REPLY and rng.random() >= share else kind
        for kind in encoded.kinds
    )
    return Encoded(encoded.ids, kinds)
