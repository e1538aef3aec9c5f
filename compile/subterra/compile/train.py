"""Training: from dialogues to an adapter.

Goes in: a base, a procedure, a training bank, settings, a work folder. Comes out: the adapter
folder with its card. The checkpoint is chosen on a validation split of the training bank; a run
that is killed goes on from its last checkpoint. Does not know held-out wording.

    >>> train(Job(base, procedure, bank, work / "adapter", settings))
"""

import math
import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from subterra.compile import model as models
from subterra.compile.bank_split import split_bank
from subterra.compile.batches import Group, groups, token_count
from subterra.compile.card import checkpoint_file
from subterra.compile.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from subterra.compile.choice_tokens import choice_tokens
from subterra.compile.dialogue import Dialogue
from subterra.compile.learner import Learner, prepare_process
from subterra.compile.procedure import Procedure
from subterra.compile.progress import Progress
from subterra.compile.recipe import Encoded, encode
from subterra.compile.settings import TrainSettings
from subterra.compile.teacher_bank import dialogues
from subterra.compile.team import Team, gather, team_size
from subterra.compile.user_bank import UserBank
from subterra.compile.validate import Validation
from subterra.models.resolve import Base
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.threads import usable_threads

BETAS = (0.9, 0.98)
CLIP = 1.0
"""Largest norm of the gradient."""
SPLIT_SEED = 0
"""The same for every run, so that a run that goes on from an adapter never trains on the wordings
that choose its checkpoint."""
VALIDATION_BATCH = 4
VALIDATION_SEED = 7919


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
    processes: int = 0
    """That train together; 0: one for each core, as far as the batch allows."""
    card: dict[str, object] = field(default_factory=dict)
    """What the adapter's card says besides settings and scores: digests, versions."""
    report: Callable[[str], None] = lambda text: print(text, file=sys.stderr)


def train(job: Job) -> Path:
    """Train, choose the best checkpoint, and write the adapter folder.

    Raises:
        BaseModelError: the base cannot be loaded.
        ResourceError: a checkpoint cannot be written.
    """
    with start(job) as run:
        return run.go()


@contextmanager
def start(job: Job) -> Iterator["Run"]:
    """Load the model and gather the processes that train it."""
    cores, settings = usable_threads(), job.settings
    prepare_process(cores)
    learner = Learner(job.base, settings, start=job.start)
    vector = learner.flat.values
    size = team_size(job.processes, settings.batch, cores, vector.numel() * vector.element_size())
    threads = max(1, cores // size)
    torch.set_num_threads(threads)
    with gather(learner, job.base, settings, size, threads) as team:
        yield Run(job, learner, team)


class Run:
    """A training run with its team."""

    def __init__(self, job: Job, learner: Learner, team: Team) -> None:
        self._job, self._learner, self._team, settings = job, learner, team, job.settings
        self._vector = torch.nn.Parameter(learner.flat.values)  # (N,)
        self._vector.grad = learner.flat.gradient
        self._optimiser = torch.optim.AdamW(
            [self._vector], lr=settings.rate, betas=BETAS, weight_decay=0.0, fused=True
        )
        self._tokenizer = ChatTokenizer(job.base.path, ChatFormat(system=job.procedure.system))
        self._choices = choice_tokens(job.procedure, self._tokenizer)
        self._train_bank, validation_bank = split_bank(job.bank, SPLIT_SEED)
        self._validation = self._encoded(validation_bank)
        self._history: list[Validation] = []
        self._best: dict[str, Tensor] = {}
        self._checkpoint = checkpoint_file(job.out)
        self._started = 0

    def go(self) -> Path:
        """Take every step that is left; return the adapter folder."""
        self._resume()
        settings = self._job.settings
        source = dialogues(self._job.procedure, self._train_bank, settings.seed)
        stream = islice(self.groups(source), self._started, settings.steps)
        progress = Progress(settings.steps, self._started, self._job.report)
        saved = time.monotonic()
        parts = settings.validations
        marks = {round(settings.steps * part / parts) for part in range(1, parts + 1)}
        for step, group in enumerate(stream, self._started + 1):
            loss = self.step(step, group)
            progress.step(step, token_count(group), loss)
            if step in marks:
                self._validate(step)
            if step in marks or time.monotonic() - saved > settings.checkpoint_seconds:
                self._save(step)
                saved = time.monotonic()
        card = self._card(progress.tokens_per_second)
        models.save_trained(self._job.out, self._learner.model, self._best, card)
        self._checkpoint.unlink(missing_ok=True)
        return self._job.out

    def groups(self, source: Iterator[Dialogue]) -> Iterator[Group]:
        """Encode dialogues and group them for steps."""
        settings = self._job.settings
        return groups(
            source,
            self._encode,
            size=settings.batch,
            reply_share=settings.reply_share,
            seed=settings.seed,
        )

    def step(self, step: int, group: Group) -> float:
        """Take one optimiser step; return the loss before it."""
        settings = self._job.settings
        rate = settings.rate * _schedule(step / settings.steps, settings.warmup, settings.floor)
        for parameters in self._optimiser.param_groups:
            parameters["lr"] = rate
        by_kind = settings.weights.by_kind()
        total = sum(by_kind[kind] for encoded in group for kind in encoded.kinds)
        seed = random.Random(f"{settings.seed}/{step}").getrandbits(48)
        loss = self._team.learn(group, seed, total)
        torch.nn.utils.clip_grad_norm_([self._vector], CLIP)
        self._optimiser.step()
        return loss

    def processor_seconds(self) -> float:
        """Give the processor time that all processes have used."""
        return self._team.processor_seconds()

    def _encoded(self, bank: UserBank) -> list[Group]:
        settings = self._job.settings
        source = dialogues(self._job.procedure, bank, VALIDATION_SEED)
        found = [self._encode(d) for d in islice(source, settings.validation_dialogues)]
        found.sort(key=lambda encoded: len(encoded.ids))
        return [found[i : i + VALIDATION_BATCH] for i in range(0, len(found), VALIDATION_BATCH)]

    def _encode(self, dialogue: Dialogue) -> Encoded:
        recipe, slot_names = self._job.settings.recipe, self._job.procedure.slot_names
        return encode(dialogue, self._tokenizer, recipe, slot_names, self._choices)

    def _validate(self, step: int) -> None:
        found = Validation.of(self._team.read(self._validation), step)
        if not self._history or found.better_than(max(self._history, key=Validation.key)):
            self._best = models.trained_state(self._learner.model)
        self._history.append(found)
        self._job.report(found.line())

    def _save(self, step: int) -> None:
        state = Checkpoint(
            step=step,
            fingerprint=self._fingerprint(),
            parameters=self._vector.detach(),
            optimiser=self._optimiser.state_dict(),
            best=self._best,
            history=[asdict(v) for v in self._history],
        )
        save_checkpoint(self._checkpoint, state)

    def _resume(self) -> None:
        state = load_checkpoint(self._checkpoint, self._fingerprint())
        if state is None:
            return
        self._vector.data.copy_(state.parameters)
        self._optimiser.load_state_dict(state.optimiser)
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
            "processes": self._team.size,
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
