"""Training: from dialogues to an adapter.

Goes in: a base, a procedure, a training bank, settings, a work folder. Comes out: the adapter
folder with its card. The checkpoint is chosen on a validation split of the training bank; a run
that is killed goes on from its last checkpoint. Does not know held-out wording.

    >>> train(Job(base, procedure, bank, work / "adapter", settings))
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from subterra.compile import model as models
from subterra.compile.bank_split import split_bank
from subterra.compile.batches import Batch, batches
from subterra.compile.card import checkpoint_file
from subterra.compile.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from subterra.compile.dialogue import Dialogue
from subterra.compile.generic_forward import GenericForward
from subterra.compile.llama_forward import LlamaForward
from subterra.compile.memory import keep_freed_memory
from subterra.compile.procedure import Procedure
from subterra.compile.progress import Progress
from subterra.compile.recipe import Encoded, encode
from subterra.compile.settings import TrainSettings
from subterra.compile.teacher_bank import dialogues
from subterra.compile.user_bank import UserBank
from subterra.compile.validate import Forward, Validation, validate
from subterra.models.resolve import Base
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.threads import usable_threads

BETAS = (0.9, 0.98)
CLIP = 1.0
"""Largest norm of the gradient."""
SPLIT_SEED = 0
VALIDATION_SEED = 7919
"""The same for every run, so that a run that goes on from an adapter never trains on the wordings
that choose its checkpoint."""


@dataclass(frozen=True, slots=True)
class Job:
    """One training run."""

    base: Base
    procedure: Procedure
    bank: UserBank
    out: Path
    settings: TrainSettings
    start: Path | None = None
    """Adapter folder to go on from; None: a fresh adapter."""
    card: dict[str, object] = field(default_factory=dict)
    """What the adapter's card says besides settings and scores: digests, versions."""
    report: Callable[[str], None] = lambda text: print(text, file=sys.stderr)


def train(job: Job) -> Path:
    """Train, choose the best checkpoint, and write the adapter folder.

    Raises:
        BaseModelError: the base cannot be loaded.
        ResourceError: a checkpoint cannot be written.
    """
    keep_freed_memory()
    torch.set_num_threads(usable_threads())
    torch.set_flush_denormal(True)
    model = models.load_trainable(job.base, job.settings)
    if job.start is not None:
        models.load_trained(model, job.start)
    return _Run(job, model).go()


def forward_of(model: Any) -> Forward:
    """Choose the lean forward for Llama, transformers' own for the rest."""
    kind = getattr(model.config, "model_type", "")
    extras = ("rope_scaling", "attention_bias", "mlp_bias")
    plain = not any(getattr(model.config, name, None) for name in extras)
    if kind == "llama" and plain and model.config.hidden_act == "silu":
        return LlamaForward(model)
    return GenericForward(model)


