"""Validation: a turn counts when its state line and its choice of facts are right."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from subterra.compile.batches import Batch, collate
from subterra.compile.recipe import Encoded, Kind
from subterra.compile.validate import Counts, Validation, validate

VOCABULARY = 10


class Knowing:
    """Predicts every next token rightly, but for the positions given."""

    def __init__(self, batch: Batch, wrong: list[tuple[int, int]]) -> None:
        self._next = torch.cat((batch.ids[:, 1:], batch.ids[:, :1]), 1)
        for row, position in wrong:
            self._next[row, position - 1] = VOCABULARY - 1

    def __call__(self, ids: Tensor, *, noise: float = 0.0) -> Tensor:
        return functional.one_hot(self._next, VOCABULARY).float()

    def logits(self, hidden: Tensor) -> Tensor:
        return 20 * hidden


@pytest.fixture
def batch() -> Batch:
    """Return two rows: a turn of two state tokens, one of a state token and a choice, and one."""
    read, reply, choice, state = Kind
    first = Encoded((1, 2, 3, 4, 5, 6, 7), (read, state, state, reply, read, state, choice))
    second = Encoded((1, 3, 5, 7), (read, state, state, reply))
    return collate([first, second])


def found(batch: Batch, wrong: list[tuple[int, int]], step: int = 0) -> Validation:
    return Validation.of(validate(Knowing(batch, wrong), [batch]), step)


def test_a_model_that_knows_all_is_exact(batch: Batch) -> None:
    result = found(batch, [], 7)
    assert (result.step, result.exact, result.turns) == (7, 1.0, 3)
    assert result.loss < 1e-3


def test_one_wrong_token_costs_its_turn_and_no_other(batch: Batch) -> None:
    result = found(batch, [(0, 2)])
    assert result.exact == pytest.approx(2 / 3)
    assert result.loss == pytest.approx(20 / 6, rel=0.01)


def test_a_wrong_choice_costs_the_turn_whose_state_was_right(batch: Batch) -> None:
    assert found(batch, [(0, 6)]).exact == pytest.approx(2 / 3)
    assert found(batch, [(0, 5), (0, 6)]).exact == pytest.approx(2 / 3)


def test_the_rest_of_the_reply_does_not_count_beside_a_state_line(batch: Batch) -> None:
    assert found(batch, [(0, 3), (1, 3)]).exact == 1


def test_without_state_lines_the_replies_count(batch: Batch) -> None:
    kinds = batch.kinds.where(batch.kinds == Kind.READ, torch.tensor(int(Kind.REPLY)))
    plain = Batch(batch.ids, kinds)
    assert found(plain, []).turns == 3
    assert found(plain, [(1, 3)]).exact == pytest.approx(2 / 3)


def test_counts_of_several_batches_add_up(batch: Batch) -> None:
    once = validate(Knowing(batch, [(0, 2)]), [batch])
    twice = validate(Knowing(batch, [(0, 2)]), [batch, batch])
    assert (twice.turns, twice.right, twice.tokens) == (6, 4, 12)
    assert once + once == twice


def test_nothing_to_validate_is_no_success() -> None:
    result = Validation.of(Counts(), 0)
    assert (result.exact, result.turns) == (0, 0)


def test_more_exact_lines_win_and_then_the_lower_loss() -> None:
    worse, better, best = (
        Validation(1, 0.1, 0.8, 9),
        Validation(2, 0.9, 0.9, 9),
        Validation(3, 0.8, 0.9, 9),
    )
    assert better.better_than(worse)
    assert best.better_than(better)
    assert not best.better_than(best)
    assert "80.0 % of 9 turns" in worse.line()
