import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from subterra.quantize import speed
from subterra.quantize.speed import measure_here, measure_speed, peak_rss_bytes
from subterra.runtime.errors import EngineError

PROMPT = [1, 17, 40, 33, 90, 8, 61, 2] * 8


class Recorder:
    """Record the prompts: proves that no prompt shares a prefix with the one before."""

    def __init__(self, reply: int) -> None:
        self.prompts: list[list[int]] = []
        self.reply = reply

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        cancel: Callable[[], bool] | None = None,
    ) -> Iterator[int]:
        self.prompts.append(list(tokens))
        return iter(range(min(self.reply, max_tokens)))

    def close(self) -> None:
        pass


def request() -> speed._Request:
    return speed._Request("llama.cpp", "x.gguf", PROMPT, 2, 200)


def test_a_variant_is_measured_in_a_process_of_its_own(tiny_gguf: Path) -> None:
    measured = measure_speed("llama.cpp", tiny_gguf, PROMPT, threads=1)
    assert measured.prompt_tokens == len(PROMPT)
    assert measured.threads == 1
    assert measured.ttft_ms > 0
    assert measured.load_ms > 0
    assert measured.decode_tokens_per_s > 0
    assert measured.peak_rss_bytes > 10_000_000
    assert "torch" not in sys.modules or measured.peak_rss_bytes < peak_rss_bytes()


def test_every_prompt_is_new_to_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Recorder(reply=99)
    monkeypatch.setattr(speed, "open_engine", lambda *args, **options: engine)
    measure_here(request())
    warm_up, *runs = engine.prompts
    assert len(runs) == speed.REPEATS
    assert len({prompt[0] for prompt in [warm_up, *runs]}) == len(engine.prompts)
    assert all(len(prompt) == len(PROMPT) for prompt in runs)


def test_an_engine_that_stops_at_once_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "open_engine", lambda *args, **options: Recorder(reply=1))
    with pytest.raises(EngineError, match="wrote 1 tokens"):
        measure_here(request())


def test_a_variant_that_does_not_load_is_an_error_with_its_path(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    with pytest.raises(EngineError, match=r"cannot measure the speed of .*broken\.gguf"):
        measure_speed("llama.cpp", broken, PROMPT)


def test_a_child_that_hangs_is_ended(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TIME_LIMIT_S", 0.05)
    with pytest.raises(EngineError, match="no result after"):
        measure_speed("llama.cpp", tiny_gguf, PROMPT)


class Slow(Recorder):
    """Take time for each token: proves that a slow variant is given a time, not a count."""

    def generate(self, *args: Any, **options: Any) -> Iterator[int]:
        for token in super().generate(*args, **options):
            time.sleep(0.002)
            yield token


def test_a_slow_engine_writes_fewer_tokens_and_says_how_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(speed, "open_engine", lambda *args, **options: Slow(reply=99))
    whole = measure_here(request())
    assert whole.repeats == speed.REPEATS
    assert whole.decode_tokens == speed.REPEATS * (speed.DECODE_TOKENS - 1)
    monkeypatch.setattr(speed, "DECODE_S", 0.0)
    monkeypatch.setattr(speed, "REPEATS_S", 0.0)
    cut = measure_here(request())
    assert (cut.repeats, cut.decode_tokens) == (1, speed.DECODE_TOKENS_MIN)
