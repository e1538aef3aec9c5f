"""Batches: padding, sorting by length, and thinning of reply tokens."""

import random
from collections.abc import Iterator

import pytest

from subterra.compile.batches import ROUND, WINDOW, Group, collate, groups, token_count
from subterra.compile.dialogue import Dialogue
from subterra.compile.recipe import Encoded, Kind


def encoded(length: int) -> Encoded:
    kinds = (Kind.READ, Kind.STATE, Kind.CHOICE, *[Kind.REPLY] * (length - 3))
    return Encoded(tuple(range(1, length + 1)), kinds)


def stream(
    lengths: list[int], *, size: int = 2, share: float = 1.0, seed: int = 0
) -> Iterator[Group]:
    waiting = iter(lengths)
    return groups(
        iter([Dialogue((), ())] * len(lengths)),
        lambda _: encoded(next(waiting)),
        size=size,
        reply_share=share,
        seed=seed,
    )


def counted(found: list[Group], kind: Kind) -> int:
    return sum(e.kinds.count(kind) for group in found for e in group)


@pytest.fixture
def lengths() -> list[int]:
    rng = random.Random(0)
    return [rng.randrange(4, 400) for _ in range(4 * WINDOW)]


def test_rows_are_padded_on_the_right_with_nothing_to_learn() -> None:
    batch = collate([encoded(5), encoded(20)])
    assert batch.ids.shape == batch.kinds.shape == (2, 2 * ROUND)
    assert batch.ids[0].tolist() == [1, 2, 3, 4, 5] + [0] * 27
    assert batch.kinds[0].tolist() == [0, 3, 2, 1, 1] + [Kind.READ] * 27
    assert token_count([encoded(5), encoded(20)]) == 25


def test_a_length_that_is_round_is_not_padded() -> None:
    assert collate([encoded(ROUND)]).ids.shape == (1, ROUND)


def test_every_dialogue_is_read_once(lengths: list[int]) -> None:
    found = [*stream(lengths)]
    assert sorted(len(e.ids) for group in found for e in group) == sorted(lengths)


def test_dialogues_of_like_length_share_a_group_longest_first(lengths: list[int]) -> None:
    found = [*stream(lengths, size=4)]
    assert sum(collate(group).ids.numel() for group in found) < 1.25 * sum(lengths)
    for group in found:
        sizes = [len(e.ids) for e in group]
        assert sizes == sorted(sizes, reverse=True)


def test_groups_come_in_mixed_lengths(lengths: list[int]) -> None:
    sizes = [len(group[0].ids) for group in stream(lengths)]
    assert sizes not in (sorted(sizes), sorted(sizes, reverse=True))


def test_the_last_group_may_be_smaller() -> None:
    assert sorted(len(group) for group in stream([5, 6, 7])) == [1, 2]


def test_no_dialogues_make_no_group() -> None:
    assert [*stream([])] == []


def test_the_same_seed_gives_the_same_groups(lengths: list[int]) -> None:
    first, again, other = ([*stream(lengths, share=0.3, seed=seed)] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_thinning_keeps_its_share_of_the_reply_and_all_that_decides(lengths: list[int]) -> None:
    found = [*stream(lengths, share=0.3)]
    assert counted(found, Kind.STATE) == counted(found, Kind.CHOICE) == len(lengths)
    kept = counted(found, Kind.REPLY) / sum(length - 3 for length in lengths)
    assert kept == pytest.approx(0.3, abs=0.02)


def test_without_thinning_all_of_the_reply_is_learnt(lengths: list[int]) -> None:
    assert counted([*stream(lengths)], Kind.REPLY) == sum(length - 3 for length in lengths)
