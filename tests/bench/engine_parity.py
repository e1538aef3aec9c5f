"""Parity: torch, llama.cpp F16 and ONNX fp32 answer held-out dialogues greedily, word for word?

Goes in: a work folder with merged/, variants/F16.gguf, variants/onnx-fp32/ and
dialogues/heldout.jsonl. Comes out: a table on stderr and one JSON line on stdout: replies that
equal torch's, and each difference with the logit margin at its first differing token. Each
assistant turn is written from the gold turns before it. No time is published, so a busy machine is
no obstacle.

    $ python -m tests.bench.engine_parity build/zoom_support
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tests.bench import machine
from tests.bench.torch_greedy import TorchGreedy

from subterra.compile.dialogue import Dialogue, read_dialogues
from subterra.compile.recipe import assistant_text
from subterra.quantize.agent_note import AgentNote, read_note
from subterra.quantize.variants import VARIANTS
from subterra.runtime.chatml import ChatFormat, ChatTokenizer
from subterra.runtime.engine import common_prefix, open_engine
from subterra.runtime.threads import usable_threads

COMPARED = ("F16", "onnx-fp32")
"""Variants whose replies are compared with torch's."""
MAX_TOKENS = 256
CONTEXT = 2048

Row = Callable[[Sequence[int]], NDArray[np.float32]]
"""Tokens -> logits (V,) after the last one."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What one reply answers."""

    dialogue: int
    turn: int
    tokens: list[int]


@dataclass(frozen=True, slots=True)
class Difference:
    """A reply that is not torch's."""

    variant: str
    dialogue: int
    turn: int
    token: int
    """Position of the first differing token in the reply."""
    torch_choice: str
    variant_choice: str
    torch_margin: float
    """Logits by which torch prefers its token to the variant's."""
    variant_margin: float
    """Logits by which the variant prefers its token to torch's."""


def main() -> int:
    """Write all replies with every engine and compare."""
    args = _arguments()
    agent = read_note(args.work / "merged")
    tokenizer = ChatTokenizer(args.work / "merged", ChatFormat(system=agent.system))
    source = islice(read_dialogues(args.work / "dialogues" / "heldout.jsonl"), args.dialogues)
    prompts = [p for i, d in enumerate(source) for p in prompts_of(i, d, agent, tokenizer)]
    prompts = [p for p in prompts if args.turns is None or p.turn < args.turns]
    replies = {
        name: variant_replies(args.work, name, prompts, tokenizer.end_of_turn_id)
        for name in COMPARED
    }
    torch.set_num_threads(usable_threads())
    reference = TorchGreedy(args.work / "merged")
    expected = torch_replies(reference, prompts, replies[COMPARED[0]], tokenizer.end_of_turn_id)
    differences = [
        difference
        for name in COMPARED
        for difference in compare(
            args.work, name, prompts, expected, replies[name], reference, tokenizer
        )
    ]
    print(table(prompts, expected, replies, differences), file=sys.stderr)
    print(machine.describe().line(), file=sys.stderr)
    print(json.dumps(summary(prompts, expected, replies, differences), ensure_ascii=False))
    return 0


def prompts_of(
    index: int, dialogue: Dialogue, agent: AgentNote, tokenizer: ChatTokenizer
) -> Iterator[Prompt]:
    """Yield the prompt of each assistant turn, with the gold turns before it."""
    tokens = tokenizer.system_turn()
    for number, turn in enumerate(dialogue.turns):
        if turn.user is not None:
            tokens = [*tokens, *tokenizer.encode_turn("user", turn.user)]
        yield Prompt(index, number, [*tokens, *tokenizer.assistant_prefix()])
        text = assistant_text(turn, agent.recipe, agent.slots)
        tokens = [*tokens, *tokenizer.encode_turn("assistant", text)]


def variant_replies(work: Path, name: str, prompts: Sequence[Prompt], stop: int) -> list[list[int]]:
    """Write every reply with the variant's engine, as in a chat."""
    variant = VARIANTS[name]
    engine = open_engine(variant.engine, variant.path(work), context_tokens=CONTEXT)
    begin = time.monotonic()
    try:
        replies = []
        for prompt in prompts:
            written = engine.generate(prompt.tokens, max_tokens=MAX_TOKENS, stop=(stop,))
            replies.append(list(written))
            _progress(name, len(replies), len(prompts), begin)
        return replies
    finally:
        engine.close()


