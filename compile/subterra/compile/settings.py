"""Settings of a training run, with defaults that work."""

from dataclasses import dataclass, field
from typing import Literal

from subterra.compile.recipe import Recipe, Weights

Method = Literal["lora", "full"]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How an adapter is trained. See docs/decisions.md for what was tried."""

    recipe: Recipe = "traced"
    method: Method = "lora"
    dialogues: int = 5000
    """Dialogues to train on, each read once, in fresh wording."""
    batch: int = 4
    """Dialogues an optimiser step. Small: steps matter more than tokens a step."""
    rank: int = 16
    alpha: int = 32
    learning_rate: float = 0.0
    """0: 1e-3 for LoRA, 1e-4 for full fine-tuning."""
    warmup: float = 0.03
    """Share of the steps in which the rate rises."""
    floor: float = 0.02
    """Share of the rate that is left at the end of the cosine."""
    neftune: float = 5.0
    """Noise on the embeddings (arXiv 2310.05914), alpha."""
    reply_share: float = 0.3
    """Share of the reply's tokens whose loss is taken."""
    weights: Weights = field(default_factory=Weights)
    seed: int = 0
    validations: int = 4
    """Times the validation split is read; the best adapter of these is kept."""
    validation_dialogues: int = 48
    checkpoint_seconds: float = 120.0
    context_tokens: int = 2048

    @property
    def rate(self) -> float:
        """The learning rate at its peak."""
        return self.learning_rate or (1e-3 if self.method == "lora" else 1e-4)

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return -(-self.dialogues // self.batch)
