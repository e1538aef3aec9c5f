"""Split a training bank: most wordings train, some choose the checkpoint.

Goes in: the training bank, with the library's wordings where it has any. Comes out: two banks
without a wording in common; a wording of the library is on one side for all intents and slots. The
held-out bank is never touched here.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from subterra.compile.bank_document import fold
from subterra.compile.user_bank import UserBank
from subterra.compile.wording import PLACEHOLDER, placeholders

VALIDATION_SHARE = 0.08

Texts = dict[str, tuple[str, ...]]


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
        parts = [_part(list_, share, rng) for list_ in _by_shape(texts)]
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
    general = _split_general(bank, train, held, share, rng)
    return (
        replace(bank, intents=train, slots=sides[0], general=general[0]),
        replace(bank, intents=held, slots=sides[1], general=general[1]),
    )


def _split_general(
    bank: UserBank, train: Texts, held: Texts, share: float, rng: random.Random
) -> tuple[Texts, Texts]:
    """Split the library's wordings; one that is like an own wording goes where that one went."""
    is_held = {_frame(text): True for texts in held.values() for text in texts}
    is_held |= {_frame(text): False for texts in train.values() for text in texts}
    sides: tuple[Texts, Texts] = {}, {}
    for key, texts in bank.general.items():
        for side in sides:
            side[key] = ()
        for list_ in _by_shape(texts):
            fresh = [text for text in list_ if _frame(text) not in is_held]
            count = max(1, round(len(list_) * share)) - sum(
                is_held.get(_frame(text), False) for text in list_
            )
            chosen = set(rng.sample(fresh, min(max(count, 0), len(fresh))))
            is_held |= {_frame(text): text in chosen for text in fresh}
            for side, wanted in zip(sides, (False, True), strict=True):
                found = [text for text in list_ if is_held[_frame(text)] == wanted]
                side[key] = (*side[key], *found)
        for side in sides:
            if not side[key] and key not in bank.intents:
                side[key] = texts
    return sides


def _by_shape(texts: Sequence[str]) -> list[list[str]]:
    shapes: dict[frozenset[str], list[str]] = {}
    for text in texts:
        shapes.setdefault(placeholders(text), []).append(text)
    return list(shapes.values())


def _frame(text: str) -> str:
    return fold(PLACEHOLDER.sub("{value}", text))


def _part(
    texts: Sequence[str], share: float, rng: random.Random
) -> tuple[Sequence[str], Sequence[str]]:
    if len(texts) < 2:
        return texts, texts
    shuffled = rng.sample(list(texts), len(texts))
    count = max(1, round(len(texts) * share))
    return shuffled[count:], shuffled[:count]
