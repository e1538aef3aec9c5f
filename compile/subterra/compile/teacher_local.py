"""The teacher `local`: an instruct GGUF on this machine, through the llama.cpp engine.

Goes in: a GGUF, or none for the embedded base (which is weak: 135 million parameters drift from
most of what they are asked). Comes out: a `Teacher`. Nothing leaves the machine.

    >>> teacher = open_local(Path("instruct-Q4_K_M.gguf"), temperature=0.9)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from subterra.compile.sampling import sampler
from subterra.compile.teachers import Kind, Reply
from subterra.models.catalogue import catalogue
from subterra.models.checkpoint import check_source
from subterra.models.resolve import packaged_file
from subterra.runtime.engine import Engine, open_engine
from subterra.runtime.errors import EngineError

CONTEXT_TOKENS = 4096
REPLY_TOKENS = 800
OPENING = "1."
"""What the reply is made to start with: small models then keep to the list."""


class Chat(Protocol):
    """A chat format with its tokenizer."""

    stop: frozenset[int]

    def prompt(self, system: str, user: str, opening: str = "") -> list[int]:
        """Tokenize one exchange; the reply starts with `opening`."""

    def text(self, tokens: Sequence[int]) -> str:
        """Text of tokens."""

    def close(self) -> None:
        """Free the vocabulary."""


class LocalTeacher:
    """Writes with an engine."""

    kind: Kind = "local"
    host = ""

    def __init__(self, model: str, engine: Engine, chat: Chat, *, temperature: float) -> None:
        self.model = model
        self._engine, self._chat, self._temperature = engine, chat, temperature

    def write(self, system: str, request: str, *, seed: int, lines: int) -> Reply:
        """Answer a request; see `teachers.Teacher.write`."""
        tokens = self._chat.prompt(system, request, OPENING)
        reply = self._engine.generate(
            tokens,
            max_tokens=REPLY_TOKENS,
            stop=self._chat.stop,
            choose=sampler(self._temperature, seed),
        )
        written, ended = list[int](), 0
        for token in reply:
            written.append(token)
            ended += self._chat.text([token]).count("\n")
            if ended >= lines:
                break
        room = min(REPLY_TOKENS, self._engine.context_tokens - len(tokens))
        cut = len(written) >= room and ended < lines
        return Reply(OPENING + self._chat.text(written), cut=cut)

    def close(self) -> None:
        """Free the model."""
        self._engine.close()
        self._chat.close()


def embedded_model() -> Path:
    """Locate the GGUF of the embedded base.

    Raises:
        BaseModelError: its package is not installed, or the file is damaged.
    """
    model = next(iter(catalogue().values()))
    path = packaged_file(model)
    check_source(model, path)
    return path


def open_local(path: Path, *, temperature: float) -> LocalTeacher:
    """Load a GGUF.

    Raises:
        MissingExtraError: llama-cpp-python is not installed.
        EngineError: llama.cpp refuses the file, or it is no instruct model.
    """
    try:
        engine = open_engine("llama.cpp", path, context_tokens=CONTEXT_TOKENS)
    except EngineError as error:
        raise EngineError(
            str(error), hint="--model FILE.gguf, an instruct model; subterra doctor"
        ) from error
    from subterra.runtime.llama_text import GgufChat

    try:
        chat = GgufChat(path)
    except EngineError:
        engine.close()
        raise
    return LocalTeacher(path.name, engine, chat, temperature=temperature)
