"""Our side of `train_throughput`: optimiser steps exactly as `subterra compile` makes them.

Goes in: a request on stdin (base, procedure, user bank, dialogues file). Comes out: one JSON line
on stdout: steps, tokens without padding, seconds, processor seconds.

    $ python tests/bench/side_subterra.py < request.json
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from subterra.compile import train
from subterra.compile.batches import batches
from subterra.compile.dialogue import Dialogue, read_dialogues
from subterra.compile.memory import keep_freed_memory
from subterra.compile.model import load_trainable
from subterra.compile.recipe import encode
from subterra.compile.settings import TrainSettings
from subterra.compile.user_bank import load_bank
from subterra.compile.validation import load_procedure
from subterra.models.resolve import resolve_base
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.threads import usable_threads


def prepare(request: dict[str, Any], count: int) -> train.Job:
    """Describe a run over `count` dialogues in the default settings."""
    procedure = load_procedure(Path(request["procedure"]))
    return train.Job(
        base=resolve_base(request["base"]),
        procedure=procedure,
        bank=load_bank(Path(request["users"]), procedure),
        out=Path(request["dialogues"]).parent / "adapter",
        settings=TrainSettings(dialogues=count),
    )


def train_once(job: train.Job, dialogues: list[Dialogue]) -> dict[str, float]:
    """Train one pass over the dialogues; loading is not timed, tokenizing is."""
    settings, procedure = job.settings, job.procedure
    run = train._Run(job, load_trainable(job.base, settings))
    tokenizer = ChatTokenizer(job.base.path, ChatFormat(system=procedure.system))
    stream = batches(
        iter(dialogues),
        lambda d: encode(d, tokenizer, settings.recipe, procedure.slot_names, settings.weights),
        size=settings.batch,
        reply_share=settings.reply_share,
        reply_weight=settings.weights.reply,
        seed=settings.seed,
    )
    steps = tokens = 0
    begin, cpu_begin = time.perf_counter(), time.process_time()
    for steps, batch in enumerate(stream, 1):
        run._step(steps, batch)
        tokens += batch.tokens
    return {
        "steps": steps,
        "tokens": tokens,
        "seconds": round(time.perf_counter() - begin, 3),
        "cpu_seconds": round(time.process_time() - cpu_begin, 3),
    }


def main() -> None:
    """Warm up, measure, print."""
    request = json.load(sys.stdin)
    found = list(read_dialogues(Path(request["dialogues"])))
    job = prepare(request, len(found))
    keep_freed_memory()
    torch.set_num_threads(usable_threads())
    torch.set_flush_denormal(True)
    train_once(job, found[: request["warm_up"]])
    measured = train_once(job, found[request["warm_up"] :])
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
