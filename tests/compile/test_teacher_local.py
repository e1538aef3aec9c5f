"""The teacher `local`: a stub engine, and the tiny model as a whole."""

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from subterra.compile import teacher_local
from subterra.compile.teacher_local import OPENING, LocalTeacher, embedded_model, open_local
from subterra.compile.teachers import Reply
from subterra.runtime.engine import Choose, Slots
from subterra.runtime.errors import BaseModelError, EngineError


class StubEngine:
    """Continues every prompt with the same text, a token for each character."""

    name = "stub"
    vocab_size = 256
    context_tokens = 64

    def __init__(self, text: str) -> None:
        self._text = text
        self.prompts: list[str] = []
        self.closed = False

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        cancel: Callable[[], bool] | None = None,
        choose: Choose | None = None,
    ) -> Iterator[int]:
        assert choose is not None
        self.prompts.append("".join(map(chr, tokens)))
        room = min(max_tokens, self.context_tokens - len(tokens))
        for character in self._text[:room]:
            if ord(character) in stop:
                return
            yield ord(character)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        raise NotImplementedError

    def slots(self, count: int) -> Slots:
        raise NotImplementedError

    def close(self) -> None:
        self.closed = True


class StubChat:
    """A chat format in which a token is a character, and `#` ends the reply."""

    stop = frozenset({ord("#")})

    def prompt(self, system: str, user: str, opening: str = "") -> list[int]:
        return [ord(c) for c in f"{system}|{user}|{opening}"]

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def close(self) -> None:
        pass


def test_the_reply_opens_the_list_and_ends_at_the_stop_token() -> None:
    engine = StubEngine(" works\n2. fine# and more")
    teacher = LocalTeacher("m.gguf", engine, StubChat(), temperature=0.5)
    assert teacher.write("S", "U", seed=1, lines=9) == Reply(f"{OPENING} works\n2. fine")
    assert engine.prompts == ["S|U|1."]
    assert (teacher.kind, teacher.host) == ("local", "")
    teacher.close()
    assert engine.closed


def test_what_comes_after_enough_lines_is_not_waited_for() -> None:
    teacher = LocalTeacher("m.gguf", StubEngine(" a\n2. b\n3. c\n4. d"), StubChat(), temperature=0)
    assert teacher.write("S", "U", seed=1, lines=2) == Reply("1. a\n2. b\n")


def test_a_reply_that_fills_the_context_is_cut() -> None:
    teacher = LocalTeacher("m.gguf", StubEngine("x" * 500), StubChat(), temperature=0.5)
    assert teacher.write("S", "U", seed=1, lines=9).cut


def test_a_gguf_writes_the_same_for_the_same_seed(
    tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp")
    monkeypatch.setattr(teacher_local, "CONTEXT_TOKENS", 256)
    monkeypatch.setattr(teacher_local, "REPLY_TOKENS", 12)
    teacher = open_local(tiny_gguf, temperature=1.0)
    first, again, other = (teacher.write("S", "the sound", seed=n, lines=9) for n in (1, 1, 2))
    teacher.close()
    assert first == again
    assert first.text != other.text
    assert first.text.startswith(OPENING)
    assert teacher.model == "F16.gguf"


def test_a_file_that_is_no_model_is_refused_with_a_next_step(tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp")
    (tmp_path / "x.gguf").write_bytes(b"GGUF but not really")
    for path in (tmp_path / "x.gguf", tmp_path / "none.gguf"):
        with pytest.raises(EngineError) as caught:
            open_local(path, temperature=1.0)
        assert "--model" in caught.value.hint


def test_the_embedded_base_must_be_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(b"GGUF")
    monkeypatch.setattr(teacher_local, "packaged_file", lambda model: cut)
    with pytest.raises(BaseModelError, match="truncated"):
        embedded_model()
