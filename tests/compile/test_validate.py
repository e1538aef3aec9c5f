"""Validation: a turn counts when its whole state line is right."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from subterra.compile.batches import Batch, collate
from subterra.compile.recipe import Encoded, Weights
from subterra.compile.validate import Validation, validate

WEIGHTS = Weights(state=1.0, reply=0.3)
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
    """Return two rows: state lines of two and one tokens, and of two tokens."""
    state, reply = WEIGHTS.state, WEIGHTS.reply
    first = Encoded((1, 2, 3, 4, 5, 6, 7), (0, state, state, reply, 0, state, reply))
    second = Encoded((1, 3, 5, 7), (0, state, state, reply))
    return collate([first, second])


def test_a_model_that_knows_all_is_exact(batch: Batch) -> None:
    found = validate(Knowing(batch, []), [batch], WEIGHTS, 7)
    assert (found.step, found.exact, found.turns) == (7, 1.0, 3)
    assert found.loss < 1e-3


def test_one_wrong_token_costs_its_state_line_and_no_other(batch: Batch) -> None:
    found = validate(Knowing(batch, [(0, 2)]), [batch], WEIGHTS, 0)
    assert found.exact == pytest.approx(2 / 3)
    assert found.loss == pytest.approx(20 / 5, rel=0.01)


def test_the_reply_does_not_count_beside_a_state_line(batch: Batch) -> None:
    assert validate(Knowing(batch, [(0, 3), (1, 3)]), [batch], WEIGHTS, 0).exact == 1


def test_without_state_lines_the_replies_count(batch: Batch) -> None:
    weights = torch.where(batch.weights > 0, WEIGHTS.reply, 0.0)
    plain = Batch(batch.ids, weights, batch.tokens)
    assert validate(Knowing(batch, []), [plain], WEIGHTS, 0).turns == 3
    assert validate(Knowing(batch, [(1, 3)]), [plain], WEIGHTS, 0).exact == pytest.approx(2 / 3)


def test_nothing_to_validate_is_no_success() -> None:
    found = validate(Knowing(collate([Encoded((1,), (0.0,))]), []), [], WEIGHTS, 0)
    assert (found.exact, found.turns) == (0, 0)


def test_more_exact_lines_win_and_then_the_lower_loss() -> None:
    worse, better, best = (
        Validation(1, 0.1, 0.8, 9),
        Validation(2, 0.9, 0.9, 9),
        Validation(3, 0.8, 0.9, 9),
    )
    assert better.better_than(worse)
    assert best.better_than(better)
    assert not best.better_than(best)
    assert "80.0 % of 9 state lines" in worse.line()
