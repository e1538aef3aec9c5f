"""Teacher-forced validation: how often a whole state line is right, and the loss.

Goes in: a forward pass and encoded validation dialogues. Comes out: a `Validation`. Cheap enough to
run during training; the real measure is `subterra score`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from subterra.compile.batches import Batch
from subterra.compile.recipe import Weights


class Forward(Protocol):
    """What training and validation ask of a model."""

    def __call__(self, ids: Tensor, *, noise: float = 0.0) -> Tensor:
        """Give hidden states (B, T, C)."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Project selected hidden states (N, C) to logits (N, V)."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Figures on the validation split at one step."""

    step: int
    loss: float
    """Mean loss of the state line's tokens (of the reply's, where there is no state line)."""
    exact: float
    """Share of assistant turns whose whole state line is right (greedy, teacher-forced)."""
    turns: int

    def key(self) -> tuple[float, float]:
        """Sort key: more exact state lines first, then lower loss."""
        return (self.exact, -self.loss)

    def better_than(self, other: "Validation") -> bool:
        """Tell whether this checkpoint is the better one."""
        return self.key() > other.key()

    def line(self) -> str:
        """One line for the terminal."""
        return (
            f"validation at step {self.step}: {100 * self.exact:.1f} % of {self.turns} state lines"
            f" exact, loss {self.loss:.4f}"
        )


@torch.no_grad()
def validate(forward: Forward, batches: Sequence[Batch], weights: Weights, step: int) -> Validation:
    """Read every validation batch once."""
    turns = right = tokens = 0
    loss = 0.0
    for batch in batches:
        state = batch.weights == weights.state
        if not state.any():
            state = batch.weights > 0
        hidden = forward(batch.ids)
        wanted = state[:, 1:]
        logits = forward.logits(hidden[:, :-1][wanted])  # (N, V)
        gold = batch.ids[:, 1:][wanted]
        loss += float(functional.cross_entropy(logits, gold, reduction="sum"))
        tokens += gold.numel()
        hits = torch.zeros_like(state)
        hits[:, 1:][wanted] = logits.argmax(-1) == gold
        for row in range(state.shape[0]):
            for start, end in _spans(state[row]):
                turns += 1
                right += bool(hits[row, start:end].all())
    return Validation(step, loss / max(tokens, 1), right / max(turns, 1), turns)


def _spans(mask: Tensor) -> list[tuple[int, int]]:
    edges = torch.diff(mask.int(), prepend=torch.zeros(1), append=torch.zeros(1)).nonzero()
    points = edges.flatten().tolist()
    return list(zip(points[::2], points[1::2], strict=True))
