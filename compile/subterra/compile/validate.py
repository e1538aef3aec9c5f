"""Teacher-forced validation: how often a turn's deciding tokens are all right, and the loss.

Goes in: a forward pass and encoded validation dialogues. Comes out: `Counts`, which add up over
processes, and the `Validation` made of them. Cheap enough to run during training; the real measure
is `subterra score`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from subterra.compile.batches import Batch
from subterra.compile.recipe import Kind


class Forward(Protocol):
    """What training and validation ask of a model."""

    def __call__(self, ids: Tensor, *, noise: float = 0.0) -> Tensor:
        """Give hidden states (B, T, C)."""

    def logits(self, hidden: Tensor) -> Tensor:
        """Project selected hidden states (N, C) to logits (N, V)."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was found on some of the validation dialogues."""

    turns: int = 0
    right: int = 0
    tokens: int = 0
    loss: float = 0.0
    """Sum over the tokens."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.turns + other.turns,
            self.right + other.right,
            self.tokens + other.tokens,
            self.loss + other.loss,
        )


@dataclass(frozen=True, slots=True)
class Validation:
    """Figures on the validation split at one step."""

    step: int
    loss: float
    """Mean loss of the tokens that decide (of the whole reply, where there is no state line)."""
    exact: float
    """Share of assistant turns whose state line and choice of facts are right (greedy,
    teacher-forced)."""
    turns: int

    @classmethod
    def of(cls, counts: Counts, step: int) -> "Validation":
        """Turn counts into rates."""
        return cls(
            step,
            counts.loss / max(counts.tokens, 1),
            counts.right / max(counts.turns, 1),
            counts.turns,
        )

    def key(self) -> tuple[float, float]:
        """Sort key: more exact turns first, then lower loss."""
        return (self.exact, -self.loss)

    def better_than(self, other: "Validation") -> bool:
        """Tell whether this checkpoint is the better one."""
        return self.key() > other.key()

    def line(self) -> str:
        """One line for the terminal."""
        return (
            f"validation at step {self.step}: {100 * self.exact:.1f} % of {self.turns} turns exact"
            f" (state line and choice of facts), loss {self.loss:.4f}"
        )


@torch.no_grad()
def validate(forward: Forward, batches: Sequence[Batch]) -> Counts:
    """Read every batch once."""
    return sum((_read(forward, batch) for batch in batches), Counts())


def _read(forward: Forward, batch: Batch) -> Counts:
    state = batch.kinds == Kind.STATE
    choice, learnt = batch.kinds == Kind.CHOICE, batch.kinds != Kind.READ  # (B, T)
    deciding = (state | choice) if state.any() else learnt
    hidden = forward(batch.ids)
    wanted = deciding[:, 1:]
    logits = forward.logits(hidden[:, :-1][wanted])  # (N, V)
    gold = batch.ids[:, 1:][wanted]
    loss = float(functional.cross_entropy(logits, gold, reduction="sum"))
    turn = _turns(state if state.any() else deciding)  # (B, T)
    here = turn[:, 1:][wanted]
    wrong = len(set(here[logits.argmax(-1) != gold].tolist()))
    turns = len(set(here.tolist()))
    return Counts(turns, turns - wrong, gold.numel(), loss)


def _turns(mask: Tensor) -> Tensor:
    """Number the stretches of a mask (B, T); a position takes the number of the last begun."""
    before = functional.pad(mask[:, :-1], (1, 0))
    begins = (mask & ~before).int()
    count = begins.cumsum(1)
    return count + torch.arange(mask.shape[0])[:, None] * (mask.shape[1] + 1)
