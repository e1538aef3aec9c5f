"""TRL's side of `train_throughput`: SFTTrainer in its defaults, in an environment of its own.

Goes in: a request on stdin (checkpoint folder, conversations as chat messages). Comes out: one JSON
line on stdout: steps, tokens without padding, seconds, processor seconds, settings of TRL. Imports
nothing of subterra.

    $ build/bench-venv/bin/python tests/bench/side_trl.py < request.json
"""

import json
import sys
import tempfile
import time
from typing import Any

import datasets
from peft import LoraConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

NOTED = (
    "per_device_train_batch_size",
    "max_length",
    "bf16",
    "gradient_checkpointing",
    "packing",
    "assistant_only_loss",
)
"""Defaults that decide the throughput; they are reported, not set."""

Conversation = list[dict[str, str]]


class Clock(TrainerCallback):  # type: ignore[misc]
    """Seconds, and processor seconds, from the start of the first step to the end of the last."""

    def __init__(self) -> None:
        self.first = self.last = (0.0, 0.0)

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Note the first step."""
        if not any(self.first):
            self.first = (time.perf_counter(), time.process_time())

    def on_step_end(self, *_: object, **__: object) -> None:
        """Note the last step."""
        self.last = (time.perf_counter(), time.process_time())


class CountingCollator:
    """Counts the tokens of the batches that a collator makes, padding left out."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.batches: list[int] = []

    def __call__(self, rows: list[Any]) -> Any:
        batch = self._inner(rows)
        self.batches.append(int(batch["attention_mask"].sum()))
        return batch


def train_once(base: str, conversations: list[Conversation]) -> dict[str, Any]:
    """Train one pass over the conversations; loading and tokenizing are not timed."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        size = SFTConfig(output_dir=folder, use_cpu=True).per_device_train_batch_size
        trainer = SFTTrainer(
            model=base,
            args=SFTConfig(
                output_dir=folder,
                max_steps=-(-len(conversations) // size),
                save_strategy="no",
                report_to="none",
                use_cpu=True,
            ),
            train_dataset=datasets.Dataset.from_list([{"messages": c} for c in conversations]),
            peft_config=LoraConfig(r=16, target_modules="all-linear", task_type="CAUSAL_LM"),
            callbacks=[clock],
        )
        counter = trainer.data_collator = CountingCollator(trainer.data_collator)
        trainer.train()
    return {
        "steps": trainer.state.global_step,
        "tokens": sum(counter.batches),
        "seconds": round(clock.last[0] - clock.first[0], 3),
        "cpu_seconds": round(clock.last[1] - clock.first[1], 3),
        "settings": {name: getattr(trainer.args, name) for name in NOTED},
    }


def main() -> None:
    """Warm up, measure, print."""
    request = json.load(sys.stdin)
    train_once(request["base"], request["warm_up"])
    measured = train_once(request["base"], request["conversations"])
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
