"""One protocol for everything that turns token ids into token ids.

Goes in: an engine's name and its model file or folder. Comes out: an `Engine`. Decoding is greedy,
unless the caller chooses the tokens. Does not know texts, chat formats or procedures; a backend is
imported only when it is opened.

    >>> engine = open_engine("llama.cpp", Path("model-Q8_0.gguf"))
    >>> for token in engine.generate(prompt, max_tokens=64, stop=[2]): ...
"""

import importlib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.errors import EngineError, MissingExtraError, UsageError

BACKENDS = {
    "llama.cpp": ("subterra.runtime.llama", "LlamaEngine", "gguf"),
    "onnxruntime": ("subterra.runtime.onnx", "OnnxEngine", ""),
}
"""Engine -> (module, class, extra that brings its library)."""

PACKAGES = {"llama_cpp": "llama-cpp-python"}
"""Import name -> name to install, where they differ."""


Choose = Callable[[NDArray[np.float32]], int]
"""Picks the next token from logits (V,), which are valid during the call only."""


class Slots(Protocol):
    """Independent parallel conversations in one engine."""

    count: int

    def submit(
        self,
        slot: int,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        choose: Choose | None = None,
    ) -> None:
        """Ask for a reply to `tokens`; the slot's KV cache of the longest common prefix is reused.

        Without `choose` the most likely token is taken each time.

        Raises:
            EngineError: the slot is busy, or the prompt is empty or too long.
        """

    def step(self) -> list[tuple[int, list[int]]]:
        """Advance every busy slot by one batched decode.

        Returns:
            (slot, reply without stop token) of the replies that finished in this step.
        """

    def close(self) -> None:
        """Free the slots' memory."""


class Engine(Protocol):
    """A loaded model that continues token sequences greedily."""

    name: str
    vocab_size: int
    context_tokens: int

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        cancel: Callable[[], bool] | None = None,
        choose: Choose | None = None,
    ) -> Iterator[int]:
        """Yield the reply's tokens one by one, without the stop token.

        Without `choose` the most likely token is taken each time.

        The reply ends at a stop token, after `max_tokens`, at the end of the context, or within
        100 ms after `cancel` turns true. The KV cache of the longest common prefix with the
        previous call is reused.

        Raises:
            EngineError: the prompt is empty, too long, or has unknown ids; the engine is closed.
        """

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits (T, V) after each of the T tokens."""

    def slots(self, count: int) -> Slots:
        """Open `count` parallel conversations, each with the engine's whole context."""

    def close(self) -> None:
        """Free the model; the engine refuses work afterwards."""


def open_engine(
    engine: str, path: Path, *, context_tokens: int = 2048, threads: int | None = None
) -> Engine:
    """Load the model at `path` with the named engine.

    Raises:
        UsageError: no engine has this name.
        MissingExtraError: the engine's library is not installed.
        EngineError: the engine's library does not load, or it refuses the model.
    """
    if engine not in BACKENDS:
        raise UsageError(f"unknown engine '{engine}'", hint=f"engines: {', '.join(BACKENDS)}")
    module_name, class_name, extra = BACKENDS[engine]
    try:
        backend = getattr(importlib.import_module(module_name), class_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("subterra"):
            raise
        raise _missing(error.name.partition(".")[0], extra) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"the native library of {engine} does not load: {error}", hint="subterra doctor"
        ) from error
    opened: Engine = backend(path, context_tokens=context_tokens, threads=threads)
    return opened


def check_prompt(
    tokens: Sequence[int], *, vocab_size: int, context_tokens: int, room: int = 0
) -> None:
    """Refuse a prompt that no engine can read and continue by `room` tokens.

    Raises:
        EngineError: the prompt is empty, too long, or has ids outside the vocabulary.
    """
    if not tokens:
        raise EngineError("the prompt is empty", hint="send at least one token")
    if len(tokens) + room > context_tokens:
        raise EngineError(
            f"the prompt has {len(tokens)} tokens, the context holds {context_tokens}",
            hint="shorten the conversation or open the engine with a larger context",
        )
    if min(tokens) < 0 or max(tokens) >= vocab_size:
        raise EngineError(
            f"the prompt has token ids outside 0..{vocab_size - 1}",
            hint="use the tokenizer that belongs to the model",
        )


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Count the leading tokens that both sequences share."""
    length = min(len(left), len(right))
    for index in range(length):
        if left[index] != right[index]:
            return index
    return length


def _missing(module: str, extra: str) -> MissingExtraError:
    error = MissingExtraError(PACKAGES.get(module, module), extra or "base")
    if extra == "gguf":
        error.hint += "; it needs a C++ compiler, the variants for onnxruntime need none"
    else:
        error.hint = "pip install subterra"
    return error
