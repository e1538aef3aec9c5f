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

from subterra.compile import train
from subterra.compile.batches import token_count
from subterra.compile.dialogue import Dialogue, read_dialogues
from subterra.compile.settings import TrainSettings
from subterra.compile.user_bank import load_bank
from subterra.compile.validation import load_procedure
from subterra.models.resolve import resolve_base


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


def train_once(run: train.Run, dialogues: list[Dialogue]) -> dict[str, float]:
    """Train one pass over the dialogues; loading is not timed, tokenizing is."""
    steps = tokens = 0
    begin, cpu_begin = time.perf_counter(), run.processor_seconds()
    for steps, group in enumerate(run.groups(iter(dialogues)), 1):
        run.step(steps, group)
        tokens += token_count(group)
    return {
        "steps": steps,
        "tokens": tokens,
        "seconds": round(time.perf_counter() - begin, 3),
        "cpu_seconds": round(run.processor_seconds() - cpu_begin, 3),
    }


def main() -> None:
    """Warm up, measure, print."""
    request = json.load(sys.stdin)
    found = list(read_dialogues(Path(request["dialogues"])))
    job = prepare(request, len(found))
    with train.start(job) as run:
        train_once(run, found[: request["warm_up"]])
        measured = train_once(run, found[request["warm_up"] :])
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
