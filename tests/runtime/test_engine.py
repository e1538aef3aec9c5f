"""What both engines promise, checked on the same tiny model."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from subterra.runtime.engine import Engine, Slots, check_prompt, common_prefix, open_engine
from subterra.runtime.errors import EngineError, MissingExtraError, UsageError

OpenTiny = Callable[..., Engine]

PROMPT = [1, *range(10, 60), 2, 20]


def greedy(engine: Engine, prompt: list[int], count: int, stop: tuple[int, ...] = ()) -> list[int]:
    return list(engine.generate(prompt, max_tokens=count, stop=stop))


def test_a_reply_is_the_most_likely_token_each_time(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    reply = greedy(engine, PROMPT, 12)
    logits = engine.logits([*PROMPT, *reply])
    assert logits.shape == (len(PROMPT) + 12, engine.vocab_size)
    assert logits.dtype == np.float32
    assert reply == logits[len(PROMPT) - 1 : -1].argmax(axis=1).tolist()


def test_logits_of_a_prompt_longer_than_one_chunk_are_whole(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    long = [1, *[10 + i % 80 for i in range(150)]]
    logits = engine.logits(long)
    assert logits.shape == (151, engine.vocab_size)
    np.testing.assert_allclose(engine.logits(long[:80]), logits[:80], atol=0.05)


@pytest.mark.parametrize("kept", [0, 3, 40, len(PROMPT)])
def test_a_reused_prefix_does_not_change_the_reply(open_tiny: OpenTiny, kept: int) -> None:
    prompt = [*PROMPT[:kept], *range(30, 50)]
    fresh = greedy(open_tiny(), prompt, 8)
    engine = open_tiny()
    greedy(engine, PROMPT, 8)
    assert greedy(engine, prompt, 8) == fresh


def test_asking_the_same_again_gives_the_same_reply(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    assert greedy(engine, PROMPT, 8) == greedy(engine, PROMPT, 8)


def test_the_stop_token_ends_the_reply_and_is_not_part_of_it(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    whole = greedy(engine, PROMPT, 12)
    stop = whole[4]
    assert greedy(engine, PROMPT, 12, stop=(stop,)) == whole[: whole.index(stop)]


def test_a_reply_ends_at_the_end_of_the_context(open_tiny: OpenTiny) -> None:
    engine = open_tiny(context_tokens=256)
    prompt = [10 + i % 80 for i in range(250)]
    assert len(greedy(engine, prompt, 100)) == 6


def test_cancelling_ends_the_reply_and_the_engine_goes_on(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    whole = greedy(engine, PROMPT, 12)
    seen: list[int] = []
    for token in engine.generate(PROMPT, max_tokens=12, stop=[], cancel=lambda: len(seen) >= 3):
        seen.append(token)
    assert seen == whole[:3]
    assert list(engine.generate(PROMPT, max_tokens=5, stop=[], cancel=lambda: True)) == []
    assert greedy(engine, PROMPT, 12) == whole


def test_an_abandoned_reply_leaves_the_cache_right(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    whole = greedy(engine, PROMPT, 8)
    next(engine.generate([5, 6, 7], max_tokens=8, stop=[]))
    assert greedy(engine, PROMPT, 8) == whole


def test_a_reply_overtaken_by_another_says_so(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    first = engine.generate(PROMPT, max_tokens=8, stop=[])
    next(first)
    greedy(engine, [5, 6], 2)
    with pytest.raises(EngineError, match="other work"):
        next(first)


@pytest.mark.parametrize(
    "prompt", [[], [10] * 256, [-1], [10**6]], ids=["empty", "too long", "negative", "unknown"]
)
def test_a_prompt_that_cannot_be_read_is_refused_at_once(
    open_tiny: OpenTiny, prompt: list[int]
) -> None:
    engine = open_tiny(context_tokens=256)
    with pytest.raises(EngineError) as caught:
        engine.generate(prompt, max_tokens=4, stop=[])
    assert caught.value.hint
    slots = engine.slots(1)
    with pytest.raises(EngineError):
        slots.submit(0, prompt, max_tokens=4, stop=[])


def test_a_closed_engine_refuses_work(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    reply = engine.generate(PROMPT, max_tokens=4, stop=[])
    next(reply)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        next(reply)
    for work in (
        lambda: engine.generate(PROMPT, max_tokens=1, stop=[]),
        lambda: engine.logits(PROMPT),
        lambda: engine.slots(2),
    ):
        with pytest.raises(EngineError, match="closed"):
            work()


def test_slots_give_each_conversation_its_own_reply(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    prompts = [[1, *range(10 + 3 * i, 40 + 7 * i)] for i in range(6)]
    alone = [greedy(engine, prompt, 10) for prompt in prompts]
    slots = engine.slots(4)
    waiting = list(enumerate(prompts))
    owner: dict[int, int] = {}
    replies: dict[int, list[int]] = {}
    while waiting or owner:
        for slot in range(slots.count):
            if slot not in owner and waiting:
                owner[slot], prompt = waiting.pop(0)
                slots.submit(slot, prompt, max_tokens=10, stop=[])
        for slot, reply in slots.step():
            replies[owner.pop(slot)] = reply
    assert [replies[i] for i in range(6)] == alone
    assert slots.step() == []
    slots.close()


def test_a_slot_continues_its_conversation(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    first = greedy(engine, PROMPT, 6)
    longer = [*PROMPT, *first, 2, 11, 12]
    second = greedy(engine, longer, 6, stop=(first[0],))
    slots = engine.slots(2)
    assert _one(slots, PROMPT) == first
    slots.submit(1, longer, max_tokens=6, stop=[first[0]])
    finished: list[tuple[int, list[int]]] = []
    while not finished:
        finished = slots.step()
    assert finished == [(1, second)]


def _one(slots: Slots, prompt: list[int]) -> list[int]:
    slots.submit(1, prompt, max_tokens=6, stop=[])
    with pytest.raises(EngineError, match="busy"):
        slots.submit(1, prompt, max_tokens=6, stop=[])
    finished: list[tuple[int, list[int]]] = []
    while not finished:
        finished = slots.step()
    return finished[0][1]


def test_an_impossible_slot_is_refused(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    with pytest.raises(EngineError):
        engine.slots(0)
    slots = engine.slots(1)
    with pytest.raises(EngineError, match="no slot 1"):
        slots.submit(1, PROMPT, max_tokens=1, stop=[])
    with pytest.raises(EngineError):
        slots.submit(0, PROMPT, max_tokens=0, stop=[])


def test_both_engines_write_the_same_reply(tiny_gguf: Path, tiny_onnx: Path) -> None:
    left = open_engine("llama.cpp", tiny_gguf, context_tokens=256, threads=1)
    right = open_engine("onnxruntime", tiny_onnx, context_tokens=256, threads=1)
    assert greedy(left, PROMPT, 16) == greedy(right, PROMPT, 16)
    left.close()
    right.close()


def test_an_unknown_engine_is_named() -> None:
    with pytest.raises(UsageError, match="vllm"):
        open_engine("vllm", Path("x"))


def test_without_llama_cpp_the_user_hears_of_the_engine_that_needs_no_compiler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in [m for m in sys.modules if m.startswith("subterra.runtime.llama")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "llama_cpp", None)
    monkeypatch.setitem(sys.modules, "llama_cpp.llama_cpp", None)
    with pytest.raises(MissingExtraError, match="llama-cpp-python") as caught:
        open_engine("llama.cpp", Path("x.gguf"))
    assert "gguf" in caught.value.hint
    assert "onnxruntime" in caught.value.hint


def test_a_native_library_that_does_not_load_is_an_engine_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(EngineError, match="libgomp"):
        open_engine("llama.cpp", Path("x.gguf"))


def test_the_protocol_loads_no_backend() -> None:
    code = (
        "import sys, subterra.runtime.engine, subterra.runtime.session;"
        "bad = {'llama_cpp', 'onnxruntime', 'torch', 'transformers', 'textual'} & set(sys.modules);"
        "sys.exit(', '.join(bad) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_common_prefix_is_counted() -> None:
    assert common_prefix([1, 2, 3], [1, 2, 4, 5]) == 2
    assert common_prefix([], [1]) == 0
    assert common_prefix([1, 2], [1, 2]) == 2


def test_the_caller_may_choose_the_tokens(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    seen: list[int] = []

    def second_best(logits: NDArray[np.float32]) -> int:
        assert logits.shape == (engine.vocab_size,)
        seen.append(int(logits.argsort()[-2]))
        return seen[-1]

    reply = list(engine.generate(PROMPT, max_tokens=6, stop=[], choose=second_best))
    assert reply == seen
    rows = engine.logits([*PROMPT, *reply])[len(PROMPT) - 1 : -1]
    assert all(row[token] < row.max() for row, token in zip(rows, reply, strict=True))
    assert greedy(engine, PROMPT, 6) != reply


def test_slots_choose_apart_from_one_another(open_tiny: OpenTiny) -> None:
    engine = open_tiny()
    plain = greedy(engine, PROMPT, 6)
    slots = engine.slots(2)
    slots.submit(0, PROMPT, max_tokens=6, stop=[], choose=lambda logits: 7)
    slots.submit(1, PROMPT, max_tokens=6, stop=[])
    finished: dict[int, list[int]] = {}
    while len(finished) < 2:
        finished.update(slots.step())
    assert finished == {0: [7] * 6, 1: plain}
    slots.submit(0, PROMPT, max_tokens=6, stop=[])
    while not (again := slots.step()):
        pass
    assert again == [(0, plain)]
    slots.close()


def test_a_prompt_that_just_fits_passes() -> None:
    check_prompt([0, 4], vocab_size=5, context_tokens=2)
    with pytest.raises(EngineError):
        check_prompt([0, 4], vocab_size=5, context_tokens=2, room=1)
