"""One process's share of training: gradients and validation counts of some dialogues.

Goes in: a base, settings, groups of encoded dialogues. Comes out: gradients, added up in one
vector. Does not know optimisers, schedules, or that there are other processes.

    >>> learner = Learner(base, settings)
    >>> loss = learner.learn(group, seed=1, total=220.0)
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from subterra.compile import model as models
from subterra.compile.batches import Group, collate
from subterra.compile.flat import FlatParameters
from subterra.compile.generic_forward import GenericForward
from subterra.compile.llama_forward import LlamaForward
from subterra.compile.memory import keep_freed_memory
from subterra.compile.settings import TrainSettings
from subterra.compile.validate import Counts, Forward, validate
from subterra.models.resolve import Base


class Learner:
    """A model that can be trained, with its gradients in one vector."""

    def __init__(
        self,
        base: Base,
        settings: TrainSettings,
        *,
        start: Path | None = None,
        values: Tensor | None = None,
        gradient: Tensor | None = None,
    ) -> None:
        """Load the base.

        Args:
            base: see `Job`.
            settings: see `Job`.
            start: adapter to go on from; None: a fresh one.
            values: (N,) parameters that another process owns.
            gradient: (N,) where gradients go, instead of a vector of its own.
        """
        self.model = models.load_trainable(base, settings)
        if start is not None:
            models.load_trained(self.model, start)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.flat = FlatParameters(trained, values=values, gradient=gradient)
        self._forward = forward_of(self.model)
        self._neftune = settings.neftune
        self._weights = torch.tensor(settings.weights.by_kind())  # (Kind,)

    def learn(self, group: Group, seed: int, total: float) -> float:
        """Put the gradient of a group in `flat.gradient`; return its part of the loss.

        Args:
            group: dialogues.
            seed: of the noise on the embeddings.
            total: sum of the weights in the whole step, all processes together.
        """
        torch.manual_seed(seed)
        self.flat.gradient.zero_()
        batch = collate(group)
        kinds = batch.kinds[:, 1:]
        learnt = kinds > 0
        hidden = self._forward(batch.ids, noise=self._neftune)  # (B, T, C)
        logits = self._forward.logits(hidden[:, :-1][learnt])  # (N, V)
        losses = functional.cross_entropy(logits, batch.ids[:, 1:][learnt], reduction="none")
        loss = (losses * self._weights[kinds[learnt]]).sum() / total
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def read(self, groups: Sequence[Group]) -> Counts:
        """Count what is right on validation dialogues."""
        return validate(self._forward, [collate(group) for group in groups])

    def processor_seconds(self) -> float:
        """Give the processor time that this process has used."""
        return time.process_time()


def forward_of(model: Any) -> Forward:
    """Choose the lean forward for Llama, transformers' own for the rest."""
    kind = getattr(model.config, "model_type", "")
    extras = ("rope_scaling", "attention_bias", "mlp_bias")
    plain = not any(getattr(model.config, name, None) for name in extras)
    if kind == "llama" and plain and model.config.hidden_act == "silu":
        return LlamaForward(model)
    return GenericForward(model)


def prepare_process(threads: int) -> None:
    """Set what torch and the C library keep for the whole process."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
