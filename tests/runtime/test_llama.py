"""What is particular to llama.cpp: refused files, its log, cancelling inside a prompt."""

import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("llama_cpp")

from subterra.runtime import llama_native
from subterra.runtime.errors import EngineError
from subterra.runtime.llama import LlamaEngine
from subterra.runtime.llama_native import Batch, NativeContext, NativeModel


@pytest.fixture
def model(tiny_gguf: Path) -> NativeModel:
    return NativeModel(tiny_gguf)


def test_a_missing_or_foreign_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot read"):
        LlamaEngine(tmp_path / "absent.gguf")
    with pytest.raises(EngineError, match="cannot read"):
        LlamaEngine(tmp_path)
    text = tmp_path / "text.gguf"
    text.write_text("hello")
    with pytest.raises(EngineError, match="not a GGUF file"):
        LlamaEngine(text)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.9])
def test_a_truncated_file_is_refused_with_the_reason_and_nothing_on_the_terminal(
    tmp_path: Path, tiny_gguf: Path, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = tiny_gguf.read_bytes()
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(EngineError, match=r"refuses .*cut\.gguf: .*\w") as caught:
        LlamaEngine(cut)
    assert "no reason given" not in str(caught.value)
    assert caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_loading_and_replying_write_nothing_to_the_terminal(
    tiny_gguf: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = LlamaEngine(tiny_gguf, context_tokens=256, threads=1)
    assert list(engine.generate([1, 5, 6], max_tokens=3, stop=[]))
    engine.close()
    assert capfd.readouterr() == ("", "")


def test_a_prompt_is_cancelled_inside_one_decode(model: NativeModel) -> None:
    context = NativeContext(model, context_tokens=1024, threads=1, batch_tokens=512)
    asked = itertools.count()
    context.abort = lambda: next(asked) > 5
    batch = Batch()
    for position in range(512):
        batch.add(10, position, 0, output=position == 511)
    assert context.decode(batch) is None
    context.abort = None
    context.keep(0, 0)
    rows = context.decode(batch)
    assert rows is not None
    assert rows.shape == (1, model.vocab_size)
    context.close()
    model.close()


def test_a_next_turn_reads_only_its_new_tokens(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = LlamaEngine(tiny_gguf, context_tokens=512, threads=1)
    sizes: list[int] = []
    decode = engine._context.decode

    def counted(batch: Batch) -> NDArray[np.float32] | None:
        sizes.append(len(batch))
        return decode(batch)

    monkeypatch.setattr(engine._context, "decode", counted)
    prompt = [1, *range(10, 60)]
    reply = list(engine.generate(prompt, max_tokens=5, stop=[]))
    list(engine.generate([*prompt, *reply, 2, 30, 31], max_tokens=1, stop=[]))
    assert sizes == [len(prompt), 1, 1, 1, 1, len(reply[-1:]) + 3]
    engine.close()


def test_a_full_context_is_an_error_and_the_context_stays_usable(model: NativeModel) -> None:
    context = NativeContext(model, context_tokens=256, threads=1, batch_tokens=256)
    batch = Batch()
    for position in range(256):
        batch.add(10, position, 0, output=position == 255)
    assert context.decode(batch) is not None
    more = Batch()
    more.add(10, 256, 0, output=True)
    with pytest.raises(EngineError):
        context.decode(more)
    assert context.keep(0, 10)
    again = Batch()
    again.add(10, 10, 0, output=True)
    assert context.decode(again) is not None
    context.close()
    model.close()


def test_closing_during_a_reply_in_another_thread_does_not_crash(tiny_gguf: Path) -> None:
    engine = LlamaEngine(tiny_gguf, context_tokens=2048, threads=1)
    ended: list[str] = []

    def talk() -> None:
        try:
            for _ in engine.generate([1, 5, 6], max_tokens=2000, stop=[]):
                pass
        except EngineError as error:
            ended.append(str(error))

    thread = threading.Thread(target=talk)
    thread.start()
    time.sleep(0.05)
    engine.close()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert ended == ["the engine is closed"]


@pytest.mark.parametrize(
    ("built_with", "vouched", "avoided"),
    [(b"AMX_INT8 = 1 |", "", True), (b"AMX_INT8 = 1 |", "1", False), (b"AVX2 = 1 |", "", False)],
)
def test_amx_kernels_are_avoided_unless_the_build_is_vouched_for(
    monkeypatch: pytest.MonkeyPatch, built_with: bytes, vouched: str, avoided: bool
) -> None:
    monkeypatch.setattr("llama_cpp.llama_cpp.llama_print_system_info", lambda: built_with)
    monkeypatch.setenv(llama_native.AMX_VARIABLE, vouched)
    assert llama_native._amx_may_crash() is avoided