def torch_replies(
    reference: TorchGreedy, prompts: Sequence[Prompt], drafts: Sequence[list[int]], stop: int
) -> list[list[int]]:
    """Write every reply with torch."""
    replies: list[list[int]] = []
    begin = time.monotonic()
    for prompt, draft in zip(prompts, drafts, strict=True):
        replies.append(reference.reply(prompt.tokens, draft, max_tokens=MAX_TOKENS, stop=stop))
        _progress("torch", len(replies), len(prompts), begin)
    return replies


def compare(
    work: Path,
    name: str,
    prompts: Sequence[Prompt],
    expected: Sequence[list[int]],
    found: Sequence[list[int]],
    reference: TorchGreedy,
    tokenizer: ChatTokenizer,
) -> Iterator[Difference]:
    """Yield the differences of one variant; it is opened again for its margins."""
    unequal = [i for i in range(len(prompts)) if expected[i] != found[i]]
    if not unequal:
        return
    variant = VARIANTS[name]
    engine = open_engine(variant.engine, variant.path(work), context_tokens=CONTEXT)
    try:
        for i in unequal:
            yield _difference(
                name,
                prompts[i],
                [*expected[i], tokenizer.end_of_turn_id],
                [*found[i], tokenizer.end_of_turn_id],
                (lambda tokens: reference.logits(tokens, 1)[-1], lambda t: engine.logits(t)[-1]),
                tokenizer,
            )
    finally:
        engine.close()


def table(
    prompts: Sequence[Prompt],
    expected: Sequence[list[int]],
    replies: dict[str, list[list[int]]],
    differences: Sequence[Difference],
) -> str:
    """Figures for people."""
    dialogues = len({prompt.dialogue for prompt in prompts})
    tokens = sum(len(reply) for reply in expected)
    lines = [
        f"{dialogues} dialogues, {len(prompts)} replies, {tokens} tokens by torch fp32, greedy",
        f"{'variant':<12}{'equal replies':>16}{'equal dialogues':>18}",
    ]
    for name, found in replies.items():
        bad = {d.dialogue for d in differences if d.variant == name}
        equal = sum(a == b for a, b in zip(expected, found, strict=True))
        lines.append(
            f"{name:<12}{f'{equal} of {len(found)}':>16}"
            f"{f'{dialogues - len(bad)} of {dialogues}':>18}"
        )
    lines += [
        f"{d.variant}: dialogue {d.dialogue}, turn {d.turn}, token {d.token}:"
        f" torch {d.torch_choice!r} by {d.torch_margin:.4f},"
        f" {d.variant} {d.variant_choice!r} by {d.variant_margin:.4f} logits"
        for d in differences
    ]
    return "\n".join(lines)


def summary(
    prompts: Sequence[Prompt],
    expected: Sequence[list[int]],
    replies: dict[str, list[list[int]]],
    differences: Sequence[Difference],
) -> dict[str, object]:
    """Figures for machines."""
    return {
        "bench": "engine_parity",
        "dialogues": len({prompt.dialogue for prompt in prompts}),
        "replies": len(prompts),
        "tokens": sum(len(reply) for reply in expected),
        "equal": {
            name: sum(a == b for a, b in zip(expected, found, strict=True))
            for name, found in replies.items()
        },
        "differences": [asdict(difference) for difference in differences],
        "machine": asdict(machine.describe()),
    }


def _difference(
    name: str,
    prompt: Prompt,
    expected: list[int],
    found: list[int],
    rows: tuple[Row, Row],
    tokenizer: ChatTokenizer,
) -> Difference:
    place = common_prefix(expected, found)
    right, wrong = expected[place], found[place]
    tokens = [*prompt.tokens, *expected[:place]]
    torch_row, variant_row = (row(tokens) for row in rows)
    return Difference(
        name,
        prompt.dialogue,
        prompt.turn,
        place,
        _word(right, tokenizer),
        _word(wrong, tokenizer),
        round(float(torch_row[right] - torch_row[wrong]), 5),
        round(float(variant_row[wrong] - variant_row[right]), 5),
    )


def _word(token: int, tokenizer: ChatTokenizer) -> str:
    if token == tokenizer.end_of_turn_id:
        return tokenizer.chat.end_of_turn
    return tokenizer.decode([token])


def _progress(name: str, done: int, total: int, begin: float) -> None:
    if sys.stderr.isatty() or done == total:
        seconds = time.monotonic() - begin
        start = "\r\x1b[K" if sys.stderr.isatty() else ""
        end = "\n" if done == total else ""
        print(
            f"{start}{name}: {done} of {total} replies, {seconds:.0f} s", end=end, file=sys.stderr
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("work", type=Path, help="work folder (build/NAME)")
    parser.add_argument("--dialogues", type=int, default=50, help="how many (%(default)s)")
    parser.add_argument("--turns", type=int, help="only the first turns of each (default: all)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