class _Run:
    def __init__(self, job: Job, model: Any) -> None:
        self._job, self._model, settings = job, model, job.settings
        self._forward = forward_of(model)
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(
            self._parameters, lr=settings.rate, betas=BETAS, weight_decay=0.0, fused=True
        )
        self._tokenizer = ChatTokenizer(job.base.path, ChatFormat(system=job.procedure.system))
        self._train_bank, validation_bank = split_bank(job.bank, SPLIT_SEED)
        self._validation = self._encoded(validation_bank)
        self._history: list[Validation] = []
        self._best: dict[str, Tensor] = {}
        self._checkpoint = checkpoint_file(job.out)
        self._started = 0

    def go(self) -> Path:
        self._resume()
        settings = self._job.settings
        stream = islice(self._batches(), self._started, settings.steps)
        progress = Progress(settings.steps, self._started, self._job.report)
        saved = time.monotonic()
        marks = {round(settings.steps * (i + 1) / settings.validations) for i in range(99)}
        for step, batch in enumerate(stream, self._started + 1):
            loss = self._step(step, batch)
            progress.step(step, batch.tokens, loss)
            if step in marks:
                self._validate(step)
            if step in marks or time.monotonic() - saved > settings.checkpoint_seconds:
                self._save(step)
                saved = time.monotonic()
        card = self._card(progress.tokens_per_second)
        models.save_trained(self._job.out, self._model, self._best, card)
        self._checkpoint.unlink(missing_ok=True)
        return self._job.out

    def _batches(self) -> Iterator[Batch]:
        settings = self._job.settings
        return batches(
            dialogues(self._job.procedure, self._train_bank, settings.seed),
            self._encode,
            size=settings.batch,
            reply_share=settings.reply_share,
            reply_weight=settings.weights.reply,
            seed=settings.seed,
        )

    def _encoded(self, bank: UserBank) -> list[Batch]:
        settings = self._job.settings
        source = dialogues(self._job.procedure, bank, VALIDATION_SEED)
        count = settings.validation_dialogues
        stream = batches(
            islice(source, count),
            self._encode,
            size=4,
            reply_share=1.0,
            reply_weight=settings.weights.reply,
            seed=settings.seed,
        )
        return list(stream)

    def _encode(self, dialogue: Dialogue) -> Encoded:
        settings, slot_names = self._job.settings, self._job.procedure.slot_names
        return encode(dialogue, self._tokenizer, settings.recipe, slot_names, settings.weights)

    def _step(self, step: int, batch: Batch) -> float:
        settings = self._job.settings
        rate = settings.rate * _schedule(step / settings.steps, settings.warmup, settings.floor)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        hidden = self._forward(batch.ids, noise=settings.neftune)  # (B, T, C)
        learnt = batch.weights[:, 1:] > 0
        logits = self._forward.logits(hidden[:, :-1][learnt])  # (N, V)
        losses = functional.cross_entropy(logits, batch.ids[:, 1:][learnt], reduction="none")
        weights = batch.weights[:, 1:][learnt]
        loss = (losses * weights).sum() / weights.sum()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, CLIP)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _validate(self, step: int) -> None:
        found = validate(self._forward, self._validation, self._job.settings.weights, step)
        if not self._history or found.better_than(max(self._history, key=Validation.key)):
            self._best = models.trained_state(self._model)
        self._history.append(found)
        self._job.report(found.line())

    def _save(self, step: int) -> None:
        state = Checkpoint(
            step=step,
            fingerprint=self._fingerprint(),
            parameters=[p.detach() for p in self._parameters],
            optimiser=self._optimiser.state_dict(),
            best=self._best,
            history=[asdict(v) for v in self._history],
            random=torch.get_rng_state(),
        )
        save_checkpoint(self._checkpoint, state)

    def _resume(self) -> None:
        state = load_checkpoint(self._checkpoint, self._fingerprint())
        if state is None:
            return
        for parameter, value in zip(self._parameters, state.parameters, strict=True):
            parameter.data.copy_(value)
        self._optimiser.load_state_dict(state.optimiser)
        torch.set_rng_state(state.random)
        self._best, self._started = state.best, state.step
        self._history = [Validation(**entry) for entry in state.history]
        self._job.report(f"resuming at step {state.step} of {self._job.settings.steps}")

    def _fingerprint(self) -> str:
        settings = asdict(self._job.settings)
        settings.pop("checkpoint_seconds")
        inputs = self._job.card.get("inputs")
        return repr((settings, self._job.base.sha256, inputs, str(self._job.start)))

    def _card(self, tokens_per_second: float) -> dict[str, object]:
        procedure, settings = self._job.procedure, self._job.settings
        chosen = max(self._history, key=Validation.key)
        return {
            "schema_version": 1,
            "name": procedure.name,
            "title": procedure.title,
            "system": procedure.system,
            "recipe": settings.recipe,
            "slots": list(procedure.slot_names),
            "flags": list(procedure.flags),
            "base": {"id": self._job.base.id, "sha256": self._job.base.sha256},
            "method": settings.method,
            "seeds": {"training": settings.seed},
            "settings": asdict(settings) | {"learning_rate": settings.rate},
            "validation": [asdict(v) for v in self._history],
            "chosen_step": chosen.step,
            "tokens_per_second": round(tokens_per_second),
            **self._job.card,
        }


def _schedule(progress: float, warmup: float, floor: float) -> float:
    if progress < warmup:
        return progress / warmup
    along = (progress - warmup) / (1 - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * along))
