"""What a compile would train on, before it trains: `subterra compile --dry-run`.

Goes in: a procedure, its training bank, a base, settings. Comes out: one document with dialogues as
exact training text, lengths, how often each edge is taken, wordings by intent, tokens and time.
Writes nothing, but for a base that is unpacked into the cache on its first use.

    $ subterra compile examples/zoom_support --dry-run --rate-tokens 400
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from subterra.compile.bank_split import split_bank
from subterra.compile.choice_tokens import choice_tokens
from subterra.compile.edge_counts import EdgeCounts
from subterra.compile.procedure import Procedure
from subterra.compile.recipe import Encoded, Kind, encode
from subterra.compile.settings import TrainSettings
from subterra.compile.teacher_bank import dialogues
from subterra.compile.training_text import spans
from subterra.compile.user_bank import UserBank
from subterra.models.resolve import Base
from subterra.runtime.chatml import ChatFormat, ChatTokenizer

SHOWN = 3
"""Dialogues written out."""
ENCODED = 400
"""Dialogues whose tokens are counted; the total is scaled up from them."""
PERCENTILES = (5, 50, 90, 99, 100)
WARM_UP, TIMED = 1, 2
"""Steps of a measurement."""

Report = Callable[[str], None]


def plan_document(
    base: Base,
    procedure: Procedure,
    bank: UserBank,
    settings: TrainSettings,
    *,
    rate: Callable[[], tuple[float, str]],
    report: Report,
) -> dict[str, object]:
    """Plan a training run and describe it.

    Args:
        base: its tokenizer makes the tokens.
        procedure: what is taught.
        bank: training bank; a part of it is kept for validation, as in training.
        settings: of the training.
        rate: gives tokens per second, and where the figure comes from.
        report: takes a line of progress.
    """
    from subterra.compile.train import SPLIT_SEED

    tokenizer = ChatTokenizer(base.path, ChatFormat(system=procedure.system))
    choices = choice_tokens(procedure, tokenizer)
    planned = settings.steps * settings.batch
    stream = dialogues(procedure, split_bank(bank, SPLIT_SEED)[0], settings.seed)
    edges, sample = EdgeCounts(procedure), list[Encoded]()
    for number, dialogue in enumerate(islice(stream, planned), 1):
        edges.add(dialogue)
        if len(sample) < ENCODED:
            sample.append(
                encode(dialogue, tokenizer, settings.recipe, procedure.slot_names, choices)
            )
        if number % 1000 == 0:
            report(f"{number} of {planned} dialogues looked through")
    tokens = round(sum(len(e.ids) for e in sample) / len(sample) * planned)
    tokens_per_second, source = rate()
    return {
        "name": procedure.name,
        "recipe": settings.recipe,
        "dialogues": [_shown(encoded, tokenizer) for encoded in sample[:SHOWN]],
        "learnt": _learnt(settings),
        "planned_dialogues": planned,
        "steps": settings.steps,
        "counted_dialogues": len(sample),
        "tokens": tokens,
        "tokens_by_kind": _by_kind(sample, planned),
        "dialogue_tokens": _percentiles([len(e.ids) for e in sample]),
        "context_tokens": settings.context_tokens,
        "beyond_context": sum(len(e.ids) > settings.context_tokens for e in sample),
        "edges": [
            {"from": way.source, "to": way.target, "condition": way.condition, "taken": count}
            for way, count in edges.items()
        ],
        "never_taken": [str(way) for way, count in edges.items() if not count],
        "wordings": _wordings(bank),
        "tokens_per_second": round(tokens_per_second, 1),
        "rate_source": source,
        "seconds": round(tokens / tokens_per_second),
    }


def measured_rate(
    base: Base, procedure: Procedure, bank: UserBank, settings: TrainSettings, processes: int
) -> tuple[float, str]:
    """Time two training steps after one to warm up; nothing is kept of them.

    Raises:
        BaseModelError: the base cannot be loaded.
    """
    from subterra.compile.train import Job, start

    job = Job(base, procedure, bank, Path("adapter"), settings, processes=processes)
    with start(job) as run:
        groups = run.groups(dialogues(procedure, bank, settings.seed))
        tokens, begin = 0, 0.0
        for step, group in enumerate(islice(groups, WARM_UP + TIMED), 1):
            run.step(step, group)
            if step == WARM_UP:
                begin = time.monotonic()
            else:
                tokens += sum(len(encoded.ids) for encoded in group)
        seconds = time.monotonic() - begin
    return tokens / max(seconds, 1e-9), f"measured now, over {TIMED} steps after {WARM_UP}"


def _shown(encoded: Encoded, tokenizer: ChatTokenizer) -> dict[str, object]:
    cut = spans(encoded, tokenizer)
    return {
        "tokens": len(encoded.ids),
        "spans": [{"kind": span.kind.name.lower(), "text": span.text} for span in cut],
    }


def _learnt(settings: TrainSettings) -> dict[str, dict[str, float]]:
    """Say what the loss of a token counts, and of how many tokens it is taken."""
    weights = settings.weights.by_kind()
    return {
        kind.name.lower(): {
            "weight": weights[kind],
            "share": settings.reply_share if kind == Kind.REPLY else 1.0,
        }
        for kind in (Kind.STATE, Kind.CHOICE, Kind.REPLY)
    }


def _by_kind(sample: Sequence[Encoded], planned: int) -> dict[str, int]:
    found = Counter(kind for encoded in sample for kind in encoded.kinds)
    return {k.name.lower(): round(found[k] / len(sample) * planned) for k in Kind}


def _percentiles(lengths: Sequence[int]) -> dict[str, int]:
    """Nearest ranks."""
    ordered = sorted(lengths)
    return {f"p{p}": ordered[math.ceil(p / 100 * len(ordered)) - 1] for p in PERCENTILES}


def _wordings(bank: UserBank) -> dict[str, int]:
    counts = {name: len(bank.wordings(name)) for name in bank.names()}
    return dict(sorted(counts.items(), key=lambda item: (item[1], item[0])))
