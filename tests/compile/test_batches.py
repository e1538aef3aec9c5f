"""Batches: padding, sorting by length, and thinning of reply tokens."""

import random
from collections.abc import Iterator

import pytest
import torch

from subterra.compile.batches import ROUND, WINDOW, Batch, batches, collate
from subterra.compile.dialogue import Dialogue
from subterra.compile.recipe import Encoded


def encoded(length: int, weight: float = 0.3) -> Encoded:
    return Encoded(tuple(range(1, length + 1)), (0.0, 1.0, *[weight] * (length - 2)))


def stream(
    lengths: list[int], *, size: int = 2, share: float = 1.0, seed: int = 0
) -> Iterator[Batch]:
    waiting = iter(lengths)
    return batches(
        iter([Dialogue((), ())] * len(lengths)),
        lambda _: encoded(next(waiting)),
        size=size,
        reply_share=share,
        reply_weight=0.3,
        seed=seed,
    )


@pytest.fixture
def lengths() -> list[int]:
    rng = random.Random(0)
    return [rng.randrange(3, 400) for _ in range(2 * WINDOW)]


def test_rows_are_padded_on_the_right_with_nothing_to_learn() -> None:
    batch = collate([encoded(5), encoded(20)])
    assert batch.ids.shape == batch.weights.shape == (2, 2 * ROUND)
    assert batch.ids[0].tolist() == [1, 2, 3, 4, 5] + [0] * 27
    assert batch.weights[0, 5:].sum() == 0
    assert batch.tokens == 25


def test_a_length_that_is_round_is_not_padded() -> None:
    assert collate([encoded(ROUND)]).ids.shape == (1, ROUND)


def test_every_dialogue_is_read_once(lengths: list[int]) -> None:
    found = [*stream(lengths)]
    assert sum(batch.ids.shape[0] for batch in found) == len(lengths)
    assert sum(batch.tokens for batch in found) == sum(lengths)


def test_dialogues_of_like_length_share_a_batch(lengths: list[int]) -> None:
    read = sum(batch.ids.numel() for batch in stream(lengths))
    assert read < 1.25 * sum(lengths)


def test_batches_come_in_mixed_lengths(lengths: list[int]) -> None:
    sizes = [batch.ids.shape[1] for batch in stream(lengths)]
    assert sizes != sorted(sizes)


def test_the_last_batch_may_be_smaller() -> None:
    assert sorted(batch.ids.shape[0] for batch in stream([5, 6, 7])) == [1, 2]


def test_no_dialogues_make_no_batch() -> None:
    assert [*stream([])] == []


def test_the_same_seed_gives_the_same_batches(lengths: list[int]) -> None:
    first, again, other = (
        torch.cat([batch.weights.flatten() for batch in stream(lengths, share=0.3, seed=seed)])
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_thinning_keeps_its_share_of_the_reply_and_all_of_the_state(lengths: list[int]) -> None:
    found = [*stream(lengths, share=0.3)]
    state = sum(int((batch.weights == 1).sum()) for batch in found)
    reply = sum(int((batch.weights == 0.3).sum()) for batch in found)
    assert state == len(lengths)
    assert reply / sum(length - 2 for length in lengths) == pytest.approx(0.3, abs=0.02)


def test_without_thinning_all_of_the_reply_is_learnt(lengths: list[int]) -> None:
    reply = sum(int((batch.weights == 0.3).sum()) for batch in stream(lengths))
    assert reply == sum(length - 2 for length in lengths)
