"""The ONNX Runtime engine: an exported decoder continues token sequences; needs no compiler.

Goes in: a folder with `model.onnx` as optimum exports it for text generation with a cache, and
token ids. Comes out: greedy replies or logits. The cache is the list of past keys and values
`(1, heads, length, size)`; it stays inside the runtime and is cut when a prompt departs from it.
Telemetry is switched off before the library is imported.

    >>> engine = OnnxEngine(Path("onnx-int8"))
    >>> reply = list(engine.generate(prompt, max_tokens=64, stop=[2]))
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from subterra.runtime.engine import Choose, check_prompt, common_prefix
from subterra.runtime.errors import EngineError
from subterra.runtime.onnx_graph import Graph, open_graph
from subterra.runtime.threads import usable_threads

CHUNK_TOKENS = 64
"""Prompt tokens read in one run; cancelling works between runs, about 60 ms apart at 135M."""


@dataclass(slots=True)
class Cache:
    """Tokens read so far and their keys and values, in the graph's order."""

    tokens: list[int] = field(default_factory=list)
    past: list[Any] = field(default_factory=list)


class OnnxEngine:
    """An ONNX decoder with one cached conversation."""

    name = "onnxruntime"

    def __init__(
        self, path: Path, *, context_tokens: int = 2048, threads: int | None = None
    ) -> None:
        """Load `path`, a folder with `model.onnx` (or that file).

        Raises:
            EngineError: the file is missing, damaged, or no decoder with a cache.
        """
        self.context_tokens = context_tokens
        self._graph: Graph | None = open_graph(path, threads or usable_threads())
        self.vocab_size = self._graph.vocab_size
        self._cache = Cache()
        self._lock = threading.Lock()
        self._reply_number = 0

    def generate(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        cancel: Callable[[], bool] | None = None,
        choose: Choose | None = None,
    ) -> Iterator[int]:
        """Continue `tokens`; see `engine.Engine.generate`."""
        self.check(tokens, room=1)
        self._reply_number += 1
        limit = min(max_tokens, self.context_tokens - len(tokens))
        return self._reply(list(tokens), limit, frozenset(stop), cancel or _never, choose)

    def logits(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits (T, V) after each token, read without the cache."""
        self.check(tokens)
        cache = Cache()
        chunks = [tokens[i : i + CHUNK_TOKENS] for i in range(0, len(tokens), CHUNK_TOKENS)]
        return np.concatenate([self.read(cache, chunk) for chunk in chunks])

    def slots(self, count: int) -> "OnnxSlots":
        """Open `count` conversations with a cache each; their replies run one after another."""
        self._open_graph()
        if count < 1:
            raise EngineError(f"{count} slots were asked for", hint="ask for at least 1 slot")
        return OnnxSlots(self, count)

    def close(self) -> None:
        """Free the graph; waits for a running step."""
        with self._lock:
            self._graph = None
            self._cache = Cache()

    def reply(
        self,
        cache: Cache,
        tokens: list[int],
        limit: int,
        stop: frozenset[int],
        cancel: Callable[[], bool],
        choose: Choose | None = None,
    ) -> Iterator[int]:
        """Continue `tokens` in any cache; `limit` tokens at most."""
        row = self._prefill(cache, tokens, cancel)
        for left in range(limit, 0, -1):
            if row is None or cancel():
                return
            token = choose(row[-1]) if choose else int(row[-1].argmax())
            if token in stop:
                return
            yield token
            row = self.read(cache, [token]) if left > 1 else None

    def read(self, cache: Cache, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Run one chunk behind the cache; logits (T, V).

        Raises:
            EngineError: the engine is closed, or the runtime fails.
        """
        with self._lock:
            graph = self._open_graph()
            past = cache.past or graph.empty_past()
            logits, cache.past = graph.run(tokens, len(cache.tokens), past)
            cache.tokens.extend(tokens)
            return logits

    def check(self, tokens: Sequence[int], *, room: int = 0) -> None:
        """Refuse a prompt that cannot be read; see `engine.check_prompt`."""
        self._open_graph()
        check_prompt(
            tokens, vocab_size=self.vocab_size, context_tokens=self.context_tokens, room=room
        )

    def _reply(
        self,
        tokens: list[int],
        limit: int,
        stop: frozenset[int],
        cancel: Callable[[], bool],
        choose: Choose | None,
    ) -> Iterator[int]:
        number = self._reply_number
        for token in self.reply(self._cache, tokens, limit, stop, cancel, choose):
            yield token
            self._open_graph()
            if number != self._reply_number:
                raise EngineError(
                    "the engine was given other work during this reply",
                    hint="finish or close one reply before starting the next",
                )

    def _prefill(
        self, cache: Cache, tokens: list[int], cancel: Callable[[], bool]
    ) -> NDArray[np.float32] | None:
        keep = min(common_prefix(cache.tokens, tokens), len(tokens) - 1)
        if keep < len(cache.tokens):
            with self._lock:
                cache.past = self._open_graph().cut(cache.past, keep)
            del cache.tokens[keep:]
        row = None
        for start in range(keep, len(tokens), CHUNK_TOKENS):
            if cancel():
                return None
            row = self.read(cache, tokens[start : start + CHUNK_TOKENS])
        return row

    def _open_graph(self) -> Graph:
        if self._graph is None:
            raise EngineError("the engine is closed", hint="open it again")
        return self._graph


class OnnxSlots:
    """Conversations with a cache each; not batched: one step writes one whole reply."""

    def __init__(self, engine: OnnxEngine, count: int) -> None:
        self.count = count
        self._engine = engine
        self._caches = [Cache() for _ in range(count)]
        self._waiting: dict[int, Iterator[int]] = {}

    def submit(
        self,
        slot: int,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        stop: Collection[int],
        choose: Choose | None = None,
    ) -> None:
        """Ask for a reply; see `engine.Slots.submit`."""
        if not 0 <= slot < self.count:
            raise EngineError(f"there is no slot {slot}", hint=f"slots are 0..{self.count - 1}")
        if slot in self._waiting:
            raise EngineError(f"slot {slot} is busy", hint="wait until step() returns its reply")
        self._engine.check(tokens, room=1)
        if max_tokens < 1:
            raise EngineError(
                f"a reply of {max_tokens} tokens was asked for", hint="ask for at least 1"
            )
        limit = min(max_tokens, self._engine.context_tokens - len(tokens))
        self._waiting[slot] = self._engine.reply(
            self._caches[slot], list(tokens), limit, frozenset(stop), _never, choose
        )

    def step(self) -> list[tuple[int, list[int]]]:
        """Write the reply of the slot that waits longest; an empty list when none waits."""
        if not self._waiting:
            return []
        slot = next(iter(self._waiting))
        return [(slot, list(self._waiting.pop(slot)))]

    def close(self) -> None:
        """Free the caches."""
        self._waiting.clear()
        self._caches = [Cache() for _ in range(self.count)]


def _never() -> bool:
    return False
