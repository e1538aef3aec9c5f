"""Split a training bank: most wordings train, some choose the checkpoint.

Goes in: the training bank. Comes out: two banks without a wording in common. The held-out bank is
never touched here.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from subterra.compile.user_bank import UserBank
from subterra.compile.wording import placeholders

VALIDATION_SHARE = 0.08


def split_bank(
    bank: UserBank, seed: int, share: float = VALIDATION_SHARE
) -> tuple[UserBank, UserBank]:
    """Return (training, validation); every list keeps at least one wording on each side.

    A list of one wording stands on both sides, since neither can do without.
    """
    rng = random.Random(seed)
    train: dict[str, tuple[str, ...]] = {}
    held: dict[str, tuple[str, ...]] = {}
    for key, texts in bank.intents.items():
        shapes: dict[frozenset[str], list[str]] = {}
        for text in texts:
            shapes.setdefault(placeholders(text), []).append(text)
        parts = [_part(list_, share, rng) for list_ in shapes.values()]
        train[key] = tuple(text for part in parts for text in part[0])
        held[key] = tuple(text for part in parts for text in part[1])
    slots = {
        name: {value: _part(phrases, share, rng) for value, phrases in values.items()}
        for name, values in bank.slots.items()
    }
    sides = [
        {n: {v: tuple(p[i]) for v, p in values.items()} for n, values in slots.items()}
        for i in (0, 1)
    ]
    return replace(bank, intents=train, slots=sides[0]), replace(bank, intents=held, slots=sides[1])


def _part(
    texts: Sequence[str], share: float, rng: random.Random
) -> tuple[Sequence[str], Sequence[str]]:
    if len(texts) < 2:
        return texts, texts
    shuffled = rng.sample(list(texts), len(texts))
    count = max(1, round(len(texts) * share))
    return shuffled[count:], shuffled[:count]
